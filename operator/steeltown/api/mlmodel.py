"""MLModel: the long-lived thing, its policy, and how far it has got."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from .base import Decimal, Model, Name, Resources, Storage, rule
from .conditions import Condition, Status, parse_time
from .objectives import Objectives
from .trainingrun import Evaluation, Task, TrainingRunTemplate


class Stage(StrEnum):
    EXPERIMENTAL = "Experimental"
    PRODUCTION = "Production"


class OnInconclusive(StrEnum):
    HOLD = "Hold"
    ROLLBACK = "Rollback"


class RunHistoryLimit(Model):
    """Number of finished TrainingRuns to retain, of those created from the template."""

    succeeded: int | None = Field(
        None, ge=0, le=10000, description="Number of succeeded runs to retain, newest first. Unlimited if not set."
    )
    failed: int | None = Field(
        None, ge=0, le=10000, description="Number of failed runs to retain, newest first. Unlimited if not set."
    )


class Training(Model):
    """How new versions of a model are produced."""

    template: TrainingRunTemplate | None = Field(
        None, description="Template of TrainingRuns. A run named <model>-v<N> is created whenever the template changes."
    )
    history_limit: RunHistoryLimit | None = Field(
        None,
        description="Number of finished runs created from the template to retain. Older runs are deleted, and their "
        "artifacts unless something else references them. All are retained if not set.",
    )


class Serving(Model):
    """How versions of a model are served."""

    replicas: int = Field(1, ge=0, le=1000, description="Number of Pods of the live version. 0 stops serving.")
    resources: Resources = Field(
        default_factory=lambda: Resources(), description="Compute resources of each server container."
    )


class Step(Model):
    """One traffic step of a rollout."""

    weight: int = Field(ge=1, le=100, description="Percentage of requests routed to the canary.")


class LoadCheck(Model):
    """Load test of a new Pod of the candidate against a new Pod of the live version, before any user traffic."""

    rate_per_second: Decimal = Field(
        "50", description="Requests per second sent to each of the two Pods, at a constant rate (open loop)."
    )
    duration_seconds: int = Field(
        16, ge=2, le=3600, description="Total duration of the measurement in seconds, shared by both Pods."
    )


class Rollout(Model):
    """How a version is rolled out to production."""

    steps: list[Step] = Field(
        default_factory=lambda: [Step(weight=5), Step(weight=25), Step(weight=50)],
        min_length=1,
        max_length=16,
        json_schema_extra={
            "default": [{"weight": 5}, {"weight": 25}, {"weight": 50}],
            "x-kubernetes-list-type": "atomic",
            "x-kubernetes-validations": [
                rule(
                    "self.all(i, s, i == 0 || s.weight > self[i - 1].weight)",
                    "weights must be strictly increasing, such as 5, 25, 50",
                )
            ],
        },
        description="Traffic steps, in order. Each must pass on live requests before the next starts.",
    )
    load_check: LoadCheck = Field(
        default_factory=lambda: LoadCheck.model_validate({}), description="Load test before any user traffic."
    )
    on_inconclusive: OnInconclusive = Field(
        OnInconclusive.HOLD,
        description="Action when progressDeadlineSeconds expires without enough evidence. Hold: keep the current "
        "weight and report Stalled. Rollback: return to the live version.",
    )
    progress_deadline_seconds: int = Field(
        600,
        ge=10,
        le=604800,
        description="Maximum time in seconds for each phase and each traffic step to make progress.",
    )
    bake_seconds: int = Field(
        60,
        ge=0,
        le=604800,
        description="Time in seconds that the previous version keeps running after the switch, for a fast rollback.",
    )


class ModelEvaluation(Evaluation):
    """Evaluation data of a model. Creators of TrainingRuns cannot override it."""

    task: Task | None = Field(None, description="Prediction task. Defaults to the task of the TrainingRun.")


class MLModelSpec(Model):
    """Desired state of a model."""

    stage: Stage = Field(
        Stage.EXPERIMENTAL,
        description="Target stage. Experimental: every succeeded run is served and gates only report. "
        "Production: requests promotion; traffic moves only on evidence.",
    )
    frozen: bool = Field(
        False,
        description="Pauses all progress while serving continues. An abort, a withdrawn promotion request and proven "
        "harm still roll back.",
    )
    abort: Name | None = Field(
        None,
        description="Name of a TrainingRun that must not be rolled out. Its rollout in progress is rolled back "
        "immediately, even while frozen, and the version is rejected.",
    )
    training: Training | None = Field(None, description="How new versions are produced.")
    history_limit: int | None = Field(
        None,
        ge=0,
        le=10000,
        description="Number of finished runs to retain, including runs created by users. The live, previous and "
        "candidate versions and runs that finished within the last hour are always retained. Older runs are deleted, "
        "and their artifacts unless something else references them. If not set, only training.historyLimit applies.",
    )
    storage: Storage | None = Field(
        None, description="Artifact store. Defaults to the store configured for the operator."
    )
    objectives: Objectives = Field(
        default_factory=lambda: Objectives.model_validate({}), description="Objectives that every version must meet."
    )
    evaluation: ModelEvaluation | None = Field(
        None,
        description="Evaluation data for every version. Takes precedence over the evaluation of the TrainingRun. "
        "Defaults to the evaluation of the TrainingRun.",
    )
    serving: Serving = Field(default_factory=lambda: Serving.model_validate({}), description="How versions are served.")
    rollout: Rollout = Field(
        default_factory=lambda: Rollout.model_validate({}), description="How a version is rolled out to production."
    )


class VersionRef(Model):
    """Reference to a version of a model."""

    run: str = Field(max_length=63, description="Name of the TrainingRun that produced the version.")
    digest: str = Field(max_length=71, description="SHA-256 digest of model.onnx.")
    rows: int | None = Field(None, description="Number of rows it was trained on.")
    promoted: bool = Field(False, description="Specifies whether the version was promoted on evidence.")
    created: str | None = Field(None, max_length=40, description="Creation time of its TrainingRun.")


class Versions(Model):
    """Role of each version."""

    live: VersionRef | None = Field(None, description="Version that the Service selects and that serves user traffic.")
    candidate: VersionRef | None = Field(None, description="Newest version that is not live.")
    previous: VersionRef | None = Field(None, description="Version that was live before the current one.")


class Phase(StrEnum):
    """Phases of a rollout, in order; RollingBack can follow any."""

    LOADING = "Loading"
    LOAD_CHECKING = "LoadChecking"
    SHIFTING = "Shifting"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"


class RolloutFinding(Model):
    """Evidence about the candidate from one phase. Copied unchanged to the outcome and the history."""

    type: str = Field(max_length=64, description="Type of the condition that the finding determines.")
    status: Status = Field(description="Status of the finding: True, False, or Unknown while evidence is collected.")
    reason: str = Field(max_length=64, description="CamelCase reason for the status; see docs/reasons.md.")
    message: str = Field("", max_length=1024, description="Human-readable details of the finding.")


def _findings(description: str) -> Any:
    return Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description=description,
    )


class RolloutStatus(Model):
    """Rollout in progress. Every step is recorded here before it is carried out."""

    id: str = Field(max_length=16, description="Identifier of the rollout. Evidence is collected per identifier.")
    run: str = Field(max_length=63, description="Name of the TrainingRun that produced the candidate.")
    digest: str = Field(max_length=71, description="SHA-256 digest of the candidate.")
    phase: Phase = Field(
        description="Current phase: Loading, LoadChecking, Shifting, Promoting, Baking or RollingBack."
    )
    step: int = Field(-1, description="Index of the current traffic step, -1 before the first.")
    weight: int = Field(0, description="Percentage of requests that the current step routes to the canary.")
    observed_weight: int | None = Field(
        None, description="Percentage of requests to the canary, as reported by the live Pods."
    )
    attempt: int = Field(0, description="Index of the current load check attempt, starting at 0.")
    retry: str | None = Field(
        None, max_length=63, description="Last observed value of the steeltown.dev/retry annotation of the TrainingRun."
    )
    started_time: str = Field(max_length=40, description="Time when the rollout started.")
    phase_time: str = Field(max_length=40, description="Time when the current phase or step started.")
    fail_look: int = Field(
        0, ge=0, le=64, description="Number of interim tests for harm performed in the current step."
    )
    pass_look: int = Field(
        0, ge=0, le=64, description="Number of interim tests for a pass performed in the current step."
    )
    restarts: int = Field(0, description="Number of times the measurement of the current step was restarted.")
    disturbed: bool = Field(
        False,
        description="Specifies whether the measurement is invalid, because Pods that the operator did not create "
        "answered requests or because the canary lost its Pods.",
    )
    ending: str | None = Field(
        None,
        max_length=32,
        description="Outcome of a rollback in progress: RolledBack (the version is rejected), Withdrawn or Superseded.",
    )
    reason: str | None = Field(None, max_length=64, description="CamelCase reason for the rollback.")
    message: str | None = Field(None, max_length=2048, description="Human-readable reason for the rollback.")
    findings: list[RolloutFinding] = _findings("Evidence about the candidate so far, one entry per condition type.")

    @field_validator("phase_time", "started_time")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        """Deadlines are counted from it, so one that cannot be read makes the whole rollout unreadable."""
        parse_time(value)
        return value


class VerdictStatus(Model):
    """Latest verdict on the newest version."""

    run: str = Field(max_length=63, description="Name of the TrainingRun that produced the version.")
    result: str = Field(max_length=16, description="Result: Pass, Fail or Unknown.")
    reason: str = Field(max_length=64, description="CamelCase reason for the result, printed in the Verdict column.")
    message: str = Field("", max_length=2048, description="Human-readable details of the result.")


class HistoryEntry(Model):
    """Record of one finished rollout."""

    time: str = Field(max_length=40, description="Time when the rollout finished.")
    run: str = Field(max_length=63, description="Name of the TrainingRun that produced the version.")
    digest: str = Field(max_length=71, description="SHA-256 digest of the version.")
    outcome: str = Field(max_length=32, description="Outcome: Promoted, RolledBack, Withdrawn or Superseded.")
    reason: str = Field(max_length=64, description="CamelCase reason for the outcome.")
    message: str = Field("", max_length=512, description="Human-readable reason for the outcome.")
    retry: str | None = Field(
        None, max_length=63, description="Value of the steeltown.dev/retry annotation of the TrainingRun at that time."
    )
    findings: list[RolloutFinding] = _findings("Evidence about the version, one entry per condition type.")


class Retention(Model):
    """Progress of deleting finished runs beyond the history limits."""

    expired: int = Field(
        ge=0, description="Number of runs beyond the limits, including those finished within the last hour."
    )
    next: list[str] = Field(
        default_factory=list, max_length=10, description="Names of the runs to be deleted next, oldest first."
    )
    message: str | None = Field(
        None, max_length=1024, description="What the deletion is waiting for, or why it failed."
    )


class MLModelStatus(Model):
    """Most recently observed state of a model."""

    model_config = ConfigDict()

    observed_generation: int = Field(
        -1, description="Most recent generation observed by the operator, -1 before the first."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=32,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="Conditions of the model; see docs/reasons.md.",
    )
    stage: str | None = Field(
        None,
        max_length=32,
        description="Current stage: Experimental, Eligible, Requested, Canary, RollingBack or Production. Derived "
        "from the other fields.",
    )
    replicas: int = Field(0, description="Number of Pods of the live version.")
    selector: str = Field(
        "", max_length=512, description="Label selector of the Pods of the live version, for the scale subresource."
    )
    versions: Versions = Field(default_factory=lambda: Versions.model_validate({}), description="Role of each version.")
    rollout: RolloutStatus | None = Field(None, description="Rollout in progress. Not set if there is none.")
    verdict: VerdictStatus | None = Field(None, description="Latest verdict on the newest version.")
    switches: int = Field(
        0,
        ge=0,
        description="Number of times the live version has changed. Records of the live version with a lower count are "
        "ignored.",
    )
    history: list[HistoryEntry] = Field(
        default_factory=list, max_length=20, description="Finished rollouts, newest first."
    )
    retention: Retention | None = Field(
        None, description="Progress of deleting runs beyond the history limits. Not set if there are none."
    )

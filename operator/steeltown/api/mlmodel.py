"""MLModel: the long-lived thing, its policy, and how far it has got."""

from __future__ import annotations

from enum import StrEnum

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
    """How many finished TrainingRuns are kept, of those that were made from the template."""

    succeeded: int | None = Field(
        None, ge=0, le=10000, description="Newest runs that succeeded, such as 20. Absent: all of them."
    )
    failed: int | None = Field(
        None, ge=0, le=10000, description="Newest runs that failed, such as 5. Absent: all of them."
    )


class Training(Model):
    """How new versions come about."""

    template: TrainingRunTemplate | None = Field(
        None, description="A TrainingRun is created from this, named <model>-v<N>, whenever it changes."
    )
    history_limit: RunHistoryLimit | None = Field(
        None,
        description="How many finished runs made from the template are kept. Older ones are deleted, and their objects "
        "in the store unless anybody else refers to them. Absent: all are kept.",
    )


class Serving(Model):
    """How a version is served."""

    replicas: int = Field(1, ge=0, le=1000, description="Pods of the live version.")
    resources: Resources = Field(default_factory=lambda: Resources(), description="Resources of each server.")


class Step(Model):
    """A traffic step."""

    weight: int = Field(ge=1, le=100, description="Percent of requests that the canary gets.")


class LoadCheck(Model):
    """Load on a fresh Pod of the candidate beside a fresh Pod of the live version, before any traffic."""

    rate_per_second: Decimal = Field("50", description="Requests a second to each side, sent on schedule (open loop).")
    duration_seconds: int = Field(16, ge=2, le=3600, description="Length of the measurement, both sides together.")


class Rollout(Model):
    """How a version gets to production."""

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
        description="Traffic steps, judged one after the other on live requests.",
    )
    load_check: LoadCheck = Field(
        default_factory=lambda: LoadCheck.model_validate({}), description="The check before any traffic."
    )
    on_inconclusive: OnInconclusive = Field(
        OnInconclusive.HOLD,
        description="What to do when a deadline passes without enough evidence. Hold: stay at this weight and say so. "
        "Rollback: back to the live version.",
    )
    progress_deadline_seconds: int = Field(
        600, ge=10, le=604800, description="Each phase and each step must get on within this time."
    )
    bake_seconds: int = Field(60, ge=0, le=604800, description="The old version stays warm this long after the switch.")


class ModelEvaluation(Evaluation):
    """Frozen evaluation rows of a model. Those who make runs cannot change them."""

    task: Task | None = Field(
        None, description="What is predicted, from which columns. Absent: the task that the TrainingRun names."
    )


class MLModelSpec(Model):
    """Policy of a model."""

    stage: Stage = Field(
        Stage.EXPERIMENTAL,
        description="Experimental: every finished run is served, gates only report. "
        "Production: the request for promotion; only evidence moves traffic.",
    )
    frozen: bool = Field(
        False,
        description="Incident brake: nothing moves forward, serving goes on. Abort, a withdrawn stage and harm that is "
        "shown still roll back.",
    )
    abort: Name | None = Field(
        None,
        description="Name of a TrainingRun that must not be rolled out: its rollout in flight is rolled back at once, "
        "also while frozen, and the version counts as rejected.",
    )
    training: Training | None = Field(None, description="How new versions come about.")
    history_limit: int | None = Field(
        None,
        ge=0,
        le=10000,
        description="How many finished runs are kept, whoever made them: also those that people created. The live and "
        "the previous version, a candidate, and runs of the last hour are kept in any case. Older ones are deleted, "
        "and their objects in the store unless anybody else refers to them. Absent: all are kept that "
        "training.historyLimit keeps.",
    )
    storage: Storage | None = Field(None, description="Artifact store. Absent: the operator's default.")
    objectives: Objectives = Field(
        default_factory=lambda: Objectives.model_validate({}), description="What must be true of a version."
    )
    evaluation: ModelEvaluation | None = Field(
        None,
        description="Rows on which every version is measured for promotion, whatever its TrainingRun names. "
        "Absent: the rows that the run names.",
    )
    serving: Serving = Field(default_factory=lambda: Serving.model_validate({}), description="How a version is served.")
    rollout: Rollout = Field(
        default_factory=lambda: Rollout.model_validate({}), description="How a version gets to production."
    )


class VersionRef(Model):
    """One version: the run that made it and the digest of the model."""

    run: str = Field(max_length=63, description="Name of the TrainingRun.")
    digest: str = Field(max_length=71, description="sha256:<hex> of model.onnx.")
    rows: int | None = Field(None, description="Rows it was trained on.")
    promoted: bool = Field(False, description="It got where it is by evidence.")
    created: str | None = Field(None, max_length=40, description="When its run was created.")


class Versions(Model):
    """Role of each version."""

    live: VersionRef | None = Field(None, description="Selected by the Service: answers users.")
    candidate: VersionRef | None = Field(None, description="Newest finished version that is not live.")
    previous: VersionRef | None = Field(None, description="Live before the present one.")


class Phase(StrEnum):
    """Phases of a rollout, in order; RollingBack can follow any."""

    LOADING = "Loading"
    LOAD_CHECKING = "LoadChecking"
    SHIFTING = "Shifting"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"


class RolloutFinding(Model):
    """What one phase has shown about the candidate. It is carried unchanged into the outcome and the history."""

    type: str = Field(max_length=64, description="The condition that it is about.")
    status: Status = Field(description="True, False, or Unknown while evidence is collected.")
    reason: str = Field(max_length=64, description="Why, in one word; see docs/reasons.md.")
    message: str = Field("", max_length=1024, description="What was seen.")


class RolloutStatus(Model):
    """The rollout in flight. Intent is written here before anything is done about it."""

    id: str = Field(max_length=16, description="Names this rollout; evidence is counted under it.")
    run: str = Field(max_length=63, description="TrainingRun of the candidate.")
    digest: str = Field(max_length=71, description="Digest of the candidate.")
    phase: Phase = Field(description="Loading, LoadChecking, Shifting, Promoting, Baking or RollingBack.")
    step: int = Field(-1, description="Index of the traffic step, -1 before the first.")
    weight: int = Field(0, description="Percent that the step asks for.")
    observed_weight: int | None = Field(None, description="Percent that the live Pods say they apply.")
    attempt: int = Field(0, description="Attempt of the load check.")
    retry: str | None = Field(None, max_length=63, description="steeltown.dev/retry of the run as last seen.")
    started_time: str = Field(max_length=40, description="When the rollout began.")
    phase_time: str = Field(max_length=40, description="When this phase or step began.")
    fail_look: int = Field(0, ge=0, le=64, description="Looks for harm already taken in this step.")
    pass_look: int = Field(0, ge=0, le=64, description="Looks for a pass already taken in this step.")
    restarts: int = Field(0, description="Times that the measurement of this step was started anew.")
    disturbed: bool = Field(
        False, description="Pods that the operator did not make answered under its labels: what was measured is void."
    )
    ending: str | None = Field(
        None,
        max_length=32,
        description="While it is rolled back: RolledBack (the version is rejected), Withdrawn or Superseded.",
    )
    reason: str | None = Field(None, max_length=64, description="Why it is being rolled back.")
    message: str | None = Field(None, max_length=2048, description="The same in a sentence.")
    findings: list[RolloutFinding] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="What was shown about the candidate so far, by condition.",
    )

    @field_validator("phase_time", "started_time")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        """Deadlines are counted from it, so one that cannot be read makes the whole rollout unreadable."""
        parse_time(value)
        return value


class VerdictStatus(Model):
    """The last word on the newest version."""

    run: str = Field(max_length=63, description="The version it is about.")
    result: str = Field(max_length=16, description="Pass, Fail or Unknown.")
    reason: str = Field(max_length=64, description="In one word; the Verdict column.")
    message: str = Field("", max_length=2048, description="In a sentence.")


class HistoryEntry(Model):
    """One promotion or rollback."""

    time: str = Field(max_length=40, description="When.")
    run: str = Field(max_length=63, description="Which version.")
    digest: str = Field(max_length=71, description="Its digest.")
    outcome: str = Field(max_length=32, description="Promoted, RolledBack, Withdrawn or Superseded.")
    reason: str = Field(max_length=64, description="Why, in one word.")
    message: str = Field("", max_length=512, description="Why, in a sentence.")
    retry: str | None = Field(None, max_length=63, description="The steeltown.dev/retry of the run at that time.")


class Retention(Model):
    """Finished runs beyond the history limits, and what becomes of them."""

    expired: int = Field(ge=0, description="How many runs are to go, those of the last hour included.")
    next: list[str] = Field(default_factory=list, max_length=10, description="The first of them, oldest first.")
    message: str | None = Field(None, max_length=1024, description="What they wait for, or what went wrong.")


class MLModelStatus(Model):
    """Where the model stands; a projection that can be computed again."""

    model_config = ConfigDict()

    observed_generation: int = Field(-1, description="Generation that this status is about; -1 before the first.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=32,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="Statements about this model; see docs/reasons.md.",
    )
    stage: str | None = Field(None, max_length=32, description="Derived from the conditions; never an input.")
    replicas: int = Field(0, description="Pods of the live version that exist.")
    selector: str = Field("", max_length=512, description="Label selector of the live version, for autoscalers.")
    versions: Versions = Field(default_factory=lambda: Versions.model_validate({}), description="Role of each version.")
    rollout: RolloutStatus | None = Field(None, description="The rollout in flight.")
    verdict: VerdictStatus | None = Field(None, description="The last word on the newest version.")
    switches: int = Field(
        0, ge=0, description="How often the live version has changed; a record with fewer changes counts for nothing."
    )
    history: list[HistoryEntry] = Field(
        default_factory=list, max_length=20, description="Promotions and rollbacks, newest first."
    )
    retention: Retention | None = Field(
        None, description="Runs that the history limits let go, and what they wait for. Absent: there are none."
    )

"""TrainingRun: one immutable attempt to make one version of a model, and afterwards its record."""

from __future__ import annotations

from pydantic import Field

from ..contract.plans import TaskType
from .base import Model, Name, Resources, Source, rule, rules
from .conditions import Condition
from .objectives import RunObjectives


class ModelRef(Model):
    """The MLModel that this run makes a version for, in the same namespace."""

    name: Name = Field(description="Name of the MLModel.")


class Task(Model):
    """What the model predicts, from which columns."""

    type: TaskType = Field(description="Classification or Regression.")
    target: str = Field(min_length=1, max_length=253, description="Column to predict.")
    features: list[str] = Field(
        default_factory=list,
        max_length=512,
        json_schema_extra={"x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 253}},
        description="Input columns, in the order of the model's inputs. Empty: every column but the target.",
    )


class EnvVar(Model):
    """An environment variable of the trainer."""

    name: str = Field(
        min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the variable."
    )
    value: str = Field("", max_length=4096, description="Its value, as it is.")


class Train(Model):
    """Train a model: any image that follows the file contract, or the built-in trainer."""

    data: Source = Field(description="Training data, CSV or Parquet.")
    image: str | None = Field(
        None,
        max_length=512,
        pattern=r"^[^\s]+$",
        description="Image of the trainer. Absent: the built-in trainer (scikit-learn to ONNX, no code).",
    )
    command: list[str] = Field(
        default_factory=list,
        max_length=32,
        json_schema_extra={"items": {"type": "string", "maxLength": 4096}},
        description="Overrides the image's entrypoint.",
    )
    args: list[str] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra={"items": {"type": "string", "maxLength": 4096}},
        description="Arguments of the trainer.",
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Further environment variables of the trainer.",
    )
    params: dict[str, str] = Field(
        default_factory=dict,
        max_length=64,
        json_schema_extra={"additionalProperties": {"type": "string", "maxLength": 4096}},
        description="Parameters for the trainer, as strings in its params.json. Built-in: "
        "estimator (Auto, Linear, GradientBoosting, RandomForest), maxRows.",
    )
    seed: int = Field(0, ge=0, le=2147483647, description="Seed of everything random.")
    resources: Resources = Field(default_factory=lambda: Resources(), description="Resources of the trainer.")


class Evaluation(Model):
    """Frozen rows on which this version and the live one are compared; the trainer never sees them."""

    data: Source = Field(description="Evaluation rows with the target, CSV or Parquet.")


_TEMPLATE_RULES = (
    rule(
        "has(self.train) != has(self.__import__)",
        "write exactly one of train (make a model from data) and import (bring an ONNX file)",
    ),
    rule(
        "!(has(self.train) && !has(self.train.image) && !has(self.task))",
        "the built-in trainer needs task: write task.type and task.target, or name train.image",
    ),
    rule("!(has(self.evaluation) && !has(self.task))", "evaluation needs task: write task.type and task.target"),
)


class TrainingRunTemplate(Model):
    """What a TrainingRun does, less the model it belongs to."""

    model_config = rules(*_TEMPLATE_RULES)

    task: Task | None = Field(None, description="What is predicted; the built-in trainer and the evaluation need it.")
    train: Train | None = Field(None, description="Make a model from data. Exactly one of train and import.")
    import_: Source | None = Field(
        None, alias="import", description="Bring an ONNX model of your own. Exactly one of train and import."
    )
    evaluation: Evaluation | None = Field(None, description="Rows to measure quality on.")
    objectives: RunObjectives | None = Field(
        None, description="Objectives of this run. Absent: those of the MLModel when the run starts."
    )
    start_deadline_seconds: int = Field(
        600, ge=1, le=604800, description="The Pod must start within this time, else the run fails with the cause."
    )
    active_deadline_seconds: int = Field(
        3600, ge=1, le=2592000, description="The run must end within this time of its start."
    )
    max_attempts: int = Field(
        3, ge=1, le=10, description="Attempts for transient failures; exit codes 64 and 65 are never retried."
    )


class TrainingRunSpec(TrainingRunTemplate):
    """One attempt. Immutable: a run never changes when its model does."""

    model_config = rules(
        *_TEMPLATE_RULES, rule("self == oldSelf", "spec is immutable: create a new TrainingRun instead")
    )

    model_ref: ModelRef = Field(description="The MLModel that this run makes a version for.")


class Artifact(Model):
    """The model that a run made, in the artifact store."""

    digest: str = Field(max_length=71, description="sha256:<hex> of model.onnx.")
    uri: str = Field(max_length=1024, description="Where it is.")
    size_bytes: int | None = Field(None, description="Its size.")
    reference: str | None = Field(
        None,
        max_length=512,
        description="Name of this run's reference in the store, which keeps the model there. Absent of runs that ended "
        "under version 0.1: their models are never removed.",
    )


class Metric(Model):
    """A metric on the evaluation rows, of this version and of the version that was live."""

    name: str = Field(max_length=64, description="accuracy, auc, logloss, rmse, mae.")
    candidate: str = Field(max_length=32, description="Value of this version.")
    live: str | None = Field(None, max_length=32, description="Value of the live version on the same rows.")
    difference: str | None = Field(None, max_length=32, description="This minus live, positive is better.")
    lower: str | None = Field(None, max_length=32, description="Lower end of its paired bootstrap interval.")
    upper: str | None = Field(None, max_length=32, description="Upper end of its paired bootstrap interval.")
    rows: int = Field(description="Rows it was measured on.")


class CheckResult(Model):
    """One check that was made."""

    name: str = Field(max_length=64, description="What was checked.")
    verdict: str = Field(max_length=32, description="Pass, Warn, Fail or InsufficientData.")
    message: str = Field("", max_length=512, description="What was seen.")
    value: str | None = Field(None, max_length=32, description="What was measured.")
    threshold: str | None = Field(None, max_length=32, description="What it was compared with.")


class TrainingRunStatus(Model):
    """Where the run stands; final once completionTime is set."""

    observed_generation: int = Field(-1, description="Generation that this status is about; -1 before the first.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="Statements about this run; see docs/reasons.md.",
    )
    phase: str = Field(
        "Pending", max_length=32, description="Pending, Preparing, Training, Finalising, Succeeded or Failed."
    )
    reason: str | None = Field(None, max_length=64, description="Why it stands there, in one word.")
    created_time: str | None = Field(
        None,
        max_length=40,
        description="When the run was first created. Versions are ordered by it, restored ones too.",
    )
    job_name: str | None = Field(None, max_length=63, description="The Job that does the work.")
    job_seal: str | None = Field(None, max_length=64, description="By which the operator knows the Job for its own.")
    start_time: str | None = Field(None, max_length=40, description="When the Job was created.")
    waiting_since: str | None = Field(
        None, max_length=40, description="Since when no Pod of the Job has been at work; absent while one is."
    )
    completion_time: str | None = Field(None, max_length=40, description="When the run ended, for good.")
    rows: int | None = Field(None, description="Rows of the training data.")
    artifact: Artifact | None = Field(None, description="The model that came out.")
    quality_basis: str | None = Field(
        None,
        max_length=16,
        description="Whose objectives QualityAccepted is about: Model (and the run's where they are stricter), or Run "
        "where the model enforces none; then the version is served but never eligible.",
    )
    metrics: list[Metric] = Field(default_factory=list, max_length=16, description="Quality on the evaluation rows.")
    checks: list[CheckResult] = Field(
        default_factory=list, max_length=16, description="Checks that were made; the report in the store has all."
    )
    log: str | None = Field(None, max_length=4096, description="Last lines of the container that failed.")

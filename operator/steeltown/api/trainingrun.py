"""TrainingRun: one immutable attempt to make one version of a model, and afterwards its record."""

from __future__ import annotations

from pydantic import Field

from ..contract.plans import TaskType
from .base import Model, Name, Resources, Source, rule, rules
from .conditions import Condition
from .objectives import RunObjectives


class ModelRef(Model):
    """Reference to an MLModel in the same namespace."""

    name: Name = Field(description="Name of the MLModel.")


class Outputs(Model):
    """Meaning of the outputs of the model. Only needed where the ONNX file does not say it."""

    model_config = rules(
        rule(
            "!(has(self.label) && has(self.probabilities)) || self.label != self.probabilities",
            "label and probabilities must be different outputs: remove the one that the model does not have",
        )
    )

    label: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Name of the output with the predicted class of each row, or with the predicted number of a "
        "Regression.",
    )
    probabilities: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Name of the output with one probability or score for each class. A single column is that of the "
        "second of two classes.",
    )
    classes: list[str] = Field(
        default_factory=list,
        max_length=1000,
        json_schema_extra={"x-kubernetes-list-type": "atomic", "items": {"type": "string", "maxLength": 253}},
        description="Classes in the order of the columns of the probabilities, as the target column has them. Defaults "
        "to those of the ONNX file.",
    )


class Task(Model):
    """Prediction task: the target, the features and the outputs."""

    model_config = rules(
        rule(
            "self.type == 'Classification' || !has(self.outputs) || !(has(self.outputs.probabilities) || "
            "(has(self.outputs.classes) && size(self.outputs.classes) > 0))",
            "outputs.probabilities and outputs.classes require type Classification: for Regression set outputs.label",
        )
    )

    type: TaskType = Field(description="Type of the task: Classification or Regression.")
    target: str = Field(min_length=1, max_length=253, description="Name of the column to predict.")
    features: list[str] = Field(
        default_factory=list,
        max_length=512,
        json_schema_extra={"x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 253}},
        description="Names of the input columns, in the order of the model's inputs. Defaults to all columns except "
        "the target.",
    )
    outputs: Outputs | None = Field(
        None, description="Meaning of the outputs of the model. Defaults to what the ONNX file says."
    )


class EnvVar(Model):
    """Environment variable of the trainer container."""

    name: str = Field(
        min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the variable."
    )
    value: str = Field("", max_length=4096, description="Value of the variable.")


class Train(Model):
    """Trains a model with any image that implements the file contract, or with the built-in trainer."""

    data: Source = Field(description="Training data in CSV or Parquet format.")
    image: str | None = Field(
        None,
        max_length=512,
        pattern=r"^[^\s]+$",
        description="Container image of the trainer. Defaults to the built-in trainer (scikit-learn to ONNX, no code).",
    )
    command: list[str] = Field(
        default_factory=list,
        max_length=32,
        json_schema_extra={"items": {"type": "string", "maxLength": 4096}},
        description="Entrypoint of the trainer container. Defaults to the ENTRYPOINT of the image.",
    )
    args: list[str] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra={"items": {"type": "string", "maxLength": 4096}},
        description="Arguments to the entrypoint. Defaults to the CMD of the image.",
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Additional environment variables of the trainer container.",
    )
    params: dict[str, str] = Field(
        default_factory=dict,
        max_length=64,
        json_schema_extra={"additionalProperties": {"type": "string", "maxLength": 4096}},
        description="Parameters of the trainer, passed as strings in params.json. The built-in trainer supports "
        "estimator (Auto, Linear, GradientBoosting, RandomForest) and maxRows.",
    )
    seed: int = Field(
        0, ge=0, le=2147483647, description="Seed of the random number generators of the trainer and the evaluation."
    )
    resources: Resources = Field(
        default_factory=lambda: Resources(), description="Compute resources of the trainer container."
    )


class Evaluation(Model):
    """Evaluation data, on which this version is compared with the live one. Not available to the trainer."""

    data: Source = Field(description="Evaluation data including the target column, in CSV or Parquet format.")


_TEMPLATE_RULES = (
    rule(
        "has(self.train) != has(self.__import__)",
        "exactly one of train (train on data) and import (use an existing ONNX file) is required",
    ),
    rule(
        "!(has(self.train) && !has(self.train.image) && !has(self.task))",
        "task is required by the built-in trainer: set task.type and task.target, or set train.image",
    ),
    rule("!(has(self.evaluation) && !has(self.task))", "task is required by evaluation: set task.type and task.target"),
)


class TrainingRunTemplate(Model):
    """Specification of a TrainingRun without the reference to its MLModel."""

    model_config = rules(*_TEMPLATE_RULES)

    task: Task | None = Field(None, description="Prediction task. Required by the built-in trainer and by evaluation.")
    train: Train | None = Field(
        None, description="Trains a model on data. Exactly one of train and import is required."
    )
    import_: Source | None = Field(
        None, alias="import", description="Imports an existing ONNX model. Exactly one of train and import is required."
    )
    evaluation: Evaluation | None = Field(None, description="Evaluation data to measure quality on.")
    objectives: RunObjectives | None = Field(
        None,
        description="Objectives of this run. They can tighten those of the MLModel, not loosen them. Defaults to "
        "those of the MLModel at the start of the run.",
    )
    start_deadline_seconds: int = Field(
        600,
        ge=1,
        le=604800,
        description="Maximum time in seconds for a Pod of the run to start. The run fails with the cause once "
        "exceeded.",
    )
    active_deadline_seconds: int = Field(
        3600, ge=1, le=2592000, description="Maximum duration of the run in seconds, relative to its start."
    )
    max_attempts: int = Field(
        3, ge=1, le=10, description="Maximum number of attempts. Exit codes 64 and 65 are never retried."
    )


class TrainingRunSpec(TrainingRunTemplate):
    """Specification of a run. Immutable: later changes of the MLModel do not affect it."""

    model_config = rules(
        *_TEMPLATE_RULES, rule("self == oldSelf", "spec is immutable: create a new TrainingRun instead")
    )

    model_ref: ModelRef = Field(description="MLModel that the run produces a version of.")


class Artifact(Model):
    """Model produced by a run, in the artifact store."""

    digest: str = Field(max_length=71, description="SHA-256 digest of model.onnx.")
    uri: str = Field(max_length=1024, description="URI of the model.")
    size_bytes: int | None = Field(None, description="Size of the model in bytes.")
    reference: str | None = Field(
        None,
        max_length=512,
        description="Name of the reference in the store that retains the model for this run. Not set for runs finished "
        "under version 0.1, whose models are never removed.",
    )


class Metric(Model):
    """Metric on the evaluation data, compared with the version that was live."""

    name: str = Field(max_length=64, description="Name of the metric: accuracy, auc, logloss, rmse or mae.")
    candidate: str = Field(max_length=32, description="Value of this version.")
    live: str | None = Field(
        None,
        max_length=32,
        description="Value of the live version on the same rows. Not set if there was nothing to compare with.",
    )
    difference: str | None = Field(
        None, max_length=32, description="Difference to the live version. Positive is better."
    )
    lower: str | None = Field(
        None,
        max_length=32,
        description="Lower bound of the paired 95% bootstrap confidence interval of the difference.",
    )
    upper: str | None = Field(
        None,
        max_length=32,
        description="Upper bound of the paired 95% bootstrap confidence interval of the difference.",
    )
    rows: int = Field(description="Number of rows it was measured on.")


class CheckResult(Model):
    """Result of one check."""

    name: str = Field(max_length=64, description="Name of the check.")
    verdict: str = Field(max_length=32, description="Verdict: Pass, Warn, Fail or InsufficientData.")
    message: str = Field("", max_length=512, description="Human-readable details of the result.")
    value: str | None = Field(None, max_length=32, description="Measured value.")
    threshold: str | None = Field(None, max_length=32, description="Limit that the value was compared with.")


class TrainingRunStatus(Model):
    """Most recently observed state of a run. Final once completionTime is set."""

    observed_generation: int = Field(
        -1, description="Most recent generation observed by the operator, -1 before the first."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="Conditions of the run; see docs/reasons.md.",
    )
    phase: str = Field(
        "Pending",
        max_length=32,
        description="Current phase: Pending, Preparing, Training, Finalising, Succeeded or Failed.",
    )
    reason: str | None = Field(None, max_length=64, description="CamelCase reason for the current phase.")
    created_time: str | None = Field(
        None,
        max_length=40,
        description="Time when the run was first created. Retained across restores; versions are ordered by it.",
    )
    job_name: str | None = Field(None, max_length=63, description="Name of the Job of the run.")
    job_seal: str | None = Field(
        None, max_length=64, description="Signature by which the operator verifies that it created the Job."
    )
    start_time: str | None = Field(None, max_length=40, description="Time when the Job was created.")
    waiting_since: str | None = Field(
        None,
        max_length=40,
        description="Time since which no Pod of the Job has been running. Not set while one is running.",
    )
    completion_time: str | None = Field(
        None, max_length=40, description="Time when the run finished. The status is final from then on."
    )
    rows: int | None = Field(None, description="Number of rows of the training data.")
    artifact: Artifact | None = Field(None, description="Model produced by the run. Not set unless the run succeeded.")
    quality_basis: str | None = Field(
        None,
        max_length=16,
        description="Objectives that QualityAccepted is based on: Model (tightened by those of the run), or Run if the "
        "MLModel enforces none. A version judged by Run is served but never eligible.",
    )
    metrics: list[Metric] = Field(default_factory=list, max_length=16, description="Metrics on the evaluation data.")
    checks: list[CheckResult] = Field(
        default_factory=list,
        max_length=16,
        description="Results of the most important checks, failures first. The report in the store contains all of "
        "them.",
    )
    log: str | None = Field(None, max_length=4096, description="Last log lines of the failed container.")

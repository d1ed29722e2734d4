"""Objectives: what must be true of a version, and whether missing it stops a promotion or is only reported."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from ..contract.plans import ColumnType
from .base import Decimal, Model, Share, rule, rules


class Mode(StrEnum):
    ENFORCE = "Enforce"
    OBSERVE = "Observe"


def _mode() -> Mode:
    return Field(Mode.ENFORCE, description="Enforce: a miss stops the promotion. Observe: it is only reported.")


class Rows(Model):
    """Bounds on the number of training rows."""

    model_config = rules(
        rule("!(has(self.min) && has(self.max)) || self.min <= self.max", "rows.min must not be above rows.max")
    )

    min: int | None = Field(None, ge=0, description="At least this many rows.")
    max: int | None = Field(None, ge=0, description="At most this many rows.")
    min_ratio_to_live: Decimal | None = Field(
        None, description='At least this share of the rows that the live version was trained on, such as "0.5".'
    )


class ColumnObjective(Model):
    """A column that must be there."""

    name: str = Field(min_length=1, max_length=253, description="Name of the column.")
    type: ColumnType | None = Field(None, description="Number, Integer, String or Boolean. Absent: any.")
    max_null_fraction: Share | None = Field(None, description='At most this share of nulls, such as "0.05".')


class DataObjective(Model):
    """What the training data must be like."""

    rows: Rows | None = Field(None, description="How many rows.")
    columns: list[ColumnObjective] = Field(
        default_factory=list,
        max_length=512,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Columns that must be there. The target and the features of the task always must.",
    )


class MetricName(StrEnum):
    ACCURACY = "accuracy"
    AUC = "auc"
    LOGLOSS = "logloss"
    RMSE = "rmse"
    MAE = "mae"


class QualityObjective(Model):
    """A metric on the evaluation rows."""

    model_config = rules(
        rule(
            "has(self.min) || has(self.max) || has(self.nonInferiorityMargin)",
            "write at least one of min, max and nonInferiorityMargin: a metric without a bound decides nothing",
        )
    )

    metric: MetricName = Field(description="accuracy, auc (higher is better), logloss, rmse, mae (lower is better).")
    min: Decimal | None = Field(None, description='The value must be at least this, such as "0.70".')
    max: Decimal | None = Field(None, description='The value must be at most this, such as "0.50".')
    non_inferiority_margin: Decimal | None = Field(
        None,
        description='The version may be worse than the live one by less than this, such as "0.01": shown when the '
        "lower end of the paired 95% interval of the difference is above minus the margin.",
    )
    mode: Mode = _mode()


class ServingObjective(Model):
    """What production must keep. The same bounds judge the load check, the canary and the bake."""

    error_rate: Share = Field("0.01", description='At most this share of requests may fail, such as "0.01".')
    latency_milliseconds: int = Field(100, ge=1, le=600000, description="A request slower than this is slow.")
    slow_rate: Share = Field("0.01", description='At most this share of requests may be slow, such as "0.01".')
    max_slowdown: Decimal = Field(
        "2.0", description="In the load check, the median latency may be at most this many times that of the baseline."
    )


class RunObjectives(Model):
    """Objectives that a TrainingRun is measured against."""

    data: DataObjective | None = Field(None, description="What the training data must be like.")
    quality: list[QualityObjective] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["metric"]},
        description="Metrics on the evaluation rows. Without one a version is served but never eligible.",
    )


class Objectives(RunObjectives):
    """Objectives of a model."""

    serving: ServingObjective = Field(
        default_factory=lambda: ServingObjective.model_validate({}), description="What production must keep."
    )

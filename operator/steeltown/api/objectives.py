"""Objectives: what must be true of a version, and whether missing it decides or is only reported.

An objective of the data is a model that says which checks of the checker it asks for, with which parameters; so
a field of `DataObjective` is all that the operator needs for a new one (docs/extending.md).
"""

from __future__ import annotations

import decimal
import math
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any

from pydantic import Field

from ..contract.plans import ColumnType, DataCheck
from ..contract.plans import Mode as Mode
from .base import Decimal, Model, Share, rule, rules


def _mode() -> Mode:
    return Field(Mode.ENFORCE, description="Enforce: a miss stops the promotion. Observe: it is only reported.")


class DataCheckObjective(Model, ABC):
    """An objective that `prepare` checks."""

    mode: Mode = Field(
        Mode.ENFORCE, description="Enforce: a miss ends the run before training. Observe: it is only reported."
    )

    @abstractmethod
    def checks(self, live_rows: int | None) -> tuple[DataCheck, ...]:
        """live_rows: of the training data of the live version, None if there is none."""

    def check(self, name: str, **parameters: Any) -> DataCheck:
        """A check in the mode of this objective. Parameters without a value are left out."""
        given = {k: v for k, v in parameters.items() if v is not None}
        return DataCheck(name=name, parameters=given, mode=self.mode)


class Rows(DataCheckObjective):
    """Bounds on the number of training rows."""

    model_config = rules(
        rule("!(has(self.min) && has(self.max)) || self.min <= self.max", "rows.min must not be above rows.max")
    )

    min: int | None = Field(None, ge=0, description="At least this many rows.")
    max: int | None = Field(None, ge=0, description="At most this many rows.")
    min_ratio_to_live: Decimal | None = Field(
        None, description='At least this share of the rows that the live version was trained on, such as "0.5".'
    )

    def checks(self, live_rows: int | None) -> tuple[DataCheck, ...]:
        least = self.min
        if self.min_ratio_to_live and live_rows:
            least = max(least or 0, math.ceil(decimal.Decimal(self.min_ratio_to_live) * live_rows))
        return () if least is None and self.max is None else (self.check("rows", min=least, max=self.max),)


class ColumnObjective(DataCheckObjective):
    """A column that must be there."""

    name: str = Field(min_length=1, max_length=253, description="Name of the column.")
    type: ColumnType | None = Field(None, description="Number, Integer, String or Boolean. Absent: any.")
    max_null_fraction: Share | None = Field(None, description='At most this share of nulls, such as "0.05".')

    def checks(self, live_rows: int | None) -> tuple[DataCheck, ...]:
        found = [self.check("columns", columns=[{"name": self.name}])]
        if self.type is not None:
            found.append(self.check("types", columns=[{"name": self.name, "type": self.type.value}]))
        if self.max_null_fraction is not None:
            limit = float(self.max_null_fraction)
            found.append(self.check("nulls", columns=[{"name": self.name, "maxNullFraction": limit}]))
        return tuple(found)


class DataObjective(Model):
    """What the training data must be like."""

    rows: Rows | None = Field(None, description="How many rows.")
    columns: list[ColumnObjective] = Field(
        default_factory=list,
        max_length=512,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Columns that must be there. The target and the features of the task always must.",
    )

    def checks(self, live_rows: int | None) -> tuple[DataCheck, ...]:
        """What `prepare` is to check, one entry for each check and mode: the members of lists are joined.

        live_rows: of the training data of the live version, None if there is none.
        """
        joined: dict[tuple[str, Mode], dict[str, Any]] = {}
        for field in type(self).model_fields:
            value = getattr(self, field)
            for objective in value if isinstance(value, list) else [value]:
                for each in objective.checks(live_rows) if isinstance(objective, DataCheckObjective) else ():
                    _join(joined.setdefault((each.name, each.mode), {}), each.parameters)
        return tuple(DataCheck(name=name, parameters=p, mode=mode) for (name, mode), p in joined.items())


def _join(known: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        known[key] = [*known.get(key, ()), *value] if isinstance(value, list) else value


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

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
    return Field(
        Mode.ENFORCE, description="Enforce: a missed objective blocks promotion. Observe: it is only reported."
    )


class DataCheckObjective(Model, ABC):
    """Objective for the training data, checked before training."""

    mode: Mode = Field(
        Mode.ENFORCE,
        description="Enforce: a missed objective fails the run before training. Observe: it is only reported.",
    )

    @abstractmethod
    def checks(self, live_rows: int | None) -> tuple[DataCheck, ...]:
        """live_rows: of the training data of the live version, None if there is none."""

    def check(self, name: str, **parameters: Any) -> DataCheck:
        """A check in the mode of this objective. Parameters without a value are left out."""
        given = {k: v for k, v in parameters.items() if v is not None}
        return DataCheck(name=name, parameters=given, mode=self.mode)


class Rows(DataCheckObjective):
    """Limits on the number of training rows."""

    model_config = rules(
        rule(
            "!(has(self.min) && has(self.max)) || self.min <= self.max",
            "rows.min must be less than or equal to rows.max",
        )
    )

    min: int | None = Field(None, ge=0, description="Minimum number of rows.")
    max: int | None = Field(None, ge=0, description="Maximum number of rows.")
    min_ratio_to_live: Decimal | None = Field(
        None,
        description="Minimum number of rows, as a ratio of the rows that the live version was trained on, such as "
        '"0.5".',
    )

    def checks(self, live_rows: int | None) -> tuple[DataCheck, ...]:
        least = self.min
        if self.min_ratio_to_live and live_rows:
            least = max(least or 0, math.ceil(decimal.Decimal(self.min_ratio_to_live) * live_rows))
        return () if least is None and self.max is None else (self.check("rows", min=least, max=self.max),)


class ColumnObjective(DataCheckObjective):
    """Required column of the training data."""

    name: str = Field(min_length=1, max_length=253, description="Name of the column.")
    type: ColumnType | None = Field(
        None, description="Required type: Number, Integer, String or Boolean. Any type if not set."
    )
    max_null_fraction: Share | None = Field(None, description='Maximum fraction of null values, such as "0.05".')

    def checks(self, live_rows: int | None) -> tuple[DataCheck, ...]:
        found = [self.check("columns", columns=[{"name": self.name}])]
        if self.type is not None:
            found.append(self.check("types", columns=[{"name": self.name, "type": self.type.value}]))
        if self.max_null_fraction is not None:
            limit = float(self.max_null_fraction)
            found.append(self.check("nulls", columns=[{"name": self.name, "maxNullFraction": limit}]))
        return tuple(found)


class DataObjective(Model):
    """Objectives for the training data."""

    rows: Rows | None = Field(None, description="Limits on the number of rows.")
    columns: list[ColumnObjective] = Field(
        default_factory=list,
        max_length=512,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Required columns, in addition to the target and the features of the task.",
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
    """Objective for a metric on the evaluation data."""

    model_config = rules(
        rule(
            "has(self.min) || has(self.max) || has(self.nonInferiorityMargin)",
            "at least one of min, max and nonInferiorityMargin is required",
        )
    )

    metric: MetricName = Field(
        description="Name of the metric: accuracy, auc (higher is better), logloss, rmse, mae (lower is better)."
    )
    min: Decimal | None = Field(None, description='Minimum value, such as "0.70".')
    max: Decimal | None = Field(None, description='Maximum value, such as "0.50".')
    non_inferiority_margin: Decimal | None = Field(
        None,
        description='Margin by which the version may be worse than the live one, such as "0.01". Met when the lower '
        "bound of the paired 95% confidence interval of the difference is above the negative margin.",
    )
    mode: Mode = _mode()


class ServingObjective(Model):
    """Serving objectives, applied to the load check, the canary and the bake."""

    error_rate: Share = Field("0.01", description='Maximum fraction of failed requests, such as "0.01".')
    latency_milliseconds: int = Field(
        100, ge=1, le=600000, description="Latency in milliseconds above which a request counts as slow."
    )
    slow_rate: Share = Field("0.01", description='Maximum fraction of slow requests, such as "0.01".')
    max_slowdown: Decimal = Field(
        "2.0",
        description="Maximum ratio of the median latency to that of the live version, measured by the load check.",
    )


class RunObjectives(Model):
    """Objectives of a TrainingRun."""

    data: DataObjective | None = Field(None, description="Objectives for the training data.")
    quality: list[QualityObjective] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["metric"]},
        description="Objectives for metrics on the evaluation data. A version is eligible only if the MLModel "
        "enforces one.",
    )


class Interface(StrEnum):
    COMPATIBLE = "Compatible"
    ANY = "Any"


class Objectives(RunObjectives):
    """Objectives of a model."""

    interface: Interface = Field(
        Interface.COMPATIBLE,
        description="Inputs, outputs and classes of a version, compared with those of the live version before any "
        "traffic. Compatible: a change that can break users of the live version blocks promotion. Any: it is only "
        "reported.",
    )
    serving: ServingObjective = Field(
        default_factory=lambda: ServingObjective.model_validate({}), description="Serving objectives."
    )

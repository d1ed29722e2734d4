"""Can the task be learnt from, or measured on, the values of its target?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl
from steeltown.contract.plans import TaskType

from .. import table as tables
from ..tablecheck import EVALUATION, TRAINING, Facts, Finding, Measure, Table, TableCheck

TARGET_UNUSABLE: Final = "TargetUnusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """None: the task says it all."""


def gather(table: Table, parameters: Parameters) -> Mapping[Measure, pl.Expr]:
    target = table.task.target if table.task else ""
    if target not in table.types:
        return {}
    kind, values = table.types[target], pl.col(target)
    wanted = {("distinct", target): values.filter(~tables.missing(target, kind)).n_unique()}
    if kind.is_float():
        wanted["fractional", target] = (values.is_finite() & (values != values.floor())).sum()
    return wanted


def judge(facts: Facts, parameters: Parameters) -> Finding:
    task = facts.task
    values = facts.get("distinct", task.target) if task else None
    if task is None or values is None:
        return Finding(message=f"{facts.what}: no target to check")
    # Evaluation rows of one class still measure accuracy; training on one class teaches nothing.
    least = 2 if task.type is TaskType.CLASSIFICATION and facts.what == TRAINING else 1
    kind, trouble = facts.types[task.target], ""
    if values < least:
        trouble = (
            f"has {values} distinct values, at least {least} are required: check the column and the joins that "
            "produced it"
        )
    elif task.type is TaskType.REGRESSION and not (kind.is_numeric() or kind == pl.Boolean):
        trouble = f"is {kind}, Regression requires numbers: correct the column or set task.type to Classification"
    elif task.type is TaskType.CLASSIFICATION and facts.get("fractional", task.target):
        trouble = (
            "has fractional numbers, Classification requires classes: set task.type to Regression or round the values"
        )
    message = f"{facts.what}: target {task.target!r} " + (trouble or f"has {values} distinct values")
    return Finding(message=message, reason=TARGET_UNUSABLE if trouble else "", value=values, threshold=least)


CHECK: Final = TableCheck(
    name="target",
    title="TargetPresent",
    reasons=(TARGET_UNUSABLE,),
    parameters=Parameters,
    gather=gather,
    judge=judge,
    tables=(TRAINING, EVALUATION),
    rank=50,
)

"""Are all columns there that the task and the objectives name?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl
from steeltown.contract.plans import Column

from ..tablecheck import EVALUATION, TRAINING, Facts, Finding, Measure, Table, TableCheck, listed

MISSING_COLUMN: Final = "SchemaMissingColumn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """columns: by name, beside the target and the features of the task."""

    columns: tuple[Column, ...] = ()


def gather(table: Table, parameters: Parameters) -> Mapping[Measure, pl.Expr]:
    return {}  # the header says it all


def judge(facts: Facts, parameters: Parameters) -> Finding:
    task = () if facts.task is None else (facts.task.target, *facts.task.features)
    required = tuple(dict.fromkeys((*(c.name for c in parameters.columns), *task)))
    gone = [c for c in required if c not in facts.types]
    if not gone:
        return Finding(message=f"{facts.what}: all {len(required)} columns are present", value=0, threshold=0)
    message = (
        f"{facts.what} is missing column {listed(gone)}: add it to the file, or remove it from the task and objectives"
    )
    return Finding(message=message, reason=MISSING_COLUMN, value=len(gone), threshold=0)


CHECK: Final = TableCheck(
    name="columns",
    title="SchemaMissingColumn",
    reasons=(MISSING_COLUMN,),
    parameters=Parameters,
    gather=gather,
    judge=judge,
    tables=(TRAINING, EVALUATION),
    rank=10,
)

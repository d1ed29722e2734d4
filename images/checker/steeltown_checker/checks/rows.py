"""Are there as many rows as there should be? A table without rows is never fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from ..tablecheck import EVALUATION, TRAINING, Facts, Finding, Measure, Table, TableCheck

TOO_FEW_ROWS: Final = "TooFewRows"
TOO_MANY_ROWS: Final = "TooManyRows"
EVALUATION_EMPTY: Final = "EvaluationEmpty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Bounds, both of them allowed values."""

    min: int = 1
    max: int | None = None


def gather(table: Table, parameters: Parameters) -> Mapping[Measure, pl.Expr]:
    return {}  # rows are counted for every check


def judge(facts: Facts, parameters: Parameters) -> Finding:
    rows, least, most = facts.rows, max(parameters.min, 1), parameters.max
    if rows < least:
        reason = EVALUATION_EMPTY if rows == 0 and facts.what == EVALUATION else TOO_FEW_ROWS
        message = f"{facts.what} has {rows} rows, at least {least} are required: check whether the file is complete"
        return Finding(message=message, reason=reason, value=rows, threshold=least)
    if most is not None and rows > most:
        message = (
            f"{facts.what} has {rows} rows, at most {most} are allowed: check for duplicated data, or raise the limit"
        )
        return Finding(message=message, reason=TOO_MANY_ROWS, value=rows, threshold=most)
    return Finding(message=f"{facts.what} has {rows} rows", value=rows, threshold=least)


CHECK: Final = TableCheck(
    name="rows",
    title="RowCount",
    reasons=(TOO_FEW_ROWS, TOO_MANY_ROWS, EVALUATION_EMPTY),
    parameters=Parameters,
    gather=gather,
    judge=judge,
    tables=(TRAINING, EVALUATION),
    rank=40,
)

"""Do declared types hold?

Types are judged by what the values are: whole numbers stored as floats (integers with gaps) are Integer. A column
without any value has every type; the limit on missing values is the check for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl
from steeltown.contract.plans import Column, ColumnType, DataCheck

from .. import table as tables
from ..tablecheck import EVALUATION, TRAINING, Facts, Finding, Measure, Table, TableCheck, listed

TYPE_MISMATCH: Final = "ColumnTypeMismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """columns: with their types."""

    columns: tuple[Column, ...] = ()


def declared(demands: Iterable[DataCheck]) -> dict[str, ColumnType]:
    """Column -> type, of every demand of this check that can be read, whatever its mode."""
    found = {}
    for demand in demands:
        if demand.name == CHECK.name:
            try:
                columns = demand.read(Parameters).columns
            except ValueError:
                continue  # examine says so
            found.update({c.name: c.type for c in columns if c.type is not None})
    return found


def gather(table: Table, parameters: Parameters) -> Mapping[Measure, pl.Expr]:
    wanted: dict[Measure, pl.Expr] = {}
    for name in (c.name for c in parameters.columns if c.name in table.types):
        kind, values = table.types[name], pl.col(name)
        wanted["missing", name] = tables.missing(name, kind).sum()
        if kind.is_float():
            wanted["fractional", name] = (values.is_finite() & (values != values.floor())).sum()
        if kind == pl.String:
            text = values.cast(pl.Float64, strict=False).is_null() & values.is_not_null()
            wanted["text", name] = values.filter(text).first()
    return wanted


def judge(facts: Facts, parameters: Parameters) -> Finding:
    there = [c for c in parameters.columns if c.type is not None and c.name in facts.types]
    wrong = [c for c in there if not _holds(c, facts)]
    if not wrong:
        return Finding(message=f"{facts.what}: {len(there)} declared types match", value=0, threshold=0)
    message = f"{facts.what}: {_told(wrong[0], facts)}"
    if wrong[1:]:
        message += f" (also {listed([c.name for c in wrong[1:]])})"
    return Finding(message=message, reason=TYPE_MISMATCH, value=len(wrong), threshold=0)


def _holds(column: Column, facts: Facts) -> bool:
    kind = facts.types[column.name]
    if (facts.get("missing", column.name) or 0) == facts.rows:
        return True
    match column.type:
        case ColumnType.NUMBER:
            return kind.is_numeric()
        case ColumnType.INTEGER:
            return kind.is_integer() or (kind.is_float() and not facts.get("fractional", column.name))
        case ColumnType.STRING:
            return kind in (pl.String, pl.Categorical, pl.Enum)
        case ColumnType.BOOLEAN:
            return kind == pl.Boolean
        case None:
            return True


def _told(column: Column, facts: Facts) -> str:
    text = None if column.type is ColumnType.STRING else facts.get("text", column.name)
    value = "" if text is None else f" (found value {text[:40]!r})"
    return (
        f"column {column.name!r} is {facts.types[column.name]}, must be {column.type}{value}: "
        "write missing values as empty fields, or correct the declared type"
    )


CHECK: Final = TableCheck(
    name="types",
    title="ColumnType",
    reasons=(TYPE_MISMATCH,),
    parameters=Parameters,
    gather=gather,
    judge=judge,
    tables=(TRAINING, EVALUATION),
    rank=20,
)

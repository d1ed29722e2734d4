"""A small profile of each column: what a later run, or a person, compares with.

Bounded whatever the table: text is shown as its few most frequent values, and only the first columns are
profiled when there are very many.
"""

from __future__ import annotations

import math
from typing import Any, Final

import polars as pl

from . import table

MAX_COLUMNS: Final = 256
TOP_VALUES: Final = 8
MAX_TEXT: Final = 64


def of(frame: pl.LazyFrame, what: str) -> dict[str, Any]:
    """{"rows", "columns": {name: {"type", "nulls", "min", "max", "mean", "std"} or {"type", "nulls", "top"}}}."""
    types = dict(list(frame.collect_schema().items())[:MAX_COLUMNS])
    wanted = [pl.len().alias("rows")]
    for i, (name, kind) in enumerate(types.items()):
        wanted.append(table.missing(name, kind).sum().alias(f"nulls {i}"))
        if kind.is_numeric():
            values = pl.col(name).cast(pl.Float64).fill_nan(None)
            wanted += [getattr(values, key)().alias(f"{key} {i}") for key in ("min", "max", "mean", "std")]
    with table.readable(what):
        row = frame.select(wanted).collect(engine="streaming").row(0, named=True)
        columns = {name: _column(frame, name, kind, i, row) for i, (name, kind) in enumerate(types.items())}
    return {"rows": row["rows"], "columns": columns}


def _column(frame: pl.LazyFrame, name: str, kind: pl.DataType, i: int, row: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": str(kind), "nulls": row[f"nulls {i}"]}
    if kind.is_numeric():
        return entry | {k: _finite(row[f"{k} {i}"]) for k in ("min", "max", "mean", "std")}
    counted = (
        frame.select(pl.col(name).cast(pl.String, strict=False).alias("value"))
        .drop_nulls()
        .group_by("value")
        .len()
        .sort(["len", "value"], descending=[True, False])
        .head(TOP_VALUES)
        .collect(engine="streaming")
    )
    return entry | {"top": [[str(value)[:MAX_TEXT], count] for value, count in counted.iter_rows()]}


def _finite(x: float | None) -> float | None:
    return None if x is None or not math.isfinite(x) else float(x)

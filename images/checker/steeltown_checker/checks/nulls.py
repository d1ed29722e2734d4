"""Is too much of a column missing?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl
from steeltown.contract.plans import Column

from .. import table as tables
from ..tablecheck import EVALUATION, TRAINING, Facts, Finding, Measure, Table, TableCheck

TOO_MANY_NULLS: Final = "TooManyNulls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """columns: with the share of values, 0..1, that may be missing at most."""

    columns: tuple[Column, ...] = ()


def gather(table: Table, parameters: Parameters) -> Mapping[Measure, pl.Expr]:
    names = (c.name for c in parameters.columns if c.name in table.types)
    return {("missing", name): tables.missing(name, table.types[name]).sum() for name in names}


def judge(facts: Facts, parameters: Parameters) -> Finding:
    """The column that is furthest above its limit speaks for all."""
    limits = {c.name: c.max_null_fraction for c in parameters.columns if c.max_null_fraction is not None}
    shares = {c: (facts.get("missing", c) or 0) / facts.rows for c in limits if c in facts.types and facts.rows}
    if not shares:
        return Finding(message=f"{facts.what}: no limit")
    worst = max(shares, key=lambda c: shares[c] - limits[c])
    share, limit = shares[worst], limits[worst]
    message = f"{facts.what}: column {worst!r} has {share:.1%} missing values, at most {limit:.1%} are allowed"
    if share <= limit:
        return Finding(message=message, value=share, threshold=limit)
    message += ": fix the data or raise maxNullFraction"
    return Finding(message=message, reason=TOO_MANY_NULLS, value=share, threshold=limit)


CHECK: Final = TableCheck(
    name="nulls",
    title="NullFraction",
    reasons=(TOO_MANY_NULLS,),
    parameters=Parameters,
    gather=gather,
    judge=judge,
    tables=(TRAINING, EVALUATION),
    rank=30,
)

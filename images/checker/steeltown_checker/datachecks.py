"""Is this data fit to train on? A gatherer reads the table once; a chain of small pure checks judges the facts.

Every check speaks, so the report shows all that was looked at; the first that fails gives the reason. A new
rule is one function and one row in `CHAIN`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.plans import Column, ColumnType, Task, TaskType

from . import table
from .reasons import Reason

TRAINING: Final = "training data"
EVALUATION: Final = "evaluation data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the plan demands of a table. what: how messages call it."""

    what: str
    columns: tuple[Column, ...] = ()
    task: Task | None = None
    min_rows: int = 1
    max_rows: int | None = None
    empty_reason: Reason = Reason.TOO_FEW_ROWS

    @property
    def required(self) -> tuple[str, ...]:
        """Every column that must be there, once, in the order in which a reader would look for them."""
        task = () if self.task is None else (self.task.target, *self.task.features)
        return tuple(dict.fromkeys((*(c.name for c in self.columns), *task)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one pass over the table found. nulls: missing values; odd: values that are no whole number; by column."""

    rows: int
    types: dict[str, pl.DataType]
    nulls: dict[str, int]
    fractional: dict[str, int] = field(default_factory=dict)
    target_values: int | None = None  # distinct, not missing
    sample_text: dict[str, str] = field(default_factory=dict)  # a value that is text, of string columns


Judged = tuple[Reason | None, Check]
Rule = Callable[[Facts, Rules], Judged]


def gather(frame: pl.LazyFrame, rules: Rules) -> Facts:
    """One pass over the columns that the rules name."""
    types = dict(frame.collect_schema())
    present = [c for c in rules.required if c in types]
    wanted: list[pl.Expr] = [pl.len().alias("rows")]
    for i, name in enumerate(present):
        wanted.append(table.missing(name, types[name]).sum().alias(f"nulls {i}"))
        if types[name].is_float():
            fraction = pl.col(name).is_finite() & (pl.col(name) != pl.col(name).floor())
            wanted.append(fraction.sum().alias(f"fractional {i}"))
        if types[name] == pl.String:
            text = pl.col(name).filter(
                pl.col(name).cast(pl.Float64, strict=False).is_null() & pl.col(name).is_not_null()
            )
            wanted.append(text.first().alias(f"text {i}"))
    if rules.task is not None and rules.task.target in types:
        target = rules.task.target
        wanted.append(pl.col(target).filter(~table.missing(target, types[target])).n_unique().alias("target values"))
    with table.readable(rules.what):
        row: dict[str, Any] = frame.select(wanted).collect(engine="streaming").row(0, named=True)

    def by_column(key: str) -> dict[str, Any]:
        return {c: row[f"{key} {i}"] for i, c in enumerate(present) if row.get(f"{key} {i}") is not None}

    return Facts(
        rows=row["rows"],
        types={c: types[c] for c in present},
        nulls=by_column("nulls"),
        fractional=by_column("fractional"),
        target_values=row.get("target values"),
        sample_text=by_column("text"),
    )


def judge(facts: Facts, rules: Rules) -> tuple[Judged, ...]:
    return tuple(rule(facts, rules) for rule in CHAIN)


def columns_present(facts: Facts, rules: Rules) -> Judged:
    gone = [c for c in rules.required if c not in facts.types]
    message = f"{rules.what}: all {len(rules.required)} columns are there"
    if gone:
        message = f"{rules.what} lacks column {_listed(gone)}: add it to the file or take it out of the task and schema"
    return _judged("SchemaMissingColumn", Reason.SCHEMA_MISSING_COLUMN, bool(gone), message, len(gone), 0, facts.rows)


def column_types(facts: Facts, rules: Rules) -> Judged:
    declared = [c for c in rules.columns if c.type is not None and c.name in facts.types]
    wrong = [c for c in declared if not _has_type(c, facts)]
    message = f"{rules.what}: {len(declared)} declared types hold"
    if wrong:
        message = f"{rules.what}: {_wrong_type(wrong[0], facts)}"
        if wrong[1:]:
            message += f" (also {_listed([c.name for c in wrong[1:]])})"
    return _judged("ColumnType", Reason.COLUMN_TYPE_MISMATCH, bool(wrong), message, len(wrong), 0, facts.rows)


def null_fractions(facts: Facts, rules: Rules) -> Judged:
    limits = {c.name: c.max_null_fraction for c in rules.columns if c.max_null_fraction is not None}
    shares = {c: facts.nulls.get(c, 0) / facts.rows for c in limits if c in facts.types and facts.rows}
    if not shares:
        return _judged("NullFraction", Reason.TOO_MANY_NULLS, False, f"{rules.what}: no limit", None, None, facts.rows)
    worst = max(shares, key=lambda c: shares[c] - limits[c])
    share, limit = shares[worst], limits[worst]
    message = f"{rules.what}: column {worst!r} has {share:.1%} missing values, at most {limit:.1%} are allowed"
    too_many = share > limit
    if too_many:
        message += ": repair the source or raise maxNullFraction"
    return _judged("NullFraction", Reason.TOO_MANY_NULLS, too_many, message, share, limit, facts.rows)


def row_count(facts: Facts, rules: Rules) -> Judged:
    rows, least, most = facts.rows, max(rules.min_rows, 1), rules.max_rows
    if rows < least:
        reason = rules.empty_reason if rows == 0 else Reason.TOO_FEW_ROWS
        message = f"{rules.what} has {rows} rows, at least {least} are required: is part of the file missing?"
        return _judged("RowCount", reason, True, message, rows, least, rows)
    if most is not None and rows > most:
        message = f"{rules.what} has {rows} rows, at most {most} are allowed: is the file doubled, or raise the limit"
        return _judged("RowCount", Reason.TOO_MANY_ROWS, True, message, rows, most, rows)
    return _judged("RowCount", Reason.TOO_FEW_ROWS, False, f"{rules.what} has {rows} rows", rows, least, rows)


def target_present(facts: Facts, rules: Rules) -> Judged:
    task = rules.task
    if task is None or task.target not in facts.types or facts.target_values is None:
        message = f"{rules.what}: no target to look at"
        return _judged("TargetPresent", Reason.TARGET_UNUSABLE, False, message, None, None, facts.rows)
    # Evaluation rows of one class still measure accuracy; training on one class teaches nothing.
    least = 2 if task.type is TaskType.CLASSIFICATION and rules.what == TRAINING else 1
    values, kind, trouble = facts.target_values, facts.types[task.target], ""
    if values < least:
        trouble = f"has {values} distinct values, at least {least} are required: check the column and how it is joined"
    elif task.type is TaskType.REGRESSION and not (kind.is_numeric() or kind == pl.Boolean):
        trouble = f"is {kind}, Regression needs numbers: correct the column or choose task.type Classification"
    elif task.type is TaskType.CLASSIFICATION and facts.fractional.get(task.target):
        trouble = "has fractional numbers, Classification needs classes: choose task.type Regression or round them"
    message = f"{rules.what}: target {task.target!r} " + (trouble or f"has {values} distinct values")
    return _judged("TargetPresent", Reason.TARGET_UNUSABLE, bool(trouble), message, values, least, facts.rows)


CHAIN: Final[tuple[Rule, ...]] = (columns_present, column_types, null_fractions, row_count, target_present)


def _has_type(column: Column, facts: Facts) -> bool:
    """Types are judged by what the values are: whole numbers stored as floats (integers with gaps) are Integer."""
    kind = facts.types[column.name]
    if facts.nulls.get(column.name, 0) == facts.rows:
        return True  # nothing there that could have a type; the limit on missing values is the check for this
    match column.type:
        case ColumnType.NUMBER:
            return kind.is_numeric()
        case ColumnType.INTEGER:
            return kind.is_integer() or (kind.is_float() and facts.fractional.get(column.name, 0) == 0)
        case ColumnType.STRING:
            return kind in (pl.String, pl.Categorical, pl.Enum)
        case ColumnType.BOOLEAN:
            return kind == pl.Boolean
        case None:
            return True


def _wrong_type(column: Column, facts: Facts) -> str:
    text = None if column.type is ColumnType.STRING else facts.sample_text.get(column.name)
    value = "" if text is None else f"; it has the value {text[:40]!r}"
    return (
        f"column {column.name!r} is {facts.types[column.name]}, must be {column.type}{value}; "
        "write missing values as empty fields, or correct the declared type"
    )


def _judged(
    name: str,
    reason: Reason,
    failed: bool,
    message: str,
    value: float | None,
    threshold: float | None,
    rows: int,
) -> Judged:
    verdict = Verdict.FAIL if failed else Verdict.PASS
    check = Check(name=name, verdict=verdict, message=message[:500], value=value, threshold=threshold, n=rows)
    return (reason if failed else None), check


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")

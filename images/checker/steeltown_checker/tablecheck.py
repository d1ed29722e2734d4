"""What a check of a table is. Each module of `checks/` defines one; `examine` makes them.

A check never reads the file. It says in advance what is to be measured, as expressions, so that one pass over the
file serves all checks, however many there are. Its judgement is then a pure function of numbers, which tests call
with numbers of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import polars as pl
from steeltown.contract.plans import Task

TRAINING: Final = "training data"
EVALUATION: Final = "evaluation data"

Measure = tuple[str, str]
"""(what is measured, of which column or "")."""
P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table to look at, not read yet. what: TRAINING or EVALUATION, also how messages call it.

    types: of all columns. digest: "sha256:<hex>" of the bytes of the file.
    """

    what: str
    frame: pl.LazyFrame
    types: Mapping[str, pl.DataType]
    digest: str = ""
    task: Task | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a check knows of a table once it was read. measured: values by the keys that its `gather` gave them."""

    what: str
    rows: int
    types: Mapping[str, pl.DataType]
    measured: Mapping[Measure, Any] = field(default_factory=dict)
    digest: str = ""
    task: Task | None = None

    def get(self, measure: str, column: str = "") -> Any:
        """The value, None if it was not measured or is missing."""
        return self.measured.get((measure, column))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found. reason: "" when all is well. value, threshold: in the unit of the check."""

    message: str
    reason: str = ""
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCheck(Generic[P]):
    """name: in the plan, the module's own. title: in reports. reasons: all that it may give; see docs/reasons.md.

    parameters: a dataclass with a default for each field. gather: scalar expressions, over columns that are there.
    tables: on which it is made even though no plan asks for it, with the parameters' defaults.
    rank: of several checks that fail, the one of the lowest rank gives the run its reason.
    """

    name: str
    title: str
    reasons: tuple[str, ...]
    parameters: type[P]
    gather: Callable[[Table, P], Mapping[Measure, pl.Expr]]
    judge: Callable[[Facts, P], Finding]
    tables: tuple[str, ...] = ()
    rank: int = 100


def listed(names: list[str]) -> str:
    """For a message: the first five, quoted, and how many more there are."""
    shown = ", ".join(repr(n) for n in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")

"""Is this table fit? All checks of it, in one pass over the file.

Every check speaks, so the report shows all that was looked at. The first in rank that fails and is enforced ends
the run; one that is only observed is reported as it is and ends nothing. A demand that this image does not know is
no different from one that failed: enforced it ends the run, observed it says that nothing was measured. So does an
observed check that this table cannot be measured with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.files import ExitCode
from steeltown.contract.plans import DataCheck, Mode

from . import table as tables
from .checks import CHECKS
from .reasons import Reason, StepFailed
from .tablecheck import TRAINING, Facts, Finding, Measure, Table, TableCheck

OBSERVED: Final = " (only observed)"
MAX_MESSAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A table that is fit. observed: the messages of checks that did not pass and are only observed."""

    rows: int
    checks: tuple[Check, ...]
    observed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demand:
    check: TableCheck[Any]
    parameters: Any
    mode: Mode


def examine(table: Table, demands: Iterable[DataCheck]) -> Examined:
    """demands: beside the checks that are made of every table like this.

    StepFailed with the reason of the first enforced check that fails, carrying all; InvalidPlan for an enforced
    check that this image does not know.
    """
    known, unmeasured = _resolved(table.what, demands)
    try:
        rows, measured = _measured(table, known)
    except StepFailed as failure:
        observed = [d for d in known if d.mode is Mode.OBSERVE]
        if not observed:
            raise
        known = [d for d in known if d.mode is Mode.ENFORCE]
        rows, measured = _measured(table, known)  # raises again when it was not an observed check's fault
        unmeasured += [_unmeasured(d.check.title, f"not measured: {failure.message}") for d in observed]
    findings = [(d, d.check.judge(_facts(table, rows, m), d.parameters)) for d, m in zip(known, measured, strict=True)]
    checks = (*(_reported(d, f, rows) for d, f in findings), *unmeasured)
    for demand, finding in findings:
        if finding.reason and demand.mode is Mode.ENFORCE:
            more: dict[str, Any] = {"rows": rows} if table.what == TRAINING else {}
            raise StepFailed(finding.reason, finding.message[:MAX_MESSAGE], checks=checks, **more)
    missed = [f.message for d, f in findings if f.reason]
    return Examined(rows=rows, checks=checks, observed=(*missed, *(c.message for c in unmeasured)))


def _resolved(what: str, demands: Iterable[DataCheck]) -> tuple[list[_Demand], list[Check]]:
    """What to check, by rank, and reports on demands that are only observed and cannot be read."""
    asked = list(demands)
    enforced = {d.name for d in asked if d.mode is Mode.ENFORCE}
    asked += [DataCheck(name=c.name) for c in CHECKS.values() if what in c.tables and c.name not in enforced]
    known, unmeasured = [], []
    for demand in asked:
        try:
            known.append(_read(demand))
        except ValueError as error:
            if demand.mode is Mode.ENFORCE:
                raise StepFailed(Reason.INVALID_PLAN, str(error)[:MAX_MESSAGE], ExitCode.USAGE) from None
            unmeasured.append(_unmeasured(demand.name, f"{what}: {error}"))
    known.sort(key=lambda d: (d.check.rank, d.check.name, d.mode))
    return known, unmeasured


def _read(demand: DataCheck) -> _Demand:
    check = CHECKS.get(demand.name)
    if check is None:
        raise ValueError(
            f"unknown data check {demand.name[:64]!r}, expected one of {', '.join(CHECKS)}: install the operator and "
            "checker image of the same version"
        )
    return _Demand(check=check, parameters=demand.read(check.parameters), mode=demand.mode)


def _measured(table: Table, demands: list[_Demand]) -> tuple[int, list[dict[Measure, Any]]]:
    """Rows, and what each demand asked to be measured, in one pass. Each has names of its own for what it asks."""
    asked = [d.check.gather(table, d.parameters) for d in demands]
    expressions = [e for each in asked for e in each.values()]
    wanted = [pl.len().alias("rows"), *(e.alias(str(i)) for i, e in enumerate(expressions))]
    with tables.readable(table.what):
        rows, *values = table.frame.select(wanted).collect(engine="streaming").row(0)
    left = iter(values)
    return rows, [{key: next(left) for key in each} for each in asked]


def _facts(table: Table, rows: int, measured: dict[Measure, Any]) -> Facts:
    return Facts(what=table.what, rows=rows, types=table.types, measured=measured, digest=table.digest, task=table.task)


def _unmeasured(name: str, message: str) -> Check:
    return Check(name=name[:64], verdict=Verdict.INSUFFICIENT_DATA, message=message[:MAX_MESSAGE])


def _reported(demand: _Demand, finding: Finding, rows: int) -> Check:
    note = OBSERVED if finding.reason and demand.mode is Mode.OBSERVE else ""
    return Check(
        name=demand.check.title,
        verdict=Verdict.FAIL if finding.reason else Verdict.PASS,
        message=finding.message[: MAX_MESSAGE - len(note)] + note,
        value=finding.value,
        threshold=finding.threshold,
        n=rows,
    )

"""Each check of a table by itself: numbers in, verdict out. What the numbers are is for `test_prepare`."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from steeltown.contract.plans import DataCheck, Task, TaskType
from steeltown_checker import checks
from steeltown_checker.checks import CHECKS
from steeltown_checker.tablecheck import EVALUATION, TRAINING, Facts

SAME, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LATE = Task(type=TaskType.CLASSIFICATION, target="late", features=("delay",))
MINUTES = Task(type=TaskType.REGRESSION, target="delay")
TYPES = {"delay": pl.Float64(), "carrier": pl.String(), "late": pl.Boolean()}


def facts(
    rows: int = 10, what: str = TRAINING, task: Task | None = None, digest: str = SAME, **measured: dict[str, Any]
) -> Facts:
    """measured: what -> {column: value}."""
    flat = {(name, column): v for name, values in measured.items() for column, v in values.items()}
    return Facts(what=what, rows=rows, types=TYPES, task=task, digest=digest, measured=flat)


def column(name: str, **more: Any) -> dict[str, Any]:
    return {"columns": [{"name": name, **more}]}


Case = tuple[str, dict[str, Any], Facts, str, str]
"""(check, parameters, facts, reason or "", a part of the message)"""
CASES: dict[str, Case] = {
    "columns: all there": ("columns", column("carrier"), facts(task=LATE), "", "all 3 columns"),
    "columns: nothing asked": ("columns", {}, facts(), "", "all 0 columns"),
    "columns: one is gone": ("columns", column("gate"), facts(), "SchemaMissingColumn", "is missing column 'gate'"),
    "columns: of the task": (
        "columns",
        {},
        facts(task=Task(type=TaskType.REGRESSION, target="y", features=("x",))),
        "SchemaMissingColumn",
        "'y', 'x'",
    ),
    "columns: many are gone": (
        "columns",
        {"columns": [{"name": f"c{i}"} for i in range(7)]},
        facts(),
        "SchemaMissingColumn",
        "and 2 more",
    ),
    "types: hold": ("types", column("delay", type="Number"), facts(missing={"delay": 1}), "", "1 declared types match"),
    "types: of a column that is gone": ("types", column("gate", type="Number"), facts(), "", "0 declared"),
    "types: whole floats": ("types", column("delay", type="Integer"), facts(fractional={"delay": 0}), "", "match"),
    "types: fractions": (
        "types",
        column("delay", type="Integer"),
        facts(fractional={"delay": 3}),
        "ColumnTypeMismatch",
        "is Float64, must be Integer",
    ),
    "types: a word": (
        "types",
        column("carrier", type="Number"),
        facts(text={"carrier": "NA"}),
        "ColumnTypeMismatch",
        "(found value 'NA')",
    ),
    "types: text is text": ("types", column("carrier", type="String"), facts(), "", "match"),
    "types: no boolean": ("types", column("delay", type="Boolean"), facts(), "ColumnTypeMismatch", "must be Boolean"),
    "types: nothing there": ("types", column("carrier", type="Number"), facts(missing={"carrier": 10}), "", "match"),
    "nulls: at the limit": ("nulls", column("delay", maxNullFraction=0.1), facts(missing={"delay": 1}), "", "10.0%"),
    "nulls: above": (
        "nulls",
        column("delay", maxNullFraction=0.1),
        facts(missing={"delay": 2}),
        "TooManyNulls",
        "'delay' has 20.0% missing values, at most 10.0%",
    ),
    "nulls: no rows": ("nulls", column("delay", maxNullFraction=0), facts(rows=0), "", "no limit"),
    "rows: as many": ("rows", {"min": 10, "max": 10}, facts(), "", "has 10 rows"),
    "rows: too few": ("rows", {"min": 11}, facts(), "TooFewRows", "at least 11"),
    "rows: too many": ("rows", {"max": 9}, facts(), "TooManyRows", "at most 9"),
    "rows: none are never enough": ("rows", {"min": 0}, facts(rows=0), "TooFewRows", "at least 1"),
    "rows: none to evaluate on": ("rows", {}, facts(rows=0, what=EVALUATION), "EvaluationEmpty", "0 rows"),
    "rows: few to evaluate on": ("rows", {"min": 11}, facts(what=EVALUATION), "TooFewRows", "10 rows"),
    "target: two classes": ("target", {}, facts(task=LATE, distinct={"late": 2}), "", "2 distinct"),
    "target: one class": ("target", {}, facts(task=LATE, distinct={"late": 1}), "TargetUnusable", "at least 2"),
    "target: one class to evaluate on": (
        "target",
        {},
        facts(task=LATE, distinct={"late": 1}, what=EVALUATION),
        "",
        "1 distinct",
    ),
    "target: no values": (
        "target",
        {},
        facts(task=LATE, distinct={"late": 0}, what=EVALUATION),
        "TargetUnusable",
        "at least 1",
    ),
    "target: numbers": ("target", {}, facts(task=MINUTES, distinct={"delay": 7}), "", "7 distinct"),
    "target: classes that are fractions": (
        "target",
        {},
        facts(task=Task(type=TaskType.CLASSIFICATION, target="delay"), distinct={"delay": 7}, fractional={"delay": 1}),
        "TargetUnusable",
        "fractional",
    ),
    "target: text to regress on": (
        "target",
        {},
        facts(task=Task(type=TaskType.REGRESSION, target="carrier"), distinct={"carrier": 3}),
        "TargetUnusable",
        "Regression requires numbers",
    ),
    "target: no task": ("target", {}, facts(), "", "no target"),
    "separate: another file": (
        "separate",
        {"trainingDigest": OTHER},
        facts(what=EVALUATION),
        "",
        "differs from the training data",
    ),
    "separate: the same": (
        "separate",
        {"trainingDigest": SAME},
        facts(what=EVALUATION),
        "EvaluationIsTrainingData",
        "is identical to the training data",
    ),
    "separate: no training data": (
        "separate",
        {},
        facts(what=EVALUATION, digest=""),
        "",
        "differs from the training data",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_check_judges_numbers(case: Case) -> None:
    name, given, known, reason, words = case
    check = CHECKS[name]
    finding = check.judge(known, DataCheck(name=name, parameters=given).read(check.parameters))
    assert (finding.reason, words in finding.message) == (reason, True), finding


def test_every_check_has_a_case_of_each_reason() -> None:
    wanted = {(c.name, reason) for c in CHECKS.values() for reason in ("", *c.reasons)}
    assert {(name, reason) for name, _, _, reason, _ in CASES.values()} == wanted


def test_check_is_named_after_its_module_and_every_module_is_a_check() -> None:
    assert set(CHECKS) == {m.name for m in pkgutil.iter_modules([str(Path(checks.__file__).parent)])}


def test_no_two_checks_share_a_reason_or_a_title() -> None:
    for each in ([r for c in CHECKS.values() for r in c.reasons], [c.title for c in CHECKS.values()]):
        assert sorted(each) == sorted(set(each))


def test_check_that_explains_others_speaks_before_them() -> None:
    expected = ["separate", "columns", "types", "nulls", "rows", "target"]
    assert [name for name in CHECKS if name in expected] == expected

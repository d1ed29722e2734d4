"""`prepare`: what data is refused, by which reason, and what the trainer finds afterwards."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from steeltown.contract.checks import Verdict
from steeltown.contract.plans import Column, ColumnType, DataCheck, Mode, PreparePlan, Source, Task, TaskType
from steeltown_checker import examine
from steeltown_checker.checks import CHECKS

LATE = Task(type=TaskType.CLASSIFICATION, target="late", features=("delay", "carrier"))
ROWS = pl.DataFrame(
    {"delay": [1.5, 2.0, None, 4.0], "carrier": ["AA", "UA", "DL", None], "late": [True, False, True, False]}
)


def column(name: str, kind: ColumnType | None = None, limit: float | None = None) -> Column:
    return Column(name=name, type=kind, max_null_fraction=limit)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_good_data_is_laid_out_for_the_trainer(kind: str, workspace: Any) -> None:
    path = workspace.write(f"source.{kind}", ROWS)
    evaluation = workspace.write(f"evaluation.{kind}", ROWS.reverse())
    plan = PreparePlan(
        run="r1",
        data=workspace.source(path),
        evaluation=workspace.source(evaluation),
        task=LATE,
        columns=(column("delay", ColumnType.NUMBER, 0.5), column("carrier", ColumnType.STRING)),
        params={"estimator": "Linear"},
    )
    code, report = workspace.step("prepare", plan)
    assert (code, report.reason, report.rows) == (0, "DataValid", 4)
    assert {c.verdict for c in report.checks} == {Verdict.PASS}
    assert (workspace.root / f"input/data.{kind}").read_bytes() == path.read_bytes()
    assert (workspace.root / f"evaluation/data.{kind}").read_bytes() == evaluation.read_bytes()
    assert json.loads((workspace.root / "input/params.json").read_text()) == {
        "estimator": "Linear",
        "task": {
            "type": "Classification",
            "target": "late",
            "features": ["delay", "carrier"],
            "columns": {"delay": "Number", "carrier": "String"},
        },
    }


def test_profile_describes_numbers_and_text(workspace: Any) -> None:
    path = workspace.write("source.csv", ROWS)
    workspace.step("prepare", PreparePlan(run="r1", data=workspace.source(path), task=LATE))
    profile = json.loads((workspace.root / "evaluation/profile.json").read_text())["training"]
    assert profile["rows"] == 4
    assert profile["columns"]["delay"] == {
        "type": "Float64",
        "nulls": 1,
        "min": 1.5,
        "max": 4.0,
        "mean": 2.5,
        "std": pytest.approx(1.3229, abs=1e-4),
    }
    assert profile["columns"]["carrier"] == {"type": "String", "nulls": 1, "top": [["AA", 1], ["DL", 1], ["UA", 1]]}


Case = tuple[pl.DataFrame, dict[str, Any], str, list[str]]
REFUSED: dict[str, Case] = {
    "a feature is missing": (ROWS.drop("delay"), {}, "SchemaMissingColumn", ["'delay'", "training data"]),
    "the target is missing": (ROWS.drop("late"), {}, "SchemaMissingColumn", ["'late'"]),
    "a schema column is missing": (ROWS, {"columns": (column("gate"),)}, "SchemaMissingColumn", ["'gate'"]),
    "text among numbers": (
        ROWS.with_columns(delay=pl.Series(["1.5", "NA", "2", "3"])),
        {"columns": (column("delay", ColumnType.NUMBER),)},
        "ColumnTypeMismatch",
        ["'delay'", "String", "Number", "'NA'", "empty fields"],
    ),
    "fractions among integers": (
        ROWS,
        {"columns": (column("delay", ColumnType.INTEGER),)},
        "ColumnTypeMismatch",
        ["'delay'", "Float64", "Integer"],
    ),
    "a number where a boolean should be": (
        ROWS,
        {"columns": (column("delay", ColumnType.BOOLEAN),)},
        "ColumnTypeMismatch",
        ["Boolean"],
    ),
    "too many gaps": (
        ROWS,
        {"columns": (column("delay", None, 0.9), column("carrier", None, 0.2))},
        "TooManyNulls",
        ["'carrier'", "25.0%", "20.0%", "maxNullFraction"],
    ),
    "NaN counts as a gap": (
        ROWS.with_columns(delay=pl.Series([float("nan")] * 3 + [1.0])),
        {"columns": (column("delay", None, 0.5),)},
        "TooManyNulls",
        ["75.0%"],
    ),
    "too few rows": (ROWS, {"min_rows": 5}, "TooFewRows", ["4 rows", "at least 5"]),
    "no rows": (ROWS.clear(), {}, "TooFewRows", ["0 rows"]),
    "too many rows": (ROWS, {"max_rows": 3}, "TooManyRows", ["4 rows", "at most 3"]),
    "one class": (ROWS.with_columns(late=True), {}, "TargetUnusable", ["'late'", "1 distinct"]),
    "fractional classes": (ROWS.with_columns(late=pl.col("delay")), {}, "TargetUnusable", ["fractional", "Regression"]),
    "text to regress on": (
        ROWS,
        {"task": Task(type=TaskType.REGRESSION, target="carrier")},
        "TargetUnusable",
        ["'carrier'", "String", "numbers"],
    ),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("case", REFUSED.values(), ids=list(REFUSED))
def test_unfit_data_ends_the_run_with_its_reason(case: Case, kind: str, workspace: Any) -> None:
    frame, demands, reason, words = case
    path = workspace.write(f"source.{kind}", frame)
    plan = PreparePlan(**{"run": "r1", "data": workspace.source(path), "task": LATE, **demands})
    code, report = workspace.step("prepare", plan)
    assert (code, report.reason) == (65, reason)
    assert [w for w in words if w not in report.message] == []
    assert report.rows == len(frame)
    failed = [c for c in report.checks if c.verdict is Verdict.FAIL]
    assert failed
    assert len(report.checks) == 5  # those that passed are reported too


def test_integers_with_gaps_are_integers(workspace: Any) -> None:
    path = workspace.write("source.parquet", ROWS.with_columns(delay=pl.Series([1.0, 2.0, None, 3.0])))
    plan = PreparePlan(run="r1", data=workspace.source(path), columns=(column("delay", ColumnType.INTEGER),))
    assert workspace.step("prepare", plan)[1].reason == "DataValid"


def test_column_declared_as_text_is_read_as_text(workspace: Any) -> None:
    path = workspace.write("source.csv", "zip,late\n00123,1\n4567,0\n")
    task = Task(type=TaskType.CLASSIFICATION, target="late")
    plan = PreparePlan(run="r1", data=workspace.source(path), task=task, columns=(column("zip", ColumnType.STRING),))
    assert workspace.step("prepare", plan)[1].reason == "DataValid"


def test_fault_of_the_evaluation_rows_keeps_the_checks_of_the_training_rows(workspace: Any) -> None:
    data, evaluation = workspace.write("a.csv", ROWS), workspace.write("b.csv", ROWS.drop("carrier"))
    plan = PreparePlan(run="r1", data=workspace.source(data), evaluation=workspace.source(evaluation), task=LATE)
    code, report = workspace.step("prepare", plan)
    assert (code, report.reason, report.rows) == (65, "SchemaMissingColumn", 4)
    assert "evaluation data is missing column 'carrier'" in report.message
    assert len(report.checks) == 11


def test_empty_evaluation_is_refused(workspace: Any) -> None:
    data, evaluation = workspace.write("a.csv", ROWS), workspace.write("b.csv", ROWS.clear())
    plan = PreparePlan(run="r1", data=workspace.source(data), evaluation=workspace.source(evaluation), task=LATE)
    assert workspace.step("prepare", plan)[1].reason == "EvaluationEmpty"


def test_evaluation_of_one_class_is_enough_to_measure_on(workspace: Any) -> None:
    data, evaluation = workspace.write("a.csv", ROWS), workspace.write("b.csv", ROWS.filter(pl.col("late")))
    plan = PreparePlan(run="r1", data=workspace.source(data), evaluation=workspace.source(evaluation), task=LATE)
    assert workspace.step("prepare", plan)[1].reason == "DataValid"


def test_evaluation_on_the_training_data_is_refused_wherever_it_is_stored(workspace: Any) -> None:
    data, copy = workspace.write("a.csv", ROWS), workspace.write("copy.csv", ROWS)
    for evaluation in (data, copy):
        plan = PreparePlan(run="r1", data=workspace.source(data), evaluation=workspace.source(evaluation), task=LATE)
        code, report = workspace.step("prepare", plan)
        assert (code, report.reason, report.rows) == (65, "EvaluationIsTrainingData", 4)
        assert "set evaluation.data to rows that are not used for training" in report.message
        assert [c.name for c in report.checks if c.verdict is Verdict.FAIL] == ["EvaluationSeparate"]


def test_evaluation_of_an_import_is_compared_with_nothing(workspace: Any, models: Any) -> None:
    imported, evaluation = workspace.write("m.onnx", models.per_column(("a",))), workspace.write("e.csv", ROWS)
    plan = PreparePlan(
        run="r1", imported=workspace.source(imported), evaluation=workspace.source(evaluation), task=LATE
    )
    code, report = workspace.step("prepare", plan)
    assert (code, report.reason, len(report.checks)) == (0, "DataValid", 5)


Demand = dict[str, Any]
DEMANDS: dict[str, tuple[Demand, str]] = {
    "rows": ({"name": "rows", "parameters": {"min": 5}}, "TooFewRows"),
    "columns": ({"name": "columns", "parameters": {"columns": [{"name": "gate"}]}}, "SchemaMissingColumn"),
    "types": (
        {"name": "types", "parameters": {"columns": [{"name": "delay", "type": "String"}]}},
        "ColumnTypeMismatch",
    ),
    "nulls": (
        {"name": "nulls", "parameters": {"columns": [{"name": "delay", "maxNullFraction": 0.1}]}},
        "TooManyNulls",
    ),
    "a check of a later version": ({"name": "drift", "parameters": {"max": 1}}, "InvalidPlan"),
    "a parameter of a later version": ({"name": "rows", "parameters": {"minPerDay": 1}}, "InvalidPlan"),
    "a column's parameter of a later version": (
        {"name": "nulls", "parameters": {"columns": [{"name": "delay", "maxRun": 3}]}},
        "InvalidPlan",
    ),
    "a value that is none": ({"name": "types", "parameters": {"columns": [{"name": "a", "type": "?"}]}}, "InvalidPlan"),
}


def demanding(workspace: Any, demand: Demand, **more: Any) -> PreparePlan:
    check = DataCheck(**{**demand, **more})
    source = workspace.source(workspace.write("source.parquet", ROWS))
    return PreparePlan(run="r1", data=source, task=LATE, checks=(check,))


@pytest.mark.parametrize(("demand", "reason"), DEMANDS.values(), ids=DEMANDS)
def test_enforced_check_that_fails_ends_the_run(demand: Demand, reason: str, workspace: Any) -> None:
    code, report = workspace.step("prepare", demanding(workspace, demand))
    assert (code, report.reason) == (64 if reason == "InvalidPlan" else 65, reason)
    assert (f"data check '{demand['name']}'" in report.message) is (reason == "InvalidPlan")


@pytest.mark.parametrize(("demand", "reason"), DEMANDS.values(), ids=DEMANDS)
def test_observed_check_that_fails_is_told_and_ends_nothing(demand: Demand, reason: str, workspace: Any) -> None:
    code, report = workspace.step("prepare", demanding(workspace, demand, mode=Mode.OBSERVE))
    assert (code, report.reason, report.rows) == (0, "ObservedOnly", 4)
    verdict = Verdict.INSUFFICIENT_DATA if reason == "InvalidPlan" else Verdict.FAIL
    (missed,) = (c for c in report.checks if c.verdict is not Verdict.PASS)
    assert missed.verdict is verdict
    seen = missed.message.removesuffix(" (only observed)")
    assert (seen != missed.message) is (verdict is Verdict.FAIL)
    assert report.message.startswith(f"observed only, not enforced: {seen}; 4 training rows passed")
    assert len(report.checks) == 6  # the task's own demands are enforced all the same


def test_enforced_check_beside_an_observed_one_decides(workspace: Any) -> None:
    plan = demanding(workspace, DEMANDS["nulls"][0], mode=Mode.OBSERVE)
    code, report = workspace.step("prepare", replace(plan, checks=(*plan.checks, DataCheck(**DEMANDS["rows"][0]))))
    assert (code, report.reason) == (65, "TooFewRows")
    assert {c.name for c in report.checks if c.verdict is Verdict.FAIL} == {"NullFraction", "RowCount"}


def test_table_on_which_an_observed_check_cannot_be_measured_is_fit(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_number = {("sum", ""): pl.col("carrier").dot("late")}
    broken = replace(CHECKS["rows"], name="sum", title="Sum", tables=(), gather=lambda *_: no_number)
    monkeypatch.setattr(examine, "CHECKS", {**CHECKS, "sum": broken})
    demand = {"name": "sum", "parameters": {}}
    code, report = workspace.step("prepare", demanding(workspace, demand, mode=Mode.OBSERVE))
    assert (code, report.reason, report.rows) == (0, "ObservedOnly", 4)
    assert [c.name for c in report.checks if c.verdict is Verdict.INSUFFICIENT_DATA] == ["Sum"]
    assert "not measured: cannot read training data" in report.message
    code, report = workspace.step("prepare", demanding(workspace, demand))
    assert (code, report.reason) == (65, "DataUnreadable")


def test_column_that_is_only_observed_is_still_declared_to_the_trainer(workspace: Any) -> None:
    path = workspace.write("source.csv", "zip,late\n00123,1\n4567,0\n")
    zip_code = DataCheck(name="types", parameters={"columns": [{"name": "zip", "type": "String"}]}, mode=Mode.OBSERVE)
    task = Task(type=TaskType.CLASSIFICATION, target="late")
    plan = PreparePlan(run="r1", data=workspace.source(path), task=task, checks=(zip_code,))
    assert workspace.step("prepare", plan)[1].reason == "DataValid"
    params = json.loads((workspace.root / "input/params.json").read_text())
    assert params["task"]["columns"] == {"zip": "String"}


def test_plan_of_an_operator_of_version_0_1_demands_the_same(workspace: Any) -> None:
    source = workspace.source(workspace.write("source.parquet", ROWS))
    old = {
        "run": "r1",
        "data": {"uri": source.uri, "digest": source.digest},
        "task": {"type": "Classification", "target": "late", "features": ["delay", "carrier"]},
        "params": {"estimator": "Linear"},
    }
    for fields, reason in (
        ({"minRows": 4, "maxRows": 4}, "DataValid"),
        ({"minRows": 5}, "TooFewRows"),
        ({"maxRows": 3}, "TooManyRows"),
        ({"columns": [{"name": "gate"}]}, "SchemaMissingColumn"),
        ({"columns": [{"name": "delay", "type": "Integer"}]}, "ColumnTypeMismatch"),
        ({"columns": [{"name": "delay", "maxNullFraction": 0.2}]}, "TooManyNulls"),
    ):
        assert workspace.step("prepare", json.dumps({**old, **fields}))[1].reason == reason


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "empty"),
    "gzip": (gzip.compress(b"a,b\n1,2\n"), "gzip"),
    "ragged": (b"a,b\n1,2\n1,2,3\n", "more fields"),
    "no UTF-8": (b"a,b\n\xff\xfe,1\n", "utf-8"),
    "name twice": (b"a,b,a\n1,2,3\n", "duplicate column 'a'"),
    "broken parquet": (b"PAR1 and then nothing", "cannot read training data"),
}


@pytest.mark.parametrize("case", UNREADABLE.values(), ids=list(UNREADABLE))
def test_file_that_is_no_table_is_unreadable(case: tuple[bytes, str], workspace: Any) -> None:
    path = workspace.write("source", case[0])
    code, report = workspace.step("prepare", PreparePlan(run="r1", data=workspace.source(path)))
    assert (code, report.reason) == (65, "DataUnreadable")
    assert case[1] in report.message


def test_signature_of_a_presigned_url_is_not_shown_with_a_table_that_is_none(workspace: Any, serve: Any) -> None:
    body = gzip.compress(b"a,b\n1,2\n")
    url = serve(lambda path, _: (200, {}, body))
    source = Source(uri=f"{url}/d.csv?X-Signature=secret", digest=f"sha256:{hashlib.sha256(body).hexdigest()}")
    plan = PreparePlan(run="r1", data=source)
    report = workspace.step("prepare", plan, STEELTOWN_ALLOWED_SOURCES="http://")[1]
    assert report.reason == "DataUnreadable"
    assert f"{url}/d.csv is a gzip file" in report.message
    assert "secret" not in report.message


def test_import_brings_the_model_and_needs_no_training_data(workspace: Any, models: Any) -> None:
    path = workspace.write("mine.onnx", models.per_column(("a",)))
    code, report = workspace.step("prepare", PreparePlan(run="r1", imported=workspace.source(path)))
    assert (code, report.reason, report.rows) == (0, "DataValid", None)
    assert (workspace.root / "output/model/model.onnx").read_bytes() == path.read_bytes()


def test_wrong_digest_stops_before_the_data_is_looked_at(workspace: Any) -> None:
    path = workspace.write("source.csv", ROWS)
    source = Source(uri=f"file://{path}", digest="sha256:" + "0" * 64)
    code, report = workspace.step("prepare", PreparePlan(run="r1", data=source))
    assert (code, report.reason) == (65, "DigestMismatch")
    assert list((workspace.root / "input").glob("data.*")) == []


@pytest.mark.parametrize("field", ["data", "evaluation", "imported"])
@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("file:///proc/self/environ", ""),  # as it is where the platform says nothing
        ("file:///proc/self/environ", "file:///data,s3://"),
        ("http://169.254.169.254/latest/meta-data", "https://,s3://"),
        ("s3://payroll/2026.csv", "s3://data"),
    ],
)
def test_source_that_the_platform_does_not_allow_is_refused_before_anything_is_asked(
    field: str, uri: str, allowed: str, workspace: Any
) -> None:
    source = Source(uri=uri, digest="sha256:" + "0" * 64)
    given: dict[str, Any] = {"run": "r1", field: source}
    plan = PreparePlan(**given)
    code, report = workspace.step("prepare", plan, STEELTOWN_ALLOWED_SOURCES=allowed)
    assert (code, report.reason) == (64, "InvalidURI")
    assert f"invalid URI {uri!r}: the platform allows data and imports from " in report.message
    assert not (workspace.root / "input").exists()


def test_list_of_sources_that_is_none_is_named(workspace: Any) -> None:
    code, report = workspace.step("prepare", PreparePlan(run="r1"), STEELTOWN_ALLOWED_SOURCES="ftp://x")
    assert (code, report.reason) == (64, "InvalidPlan")
    assert "source 'ftp://x' is none: must begin with s3://" in report.message


@pytest.mark.parametrize("plan", ["", "no json", '{"run":"r1","task":{"type":"Novel","target":"y"}}', "{}"])
def test_plan_that_cannot_be_read_is_a_usage_error(plan: str, workspace: Any) -> None:
    code, report = workspace.step("prepare", plan)
    assert (code, report.reason) == (64, "InvalidPlan")
    assert "STEELTOWN_PLAN" in report.message


def test_operator_that_is_no_neighbour_is_refused_by_name(workspace: Any) -> None:
    code, report = workspace.step("prepare", PreparePlan(run="r1"), STEELTOWN_CONTRACT_VERSION="3")
    assert (code, report.reason) == (64, "InvalidPlan")
    assert report.message.startswith("STEELTOWN_CONTRACT_VERSION is 3, the operator's; this image speaks version 1")


def test_limit_that_is_no_number_is_named(workspace: Any) -> None:
    code, report = workspace.step("prepare", PreparePlan(run="r1"), STEELTOWN_MAX_ARTIFACT_BYTES="4GB")
    assert (code, report.reason) == (64, "InvalidPlan")
    assert "STEELTOWN_MAX_ARTIFACT_BYTES '4GB': must be an integer" in report.message


def test_defect_still_leaves_a_report(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("steeltown_checker.prepare.write_params", broken)
    code, report = workspace.step("prepare", PreparePlan(run="r1"))
    assert (code, report.reason) == (1, "InternalError")
    assert report.message == "RuntimeError: first line second line"


def test_flights_of_the_fixture_are_fit(workspace: Any, flights: Callable[..., pl.DataFrame], tmp_path: Path) -> None:
    path = workspace.write("source.csv", flights(500))
    task = Task(type=TaskType.REGRESSION, target="minutes")
    _, report = workspace.step("prepare", PreparePlan(run="r1", data=workspace.source(path), task=task, min_rows=500))
    assert (report.reason, report.rows) == ("DataValid", 500)

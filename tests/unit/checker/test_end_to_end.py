"""One run after another through the real entry points, each step a process of its own, as in the Pod."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from jsonschema import Draft202012Validator
from steeltown.contract.plans import Column, ColumnType, FetchPlan, FinalisePlan, PreparePlan, Source, Task, TaskType

SCHEMAS = Path(__file__).resolve().parents[3] / "docs" / "contract"
TASK = Task(type=TaskType.CLASSIFICATION, target="late", features=("dep delay", "carrier", "wet"))
COLUMNS = (
    Column(name="dep delay", type=ColumnType.NUMBER, max_null_fraction=0.2),
    Column(name="carrier", type=ColumnType.STRING),
)


@pytest.fixture
def plan(workspace: Any, flights: Callable[..., pl.DataFrame]) -> PreparePlan:
    """A run on 1200 rows, of which at least 1000 must be there."""
    return PreparePlan(
        run="flights-v1",
        data=workspace.source(workspace.write("january.csv", flights(1200, seed=1))),
        evaluation=workspace.source(workspace.write("frozen.parquet", flights(800, seed=2))),
        task=TASK,
        columns=COLUMNS,
        min_rows=1000,
        params={"estimator": "Linear"},
    )


def train(workspace: Any, plan: PreparePlan, **finalise: Any) -> tuple[int, Any]:
    """prepare -> train -> finalise; the exit code and report of the step that ended it."""
    code = workspace.process("steeltown_checker", "prepare", plan=plan)
    if code == 0 and plan.imported is None:
        assert workspace.process("steeltown_trainer", STEELTOWN_SEED="5") == 0
    if code == 0:
        imported = plan.imported is not None
        more = FinalisePlan(run=plan.run, store=workspace.store, task=plan.task, imported=imported, **finalise)
        code = workspace.process("steeltown_checker", "finalise", plan=more)
    return code, workspace.report()


def test_table_becomes_a_served_model_and_the_next_one_is_compared_with_it(
    workspace: Any, plan: PreparePlan, flights: Callable[..., pl.DataFrame]
) -> None:
    code, first = train(workspace, plan)
    assert (code, first.reason) == (0, "ModelReady")
    assert {c.verdict for c in first.checks} == {"Pass"}
    quality = {m.name: m.candidate for m in first.metrics}
    assert quality["accuracy"] > 0.85
    assert quality["auc"] > 0.9
    assert (
        workspace.process("steeltown_checker", "fetch", plan=FetchPlan(store=workspace.store, digest=first.digest)) == 0
    )
    assert (workspace.root / "model/model.onnx").stat().st_size == first.size_bytes
    stored = json.loads((workspace.root / "store/runs/flights-v1/report.json").read_text())
    assert stored["result"]["estimator"] == "Linear"
    assert stored["profile"]["training"]["rows"] == 1200

    shuffled = flights(1200, seed=3).with_columns(pl.col("late").shuffle(seed=1))
    worse = replace(plan, run="flights-v2", data=workspace.source(workspace.write("february.csv", shuffled)))
    code, second = train(workspace, worse, live=Source(uri=first.uri, digest=first.digest))
    assert (code, second.reason) == (0, "ModelReady")  # whether it is good enough is the operator's decision
    for metric in second.metrics:
        assert metric.live == pytest.approx(quality[metric.name], abs=1e-6)
        assert metric.lower < metric.difference < metric.upper < 0, metric
    assert written_as_the_schemas_say(workspace.root) == {"manifest": 2, "golden": 2, "run-report": 2, "result": 1}


def written_as_the_schemas_say(root: Path) -> Counter[str]:
    """How many documents of each kind are below `root`, all of which docs/contract describes."""
    kinds = {
        "manifest": root.glob("store/models/*/manifest.json"),
        "golden": root.glob("store/models/*/golden.json"),
        "run-report": root.glob("store/runs/*/report.json"),
        "result": root.glob("output/result.json"),
    }
    found: Counter[str] = Counter()
    for kind, paths in kinds.items():
        validator = Draft202012Validator(json.loads((SCHEMAS / f"{kind}.json").read_text()))
        for path in paths:
            validator.validate(json.loads(path.read_text()))
            found[kind] += 1
    return found


def test_own_model_is_imported_through_the_same_checks(workspace: Any, plan: PreparePlan, models: Any) -> None:
    mine = workspace.write("mine.onnx", models.scores("dep delay", labels=("false", "true")))
    task = replace(TASK, features=())
    rows = pl.read_parquet(workspace.root / "frozen.parquet").drop_nulls()
    evaluation = workspace.source(workspace.write("complete.parquet", rows))
    code, report = train(
        workspace, PreparePlan(run="mine", imported=workspace.source(mine), evaluation=evaluation, task=task)
    )
    assert (code, report.reason) == (0, "ModelReady")
    assert report.digest == workspace.source(mine).digest
    assert {m.name: m.candidate > 0.7 for m in report.metrics if m.name != "logloss"} == {"accuracy": True, "auc": True}


def test_column_gone_from_the_data(workspace: Any, plan: PreparePlan) -> None:
    data = workspace.write("cut.csv", pl.read_csv(workspace.root / "january.csv").drop("carrier"))
    code, report = train(workspace, replace(plan, data=workspace.source(data)))
    assert (code, report.reason) == (65, "SchemaMissingColumn")
    assert "'carrier'" in report.message


def test_two_thirds_of_the_rows_gone(workspace: Any, plan: PreparePlan) -> None:
    data = workspace.write("cut.csv", pl.read_csv(workspace.root / "january.csv").head(400))
    code, report = train(workspace, replace(plan, data=workspace.source(data)))
    assert (code, report.reason, report.rows) == (65, "TooFewRows", 400)


def test_data_that_changed_under_its_digest(workspace: Any, plan: PreparePlan) -> None:
    with Path(workspace.root / "january.csv").open("a") as file:
        file.write("1.0,AA,true,3.0,true\n")
    code, report = train(workspace, plan)
    assert (code, report.reason) == (65, "DigestMismatch")


def test_trainer_that_leaves_nothing(workspace: Any, plan: PreparePlan) -> None:
    assert workspace.process("steeltown_checker", "prepare", plan=plan) == 0
    finalise = FinalisePlan(run="flights-v1", store=workspace.store, task=TASK)
    assert workspace.process("steeltown_checker", "finalise", plan=finalise) == 65
    assert workspace.report().reason == "ResultMissing"


def test_imported_model_that_answers_nan(workspace: Any, plan: PreparePlan, models: Any) -> None:
    mine = workspace.write("mine.onnx", models.per_column(("minutes",), factor=-1e9, op="Log"))
    task = Task(type=TaskType.REGRESSION, target="dep delay", features=("minutes",))
    code, report = train(workspace, replace(plan, data=None, imported=workspace.source(mine), task=task, columns=()))
    assert (code, report.reason) == (65, "NumericallyUnstable")


def test_imported_model_that_is_broken(workspace: Any, plan: PreparePlan) -> None:
    mine = workspace.write("mine.onnx", b"\x08\x08 this was an ONNX file once")
    code, report = train(workspace, replace(plan, data=None, imported=workspace.source(mine)))
    assert (code, report.reason) == (65, "ModelInvalid")


def test_wrong_step_is_a_usage_error(workspace: Any) -> None:
    assert workspace.process("steeltown_checker", "serve") == 64


def test_report_that_cannot_be_written_does_not_change_the_exit_code(workspace: Any, plan: PreparePlan) -> None:
    nowhere = str(workspace.root / "no/such/folder")
    assert workspace.process("steeltown_checker", "prepare", plan=plan, STEELTOWN_TERMINATION_LOG=nowhere) == 0

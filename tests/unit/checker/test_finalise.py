"""`finalise`: what ends a run, what is measured, and what is only reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from steeltown.contract.checks import Verdict
from steeltown.contract.plans import FinalisePlan, Source, Task, TaskType
from steeltown_checker import evaluate
from steeltown_tensors import Independence

Y = Task(type=TaskType.REGRESSION, target="y", features=("a", "b"))
ROWS = pl.DataFrame({"a": np.arange(1, 41) / 10, "b": np.arange(40) % 7 + 0.5}).with_columns(
    y=pl.col("a") + pl.col("b")
)


@pytest.fixture
def finalise(workspace: Any) -> Callable[..., Any]:
    def run(**more: Any) -> Any:
        return workspace.step("finalise", FinalisePlan(**{"run": "r1", "store": workspace.store, "task": Y, **more}))

    return run


def verdicts(report: Any) -> dict[str, Verdict]:
    return {c.name: c.verdict for c in report.checks}


def fidelity(a: list[Any], b: list[Any], y: list[float], name: str = "variable") -> str:
    def tensor(name: str, data: list[Any]) -> dict[str, Any]:
        return {"name": name, "shape": [len(data), 1], "datatype": "FP32", "data": data}

    return json.dumps({"inputs": [tensor("a", a), tensor("b", b)], "outputs": [tensor(name, y)]})


def test_good_model_is_published_with_all_its_checks(workspace: Any, models: Any, finalise: Any) -> None:
    path = workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    workspace.write("output/model/fidelity.json", fidelity([1, 2], [3, 4], [4, 6]))
    code, report = finalise(metrics=("r2",))
    assert (code, report.reason) == (0, "ModelReady")
    assert report.digest == workspace.source(path).digest
    assert report.uri == f"{workspace.store}/models/{report.digest[7:]}/model.onnx"
    assert report.size_bytes == path.stat().st_size
    assert verdicts(report) == dict.fromkeys(
        ("ModelFile", "Signature", "RunsOnData", "Evaluation", "ExportFidelity", "BatchInvariance"), Verdict.PASS
    )
    assert {m.name: (round(m.candidate, 4), m.n, m.live) for m in report.metrics} == {
        "rmse": (0, 40, None),
        "mae": (0, 40, None),
        "r2": (1, 40, None),
    }


@pytest.mark.parametrize("gone", ["output/model/model.onnx", "output/result.json"])
def test_missing_result_is_named(gone: str, workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    (workspace.root / gone).unlink()
    code, report = finalise()
    assert (code, report.reason) == (65, "ResultMissing")
    assert gone in report.message


def test_import_needs_no_result(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")))
    (workspace.root / "output/result.json").unlink()
    assert finalise(imported=True, task=None)[1].reason == "ModelReady"


def test_result_that_is_no_object_is_invalid(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")), result=[1])
    assert finalise()[1].reason == "ResultInvalid"


@pytest.mark.parametrize(
    ("make", "reason", "failed"),
    [
        (lambda m: b"broken", "ModelInvalid", "ModelFile"),
        (lambda m: m.per_column(("a", "c")), "SignatureMismatch", "Signature"),
        (lambda m: m.per_column(("a", "b"), factor=-1, op="Log"), "NumericallyUnstable", "RunsOnData"),
        (lambda m: m.per_column(("a", "b"), factor=float("inf")), "NumericallyUnstable", "RunsOnData"),
    ],
    ids=["no onnx", "other inputs", "NaN", "infinite"],
)
def test_unusable_model_fails_and_is_not_published(
    make: Any, reason: str, failed: str, workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(make(models), evaluation=ROWS)
    code, report = finalise()
    assert (code, report.reason) == (65, reason)
    assert verdicts(report)[failed] is Verdict.FAIL
    assert report.digest.startswith("sha256:")
    assert not (workspace.root / "store/models").exists()
    stored = json.loads((workspace.root / "store/runs/r1/report.json").read_text())
    assert (stored["reason"], stored["message"]) == (reason, report.message)


def test_runtime_failure_brings_the_words_of_the_runtime(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.matrix([1.0, 2.0, 3.0], width="F"), evaluation=ROWS)
    code, report = finalise()
    assert (code, report.reason) == (65, "ModelFailsOnData")
    assert "MatMul" in report.message


def test_nan_of_the_model_names_output_and_row(workspace: Any, models: Any, finalise: Any) -> None:
    rows = ROWS.with_columns(a=pl.when(pl.int_range(40) == 7).then(-100.0).otherwise("a"))
    workspace.trained(models.per_column(("a", "b"), op="Log"), evaluation=rows)
    report = finalise()[1]
    assert report.reason == "NumericallyUnstable"
    assert "'variable' is NaN or infinite in 1 of 40 rows (first: row 7)" in report.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (fidelity([1, 2], [3, 4], [4, 6.1]), ["variable[1] is 6, expected 6.1"]),
        (fidelity([1, 2], [3, 4], [4, 6], name="other"), ["unknown output 'other'"]),
        (fidelity([1, 2], [3, 4], [4, 6, 8]), ["has 2 values, expected 3"]),
        ("[]", ["cannot compare fidelity.json with the model"]),
        ('{"inputs": [], "outputs": []}', ["missing input 'a'"]),
        ("no json", ["cannot compare fidelity.json with the model"]),
    ],
)
def test_export_that_differs_from_the_trainer_is_unfaithful(
    text: str, words: list[str], workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    workspace.write("output/model/fidelity.json", text)
    code, report = finalise()
    assert (code, report.reason) == (65, "ExportUnfaithful")
    assert [w for w in words if w not in report.message] == []
    assert verdicts(report)["ExportFidelity"] is Verdict.FAIL


def test_missing_number_in_fidelity_rows_is_null(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    workspace.write("output/model/fidelity.json", fidelity([1, None], [3, 4], [4, 6]))
    assert "is nan, expected 6" in finalise()[1].message


def test_without_evidence_nothing_passes(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")))
    code, report = finalise()
    assert (code, report.reason, report.metrics) == (0, "ModelReady", ())
    assert verdicts(report)["Evaluation"] is Verdict.INSUFFICIENT_DATA
    assert verdicts(report)["ExportFidelity"] is Verdict.INSUFFICIENT_DATA


def test_answers_that_depend_on_the_batch_are_a_warning(workspace: Any, models: Any, finalise: Any) -> None:
    rows = pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0.0, 1.0, 2.0]})
    workspace.trained(models.average_of_batch(), evaluation=rows)
    code, report = finalise(task=Task(type=TaskType.REGRESSION, target="y"))
    assert (code, report.reason) == (0, "ModelReady")
    assert verdicts(report)["BatchInvariance"] is Verdict.WARN


def test_equal_rows_show_nothing_about_batches(workspace: Any, models: Any, finalise: Any) -> None:
    rows = pl.DataFrame({"x": [1.0, 1.0, 1.0], "y": [0.0, 1.0, 2.0]})
    workspace.trained(models.per_column(("x",)), evaluation=rows)
    _, report = finalise(task=Task(type=TaskType.REGRESSION, target="y"))
    check = next(c for c in report.checks if c.name == "BatchInvariance")
    assert check.verdict is Verdict.INSUFFICIENT_DATA
    assert check.message.startswith("the evaluation rows are all alike")
    assert recorded(report)["rows"] == 1


def recorded(report: Any) -> dict[str, Any]:
    """What the manifest says about batching."""
    manifest = json.loads((Path(report.uri.removeprefix("file://")).parent / "manifest.json").read_text())
    found: dict[str, Any] = manifest["batching"]
    return found


def test_rows_that_leave_each_other_alone_are_recorded_with_the_largest_run(
    workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    _, report = finalise()
    check = next(c for c in report.checks if c.name == "BatchInvariance")
    assert (check.verdict, check.n) == (Verdict.PASS, 40)
    assert "runs of up to 1024 rows" in check.message
    assert recorded(report) == {"rows": 1024, "why": "", "refuted": False}


@pytest.mark.parametrize("judged", [True, False])
def test_rows_that_meet_are_found_by_graph_and_by_trial_and_recorded(
    judged: bool, workspace: Any, models: Any, finalise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not judged:
        monkeypatch.setattr("steeltown_checker.batching.mixing", lambda _: None)
    workspace.trained(models.average_of_batch(), evaluation=pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0.0, 1.0, 2.0]}))
    _, report = finalise(task=Task(type=TaskType.REGRESSION, target="y"))
    check = next(c for c in report.checks if c.name == "BatchInvariance")
    assert check.verdict is Verdict.WARN
    assert ("operator ReduceMean ('mean') reduces over the rows" if judged else "a row is answered") in check.message
    assert (recorded(report)["rows"], recorded(report)["refuted"]) == (1, True)


def test_import_without_data_is_not_batched_and_says_what_is_missing(
    workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(models.per_column(("a", "b")))
    _, report = finalise()
    check = next(c for c in report.checks if c.name == "BatchInvariance")
    assert check.verdict is Verdict.INSUFFICIENT_DATA
    assert "give the training run evaluation data whose rows differ" in check.message
    assert recorded(report)["rows"] == 1


def test_later_run_that_shows_rows_to_meet_changes_the_manifest(
    workspace: Any, models: Any, finalise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the first run happened to show nothing of it."""
    monkeypatch.setattr("steeltown_checker.batching.mixing", lambda _: None)
    task = Task(type=TaskType.REGRESSION, target="y")
    evaluation = pl.DataFrame({"x": [1.0, 2.0, 4.0], "y": [0.0, 1.0, 2.0]})
    workspace.trained(models.average_of_batch(), evaluation=evaluation)
    with monkeypatch.context() as unlucky:
        unlucky.setattr("steeltown_checker.batching.tried", lambda *_: Independence(64))
        assert recorded(finalise(task=task)[1]) == {"rows": 64, "why": "", "refuted": False}
    _, report = finalise(task=task, run="r2")
    assert (recorded(report)["rows"], recorded(report)["refuted"]) == (1, True)


@pytest.mark.parametrize("evaluation", [None, ROWS])
def test_model_that_answers_differently_twice_is_refused(
    evaluation: Any, workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(models.noisy(("a", "b")), evaluation=evaluation)
    code, report = finalise()
    assert (code, report.reason) == (65, "NotDeterministic")
    assert verdicts(report)["GoldenRows"] is Verdict.FAIL
    assert "operator RandomNormalLike ('noise') draws random numbers" in report.message
    assert "export it for inference" in report.message
    assert not (workspace.root / "store/models").exists()


def test_dropout_that_was_left_on_is_found_without_data_too(workspace: Any, models: Any, finalise: Any) -> None:
    """Of zeros it makes zeros."""
    workspace.trained(models.dropping(("a", "b")))
    code, report = finalise()
    assert (code, report.reason) == (65, "NotDeterministic")
    assert "operator Dropout ('dropout') is in training mode" in report.message


def test_unfaithful_export_of_a_random_model_is_said_to_be_random(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.noisy(("a", "b")), evaluation=ROWS)
    workspace.write("output/model/fidelity.json", fidelity([1, 2], [3, 4], [4, 6]))
    assert finalise()[1].reason == "NotDeterministic"


def test_worse_model_is_published_and_its_interval_lies_below_zero(workspace: Any, models: Any, finalise: Any) -> None:
    live = workspace.source(workspace.write("live.onnx", models.per_column(("a", "b"))))
    workspace.trained(models.per_column(("a", "b"), factor=0.8), evaluation=ROWS)
    code, report = finalise(live=live)
    assert (code, report.reason) == (0, "ModelReady")
    for metric in report.metrics:
        assert metric.lower < metric.difference < metric.upper < 0, metric.name


@pytest.mark.parametrize("fault", ["other inputs", "NaN", "gone", "wrong digest"])
def test_live_model_that_fails_here_is_a_warning(fault: str, workspace: Any, models: Any, finalise: Any) -> None:
    proto = models.per_column(("a", "c")) if fault == "other inputs" else models.per_column(("a",), factor=-1, op="Log")
    live = workspace.source(workspace.write("live.onnx", proto))
    if fault == "gone":
        live = Source(uri=live.uri + ".gone", digest=live.digest)
    if fault == "wrong digest":
        live = Source(uri=live.uri, digest="sha256:" + "0" * 64)
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    code, report = finalise(live=live)
    assert (code, report.reason) == (0, "ModelReady")
    assert verdicts(report)["LiveModelNotComparable"] is Verdict.WARN
    assert [m.live for m in report.metrics] == [None, None]


def test_live_model_with_fewer_columns_is_comparable(workspace: Any, models: Any, finalise: Any) -> None:
    live = workspace.source(workspace.write("live.onnx", models.per_column(("a",))))
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    report = finalise(live=live)[1]
    assert [m.difference > 0 for m in report.metrics] == [True, True]


def test_unreachable_store_of_the_live_model_is_tried_again(workspace: Any, models: Any, finalise: Any) -> None:
    live = Source(uri="http://127.0.0.1:9/live.onnx", digest="sha256:" + "0" * 64)
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    code, report = finalise(live=live)
    assert (code, report.reason) == (75, "StoreUnavailable")


def test_many_rows_are_sampled_by_seed(
    workspace: Any, models: Any, finalise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "MAX_ROWS", 25)
    workspace.trained(models.per_column(("a", "b"), factor=0.9), evaluation=ROWS)
    first, again, other = (finalise(seed=s)[1].metrics for s in (1, 1, 2))
    assert first == again != other
    assert {m.n for m in first} == {25}


def test_unknown_metric_is_refused_with_the_choice(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    code, report = finalise(metrics=("auc",))
    assert (code, report.reason) == (64, "UnknownMetric")
    assert "rmse, mae, r2" in report.message

"""`finalise`: what ends a run, what is measured, and what is only reported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper
from steeltown.contract.checks import Verdict
from steeltown.contract.plans import FinalisePlan, Source, Task, TaskType
from steeltown_checker import evaluate
from steeltown_checker.model import open_model
from steeltown_server.model import load
from steeltown_server.warmup import warm_up
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


def test_file_that_is_too_large_is_refused_before_it_is_copied_to_its_end(
    workspace: Any, models: Any, finalise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    monkeypatch.setattr("steeltown_checker.model.MAX_MODEL_BYTES", 100)
    code, report = finalise()
    assert (code, report.reason) == (65, "ModelTooLarge")
    assert "more than the 100 bytes that are supported" in report.message


def test_link_is_no_model(workspace: Any, models: Any, finalise: Any) -> None:
    path = workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    path.rename(path.with_name("other.onnx"))
    path.symlink_to("other.onnx")
    code, report = finalise()
    assert (code, report.reason) == (65, "ResultInvalid")
    assert "is a symbolic link: write the file itself" in report.message
    assert verdicts(report) == {}


def test_file_that_changes_after_the_check_is_not_what_is_loaded_and_published(
    workspace: Any, models: Any, finalise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    good = path.read_bytes()
    opened: list[Path] = []

    def swapped(given: Path) -> Any:
        opened.append(given)
        path.write_bytes(models.per_column(("a", "b"), factor=7).SerializeToString())
        return open_model(given)

    monkeypatch.setattr("steeltown_checker.finalise.open_model", swapped)
    _, report = finalise()
    assert report.digest == f"sha256:{hashlib.sha256(good).hexdigest()}"
    assert (workspace.root / "store/models" / report.digest[7:] / "model.onnx").read_bytes() == good
    assert next(m.candidate for m in report.metrics if m.name == "rmse") == pytest.approx(0, abs=1e-6)
    assert not opened[0].is_relative_to(workspace.root), "it would lie beside what the trainer wrote"


def test_import_needs_no_result(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")))
    (workspace.root / "output/result.json").unlink()
    assert finalise(imported=True, task=None)[1].reason == "ModelReady"


def test_result_that_is_no_object_is_invalid(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")), result=[1])
    assert finalise()[1].reason == "ResultInvalid"


HOSTILE = {
    "deep": ("[" * 200_000, "nested too deep"),
    "deep and complete": ("[" * 100 + "]" * 100, "nested too deep"),
    "half of a pair": ('{"a": {"b": ["\\ud800"]}}', "half of a surrogate pair"),
    "half of a pair as a key": ('{"x\\udfff": 1}', "half of a surrogate pair"),
    "many empty lists": (f"[{'[],' * 1_000_001}[]]", "exceed the limit of 1000000"),
}


@pytest.mark.parametrize("document", ["output/result.json", "output/model/fidelity.json"])
@pytest.mark.parametrize(("text", "words"), HOSTILE.values(), ids=HOSTILE)
def test_document_that_nobody_can_handle_is_refused_before_anything_is_published(
    text: str, words: str, document: str, workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    workspace.write(document, text)
    code, report = finalise()
    if "result" in document and len(text) > 1 << 20:
        words = "exceed the limit of 1048576"
    assert (code, report.reason) == (65, "ResultInvalid")
    assert words in report.message
    assert document in report.message
    assert not (workspace.root / "store/models").exists()


def test_text_of_every_plane_is_kept_in_the_report(workspace: Any, models: Any, finalise: Any) -> None:
    """A whole pair is one character, however it is written."""
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    workspace.write("output/result.json", '{"a": "\\ud83d\\ude00", "b": "\\\\ud800"}')
    assert finalise()[1].reason == "ModelReady"
    stored = json.loads((workspace.root / "store/runs/r1/report.json").read_text())
    assert stored["result"] == {"a": "\U0001f600", "b": "\\ud800"}


def test_report_that_cannot_be_written_does_not_decide_how_the_run_ends(
    workspace: Any, models: Any, finalise: Any
) -> None:
    """Whatever got into it: the verdict is in the termination message already."""
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    workspace.write("evaluation/profile.json", '{"a": "\\ud800"}')
    assert finalise()[1].reason == "ModelReady"


def link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)


def pipe(path: Path, target: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, target: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("output/result.json", link, "is a symbolic link"),
        ("output/model/model.onnx", link, "is a symbolic link"),
        ("output/model/fidelity.json", link, "is a symbolic link"),
        ("output/model", link, "model is a symbolic link"),
        ("output/result.json", pipe, "not a regular file"),
        ("output/model/model.onnx", pipe, "not a regular file"),
        ("output/model/fidelity.json", pipe, "not a regular file"),
        ("output/model/model.onnx", folder, "not a regular file"),
    ],
)
def test_only_regular_files_that_no_link_leads_to_are_read(
    name: str, change: Any, words: str, workspace: Any, models: Any, finalise: Any
) -> None:
    """A link leads to what the trainer must not see, a pipe holds the step up for ever."""
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    workspace.write("output/model/fidelity.json", fidelity([1, 2], [3, 4], [4, 6]))
    change(workspace.root / name, workspace.root / "elsewhere" / Path(name).name)
    code, report = finalise()
    assert (code, report.reason) == (65, "ResultInvalid")
    assert words in report.message
    assert not (workspace.root / "store/models").exists()


def test_link_that_leads_nowhere_is_named_too(workspace: Any, models: Any, finalise: Any) -> None:
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    (workspace.root / "output/model/fidelity.json").symlink_to("/nowhere")
    assert finalise()[1].reason == "ResultInvalid"


def test_sparse_file_of_any_size_is_not_hashed(workspace: Any, models: Any, finalise: Any) -> None:
    """A terabyte of holes takes no room on a disk."""
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    os.truncate(workspace.root / "output/model/model.onnx", 1 << 40)
    code, report = finalise()
    assert (code, report.reason, report.digest) == (65, "ModelTooLarge", "")


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
        (
            fidelity([1, 2], [3, 4], [4, 6]).replace('"inputs": [', '"inputs": [{"name": "z", "shape": [1e999]}, '),
            ["cannot compare fidelity.json with the model"],
        ),
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


@pytest.mark.parametrize(
    ("columns", "verdict", "message"),
    [
        (("a", "b"), Verdict.PASS, "unchanged since the live version"),
        (("b", "a"), Verdict.WARN, "inputs changed their order from 'b', 'a' to 'a', 'b': not promoted unless"),
        (
            ("a",),
            Verdict.WARN,
            "input 'b' (FP32 [-1,1]) is new and required: requests of today do not have it: not promoted unless "
            "objectives.interface of the MLModel is Any",
        ),
    ],
)
def test_interface_is_compared_with_that_of_the_live_model(
    columns: tuple[str, ...], verdict: Verdict, message: str, workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(models.per_column(columns, factor=2.0), evaluation=ROWS)
    before = finalise(task=Task(type=TaskType.REGRESSION, target="y"))[1]
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    report = finalise(live=Source(uri=before.uri, digest=before.digest))[1]
    (check,) = (c for c in report.checks if c.name == "Interface")
    assert check.verdict is verdict
    assert check.message.startswith(message)


def test_interface_of_a_live_model_without_a_manifest_is_not_compared(
    workspace: Any, models: Any, finalise: Any
) -> None:
    live = workspace.source(workspace.write("live.onnx", models.per_column(("a", "b"))))
    workspace.trained(models.per_column(("a", "b")), evaluation=ROWS)
    code, report = finalise(live=live)
    (check,) = (c for c in report.checks if c.name == "Interface")
    assert (code, check.verdict) == (0, Verdict.INSUFFICIENT_DATA)
    assert check.message.startswith("cannot be compared with the live version: ManifestMissing: ")


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


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_fixed_batch_is_measured_as_a_free_one_and_served(
    batch: int, workspace: Any, models: Any, finalise: Any
) -> None:
    workspace.trained(models.matrix([1.0, 1.5], batch=batch), evaluation=ROWS)
    code, report = finalise()
    assert (code, report.reason) == (0, "ModelReady")
    workspace.trained(models.matrix([1.0, 1.5]), evaluation=ROWS)
    free = finalise()[1]
    assert [(m.name, pytest.approx(m.candidate), m.n) for m in free.metrics] == [
        (m.name, m.candidate, m.n) for m in report.metrics
    ]
    check = next(c for c in report.checks if c.name == "Signature")
    assert check.message.endswith(f"; exactly {batch} rows, so requests run one at a time")
    assert "BatchInvariance" not in verdicts(report)
    warm = answered_by_a_server(workspace, report)
    assert (warm.rows, warm.batches) == (0, False)


def answered_by_a_server(workspace: Any, report: Any) -> Any:
    """What a server finds out about the published model before it listens."""
    folder = workspace.root / "store/models" / report.digest[7:]
    return warm_up(load(folder, 1), folder)


def free_model(
    nodes: list[Any], inputs: dict[str, tuple[int, Any]], outputs: dict[str, tuple[int, Any]], **weights: Any
) -> onnx.ModelProto:
    taken, given = ([helper.make_tensor_value_info(n, *of) for n, of in ports.items()] for ports in (inputs, outputs))
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "g", taken, given, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
FREE_MODELS = {
    "state and scalar": (
        free_model(
            [
                helper.make_node("Cast", ["rate"], ["r"], to=FLOAT),
                helper.make_node("ReduceSum", ["x", "axis"], ["total"], keepdims=1),
                helper.make_node("Div", ["total", "r"], ["y"]),
                helper.make_node("Add", ["state", "y"], ["next"]),
            ],
            {"x": (FLOAT, ["N", "T"]), "state": (FLOAT, [2, "N", 4]), "rate": (INT64, [])},
            {"y": (FLOAT, ["N", 1]), "next": (FLOAT, [2, "N", 4])},
            axis=np.array([1]),
        ),
        "3 inputs, 2 outputs; requests run one at a time, since 'state' has no free first dimension; inputs: "
        "x FP32[-1, -1], state FP32[2, -1, 4], rate INT64[]; outputs: y FP32[-1, 1], next FP32[2, -1, 4]",
    ),
    "scalar": (
        free_model([helper.make_node("Exp", ["x"], ["y"])], {"x": (FLOAT, [])}, {"y": (FLOAT, [])}),
        "1 inputs, 1 outputs; requests run one at a time, since 'x' has no free first dimension; inputs: x FP32[]; "
        "outputs: y FP32[]",
    ),
    "no inputs": (
        free_model([helper.make_node("Identity", ["w"], ["y"])], {}, {"y": (FLOAT, [2])}, w=np.ones(2, np.float32)),
        "0 inputs, 1 outputs; requests run one at a time, since the model has no inputs; inputs: none; "
        "outputs: y FP32[2]",
    ),
    "fixed": (
        free_model([helper.make_node("Exp", ["x"], ["y"])], {"x": (FLOAT, [1, 3, 8, 8])}, {"y": (FLOAT, [1, 3, 8, 8])}),
        "1 inputs, 1 outputs; requests run one at a time, since 'x' has no free first dimension; "
        "inputs: x FP32[1, 3, 8, 8]; outputs: y FP32[1, 3, 8, 8]",
    ),
    "first dimension that is no batch": (
        free_model(
            [helper.make_node("Reshape", ["x", "to"], ["y"])],
            {"x": (FLOAT, ["N", "M"])},
            {"y": (FLOAT, [1, 1])},
            to=np.array([1, 1]),
        ),
        "1 inputs, 1 outputs; requests run one at a time, since 'y' has no free first dimension; "
        "inputs: x FP32[-1, -1]; outputs: y FP32[1, 1]",
    ),
    "nothing finite for zeros": (
        free_model([helper.make_node("Log", ["x"], ["y"])], {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])}),
        "1 inputs, 1 outputs; inputs: x FP32[-1]; outputs: y FP32[-1]",
    ),
}


@pytest.mark.parametrize(("proto", "stated"), FREE_MODELS.values(), ids=FREE_MODELS.keys())
def test_import_without_a_table_may_have_any_signature(
    proto: onnx.ModelProto, stated: str, workspace: Any, finalise: Any
) -> None:
    workspace.trained(proto)
    code, report = finalise(task=None, imported=True)
    assert (code, report.reason) == (0, "ModelReady"), report.message
    assert next(c for c in report.checks if c.name == "Signature").message == stated
    assert not answered_by_a_server(workspace, report).batches


def test_model_that_answers_no_invented_input_says_what_was_invented(workspace: Any, finalise: Any) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Exp", ["x"], ["e"])]
    nodes += [helper.make_node("Log", ["n"], ["l"]), helper.make_node("Mul", ["l", "e"], ["y"])]
    workspace.trained(free_model(nodes, {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])}))
    code, report = finalise(task=None, imported=True)
    assert (code, report.reason) == (65, "NumericallyUnstable")
    assert report.message.startswith("on invented inputs, since the run has no evaluation data: output 'y' is NaN")


def test_several_targets_are_not_measured_and_served(workspace: Any, finalise: Any) -> None:
    proto = free_model(
        [helper.make_node("MatMul", ["x", "w"], ["values"])],
        {"x": (FLOAT, ["N", 2])},
        {"values": (FLOAT, ["N", 3])},
        w=np.ones((2, 3), np.float32),
    )
    workspace.trained(proto, evaluation=ROWS)
    code, report = finalise()
    assert (code, report.reason, report.metrics) == (0, "ModelReady", ())
    assert any("as Regression of one target requires" in check.message for check in report.checks)
    workspace.root.joinpath("evaluation/data.parquet").unlink()
    assert finalise(task=None, imported=True)[1].reason == "ModelReady"

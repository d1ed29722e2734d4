"""The store: what a model consists of, that its manifest comes last, and that `fetch` believes nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from steeltown.contract.batching import Batching
from steeltown.contract.plans import FetchPlan, FinalisePlan, Task, TaskType
from steeltown_checker import goldenrows
from steeltown_checker.binding import bind
from steeltown_checker.model import open_model
from steeltown_checker.store import ArtifactStore

ROWS = pl.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0], "y": [2.0, 4.0]})
Y = Task(type=TaskType.REGRESSION, target="y", features=("a", "b"))


@pytest.fixture
def published(workspace: Any, models: Any) -> Callable[..., Path]:
    """Finalises y = a + b and returns the folder of the model in the store."""

    def run(evaluation: pl.DataFrame | None = ROWS, run: str = "r1") -> Path:
        workspace.trained(models.per_column(("a", "b")), evaluation=evaluation)
        code, report = workspace.step("finalise", FinalisePlan(run=run, store=workspace.store, task=Y))
        assert code == 0, report
        return Path(report.uri.removeprefix("file://")).parent

    return run


def fetch(workspace: Any, folder: Path) -> tuple[int, Any]:
    code, report = workspace.step("fetch", FetchPlan(store=workspace.store, digest=f"sha256:{folder.name}"))
    return code, report


def test_manifest_lists_what_is_there(published: Any) -> None:
    folder = published()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(p.name for p in folder.iterdir()) == ["golden.json", "manifest.json", "model.onnx"]
    for name, entry in manifest["files"].items():
        body = (folder / name).read_bytes()
        assert entry == {"digest": f"sha256:{hashlib.sha256(body).hexdigest()}", "sizeBytes": len(body)}
    assert (manifest["digest"], manifest["run"]) == (f"sha256:{folder.name}", "r1")
    assert manifest["signature"]["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 1]}
    assert manifest["task"]["target"] == "y"


def test_what_was_found_about_batches_reaches_the_server(published: Any, workspace: Any) -> None:
    folder = published()
    assert fetch(workspace, folder)[0] == 0
    arrived = json.loads((workspace.root / "model/manifest.json").read_text())["batching"]
    assert Batching.from_json(arrived) == Batching(rows=1024)


def test_golden_rows_are_the_models_own_answers(published: Any) -> None:
    golden = json.loads((published() / "golden.json").read_text())
    assert golden["inputs"][0] == {"name": "a", "shape": [2, 1], "datatype": "FP32", "data": [1.0, 2.0]}
    assert golden["outputs"] == [{"name": "variable", "shape": [2, 1], "datatype": "FP32", "data": [2.0, 4.0]}]


def test_golden_rows_are_complete_rows_first(workspace: Any, models: Any) -> None:
    """JSON has no NaN, and a server must be able to send them."""
    rows = pl.DataFrame({"a": [None, 2.0, float("nan"), *range(20)], "b": [1.0] * 23})
    assert golden_inputs(workspace, models, rows)[0]["data"] == [2.0, *range(15)]


def test_gaps_of_golden_rows_are_filled_where_there_are_too_few_complete_ones(workspace: Any, models: Any) -> None:
    rows = pl.DataFrame(
        {"a": [None, 2.0, float("nan"), 4.0], "b": [None, None, None, None]}, schema_overrides={"b": pl.Int64}
    )
    a, b = golden_inputs(workspace, models, rows)
    assert (a["data"], b["data"]) == ([4.0, 2.0, 4.0, 4.0], [0.0] * 4)


def test_golden_rows_differ_where_the_data_let_them(workspace: Any, models: Any) -> None:
    """The first rows agree in both columns; of the later ones the first that differs in each is taken."""
    rows = pl.DataFrame({"a": [*[0.0] * 30, *range(100)], "b": [*[1.0] * 129, 2.0]})
    a, b = golden_inputs(workspace, models, rows)
    assert a["data"] == [*[0.0] * 14, 1.0, 99.0]
    assert b["data"] == [*[1.0] * 15, 2.0]


def golden_inputs(workspace: Any, models: Any, rows: pl.DataFrame) -> Any:
    model = open_model(workspace.write("model.onnx", models.per_column(("a", "b"))))
    return goldenrows.make(model, bind(model, ("a", "b"), rows.columns), rows).inputs


def test_golden_rows_without_evaluation_data_are_zeros(published: Any) -> None:
    golden = json.loads((published(None) / "golden.json").read_text())
    assert golden["inputs"][1] == {"name": "b", "shape": [16, 1], "datatype": "FP32", "data": [0.0] * 16}


def test_key_taken_by_another_manifest_is_refused(published: Any, workspace: Any) -> None:
    folder = published()
    (folder / "manifest.json").write_text('{"digest": "sha256:other"}')
    code, report = workspace.step("finalise", FinalisePlan(run="r2", store=workspace.store, task=Y))
    assert (code, report.reason) == (65, "ManifestInvalid")


def test_second_run_with_the_same_bytes_keeps_the_first_ones_golden_rows(published: Any, workspace: Any) -> None:
    folder = published()
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    published(ROWS.head(1), run="r2")
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before
    assert fetch(workspace, folder)[0] == 0


def test_golden_rows_of_a_run_that_has_not_finished_yet_stay(published: Any, workspace: Any) -> None:
    """Two runs made the same bytes at the same time: the other one's manifest will name the rows that it wrote."""
    folder = published()
    (folder / "manifest.json").unlink()
    before = (folder / "golden.json").read_bytes()
    published(ROWS.head(1), run="r2")
    assert (folder / "golden.json").read_bytes() == before
    assert fetch(workspace, folder)[0] == 0


@pytest.mark.parametrize("left", ["model.onnx", "golden.json", "manifest.json"])
def test_interrupted_or_damaged_upload_is_completed_by_the_next_run(left: str, published: Any, workspace: Any) -> None:
    """Whatever single file of the model survives, publishing again makes it whole."""
    folder = published()
    for path in folder.iterdir():
        if path.name != left:
            path.unlink()
    published(ROWS.head(1))
    assert fetch(workspace, folder)[0] == 0


@pytest.mark.parametrize("body", ['{"inputs": [], "outputs": []}', "[" * 200_000], ids=["empty", "deep"])
def test_golden_rows_that_the_model_does_not_answer_are_replaced(body: str, published: Any, workspace: Any) -> None:
    folder = published()
    (folder / "manifest.json").unlink()
    (folder / "golden.json").write_text(body)
    published()
    assert json.loads((folder / "golden.json").read_text())["outputs"] != []
    assert fetch(workspace, folder)[0] == 0


def test_reference_is_written_first_and_manifest_last(
    published: Any, monkeypatch: pytest.MonkeyPatch, workspace: Any
) -> None:
    written: list[str] = []
    for name in ("put", "put_file", "create"):
        original = getattr(ArtifactStore, name)

        def spy(*arguments: Any, original: Any = original) -> Any:
            written.append(arguments[1].rpartition("/")[2])
            return original(*arguments)

        monkeypatch.setattr(ArtifactStore, name, spy)
    published()
    assert written == ["unnamed", "model.onnx", "golden.json", "manifest.json", "report.json"]


def test_report_of_a_run_holds_everything(published: Any, workspace: Any) -> None:
    workspace.write("evaluation/profile.json", '{"training": {"rows": 2}}')
    workspace.trained(b"")
    published()
    stored = json.loads((workspace.root / "store/runs/r1/report.json").read_text())
    assert (stored["reason"], stored["result"], stored["profile"]) == (
        "ModelReady",
        {"schemaVersion": 1},
        {"training": {"rows": 2}},
    )
    assert len(stored["checks"]) == len(workspace.report().checks)


def test_nan_of_the_trainers_own_metrics_is_kept_as_text(workspace: Any, models: Any) -> None:
    workspace.trained(models.per_column(("a", "b")), result={"metrics": {"loss": {"value": float("nan")}}})
    workspace.step("finalise", FinalisePlan(run="r1", store=workspace.store))
    stored = json.loads((workspace.root / "store/runs/r1/report.json").read_text())
    assert stored["result"] == {"metrics": {"loss": {"value": "nan"}}}


def test_fetch_brings_model_and_golden_rows(published: Any, workspace: Any) -> None:
    folder = published()
    code, report = fetch(workspace, folder)
    assert (code, report.reason, report.digest) == (0, "ModelFetched", f"sha256:{folder.name}")
    for name in ("model.onnx", "golden.json"):
        assert (workspace.root / "model" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "manifest.json").unlink(), "ManifestMissing"),
        (lambda f: (f / "manifest.json").write_text("[]"), "ManifestInvalid"),
        (lambda f: (f / "manifest.json").write_text('{"digest": "sha256:0"}'), "ManifestInvalid"),
        (lambda f: (f / "manifest.json").write_text(json.dumps({"digest": f"sha256:{f.name}"})), "ManifestInvalid"),
        (lambda f: (f / "model.onnx").write_bytes(b"other"), "DigestMismatch"),
        (lambda f: (f / "golden.json").write_bytes(b"other"), "DigestMismatch"),
        (lambda f: (f / "model.onnx").unlink(), "ArtifactNotFound"),
    ],
)
def test_fetch_refuses_what_is_not_whole(damage: Any, reason: str, published: Any, workspace: Any) -> None:
    folder = published()
    damage(folder)
    code, report = fetch(workspace, folder)
    assert (code, report.reason) == (65, reason)
    assert not (workspace.root / "model/model.onnx").exists()


def test_manifest_cannot_pass_off_another_model(published: Any, workspace: Any) -> None:
    folder = published()
    manifest = json.loads((folder / "manifest.json").read_text())
    body = b"another model"
    manifest["files"]["model.onnx"]["digest"] = f"sha256:{hashlib.sha256(body).hexdigest()}"
    (folder / "model.onnx").write_bytes(body)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert fetch(workspace, folder)[1].reason == "ManifestInvalid"


def test_fetch_of_a_malformed_digest_is_a_usage_error(workspace: Any) -> None:
    code, report = workspace.step("fetch", FetchPlan(store=workspace.store, digest="sha256:abc"))
    assert (code, report.reason) == (64, "InvalidDigest")


def test_text_and_integer_golden_rows_survive_the_way(workspace: Any, models: Any) -> None:
    rows = pl.DataFrame({"x": np.array([1, 2], dtype=np.int64), "y": ["0", "1"]})
    workspace.trained(models.scores("x", labels=("0", "1")), evaluation=rows)
    task = Task(type=TaskType.CLASSIFICATION, target="y")
    _, report = workspace.step("finalise", FinalisePlan(run="r", store=workspace.store, task=task))
    folder = Path(report.uri.removeprefix("file://")).parent
    assert json.loads((folder / "manifest.json").read_text())["classes"] == ["0", "1"]

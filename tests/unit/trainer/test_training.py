"""What the built-in trainer leaves behind, for each task, estimator and kind of target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
from steeltown.contract.golden import Golden
from steeltown_trainer import progress

FEATURES = ["x 1", "kind", "wet", "hour"]
ESTIMATORS = ["Linear", "GradientBoosting", "RandomForest"]


def params(kind: str, target: str, features: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {"task": {"type": kind, "target": target, "features": features or []}, **more}


def labelled(frame: pl.DataFrame, target: pl.Expr) -> pl.DataFrame:
    return frame.with_columns(target.alias("y")).drop("score")


def faithful(training: Any, frame: pl.DataFrame) -> None:
    """fidelity.json holds scikit-learn's answers: the exported model must give them, gaps included."""
    golden = Golden.from_json(training.json("model/fidelity.json"))
    rows = pl.DataFrame({t["name"]: t["data"] for t in golden.inputs}, strict=False)
    assert len(rows) == 32
    answers = training.answers(rows)
    assert [t["name"] for t in golden.outputs] == list(answers)
    for tensor in golden.outputs:
        got, expected = answers[tensor["name"]], np.array(tensor["data"]).reshape(tensor["shape"])
        assert list(got.shape) == tensor["shape"]
        if tensor["datatype"] == "FP32":
            assert np.abs(got - expected).max() <= 1e-4
        else:
            assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_regression_is_exported_faithfully(estimator: str, training: Any, table: Callable[..., pl.DataFrame]) -> None:
    frame = table()
    assert training.run(frame, params("Regression", "score", estimator=estimator)) == 0
    faithful(training, frame)
    answers = training.answers(frame)
    assert {k: (v.dtype, v.shape) for k, v in answers.items()} == {"variable": (np.float32, (300, 1))}
    error = np.sqrt(np.mean((answers["variable"][:, 0] - frame["score"].to_numpy()) ** 2))
    assert error < 0.8 * frame["score"].to_numpy().std()


TARGETS: dict[str, tuple[pl.Expr, list[str]]] = {
    "boolean": (pl.col("score") > 0, ["0", "1"]),
    "integer": (pl.when(pl.col("score") > 0).then(7).otherwise(-3), ["-3", "7"]),
    "three texts": (
        pl.when(pl.col("score") > 1)
        .then(pl.lit("süß"))
        .when(pl.col("score") < -1)
        .then(pl.lit("a b"))
        .otherwise(pl.lit("")),
        ["", "a b", "süß"],
    ),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("target", "classes"), TARGETS.values(), ids=list(TARGETS))
def test_classification_is_exported_faithfully(
    estimator: str, target: pl.Expr, classes: list[str], training: Any, table: Callable[..., pl.DataFrame]
) -> None:
    frame = labelled(table(), target)
    assert training.run(frame, params("Classification", "y", FEATURES, estimator=estimator)) == 0
    faithful(training, frame)
    answers = training.answers(frame)
    assert list(answers) == ["label", "probabilities"]
    assert answers["probabilities"].shape == (300, len(classes))
    assert np.abs(answers["probabilities"].sum(axis=1) - 1).max() < 1e-5
    proto = onnx.load_from_string(training.model)
    assert [(p.key, json.loads(p.value)) for p in proto.metadata_props] == [("classes", classes)]
    truth = [str(int(v)) if isinstance(v, bool) else str(v) for v in frame["y"]]
    assert np.mean([str(a) == t for a, t in zip(answers["label"], truth, strict=True)]) > 0.75


def test_inputs_are_the_features_by_name_and_in_order(training: Any, table: Callable[..., pl.DataFrame]) -> None:
    order = ["hour", "kind", "x 1"]
    assert training.run(table(), params("Regression", "score", order, estimator="Linear")) == 0
    proto = onnx.load_from_string(training.model)
    kinds = {"hour": onnx.TensorProto.FLOAT, "kind": onnx.TensorProto.STRING, "x 1": onnx.TensorProto.FLOAT}
    assert [(i.name, i.type.tensor_type.elem_type) for i in proto.graph.input] == [(n, kinds[n]) for n in order]
    assert training.json("result.json")["features"] == order


@pytest.mark.parametrize(
    "names", [("label", "probabilities"), ("variable", "f1"), ("f1", "f0"), ("a.b/c", "ü"), ("concat_result", "label_")]
)
def test_columns_may_have_any_name(names: tuple[str, str], training: Any) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 2))
    frame = pl.DataFrame({names[0]: x[:, 0], names[1]: x[:, 1], "y": x[:, 0] > 0})
    assert training.run(frame, params("Classification", "y", estimator="Linear")) == 0
    proto = onnx.load_from_string(training.model)
    assert [i.name for i in proto.graph.input] == list(names)
    faithful(training, frame)
    assert (next(iter(training.answers(frame).values())) == frame["y"].to_numpy()).mean() > 0.95


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_same_data_and_seed_give_the_same_bytes(
    estimator: str, training: Any, table: Callable[..., pl.DataFrame]
) -> None:
    def model(seed: str) -> bytes:
        code = training.run(table(), params("Regression", "score", estimator=estimator), STEELTOWN_SEED=seed)
        assert code == 0
        return bytes(training.model)

    first = model("3")
    assert model("3") == first
    if estimator == "RandomForest":
        assert model("4") != first


def test_result_says_how_it_came_about(training: Any, table: Callable[..., pl.DataFrame]) -> None:
    frame = table().with_columns(score=pl.when(pl.int_range(300) < 20).then(None).otherwise("score"))
    assert training.run(frame, params("Regression", "score", estimator="Linear")) == 0
    result = training.json("result.json")
    assert (result["schemaVersion"], result["estimator"], result["seed"]) == (1, "Linear", 7)
    assert (result["rows"], result["rowsRead"]) == (280, 300)
    assert result["features"] == FEATURES
    assert result["framework"].startswith("scikit-learn ")
    assert {k: v["n"] for k, v in result["metrics"].items()} == {"rmse": 280, "mae": 280}
    assert 0 < result["metrics"]["rmse"]["value"] < 1.5
    assert [len(v) for v in result["crossValidation"]["scores"]["Linear"].values()] == [3, 3]


def test_status_ends_complete(training: Any, table: Callable[..., pl.DataFrame]) -> None:
    assert training.run(table(), params("Regression", "score")) == 0
    assert training.json("status.json") == {"phase": "Exporting", "step": 9, "totalSteps": 9}


def test_status_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    progress.write_atomically(path, b"{}")
    before = path.stat().st_ino
    progress.write_atomically(path, b'{"step":1}')
    assert (path.read_bytes(), path.stat().st_ino == before) == (b'{"step":1}', False)
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_status_that_cannot_be_written_does_not_stop_a_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    progress.Progress(tmp_path / "file/status.json", 3).advance()


def test_max_rows_samples_by_seed(training: Any, table: Callable[..., pl.DataFrame]) -> None:
    assert training.run(table(), params("Regression", "score", estimator="Linear", maxRows="150")) == 0
    result = training.json("result.json")
    assert (result["rows"], result["rowsRead"]) == (150, 300)


def test_csv_text_column_keeps_its_zeros_where_declared(training: Any) -> None:
    random = np.random.default_rng(0)
    zips = random.choice(["00123", "04567"], 200)
    frame = pl.DataFrame({"zip": zips, "y": (zips == "00123") * 2.0 + random.normal(size=200) * 0.1})
    task = {"type": "Regression", "target": "y", "features": [], "columns": {"zip": "String"}}
    assert training.run(frame, {"task": task, "estimator": "Linear"}, kind="csv") == 0
    got = training.answers(pl.DataFrame({"zip": ["00123", "04567", "123"]}))["variable"][:, 0]
    assert got[:2] == pytest.approx([2, 0], abs=0.1)
    assert 0.5 < got[2] < 1.5  # never seen: neither of them


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_column_without_any_value_is_still_an_input(
    estimator: str, training: Any, table: Callable[..., pl.DataFrame]
) -> None:
    frame = table().with_columns(empty=pl.lit(None), void=pl.lit(None, dtype=pl.String))
    assert training.run(frame, params("Regression", "score", estimator=estimator)) == 0
    assert np.isfinite(training.answers(frame.with_columns(empty=pl.lit(3.0)))["variable"]).all()


def test_unseen_and_missing_values_are_answered(training: Any, table: Callable[..., pl.DataFrame]) -> None:
    assert training.run(table(), params("Regression", "score", estimator="Linear")) == 0
    rows = pl.DataFrame({"x 1": [None], "kind": ["never seen"], "wet": [None], "hour": [None]})
    assert np.isfinite(training.answers(rows)["variable"]).all()


@pytest.mark.parametrize(
    ("kind", "target", "outputs"),
    [
        ("Regression", "score", [("variable", "tensor(float)", [-1, 1])]),
        ("Classification", "y", [("label", "tensor(int64)", [-1]), ("probabilities", "tensor(float)", [-1, 2])]),
        ("Classification", "z", [("label", "tensor(string)", [-1]), ("probabilities", "tensor(float)", [-1, 3])]),
    ],
)
def test_interface_is_the_same_whichever_estimator_is_chosen(
    kind: str, target: str, outputs: list[Any], training: Any, table: Any
) -> None:
    """A version that is trained anew takes the place of another: its users have one promise."""
    frame = table().with_columns(y=pl.int_range(pl.len()) % 2, z=pl.Series(["a", "b", "c"] * 100))
    for estimator in ESTIMATORS:
        assert training.run(frame, params(kind, target, FEATURES, estimator=estimator)) == 0
        session = onnxruntime.InferenceSession(training.model)
        shapes = [(o.name, o.type, [d if isinstance(d, int) else -1 for d in o.shape]) for o in session.get_outputs()]
        assert shapes == outputs, estimator

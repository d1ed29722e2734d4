"""Models as scikit-learn's exporter makes them: each is measured and starts in a server, or is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import helper
from skl2onnx import to_onnx
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputRegressor
from sklearn.svm import LinearSVC
from steeltown.contract.plans import FinalisePlan, Outputs, Task, TaskType
from steeltown_server.model import load
from steeltown_server.warmup import warm_up

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(60, 2)).astype(np.float32)
NUMBER = (X @ [1.0, -2.0] + 0.5).astype(np.float64)
LABEL = (NUMBER > 0.5).astype(np.int64)
CLASSIFY = Task(type=TaskType.CLASSIFICATION, target="y", features=("a", "b"))
REGRESS = Task(type=TaskType.REGRESSION, target="y", features=("a", "b"))


def exported(estimator: Any, target: np.ndarray, *, keep: tuple[str, ...] = (), **options: Any) -> Any:
    """keep: the outputs that stay; all if none is named."""
    fitted = estimator.fit(X, target)
    model = to_onnx(fitted, X[:1], options={id(fitted): options} if options else None, target_opset=17)
    for output in [o for o in model.graph.output if keep and o.name not in keep]:
        model.graph.output.remove(output)
    return model


def half() -> Any:
    """y = x w in FP16 from end to end."""
    weights = helper.make_tensor("w", helper.np_dtype_to_tensor_dtype(np.dtype(np.float16)), [2, 1], [1.0, -2.0])
    kind = weights.data_type
    x, y = helper.make_tensor_value_info("x", kind, ["N", 2]), helper.make_tensor_value_info("y", kind, ["N", 1])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SERVED: dict[str, tuple[Callable[[], Any], Task, np.ndarray, set[str]]] = {
    "classifier": (
        lambda: exported(LogisticRegression(), LABEL, zipmap=False),
        CLASSIFY,
        LABEL,
        {"accuracy", "auc", "logloss"},
    ),
    "label alone": (
        lambda: exported(LogisticRegression(), LABEL, zipmap=False, keep=("label",)),
        CLASSIFY,
        LABEL,
        {"accuracy"},
    ),
    "probabilities alone": (
        lambda: exported(LogisticRegression(), LABEL, zipmap=False, keep=("probabilities",)),
        CLASSIFY,
        LABEL,
        {"accuracy", "auc", "logloss"},
    ),
    "label and scores": (
        lambda: exported(LinearSVC(), LABEL),
        CLASSIFY,
        LABEL,
        {"accuracy"},
    ),
    "Gaussian process": (lambda: exported(GaussianProcessRegressor(), NUMBER), REGRESS, NUMBER, {"rmse", "mae"}),
    "Gaussian process with deviations": (
        lambda: exported(GaussianProcessRegressor(), NUMBER, return_std=True),
        replace(REGRESS, outputs=Outputs(label="GPmean")),
        NUMBER,
        {"rmse", "mae"},
    ),
    "FP16": (half, REGRESS, NUMBER, {"rmse", "mae"}),
}


@pytest.fixture
def finalise(workspace: Any) -> Callable[..., Any]:
    def run(model: Any, task: Task, target: np.ndarray) -> Any:
        rows = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": target})
        workspace.trained(model, evaluation=rows)
        return workspace.step("finalise", FinalisePlan(run="r1", store=workspace.store, task=task))

    return run


@pytest.mark.parametrize(("make", "task", "target", "measured"), SERVED.values(), ids=SERVED.keys())
def test_export_is_measured_and_starts_in_a_server(
    make: Callable[[], Any], task: Task, target: np.ndarray, measured: set[str], workspace: Any, finalise: Any
) -> None:
    code, report = finalise(make(), task, target)
    assert (code, report.reason) == (0, "ModelReady"), report.message
    assert measured <= {m.name for m in report.metrics}
    folder = workspace.root / "store/models" / report.digest[7:]
    model = load(folder, 1)
    warm_up(model, folder)
    stated = json.loads((folder / "manifest.json").read_bytes())["signature"]
    assert stated["outputs"] == [s.metadata() for s in model.signature.outputs.values()]


REFUSED = {
    "ZipMap": (
        lambda: exported(LogisticRegression(), LABEL),
        CLASSIFY,
        LABEL,
        "output 'output_probability' is seq(map(int64,tensor(float))), must be a tensor: export with zipmap=False",
    ),
}


@pytest.mark.parametrize(("make", "task", "target", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_export_is_refused_by_the_name_of_the_tensor_with_the_remedy(
    make: Callable[[], Any], task: Task, target: np.ndarray, message: str, finalise: Any
) -> None:
    code, report = finalise(make(), task, target)
    assert (code, report.reason) == (65, "SignatureMismatch")
    assert report.message.startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: exported(MultiOutputRegressor(LinearRegression()), np.column_stack([NUMBER, -NUMBER])),
            "no output with one number per row ([N] or [N, 1]), as Regression of one target requires: export one model",
        ),
        (
            lambda: exported(GaussianProcessRegressor(), NUMBER, return_std=True),
            "may be the prediction: name it in spec.task.outputs.label",
        ),
    ],
    ids=["several targets", "a deviation beside the mean"],
)
def test_export_that_may_be_read_in_several_ways_is_served_and_not_measured(
    make: Callable[[], Any], message: str, finalise: Any
) -> None:
    code, report = finalise(make(), REGRESS, NUMBER)
    assert (code, report.reason, report.metrics) == (0, "ModelReady", ())
    assert any(check.name.startswith("Metric:") and message in check.message for check in report.checks), report.checks

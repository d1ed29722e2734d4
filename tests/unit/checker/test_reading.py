"""Which output is what, of which class: real exports and hand-made ones, each measured right or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import skl2onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn import metrics as sk
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC
from steeltown.api.conditions import ConditionType, Reason
from steeltown.api.objectives import QualityObjective
from steeltown.contract.checks import Verdict, metric_check
from steeltown.contract.plans import FinalisePlan, Outputs, Task, TaskType
from steeltown.core.gates import RunFacts, gates
from steeltown_checker.exporter import said

EVERY = ("accuracy", "auc", "logloss", "f1", "brier")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
ONE_TO_TWELVE = tuple(range(1, 13))


@dataclass(frozen=True, kw_only=True)
class Found:
    """metrics, and why there are no others; outputs: the check that says what was read from where."""

    metrics: dict[str, float]
    unmeasured: dict[str, str]
    outputs: dict[Verdict, str] = field(default_factory=dict)


Measure = Callable[..., Found]


@pytest.fixture
def measure(workspace: Any) -> Measure:
    """A run of finalise: (model, rows of inputs, target) -> what it measured."""

    def run(proto: onnx.ModelProto, x: np.ndarray, target: Sequence[Any], **more: Any) -> Found:
        names = [f"x{i}" for i in range(x.shape[1])]
        frame = pl.DataFrame({name: x[:, i] for i, name in enumerate(names)}).with_columns(y=pl.Series(list(target)))
        workspace.trained(proto, evaluation=frame)
        kind = more.pop("kind", TaskType.CLASSIFICATION)
        task = Task(type=kind, target="y", features=tuple(names), outputs=more.pop("outputs", None))
        wanted = EVERY[3:] if kind is TaskType.CLASSIFICATION else ("r2",)
        plan = FinalisePlan(run="r", store=workspace.store, task=task, metrics=wanted, **more)
        code, report = workspace.step("finalise", plan)
        assert code == 0, report
        checks = json.loads((workspace.root / "store/runs/r/report.json").read_text())["checks"]
        return Found(
            metrics={m.name: m.candidate for m in report.metrics},
            unmeasured={
                name: c["message"]
                for name in (*EVERY, "rmse", "mae", "r2")
                for c in checks
                if c["name"] == metric_check(name) and c["verdict"] == "InsufficientData"
            },
            outputs={Verdict(c["verdict"]): c["message"] for c in checks if c["name"] == "Outputs"},
        )

    return run


# Real exports -----------------------------------------------------------------------------------------------------

TARGETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "2 integers": lambda y: (y > 0).astype(np.int64),
    "2 integers, not 0 and 1": lambda y: np.array([7, 12])[(y > 0).astype(int)],
    "2 booleans": lambda y: y > 0,
    "2 words": lambda y: np.array(["yes", "no"])[(y > 0).astype(int)],
    "3 integers": lambda y: y,
    "3 integers that sort otherwise as text": lambda y: np.array([2, 10, 9])[y],
    "3 words": lambda y: np.array(["mar", "jan", "feb"])[y],
}
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "LinearClassifier": LogisticRegression,
    "TreeEnsembleClassifier": lambda: RandomForestClassifier(5, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=4, random_state=0),
    "argmax of a network": lambda: MLPClassifier((4,), random_state=0, max_iter=60),
    "argmax of densities": GaussianNB,
    "neighbours": lambda: KNeighborsClassifier(3),
    "classifier in a classifier": lambda: StackingClassifier([("a", GaussianNB())], LogisticRegression(), cv=2),
}


def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y = make_classification(300, 4, n_informative=3, n_redundant=0, n_classes=3, class_sep=1.5, random_state=3)
    x = x.astype(np.float32)
    return x[:150], y[:150], x[150:], y[150:]


def export(estimator: Any, x: np.ndarray, **options: Any) -> onnx.ModelProto:
    proto: onnx.ModelProto = skl2onnx.to_onnx(estimator, x[:1], options={id(estimator): options})
    return proto


SORTED_OTHERWISE = ("2 words", "3 integers that sort otherwise as text")
EXPORTS = [("LinearClassifier", target) for target in TARGETS]
EXPORTS += [
    (estimator, target) for estimator in ESTIMATORS for target in SORTED_OTHERWISE if (estimator, target) not in EXPORTS
]


@pytest.mark.parametrize("zipmap", [False, "columns"], ids=["tensor", "columns"])
@pytest.mark.parametrize(("estimator", "target"), EXPORTS)
@pytest.mark.filterwarnings("ignore")
def test_export_is_measured_as_by_the_library(estimator: str, target: str, zipmap: Any, measure: Measure) -> None:
    x, y, other, truth = problem()
    y, truth = TARGETS[target](y), TARGETS[target](truth)
    fitted = ESTIMATORS[estimator]().fit(x, y)
    found = measure(export(fitted, x, zipmap=zipmap), other, truth.tolist())
    predicted, p = fitted.predict(other), fitted.predict_proba(other)
    want = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "f1": sk.f1_score(truth, predicted, average="macro"),
        "logloss": sk.log_loss(truth, np.clip(p, 1e-7, 1), labels=fitted.classes_),
        "brier": ((p - (truth[:, None] == fitted.classes_[None])) ** 2).sum(axis=1).mean(),
    }
    if len(fitted.classes_) == 2:
        want["auc"] = sk.roc_auc_score(truth == fitted.classes_[1], p[:, 1])
    assert found.metrics == pytest.approx(want, abs=2e-3)
    assert set(found.outputs) == {Verdict.PASS}


def test_auc_of_columns_is_that_of_the_positive_class(measure: Measure) -> None:
    x, y, other, truth = problem()
    fitted = LogisticRegression().fit(x, y > 0)
    found = measure(export(fitted, x, zipmap="columns"), other, (truth > 0).tolist())
    assert found.metrics["auc"] == pytest.approx(sk.roc_auc_score(truth > 0, fitted.decision_function(other)), abs=1e-4)
    assert found.metrics["auc"] > 0.7


def test_reversed_model_has_the_reversed_auc(measure: Measure) -> None:
    x, y, other, truth = problem()
    fitted = LogisticRegression().fit(x, y > 0)
    fitted.coef_, fitted.intercept_ = -fitted.coef_, -fitted.intercept_
    assert measure(export(fitted, x, zipmap="columns"), other, (truth > 0).tolist()).metrics["auc"] < 0.3


@pytest.mark.parametrize("zipmap", [False, "columns"], ids=["tensor", "columns"])
@pytest.mark.parametrize(
    "classes", [MONTHS, ONE_TO_TWELVE, tuple(map(str, ONE_TO_TWELVE))], ids=["words", "1-12", "text"]
)
def test_perfect_model_of_twelve_classes_is_perfect(classes: Any, zipmap: Any, measure: Measure) -> None:
    x = np.repeat(np.eye(12, dtype=np.float32), 3, axis=0)
    y = np.repeat(np.array(classes), 3)
    fitted = LogisticRegression(C=1e4, max_iter=500).fit(x, y)
    found = measure(export(fitted, x, zipmap=zipmap), x, y.tolist())
    assert (found.metrics["accuracy"], found.metrics["f1"]) == (1.0, 1.0)
    assert found.metrics["logloss"] < 0.01


SCORES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "raw scores of two columns": (LogisticRegression, {"zipmap": False, "raw_scores": True}),
    "one column": (LinearSVC, {}),
    "one column of another classifier": (RidgeClassifier, {"zipmap": False}),
}


@pytest.mark.parametrize(("estimator", "options"), SCORES.values(), ids=SCORES)
def test_scores_have_an_auc_and_are_called_scores(estimator: Any, options: Any, measure: Measure) -> None:
    x, y, other, truth = problem()
    fitted = estimator().fit(x, TARGETS["2 words"](y))
    truth = TARGETS["2 words"](truth)
    found = measure(export(fitted, x, **options), other, truth.tolist())
    assert {k: found.metrics[k] for k in ("accuracy", "auc")} == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, fitted.predict(other)),
            "auc": sk.roc_auc_score(truth == "yes", fitted.decision_function(other)),
        },
        abs=1e-6,
    )
    assert set(found.unmeasured) == {"logloss", "brier"}
    assert "holds scores, not probabilities" in found.unmeasured["logloss"]
    assert "export probabilities" in found.unmeasured["logloss"]


def test_threshold_of_the_label_is_no_disagreement(measure: Measure) -> None:
    x, y, other, truth = problem()
    inner = LogisticRegression().fit(x, y > 0)
    low = FixedThresholdClassifier(inner, threshold=0.25, response_method="predict_proba").fit(x, y > 0)
    proto = export(inner, x, zipmap=False)
    _replace_label(proto, threshold=0.25)
    found = measure(proto, other, (truth > 0).tolist())
    assert found.metrics["accuracy"] == pytest.approx(sk.accuracy_score(truth > 0, low.predict(other)))
    assert found.metrics["auc"] == pytest.approx(sk.roc_auc_score(truth > 0, inner.decision_function(other)), abs=1e-4)


def _replace_label(proto: onnx.ModelProto, threshold: float) -> None:
    """label = the table [0, 1] at (probability of 1 > threshold), as a tuned threshold is exported."""
    graph = proto.graph
    graph.initializer.extend(
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("bound", TensorProto.FLOAT, [], [threshold]),
            helper.make_tensor("table", TensorProto.INT64, [2], [0, 1]),
            helper.make_tensor("flat", TensorProto.INT64, [1], [-1]),
        ]
    )
    for node in graph.node:
        node.output[:] = ["unused" if name == "label" else name for name in node.output]
    graph.node.extend(
        [
            helper.make_node("ArrayFeatureExtractor", ["probabilities", "one"], ["p1"], domain="ai.onnx.ml"),
            helper.make_node("Greater", ["p1", "bound"], ["above"]),
            helper.make_node("Cast", ["above"], ["at"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "at"], ["column"]),
            helper.make_node("Reshape", ["column", "flat"], ["label"]),
        ]
    )


def test_support_vectors_whose_label_disagrees_have_an_accuracy_only(measure: Measure) -> None:
    """libsvm votes for the label and fits the probabilities apart from it."""
    x, y, other, truth = problem()
    fitted = SVC().fit(x, y > 0)  # without probabilities the converter gives scores of the opposite sign
    found = measure(export(fitted, x, zipmap=False), other, (truth > 0).tolist())
    assert found.metrics["accuracy"] == pytest.approx(sk.accuracy_score(truth > 0, fitted.predict(other)))
    assert set(found.unmeasured) == {"auc", "logloss", "brier"}
    assert "label 'label' and output 'probabilities' disagree in" in found.unmeasured["auc"]


# Exports of PyTorch and Keras, by hand ------------------------------------------------------------------------------


def network(
    width: int, end: str, *, names: Any = None, label: str = "", kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Class k is the most probable at x0 = k. Output `y` of [N, width], or `p` of [N, 1] for width 1.

    end: Softmax, Sigmoid, or Identity for logits. names: metadata `classes`, a text as it is. label: number adds the
    place of the largest column, reversed that of the smallest.
    """
    if width == 1:
        weights = [
            helper.make_tensor("k", TensorProto.FLOAT, [1], [0.5]),
            helper.make_tensor("f", TensorProto.FLOAT, [1], [4]),
        ]
        nodes = [helper.make_node("Sub", ["x0", "k"], ["d"]), helper.make_node("Mul", ["d", "f"], ["logits"])]
    else:
        weights = [
            helper.make_tensor("k", TensorProto.FLOAT, [1, width], [*range(width)]),
            helper.make_tensor("f", TensorProto.FLOAT, [1], [-9]),
        ]
        nodes = [
            helper.make_node("Sub", ["x0", "k"], ["d"]),
            helper.make_node("Mul", ["d", "d"], ["square"]),
            helper.make_node("Mul", ["square", "f"], ["logits"]),
        ]
    nodes += [helper.make_node(end, ["logits"], ["ended"]), helper.make_node("Cast", ["ended"], ["y"], to=kind)]
    outputs = [helper.make_tensor_value_info("y", kind, [None, width])]
    if label:
        operator = "ArgMin" if label == "reversed" else "ArgMax"
        nodes.append(helper.make_node(operator, ["logits"], ["at"], axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("at", TensorProto.INT64, [None]))
    inputs = [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [None, 1])]
    return _model(nodes, inputs, outputs, weights, names)


def _model(nodes: Any, inputs: Any, outputs: Any, weights: Any, names: Any) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)])
    proto.ir_version = 8
    if names is not None:
        text = names if isinstance(names, str) else json.dumps(names)
        proto.metadata_props.add(key="classes", value=text)
    return proto


def places(classes: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
    """Three rows of each class."""
    at = np.repeat(np.arange(len(classes)), 3)
    return at.astype(np.float32)[:, None], [classes[int(i)] for i in at]


def changed(
    proto: onnx.ModelProto, op: str, inputs: list[str], *, shape: list[Any], keep: bool = False, **more: Any
) -> onnx.ModelProto:
    """With another output `z` of `op`, in place of `y` or beside it. first is [0], two is [2], names a table b, a."""
    proto = _model(
        proto.graph.node,
        proto.graph.input,
        proto.graph.output,
        proto.graph.initializer,
        None if not proto.metadata_props else proto.metadata_props[0].value,
    )
    proto.graph.initializer.append(helper.make_tensor("first", TensorProto.INT64, [1], [0]))
    proto.graph.initializer.append(helper.make_tensor("two", TensorProto.INT64, [1], [2]))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["b", "a"], dtype=object), "names"))
    kind = TensorProto.STRING if "names" in inputs else TensorProto.FLOAT
    proto.graph.node.append(helper.make_node(op, inputs, ["z"], **more))
    proto.graph.output.append(helper.make_tensor_value_info("z", kind, shape))
    if not keep:
        del proto.graph.output[0]
    return proto


PERFECT: dict[str, tuple[onnx.ModelProto, Sequence[Any], Outputs | None, set[str]]] = {
    "softmax, named in the file": (network(12, "Softmax", names=MONTHS), MONTHS, None, {"auc"}),
    "softmax, named in the file by numbers": (
        network(12, "Softmax", names=ONE_TO_TWELVE),
        ONE_TO_TWELVE,
        None,
        {"auc"},
    ),
    "softmax, named in the task": (network(12, "Softmax"), MONTHS, Outputs(classes=MONTHS), {"auc"}),
    "softmax with the place as label": (
        network(12, "Softmax", label="number"),
        MONTHS,
        Outputs(classes=MONTHS),
        {"auc"},
    ),
    "softmax with the place as label, 1 to 12": (
        network(12, "Softmax", names=ONE_TO_TWELVE, label="number"),
        ONE_TO_TWELVE,
        None,
        {"auc"},
    ),
    "softmax of half precision": (
        network(3, "Softmax", names=["c", "a", "b"], kind=TensorProto.FLOAT16),
        ["c", "a", "b"],
        None,
        {"auc"},
    ),
    "softmax of two": (network(2, "Softmax", names=["yes", "no"]), ["yes", "no"], None, set()),
    "sigmoid, named in the file": (network(1, "Sigmoid", names=["yes", "no"]), ["yes", "no"], None, set()),
    "sigmoid, named in the task": (network(1, "Sigmoid"), ["yes", "no"], Outputs(classes=("yes", "no")), set()),
    "sigmoid of booleans": (network(1, "Sigmoid", names=[False, True]), [False, True], None, set()),
    "logits": (network(3, "Identity", names=["c", "a", "b"]), ["c", "a", "b"], None, {"auc", "logloss", "brier"}),
    "logits of two": (network(2, "Identity", names=["b", "a"]), ["b", "a"], None, {"logloss", "brier"}),
    "logits with the place as label": (
        network(3, "Identity", names=["c", "a", "b"], label="number"),
        ["c", "a", "b"],
        None,
        {"auc", "logloss", "brier"},
    ),
    "one logit": (
        network(1, "Identity", names=["b", "a"]),
        ["b", "a"],
        None,
        {"accuracy", "f1", "logloss", "brier"},
    ),
}


@pytest.mark.parametrize(("proto", "classes", "outputs", "unmeasured"), PERFECT.values(), ids=PERFECT)
def test_perfect_network_is_perfect_in_all_that_is_measured(
    proto: onnx.ModelProto, classes: Sequence[Any], outputs: Outputs | None, unmeasured: set[str], measure: Measure
) -> None:
    x, y = places(classes)
    found = measure(proto, x, y, outputs=outputs)
    assert {k: v for k, v in found.metrics.items() if k in ("accuracy", "f1", "auc")} == {
        k: 1.0 for k in ("accuracy", "f1", "auc") if k not in unmeasured
    }
    assert found.metrics.get("logloss", 0) < 0.15
    assert set(found.unmeasured) == unmeasured
    assert set(found.outputs) == {Verdict.PASS}


WRITE = "write the classes in the order of the columns, in spec.task.outputs.classes"
BOTH = "nothing says of which class output 'y' is: write both, that one last, in spec.task.outputs.classes"
UNKNOWN: dict[str, tuple[onnx.ModelProto, Sequence[Any], Outputs | None, str]] = {
    "words without names": (network(12, "Softmax"), MONTHS, None, WRITE),
    "words without names, with the place as label": (network(12, "Softmax", label="number"), MONTHS, None, WRITE),
    "1 to 12 without names": (network(12, "Softmax"), ONE_TO_TWELVE, None, WRITE),
    "1 to 12 without names, with the place as label": (
        network(12, "Softmax", label="number"),
        ONE_TO_TWELVE,
        None,
        WRITE,
    ),
    "sigmoid of words without names": (network(1, "Sigmoid"), ["a", "b"], None, BOTH),
    "logit of words without names": (network(1, "Identity"), ["a", "b"], None, BOTH),
    "names of other classes": (
        network(2, "Softmax", names=["A", "B"]),
        ["a", "b"],
        None,
        "those of the rows are 'a', 'b'",
    ),
    "too few names in the file": (
        network(3, "Softmax", names=["a", "b"]),
        ["a", "b", "c"],
        None,
        "metadata 'classes' of the file names 2 classes ('a', 'b'), output 'y' has 3 columns: write one name for each",
    ),
    "too many names in the task": (
        network(2, "Softmax"),
        ["a", "b"],
        Outputs(classes=("a", "b", "c")),
        "spec.task.outputs.classes names 3 classes",
    ),
    "a name twice": (network(2, "Softmax"), ["a", "b"], Outputs(classes=("a", "a")), "has 'a' twice"),
    "task and file contradict each other": (
        network(2, "Softmax", names=["a", "b"]),
        ["a", "b"],
        Outputs(classes=("b", "a")),
        "spec.task.outputs.classes has the order 'b', 'a', metadata 'classes' of the file has 'a', 'b': correct or",
    ),
    "no list": (network(2, "Softmax", names="a,b"), ["a", "b"], None, 'such as ["no", "yes"]'),
    "list of lists": (network(2, "Softmax", names=[["a"], ["b"]]), ["a", "b"], None, 'such as ["no", "yes"]'),
    "deep nesting": (network(2, "Softmax", names="[" * 100_000), ["a", "b"], None, 'such as ["no", "yes"]'),
    "half a character": (network(2, "Softmax", names='["a", "\\ud800"]'), ["a", "b"], None, 'such as ["no", "yes"]'),
    "no such output": (
        network(2, "Softmax", names=["a", "b"]),
        ["a", "b"],
        Outputs(probabilities="p"),
        "spec.task.outputs.probabilities is 'p', which is no output; the model has y FP32[-1, 2]",
    ),
    "label of several columns": (
        network(2, "Softmax", names=["a", "b"]),
        ["a", "b"],
        Outputs(label="y"),
        "spec.task.outputs.label is 'y', which has [2] values per row: name an output with one class per row",
    ),
    "label that is the smallest column": (
        network(3, "Softmax", names=["c", "a", "b"], label="reversed"),
        ["c", "a", "b"],
        None,
        "label 'at' and output 'y' disagree in 9 of 9 rows (first: row 0, label 'b', most probable 'c')",
    ),
    "first of two columns": (
        changed(network(2, "Softmax", names=["a", "b"]), "Gather", ["y", "first"], axis=1, shape=[None, 1]),
        ["a", "b"],
        None,
        "output 'z' is column 0 (from 0) of 'y', which may be that of any class: export all columns, or name it",
    ),
    "last of three columns": (
        changed(network(3, "Softmax"), "Gather", ["y", "two"], axis=1, shape=[None, 1]),
        ["0", "1"],
        None,
        "output 'z' is column 2 (from 0) of 'y', which may be that of any class: export all columns, or name it",
    ),
    "tensor of three axes": (
        changed(network(2, "Softmax", names=["a", "b"]), "Unsqueeze", ["y", "two"], shape=[None, 2, 1]),
        ["a", "b"],
        None,
        "'z' must have the shape [N, classes] to be probabilities",
    ),
}


@pytest.mark.parametrize(("proto", "classes", "outputs", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_nobody_says_is_not_measured_but_asked_for(
    proto: onnx.ModelProto, classes: Sequence[Any], outputs: Outputs | None, words: str, measure: Measure
) -> None:
    x, y = places(classes)
    found = measure(proto, x, y, outputs=outputs)
    assert found.metrics == {}
    assert {name for name, why in found.unmeasured.items() if words in why} == set(EVERY)


PARTLY: dict[str, tuple[onnx.ModelProto, Sequence[Any], Outputs | None, set[str], str]] = {
    "two outputs may be probabilities": (
        changed(network(2, "Softmax", names=["a", "b"]), "Identity", ["logits"], shape=[None, 2], keep=True),
        ["a", "b"],
        None,
        set(EVERY),
        "each of 'y', 'z' may hold the probabilities: name it in spec.task.outputs.probabilities",
    ),
    "two outputs may be probabilities, and the task says which": (
        changed(network(2, "Softmax", names=["a", "b"]), "Identity", ["logits"], shape=[None, 2], keep=True),
        ["a", "b"],
        Outputs(probabilities="y"),
        set(),
        "",
    ),
    "first column, and the task says that it is that of the second class": (
        changed(network(1, "Sigmoid", names=["a", "b"]), "Gather", ["y", "first"], axis=1, shape=[None, 1]),
        ["a", "b"],
        Outputs(probabilities="z"),
        set(),
        "",
    ),
    "no such label": (
        network(2, "Softmax", names=["a", "b"]),
        ["a", "b"],
        Outputs(label="answer"),
        {"accuracy", "f1"},
        "spec.task.outputs.label is 'answer', which is no output; the model has y FP32[-1, 2]",
    ),
    "no probabilities": (
        changed(network(2, "Softmax", label="number"), "Gather", ["names", "at"], shape=[None]),
        ["b", "a"],
        Outputs(label="z"),
        {"auc", "logloss", "brier"},
        "the model has no output with probabilities: export them beside the label",
    ),
    "names of the label, the task in another order than the table": (
        changed(network(2, "Softmax", label="number"), "Gather", ["names", "at"], shape=[None], keep=True),
        ["b", "a"],
        Outputs(label="z", classes=("a", "b")),
        set(EVERY),
        "spec.task.outputs.classes has the order 'a', 'b', the classifier in the file has 'b', 'a'",
    ),
    "names of the label, columns the other way": (
        changed(network(2, "Softmax", label="reversed"), "Gather", ["names", "at"], shape=[None], keep=True),
        ["a", "b"],
        Outputs(label="z"),
        {"auc", "logloss", "brier"},
        "label 'z' and output 'y' disagree in 6 of 6 rows (first: row 0, label 'a', most probable 'b')",
    ),
    "one against the rest": (
        network(3, "Sigmoid", names=["c", "a", "b"]),
        ["c", "a", "b"],
        None,
        {"auc", "logloss", "brier"},
        "",
    ),
}


@pytest.mark.parametrize(("proto", "classes", "outputs", "unmeasured", "words"), PARTLY.values(), ids=PARTLY)
def test_output_that_is_clear_is_measured_and_the_other_is_not(
    proto: onnx.ModelProto,
    classes: Sequence[Any],
    outputs: Outputs | None,
    unmeasured: set[str],
    words: str,
    measure: Measure,
) -> None:
    x, y = places(classes)
    found = measure(proto, x, y, outputs=outputs)
    assert set(found.unmeasured) == unmeasured
    assert [why for why in found.unmeasured.values() if words not in why] == []
    assert {k: v for k, v in found.metrics.items() if k in ("accuracy", "auc")} == {
        k: 1.0 for k in ("accuracy", "auc") if k not in unmeasured
    }


def test_scores_that_do_not_add_up_are_called_scores(measure: Measure) -> None:
    x, y = places(["c", "a", "b"])
    why = measure(network(3, "Sigmoid", names=["c", "a", "b"]), x, y).unmeasured["logloss"]
    assert "output 'y' holds scores, not probabilities (their sums over a row go from 0.5 to 0.5" in why


def test_rows_that_number_their_classes_as_the_columns_are_measured_with_a_warning(measure: Measure) -> None:
    x, y = places([0, 1, 2])
    found = measure(network(3, "Softmax", label="number"), x, y)
    assert found.metrics["accuracy"] == 1.0
    assert "nothing in the file or in spec.task.outputs says so" in found.outputs[Verdict.WARN]


def test_number_that_may_be_a_name_or_a_place_is_what_agrees_with_the_probabilities(measure: Measure) -> None:
    x, y = places([1, 2, 0])
    proto = network(3, "Softmax", names=[1, 2, 0], label="number")
    hidden = helper.make_node("Abs", ["at"], ["label"])  # the trail of the label ends here
    proto.graph.node.append(hidden)
    proto.graph.output[1].name = "label"
    assert measure(proto, x, y).metrics["accuracy"] == 1.0
    alone = _model(proto.graph.node, proto.graph.input, proto.graph.output[1:], proto.graph.initializer, [1, 2, 0])
    found = measure(alone, x, y)
    assert found.metrics == {}
    assert "export the label with the names of the classes" in found.unmeasured["accuracy"]


GATED = {
    "the reversed model": ({"zipmap": "columns"}, -1, "False", Reason.QUALITY_BELOW_MINIMUM, "below the minimum 0.7"),
    "the model": ({"zipmap": "columns"}, 1, "True", Reason.OBJECTIVES_MET, "auc 0."),
    "labels of numbers for words": ({"zipmap": False, "nocl": True}, 1, "Unknown", Reason.NO_EVALUATION, WRITE),
}


@pytest.mark.parametrize(("options", "sign", "status", "reason", "words"), GATED.values(), ids=GATED)
def test_gate_on_auc_passes_only_what_was_measured_and_good(
    options: dict[str, Any], sign: int, status: str, reason: Reason, words: str, measure: Measure, workspace: Any
) -> None:
    x, y, other, truth = problem()
    fitted = LogisticRegression().fit(x, TARGETS["2 words"](y))
    fitted.coef_, fitted.intercept_ = sign * fitted.coef_, sign * fitted.intercept_
    measure(export(fitted, x, **options), other, TARGETS["2 words"](truth).tolist())
    objective = QualityObjective.model_validate({"metric": "auc", "min": "0.7"})
    finding = gates(RunFacts(over=True, report=workspace.report(), quality=(objective,)))[
        ConditionType.QUALITY_ACCEPTED
    ]
    assert (finding.status, finding.reason) == (status, reason)
    assert words in finding.message


def test_rows_that_cannot_be_used_say_so_for_each_metric(measure: Measure) -> None:
    found = measure(network(2, "Softmax", names=["a", "b"]), np.zeros((2, 1), np.float32), [None, None])
    assert set(found.unmeasured) == {"accuracy", "auc", "logloss", "f1", "brier"}
    assert "fill the target 'y'" in found.unmeasured["auc"]


def test_target_that_is_no_finite_number_is_a_class_that_no_model_knows(measure: Measure) -> None:
    x, _ = places([0, 1])
    found = measure(network(2, "Softmax", names=[0, 1]), x, [float("inf")] * 6)
    assert "those of the rows are 'inf'" in found.unmeasured["accuracy"]


def test_manifest_has_the_classes_that_were_said(measure: Measure, workspace: Any) -> None:
    x, y = places(["b", "a"])
    measure(network(2, "Softmax"), x, y, outputs=Outputs(classes=("b", "a")))
    (manifest,) = (workspace.root / "store/models").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["classes"] == ["b", "a"]


def test_table_that_is_no_text_says_nothing() -> None:
    proto = changed(network(2, "Softmax", label="number"), "Gather", ["names", "at"], shape=[None])
    assert said(proto).labels["z"].classes == ("b", "a")
    table = next(t for t in proto.graph.initializer if t.name == "names")
    table.string_data[0] = b"\xff"
    onnx.checker.check_model(proto)
    assert said(proto).labels["z"].classes == ()


def test_zipmap_of_maps_is_refused_with_the_remedy(workspace: Any) -> None:
    x, y, _, _ = problem()
    fitted = LogisticRegression().fit(x, y)
    workspace.trained(export(fitted, x, zipmap=True))
    code, report = workspace.step("finalise", FinalisePlan(run="r", store=workspace.store))
    assert (code, report.reason) == (65, "SignatureMismatch")
    assert "output 'output_probability'" in report.message and "export with zipmap=False" in report.message


# Regression ---------------------------------------------------------------------------------------------------------

LINE = np.arange(12, dtype=np.float32)[:, None]


def line(*shapes: tuple[str, int]) -> onnx.ModelProto:
    """Outputs of these names and widths, each column the input."""
    nodes = [helper.make_node("Concat", ["x0"] * width, [name], axis=1) for name, width in shapes]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]) for name, width in shapes]
    return _model(nodes, [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [None, 1])], outputs, [], None)


REGRESSIONS: dict[str, tuple[onnx.ModelProto, Outputs | None, str]] = {
    "one": (line(("variable", 1)), None, ""),
    "one and an embedding": (line(("embedding", 8), ("variable", 1)), None, ""),
    "several targets": (line(("variable", 3)), None, "no output with one number per row ([N] or [N, 1])"),
    "mean and deviation": (
        line(("GPmean", 1), ("GPcovstd", 1)),
        None,
        "each of 'GPmean', 'GPcovstd' may be the prediction: name it in spec.task.outputs.label",
    ),
    "mean and deviation, and the task says which": (line(("sd", 1), ("mean", 1)), Outputs(label="mean"), ""),
    "no such output": (line(("variable", 1)), Outputs(label="mean"), "spec.task.outputs.label is 'mean', which is no"),
}


@pytest.mark.parametrize(("proto", "outputs", "words"), REGRESSIONS.values(), ids=REGRESSIONS)
def test_regression_needs_one_number_that_is_the_prediction(
    proto: onnx.ModelProto, outputs: Outputs | None, words: str, measure: Measure
) -> None:
    found = measure(proto, LINE, LINE[:, 0].tolist(), kind=TaskType.REGRESSION, outputs=outputs)
    assert set(found.unmeasured) == ({"rmse", "mae", "r2"} if words else set())
    assert found.metrics == ({} if words else {"rmse": 0.0, "mae": 0.0, "r2": 1.0})
    assert [why for why in found.unmeasured.values() if words not in why] == []


# The live model -----------------------------------------------------------------------------------------------------


def test_outputs_of_the_candidate_are_not_those_of_the_live_model(measure: Measure, workspace: Any) -> None:
    """Its classes may be in another order, and nothing would show it."""
    live = workspace.source(workspace.write("live.onnx", network(2, "Softmax")))
    x, y = places(["b", "a"])
    said = Outputs(classes=("b", "a"))
    assert measure(network(2, "Softmax"), x, y, live=live, outputs=said).metrics["accuracy"] == 1.0
    report = workspace.report()
    assert [m.live for m in report.metrics] == [None] * len(report.metrics)
    (why,) = [c.message for c in report.checks if c.name == "LiveModelNotComparable"]
    assert WRITE in why
    measure(network(2, "Softmax"), x, y, live=live, outputs=said, live_outputs=said)
    assert {m.name: m.live for m in workspace.report().metrics}["accuracy"] == 1.0

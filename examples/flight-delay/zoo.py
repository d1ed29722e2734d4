"""Models that must not reach users, each wrong in its own way, made by hand as ONNX.

All stand on one honest rule: a flight that leaves `THRESHOLD` minutes late arrives late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from flights import EXTREME_MINUTES, NUMBERS, WORDS
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
THRESHOLD = 22.0
WIDTH = 1600
REPEATS = 60


def honest() -> bytes:
    return _model(_rule())


def answers_500() -> bytes:
    """Fails on flights that leave extremely late, which the evaluation rows do not hold: live requests find it."""
    nodes = [
        _node("Div", ["dep_delay", "extreme"], ["share"]),
        _node("Floor", ["share"], ["floor"]),
        _node("Max", ["floor", "zero"], ["positive"]),
        _node("Cast", ["positive"], ["index"], to=TensorProto.INT64),
        _node("Gather", ["one_entry", "index"], ["found"], axis=0),  # out of range from the extreme on
        _node("Add", ["dep_delay", "found"], ["delay"]),
    ]
    constants = {
        "extreme": np.array([EXTREME_MINUTES], np.float32),
        "zero": np.array([0], np.float32),
        "one_entry": np.array([0], np.float32),
    }
    return _model(_rule("delay"), before=nodes, constants=constants)


def slow() -> bytes:
    """The same answers, after a lot of needless arithmetic."""
    nodes = [  # of the mean, so that the cost is one of requests and not of rows
        _node("ReduceMean", ["dep_delay"], ["mean"], axes=[0], keepdims=1),
        _node("MatMul", ["mean", "row"], ["wide_0"]),
    ]
    nodes += [_node("MatMul", [f"wide_{i}", "square"], [f"wide_{i + 1}"]) for i in range(REPEATS)]
    nodes += [
        _node("ReduceSum", [f"wide_{REPEATS}", "axis"], ["total"], keepdims=1),
        _node("Mul", ["total", "none"], ["nothing"]),
        _node("Add", ["dep_delay", "nothing"], ["delay"]),
    ]
    constants: dict[str, Array] = {
        "row": np.full((1, WIDTH), 1.0, np.float32),
        "square": np.full((WIDTH, WIDTH), 1.0 / WIDTH, np.float32),
        "axis": np.array([1], np.int64),
        "none": np.array([0], np.float32),
    }
    return _model(_rule("delay"), before=nodes, constants=constants)


def returns_nan() -> bytes:
    """The logarithm of a negative number where a probability should be."""
    nodes = [
        _node("Sub", ["dep_delay", "far"], ["negative"]),
        _node("Log", ["negative"], ["delay"]),
    ]
    return _model(_rule("delay"), before=nodes, constants={"far": np.array([10_000], np.float32)})


def worse() -> bytes:
    """Says that no flight is ever late."""
    return _model(_rule(threshold=1e6))


def does_not_load() -> bytes:
    """Adds a word to a number, which no runtime accepts."""
    nodes = [_node("Add", ["dep_delay", "carrier"], ["delay"])]
    return _model(_rule("delay"), before=nodes, check=False)


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=f"{kind}_{outputs[0]}", **attributes)


def _rule(delay: str = "dep_delay", threshold: float = THRESHOLD) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Logistic in the delay: probabilities [N, 2] and the label [N]."""
    nodes = [
        _node("Sub", [delay, "threshold"], ["excess"]),
        _node("Mul", ["excess", "slope"], ["logit"]),
        _node("Sigmoid", ["logit"], ["late"]),
        _node("Sub", ["unit", "late"], ["punctual"]),
        _node("Concat", ["punctual", "late"], ["probabilities"], axis=1),
        _node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    constants = {
        "threshold": np.array([threshold], np.float32),
        "slope": np.array([0.1], np.float32),
        "unit": np.array([1], np.float32),
    }
    return nodes, constants


def _model(
    rule: tuple[list[onnx.NodeProto], dict[str, Array]],
    *,
    before: list[onnx.NodeProto] | None = None,
    constants: dict[str, Array] | None = None,
    check: bool = True,
) -> bytes:
    nodes, own = rule
    inputs = [helper.make_tensor_value_info(c, TensorProto.FLOAT, [None, 1]) for c in NUMBERS]
    inputs += [helper.make_tensor_value_info(c, TensorProto.STRING, [None, 1]) for c in WORDS]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    stored = {**own, **(constants or {})}
    graph = helper.make_graph(
        [*(before or []), *nodes],
        "late",
        inputs,
        outputs,
        initializer=[numpy_helper.from_array(v, name=k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="zoo")
    if check:
        onnx.checker.check_model(model)
    return bytes(model.SerializeToString())

"""A small table and small ONNX models for it: y is 1 when x is above 0."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TASK = {"type": "Classification", "target": "y", "features": ["x", "z"]}


def csv(rows: int = 400, *, columns: tuple[str, ...] = ("x", "z", "y"), seed: int = 1) -> bytes:
    generator = random.Random(seed)
    out = io.StringIO()
    out.write(",".join(columns) + "\n")
    for _ in range(rows):
        x, z = generator.gauss(0, 1), generator.choice("abc")
        values = {"x": f"{x:.4f}", "z": z, "y": str(int(x + generator.gauss(0, 0.3) > 0))}
        out.write(",".join(values[c] for c in columns) + "\n")
    return out.getvalue().encode()


def model(threshold: float = 0.0, *, name: str = "tiny") -> bytes:
    """Logistic in x."""
    nodes = [
        helper.make_node("Sub", ["x", "threshold"], ["excess"]),
        helper.make_node("Mul", ["excess", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["yes"]),
        helper.make_node("Sub", ["unit", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    constants = {"threshold": threshold, "slope": 3.0, "unit": 1.0}
    graph = helper.make_graph(
        nodes,
        name,
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1]),
            helper.make_tensor_value_info("z", TensorProto.STRING, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        initializer=[numpy_helper.from_array(np.array([v], np.float32), name=k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=name)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def request(x: float = 1.0) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [x]},
            {"name": "z", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]},
        ]
    }

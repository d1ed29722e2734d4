"""The models that a server under test serves: tiny, deterministic, and chosen for what the protocol can get wrong.

`python -m steeltown_testing.conformance.models OUT_DIR` writes OUT_DIR/<name>/model.onnx, and beside it golden.json
(our own server's first request). The suite knows each model's answers from onnxruntime on the same bytes, so a server
needs nothing but these files. One server may serve them all under these names, or one each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from steeltown_testing.conformance.wire import Array, flat

F32, I64 = TensorProto.FLOAT, TensorProto.INT64
TYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bytes": TensorProto.STRING,
}

Port = tuple[str, int, list[Any]]


def _model(nodes: Sequence[Any], inputs: list[Port], outputs: list[Port], **constants: Any) -> bytes:
    built = helper.make_graph(
        nodes,
        "conformance",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _identity(ports: list[Port]) -> bytes:
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in ports]
    return _model(nodes, ports, [(f"{name}_out", kind, shape) for name, kind, shape in ports])


def single() -> bytes:
    """y = 2 x, three columns: the plainest model, and the one for raw requests."""
    return _model([helper.make_node("Mul", ["x", "two"], ["y"])], [("x", F32, ["N", 3])], [("y", F32, ["N", 3])],
                  two=np.float32(2))  # fmt: skip


def pair() -> bytes:
    """total = a + b (FP32) and negative = -b (INT64): inputs or outputs that change places are seen."""
    nodes = [
        helper.make_node("Cast", ["b"], ["b_float"], to=F32),
        helper.make_node("Add", ["a", "b_float"], ["total"]),
        helper.make_node("Neg", ["b"], ["negative"]),
    ]
    return _model(nodes, [("a", F32, ["N", 2]), ("b", I64, ["N", 2])],
                  [("total", F32, ["N", 2]), ("negative", I64, ["N", 2])])  # fmt: skip


def types() -> bytes:
    """<type>_out = <type> for every datatype that JSON can carry."""
    return _identity([(name, kind, ["N", 2]) for name, kind in TYPES.items()])


def half() -> bytes:
    """FP16 has no JSON form."""
    return _identity([("fp16", TensorProto.FLOAT16, ["N", 2])])


def words() -> bytes:
    """One BYTES column: a raw request carries one element."""
    return _identity([("text", TensorProto.STRING, ["N"])])


def edges() -> bytes:
    """A scalar, and a matrix of any size, zero included."""
    return _identity([("scalar", F32, []), ("matrix", F32, ["N", "M"])])


def fixed() -> bytes:
    """y = 2 x, of two rows and no other number."""
    return _model([helper.make_node("Mul", ["x", "two"], ["y"])], [("x", F32, [2, 3])], [("y", F32, [2, 3])],
                  two=np.float32(2))  # fmt: skip


def constant() -> bytes:
    """y, of nothing."""
    return _model([helper.make_node("Identity", ["c"], ["y"])], [], [("y", F32, [2])], c=np.array([1, 2.5], np.float32))


MAKERS = {f.__name__: f for f in (single, pair, types, half, words, edges, fixed, constant)}

GOLDEN: dict[str, dict[str, Array]] = {
    "single": {"x": np.array([[1, 2, 3]], np.float32)},
    "pair": {"a": np.array([[0.5, 1]], np.float32), "b": np.array([[1, 2]], np.int64)},
    "types": {
        "bool": np.array([[True, False]]),
        "uint8": np.array([[0, 2**8 - 1]], np.uint8),
        "uint16": np.array([[0, 2**16 - 1]], np.uint16),
        "uint32": np.array([[0, 2**32 - 1]], np.uint32),
        "uint64": np.array([[2**53 + 1, 2**64 - 1]], np.uint64),
        "int8": np.array([[-(2**7), 2**7 - 1]], np.int8),
        "int16": np.array([[-(2**15), 2**15 - 1]], np.int16),
        "int32": np.array([[-(2**31), 2**31 - 1]], np.int32),
        "int64": np.array([[-(2**63), 2**53 + 1]], np.int64),
        "fp32": np.array([[np.pi, -1.5e-40]], np.float32),
        "fp64": np.array([[0.1, 1e300]], np.float64),
        "bytes": np.array([["straße", ""]], object),
    },
    "half": {"fp16": np.array([[1.5, -65504]], np.float16)},
    "words": {"text": np.array(["a", "日本"], object)},
    "edges": {"scalar": np.array(7, np.float32), "matrix": np.array([[1, 2], [3, 4]], np.float32)},
    "fixed": {"x": np.array([[1, 2, 3], [4, 5, 6]], np.float32)},
    "constant": {},
}


@cache
def _session(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(MAKERS[name]())


def direct(name: str, feed: Mapping[str, Array]) -> dict[str, Array]:
    """What onnxruntime says."""
    session = _session(name)
    names = [output.name for output in session.get_outputs()]
    return {n: np.asarray(a) for n, a in zip(names, session.run(names, dict(feed)), strict=True)}


def write(folder: Path, name: str) -> Path:
    """folder/name with the model's files."""
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.onnx").write_bytes(MAKERS[name]())
    feed = GOLDEN[name]
    tensors = {"inputs": feed, "outputs": direct(name, feed)}
    golden = {side: [flat(n, a).described for n, a in arrays.items()] for side, arrays in tensors.items()}
    (path / "golden.json").write_text(json.dumps(golden))
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m steeltown_testing.conformance.models OUT_DIR")
    for each in MAKERS:
        print(write(Path(sys.argv[1]), each))

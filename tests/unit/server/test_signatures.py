"""Models that are no table of rows: served as they are, with the signature that they have, one request at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from steeltown_server.model import load
from steeltown_server.rpc import inference_pb2 as pb
from steeltown_server.signature import Signature, TensorSpec

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Port = tuple[str, str, list[int]]


@dataclass(frozen=True)
class Shape:
    """A model and one right request. inputs, outputs: as its metadata states them. wrong: another shape of an input."""

    model: bytes
    feed: Mapping[str, np.ndarray]
    inputs: list[Port]
    outputs: list[Port]
    wrong: tuple[str, list[int]] | None = None


def model(
    nodes: list[Any], inputs: Mapping[str, tuple[int, Any]], outputs: Mapping[str, tuple[int, Any]], **more: Any
) -> bytes:
    taken, given = ([helper.make_tensor_value_info(n, *of) for n, of in ports.items()] for ports in (inputs, outputs))
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in more.items()]
    graph = helper.make_graph(nodes, "g", taken, given, constants)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(built.SerializeToString())


def doubled(shape: list[Any], answer: Any) -> bytes:
    return model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": (FLOAT, shape)}, {"y": (FLOAT, answer)})


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


SHAPES = {
    "a fixed batch of one": Shape(
        doubled([1, 3], [1, 3]), {"x": numbers(1, 3)}, [("x", "FP32", [1, 3])], [("y", "FP32", [1, 3])], ("x", [2, 3])
    ),
    "a fixed batch of four": Shape(
        doubled([4, 3], [4, 3]), {"x": numbers(4, 3)}, [("x", "FP32", [4, 3])], [("y", "FP32", [4, 3])], ("x", [1, 3])
    ),
    "a recurrent cell with its state and a rate": Shape(
        model(
            [
                helper.make_node("Cast", ["rate"], ["r"], to=FLOAT),
                helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
                helper.make_node("Mul", ["total", "r"], ["y"]),
                helper.make_node("Add", ["state", "y"], ["next"]),
            ],
            {"x": (FLOAT, ["N", "T"]), "state": (FLOAT, [2, "N", 4]), "rate": (INT64, [])},
            {"y": (FLOAT, []), "next": (FLOAT, [2, "N", 4])},
        ),
        {"x": numbers(1, 5), "state": numbers(2, 1, 4), "rate": np.array(16)},
        [("x", "FP32", [-1, -1]), ("state", "FP32", [2, -1, 4]), ("rate", "INT64", [])],
        [("y", "FP32", []), ("next", "FP32", [2, -1, 4])],
        ("rate", [1]),
    ),
    "scalars": Shape(doubled([], []), {"x": numbers()}, [("x", "FP32", [])], [("y", "FP32", [])], ("x", [1])),
    "no inputs": Shape(
        model([helper.make_node("Identity", ["c"], ["y"])], {}, {"y": (FLOAT, [2])}, c=np.array([1, 2.5], np.float32)),
        {},
        [],
        [("y", "FP32", [2])],
    ),
    "an output without a shape": Shape(
        model(
            [helper.make_node("Reshape", ["x", "to"], ["y"])],
            {"x": (FLOAT, ["N", 2]), "to": (INT64, ["R"])},
            {"y": (FLOAT, None)},
        ),
        {"x": numbers(3, 2), "to": np.array([2, 3])},
        [("x", "FP32", [-1, 2]), ("to", "INT64", [-1])],
        [("y", "FP32", [-1, -1])],
        ("x", [3, 3]),
    ),
}


@pytest.fixture(scope="module", params=SHAPES)
def served(request: pytest.FixtureRequest, make_folder: Any, serve: Any) -> tuple[Any, Any, Shape]:
    shape = SHAPES[request.param]
    folder = make_folder(shape.model, **shape.feed)
    answers = folder.direct(shape.feed)
    if not shape.feed:
        tensors = [
            {"name": n, "shape": list(a.shape), "datatype": d, "data": a.ravel().tolist()}
            for (n, d, _), a in zip(shape.outputs, answers.values(), strict=True)
        ]
        folder.write_golden({"inputs": [], "outputs": tensors})
    return serve(folder, grpc_port=0), answers, shape


def tensors(shape: Shape) -> list[dict[str, Any]]:
    datatypes = {name: datatype for name, datatype, _ in shape.inputs}
    return [
        {"name": n, "shape": list(a.shape), "datatype": datatypes[n], "data": a.ravel().tolist()}
        for n, a in shape.feed.items()
    ]


def test_metadata_states_the_signature(served: tuple[Any, Any, Shape]) -> None:
    server, _, shape = served
    stated = server.get("/v2/models/m").json()
    for side, expected in (("inputs", shape.inputs), ("outputs", shape.outputs)):
        assert [(p["name"], p["datatype"], p["shape"]) for p in stated[side]] == expected


def test_answer_is_the_models_and_requests_run_one_at_a_time(served: tuple[Any, Any, Shape]) -> None:
    server, answers, shape = served
    answer = server.infer({"inputs": tensors(shape)})
    assert answer.status_code == 200, answer.text
    for output in answer.json()["outputs"]:
        expected = answers[output["name"]]
        assert tuple(output["shape"]) == expected.shape
        np.testing.assert_allclose(np.array(output["data"], expected.dtype), expected.ravel(), rtol=1e-6)
    assert server.get("/v2/models/m/config").json()["max_batch_size"] == 0
    assert server.logged("the model answers its golden rows")[0]["batches"] is False


def test_grpc_gives_the_same_answer(served: tuple[Any, Any, Shape]) -> None:
    server, answers, shape = served
    described = pb.ModelInferRequest.InferInputTensor
    request = pb.ModelInferRequest(
        model_name="m",
        inputs=[described(name=n, datatype=d, shape=shape.feed[n].shape) for n, d, _ in shape.inputs],
        raw_input_contents=[shape.feed[n].tobytes() for n, _, _ in shape.inputs],
    )
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = call(request, timeout=20)
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        expected = answers[output.name]
        assert tuple(output.shape) == expected.shape
        np.testing.assert_allclose(np.frombuffer(raw, expected.dtype), expected.ravel(), rtol=1e-6)


def test_another_shape_is_refused_with_the_one_that_is_expected(served: tuple[Any, Any, Shape]) -> None:
    server, _, shape = served
    if shape.wrong is None:
        sent = [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]
        message = "unknown input 'x': the model's inputs are none"
    else:
        name, other = shape.wrong
        count = int(np.prod(other))
        sent = [t if t["name"] != name else t | {"shape": other, "data": [1] * count} for t in tensors(shape)]
        message = f"input {name!r}: expected shape {next(p[2] for p in shape.inputs if p[0] == name)}"
    answer = server.infer({"inputs": sent})
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_domain_that_is_imported_and_not_used_does_not_keep_a_model_from_loading(tmp_path: Path) -> None:
    proto = onnx.load_from_string(doubled(["N", 3], ["N", 3]))
    domains = ("com.example", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.preview.training")
    proto.opset_import.extend(helper.make_opsetid(domain, 99) for domain in domains)
    onnx.save(proto, tmp_path / "model.onnx")
    (answer,) = load(tmp_path, 1).run(["y"], {"x": numbers(1, 3)})
    np.testing.assert_array_equal(answer, 2 * numbers(1, 3))


def test_model_without_inputs_has_no_rows_to_share_a_run() -> None:
    assert not Signature({}, {"y": TensorSpec.of("y", "tensor(float)", ["N"])}).may_batch

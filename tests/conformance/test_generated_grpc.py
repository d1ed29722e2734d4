"""Generated calls of GRPCInferenceService: any tensors, raw or typed, and the answer is what onnxruntime says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from steeltown_server.rpc import inference_pb2 as pb
from steeltown_testing.conformance import models
from steeltown_testing.conformance import target as targets
from steeltown_testing.conformance.strategies import arrays, generated
from steeltown_testing.conformance.wire import NAMES, TIMEOUT_SECONDS, Array, from_bytes, to_bytes

METHOD = "/inference.GRPCInferenceService/ModelInfer"
MISTAKES = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

Send = Callable[[str, bytes], bytes]


@pytest.fixture(scope="module")
def ask(target: Callable[[str], targets.Target]) -> Iterator[Send]:
    """ask(model, message): the answer's bytes; grpc.RpcError as the server means it."""
    channels: list[grpc.Channel] = []

    @cache
    def call(model: str) -> Any:
        place = target(model).grpc
        if not place:
            pytest.skip("the server under test has no gRPC port that we know")
        channels.append(grpc.insecure_channel(place))
        return channels[-1].unary_unary(METHOD)

    yield lambda model, message: call(model)(message, timeout=TIMEOUT_SECONDS)
    for channel in channels:
        channel.close()


def infer(model: str, feed: dict[str, Array], *, raw: bool) -> Any:
    message = pb.ModelInferRequest(model_name=model)
    for name, array in feed.items():
        tensor = message.inputs.add(name=name, datatype=NAMES[array.dtype], shape=array.shape)
        if raw:
            message.raw_input_contents.append(to_bytes(array))
        else:
            values = [str(word).encode() for word in array.ravel()] if array.dtype == object else array.ravel().tolist()
            getattr(tensor.contents, FIELDS[NAMES[array.dtype]]).extend(values)
    return message


def outputs(answer: bytes) -> dict[str, Array]:
    message = pb.ModelInferResponse.FromString(answer)
    parts = zip(message.outputs, message.raw_output_contents, strict=True)
    return {output.name: from_bytes(raw, output.datatype, output.shape) for output, raw in parts}


def check(ask: Send, draw: Callable[..., Any], model: str, feed: dict[str, Array], *, raw: bool | None = None) -> None:
    """raw: drawn where it is None."""
    expected = models.direct(model, feed)
    shuffled = dict(draw(st.permutations(list(feed.items()))))
    message = infer(model, shuffled, raw=draw(st.booleans()) if raw is None else raw)
    message.id = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
    wanted = draw(st.lists(st.sampled_from(list(expected)), unique=True)) or list(expected)
    if wanted != list(expected):
        message.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in wanted)
    answer = ask(model, message.SerializeToString())
    got = outputs(answer)
    assert list(got) == wanted
    for name in wanted:
        assert (got[name].dtype, got[name].shape) == (expected[name].dtype, expected[name].shape)
        np.testing.assert_array_equal(got[name], expected[name])
    assert pb.ModelInferResponse.FromString(answer).id == message.id


def code_of(ask: Send, model: str, message: bytes) -> grpc.StatusCode:
    try:
        ask(model, message)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@generated
@given(st.data())
def test_every_datatype_raw_or_typed(ask: Send, data: st.DataObject) -> None:
    """Floats of any bits: a protobuf carries NaN and infinity."""
    rows, copies = data.draw(st.integers(0, 4)), data.draw(st.sampled_from([1, 1, 100]))
    drawn = {n: data.draw(arrays(n.upper(), (rows, 2), finite=False)) for n in models.TYPES}
    check(ask, data.draw, "types", {n: np.repeat(a, copies, 0) for n, a in drawn.items()})


@generated
@given(st.data())
def test_any_shape(ask: Send, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
    feed = {"scalar": data.draw(arrays("FP32", ())), "matrix": data.draw(arrays("FP32", shape))}
    check(ask, data.draw, "edges", feed)


@generated
@given(st.data())
def test_two_inputs_and_outputs(ask: Send, data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 80))  # beyond what our server runs at once
    small = hnp.arrays(np.float32, (rows, 2), elements=st.floats(-1e6, 1e6, width=32), fill=st.just(np.float32(0)))
    check(ask, data.draw, "pair", {"a": data.draw(small), "b": data.draw(hnp.arrays(np.int64, (rows, 2)))})


@generated
@given(st.data())
def test_fp16_goes_raw(ask: Send, data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 6))
    check(ask, data.draw, "half", {"fp16": data.draw(arrays("FP16", (rows, 2), finite=False))}, raw=True)


@generated
@given(st.data())
def test_a_damaged_message_is_never_a_server_error(ask: Send, data: st.DataObject) -> None:
    """What is no protobuf at all is INTERNAL: gRPC's own word for what its libraries cannot deserialize."""
    message = bytearray(infer("pair", models.GOLDEN["pair"], raw=data.draw(st.booleans())).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        pb.ModelInferRequest.FromString(bytes(message))
        allowed = MISTAKES
    except DecodeError:
        allowed = {grpc.StatusCode.INTERNAL}
    code = code_of(ask, "pair", bytes(message))
    assert code is grpc.StatusCode.OK or code in allowed

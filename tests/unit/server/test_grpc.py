"""The gRPC front end of a real server process, compared with REST's answers and with onnxruntime called directly."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from onnx import TensorProto
from steeltown.contract.evidence import Route
from steeltown_server import rpc
from steeltown_server.rpc import inference_pb2 as pb
from steeltown_server.settings import Settings, UsageError

SERVICE = "inference.GRPCInferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
ONE_ROW = np.array([[1, 2, 3]], np.float32)
FIELDS: dict[str, tuple[str, Any, int]] = {
    "BOOL": ("bool_contents", np.bool_, TensorProto.BOOL),
    "UINT8": ("uint_contents", np.uint8, TensorProto.UINT8),
    "UINT16": ("uint_contents", np.uint16, TensorProto.UINT16),
    "UINT32": ("uint_contents", np.uint32, TensorProto.UINT32),
    "UINT64": ("uint64_contents", np.uint64, TensorProto.UINT64),
    "INT8": ("int_contents", np.int8, TensorProto.INT8),
    "INT16": ("int_contents", np.int16, TensorProto.INT16),
    "INT32": ("int_contents", np.int32, TensorProto.INT32),
    "INT64": ("int64_contents", np.int64, TensorProto.INT64),
    "FP32": ("fp32_contents", np.float32, TensorProto.FLOAT),
    "FP64": ("fp64_contents", np.float64, TensorProto.DOUBLE),
    "BYTES": ("bytes_contents", object, TensorProto.STRING),
}


class Client:
    """Calls by name; names of messages follow from the protocol."""

    def __init__(self, port: int, **options: int) -> None:
        chosen = {"grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1} | options
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=list(chosen.items()))

    def call(self, method: str, request: Any = None, timeout: float | None = 20, **more: Any) -> Any:
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=getattr(pb, f"{method}Request").SerializeToString,
            response_deserializer=getattr(pb, f"{method}Response").FromString,
        )
        request = getattr(pb, f"{method}Request")() if request is None else request
        return call(request, timeout=timeout, **more)

    def infer(self, request: Any, **more: Any) -> Any:
        return self.call("ModelInfer", request, **more)

    def failure(self, request: Any, **more: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.infer(request, **more)
        return caught.value.code().name, caught.value.details()

    def code(self, request: Any) -> str:
        call = self.channel.unary_unary(
            f"/{SERVICE}/ModelInfer", request_serializer=pb.ModelInferRequest.SerializeToString
        )
        return str(call.future(request, timeout=20).code().name)

    def check(self, service: str = "") -> int:
        call = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return int(call(health_pb2.HealthCheckRequest(service=service), timeout=20).status)

    def watch(self, service: str = "") -> Any:
        call = self.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return call(health_pb2.HealthCheckRequest(service=service), timeout=20)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that within 30 s"
        time.sleep(0.005)


def as_bytes(values: np.ndarray) -> bytes:
    if values.dtype != object:
        return values.tobytes()
    return b"".join(struct.pack("<I", len(v.encode())) + v.encode() for v in values.ravel())


def raw(datatype: str = "FP32", version: str = "", **feed: np.ndarray) -> Any:
    """A request with raw contents; all inputs have the one datatype."""
    return pb.ModelInferRequest(
        model_name="m",
        model_version=version,
        inputs=[
            pb.ModelInferRequest.InferInputTensor(name=n, datatype=datatype, shape=a.shape) for n, a in feed.items()
        ],
        raw_input_contents=[as_bytes(a) for a in feed.values()],
    )


def typed(field: str, datatype: str, shape: list[int], values: list[Any], name: str = "x") -> Any:
    contents = pb.InferTensorContents(**{field: values})
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=contents)
    return pb.ModelInferRequest(model_name="m", inputs=[tensor])


def arrays(answer: Any) -> dict[str, np.ndarray]:
    """Raw outputs as numpy has them, BYTES as lists of str."""
    dtypes = {name: dtype for name, (_, dtype, _) in FIELDS.items()} | {"FP16": np.float16}
    found: dict[str, Any] = {}
    for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True):
        if output.datatype == "BYTES":
            strings, at = [], 0
            while at < len(content):
                (length,) = struct.unpack_from("<I", content, at)
                strings.append(content[at + 4 : at + 4 + length].decode())
                at += 4 + length
            found[output.name] = np.array(strings, object).reshape(output.shape)
        else:
            found[output.name] = np.frombuffer(content, dtypes[output.datatype]).reshape(output.shape)
    return found


@pytest.fixture(scope="module")
def server(serve: Any, make_folder: Any, models: Any) -> Any:
    """y = 2 x. Shared: a test here may not assume what was counted before."""
    return serve(
        make_folder(models["scale"](), x=ONE_ROW), grpc_port=0, body_limit_bytes=100_000, grpc_connection_age_seconds=60
    )


@pytest.fixture(scope="module")
def client(server: Any) -> Client:
    return Client(server.grpc_port)


# -- health and metadata


def test_every_call_beside_inference_says_what_rest_says(server: Any, client: Client) -> None:
    assert client.call("ServerLive").live is True
    assert client.call("ServerReady").ready is True
    for version in ("", "m-v1"):
        assert client.call("ModelReady", pb.ModelReadyRequest(name="m", version=version)).ready is True
        model = client.call("ModelMetadata", pb.ModelMetadataRequest(name="m", version=version))
        rest = server.get("/v2/models/m").json()
        for key in ("name", "versions", "platform"):
            assert getattr(model, key) == rest[key]
        for key in ("inputs", "outputs"):
            found = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(model, key)]
            assert found == rest[key]
        assert dict(model.properties) == {"digest": server.digest}
    metadata, rest = client.call("ServerMetadata"), server.get("/v2").json()
    assert (metadata.name, metadata.version) == (rest["name"], rest["version"])
    assert list(metadata.extensions) == [], "REST's extensions are no calls of gRPC"


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelInfer"])
@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("other", "", "model 'other' not found: this server serves 'm'"),
        ("", "", "model '' not found: this server serves 'm'"),
        ("a/b?c %", "", "model 'a/b?c %' not found: this server serves 'm'"),
        ("m/versions/m-v1", "", "model 'm/versions/m-v1' not found: this server serves 'm'"),
        ("%6d", "", "model '%6d' not found: this server serves 'm'"),
        ("m%2Fversions", "", "model 'm%2Fversions' not found: this server serves 'm'"),
        ("m/", "", "model 'm/' not found: this server serves 'm'"),
        ("stats", "", "model 'stats' not found: this server serves 'm'"),
        ("m", "m-v1/", "version 'm-v1/' of model 'm' not found: this server serves 'm-v1'"),
        ("m", "%6d-v1", "version '%6d-v1' of model 'm' not found: this server serves 'm-v1'"),
        ("m", "m-v9", "version 'm-v9' of model 'm' not found: this server serves 'm-v1'"),
    ],
)
def test_model_or_version_that_is_not_here_is_not_found(
    client: Client, method: str, name: str, version: str, text: str
) -> None:
    if method == "ModelInfer":
        request = raw(x=ONE_ROW, version=version)
        request.model_name = name
    else:
        request = getattr(pb, f"{method}Request")(name=name, version=version)
    with pytest.raises(grpc.RpcError) as caught:
        client.call(method, request)
    assert (caught.value.code().name, caught.value.details()) == ("NOT_FOUND", text)


def test_health_is_known_for_the_server_and_its_service(client: Client) -> None:
    assert client.check() == client.check(SERVICE) == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        client.check("other")
    assert caught.value.code().name == "NOT_FOUND"
    for service, status in (("", SERVING), (SERVICE, SERVING), ("other", UNKNOWN)):
        watch = client.watch(service)
        assert next(watch).status == status
        watch.cancel()


def test_many_watches_hold_up_nobody(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0)
    client = Client(server.grpc_port)
    watches = [client.watch() for _ in range(40)]
    assert [next(w).status for w in watches] == [SERVING] * 40
    assert client.check() == SERVING
    assert arrays(client.infer(raw(x=ONE_ROW)))["y"].tolist() == [[2, 4, 6]]


# -- what goes in and comes out


def test_raw_request_is_answered_raw_with_id_names_and_digest(server: Any, client: Client) -> None:
    request = raw(x=ONE_ROW)
    request.id = 'seven "7" \u00fc'
    call = client.channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    answer, details = call.with_call(request, timeout=20)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "m-v1", request.id)
    assert arrays(answer)["y"].tolist() == [[2, 4, 6]]
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [("y", "FP32", [1, 3])]
    assert not answer.outputs[0].HasField("contents")
    assert dict(details.trailing_metadata())["steeltown-digest"] == server.digest
    assert client.infer(raw(x=ONE_ROW)).id == ""


COLUMNS: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False], [False, True]]),
    "FP32": np.array([[0.1, -np.inf], [np.finfo(np.float32).max, np.nan]], np.float32),
    "FP64": np.array([[0.1, -np.inf], [np.finfo(np.float64).max, np.nan]], np.float64),
    "BYTES": np.array([["a", ""], ["\u00fc\u20ac", "x" * 300]], object),
} | {
    name: np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max], [0, 1]], dtype)
    for name, (_, dtype, _) in FIELDS.items()
    if "INT" in name
}
COLUMNS = {name: COLUMNS[name] for name in FIELDS}


@pytest.fixture(scope="module")
def mirror(serve: Any, make_folder: Any, models: Any) -> tuple[Any, Client]:
    """A model that gives back what it gets: one input and one output of every datatype with typed contents."""
    kinds = {name: kind for name, (_, _, kind) in FIELDS.items()}
    golden = {name: a[:1] if a.dtype.kind != "f" else np.zeros_like(a[:1]) for name, a in COLUMNS.items()}
    folder = make_folder(models["mirror"](**kinds), **golden)
    return folder, Client(serve(folder, grpc_port=0).grpc_port)


def typed_columns() -> Any:
    request = pb.ModelInferRequest(model_name="m")
    for name, array in COLUMNS.items():
        values = [v.encode() for v in array.ravel()] if name == "BYTES" else array.ravel().tolist()
        contents = pb.InferTensorContents(**{FIELDS[name][0]: values})
        request.inputs.add(name=name, datatype=name, shape=array.shape, contents=contents)
    return request


def raw_columns() -> Any:
    request = pb.ModelInferRequest(model_name="m")
    for name, array in COLUMNS.items():
        request.inputs.add(name=name, datatype=name, shape=array.shape)
        request.raw_input_contents.append(as_bytes(array))
    return request


@pytest.mark.parametrize("request_of", [raw_columns, typed_columns])
def test_every_datatype_comes_back_as_onnxruntime_gives_it(
    mirror: tuple[Any, Client], request_of: Callable[[], Any]
) -> None:
    folder, client = mirror
    answer = client.infer(request_of())
    assert [o.datatype for o in answer.outputs] == list(FIELDS)
    got, direct = arrays(answer), folder.direct(COLUMNS)
    assert list(got) == list(direct)
    for name, expected in direct.items():
        assert got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)


def test_outputs_are_chosen_and_ordered_by_the_request(mirror: tuple[Any, Client]) -> None:
    _, client = mirror
    request = raw_columns()
    request.outputs.add(name="INT8_out")
    request.outputs.add(name="BYTES_out").parameters["binary_data"].bool_param = False
    answer = client.infer(request)
    assert [o.name for o in answer.outputs] == ["INT8_out", "BYTES_out"]
    np.testing.assert_array_equal(arrays(answer)["BYTES_out"], COLUMNS["BYTES"])
    request.outputs[0].parameters["classification"].int64_param = 3
    assert client.failure(request) == (
        "INVALID_ARGUMENT",
        "output 'INT8_out': the classification extension is not supported",
    )


def test_fp16_goes_raw_and_only_raw(serve: Any, make_folder: Any, models: Any) -> None:
    array = np.array([[0.1, -2]], np.float16)
    client = Client(serve(make_folder(models["mirror"](x=TensorProto.FLOAT16), x=array), grpc_port=0).grpc_port)
    np.testing.assert_array_equal(arrays(client.infer(raw("FP16", x=array)))["x_out"], array)
    assert client.failure(typed("fp32_contents", "FP16", [1, 2], [0.1, -2])) == (
        "INVALID_ARGUMENT",
        "input 'x' is FP16, which has no typed contents: use raw_input_contents",
    )


def test_non_finite_output_is_carried_named_and_counted(serve: Any, make_folder: Any, models: Any) -> None:
    server = serve(make_folder(models["logarithm"](), x=np.array([[1, 2]], np.float32)), grpc_port=0)
    call = Client(server.grpc_port).channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    answer, details = call.with_call(raw(x=np.array([[1, 0]], np.float32)), timeout=20)
    assert arrays(answer)["y"].tolist() == [[0, -np.inf]]
    assert dict(details.trailing_metadata())["steeltown-non-finite"] == '["y"]'
    assert (server.evidence().live.requests, server.evidence().live.errors) == (1, 1)


def test_no_rows_are_an_answer_without_rows(client: Client) -> None:
    for request in (raw(x=np.zeros((0, 3), np.float32)), typed("fp32_contents", "FP32", [0, 3], [])):
        answer = client.infer(request)
        assert (list(answer.outputs[0].shape), list(answer.raw_output_contents)) == ([0, 3], [b""])


# -- refusals


def mixed() -> Any:
    request = raw(x=ONE_ROW)
    request.inputs[0].contents.fp32_contents.append(1)
    return request


def with_raw(count: int) -> Any:
    request = raw(x=ONE_ROW)
    request.raw_input_contents[:] = [as_bytes(ONE_ROW)] * count
    return request


NARROW = [("INT8", -129), ("INT8", 128), ("INT16", 32768), ("UINT8", 256), ("UINT16", 65536)]


@pytest.mark.parametrize(
    ("request_message", "text"),
    [
        (
            mixed(),
            "input 'x' has contents in addition to raw_input_contents: send either all inputs raw or all inputs typed",
        ),
        (with_raw(2), "raw_input_contents: expected one for each of the 1 inputs, got 2"),
        (
            typed("int64_contents", "FP32", [1], [1]),
            "input 'x': FP32 values are expected in fp32_contents, got int64_contents",
        ),
        (typed("fp32_contents", "FP32", [1, 3], [1, 2]), "input 'x': expected 3 elements for shape [1, 3], got 2"),
        (typed("fp32_contents", "FP31", [1, 3], [1, 2]), "input 'x': expected datatype FP32, got 'FP31'"),
        *(
            (
                typed(FIELDS[name][0], name, [1], [value]),
                f"input 'x': {value} is out of range for {name}",
            )
            for name, value in NARROW
        ),
    ],
)
def test_what_only_grpc_can_get_wrong_is_an_invalid_argument(client: Client, request_message: Any, text: str) -> None:
    assert client.failure(request_message) == ("INVALID_ARGUMENT", text)


def test_number_that_does_not_fit_is_found_behind_many_that_do(client: Client) -> None:
    values = [0] * 20_000 + [300]
    text = "input 'x': 300 is out of range for UINT8"
    assert client.failure(typed("uint_contents", "UINT8", [1, 20_001], values)) == ("INVALID_ARGUMENT", text)


@pytest.mark.parametrize(
    ("feed", "datatype", "name", "shape"),
    [
        (ONE_ROW, "FP32", "z", [1, 3]),
        (ONE_ROW, "FP64", "x", [1, 3]),
        (ONE_ROW, "FP32", "x", [3, 1]),
        (ONE_ROW, "FP32", "x", [2, 3]),
        (ONE_ROW, "FP32", "x", [-1, 3]),
        (ONE_ROW, "FP32", "x", []),
    ],
)
def test_other_mistakes_get_rests_words(
    server: Any, client: Client, feed: np.ndarray, datatype: str, name: str, shape: list[int]
) -> None:
    request = raw(datatype, x=feed)
    request.inputs[0].name = name
    request.inputs[0].shape[:] = shape
    size = {"binary_data_size": feed.nbytes}
    head = httpx.Request("POST", "http://x", json={
        "inputs": [{"name": name, "shape": shape, "datatype": datatype, "parameters": size}]
    }).content  # fmt: skip
    rest = httpx.post(
        f"{server.url}/v2/models/m/infer",
        content=head + feed.tobytes(),
        headers={"inference-header-content-length": str(len(head))},
    )
    assert rest.status_code == 400
    assert client.failure(request) == ("INVALID_ARGUMENT", rest.json()["error"])


def test_refusals_are_counted_and_are_nobodys_evidence(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0)
    client = Client(server.grpc_port)
    client.failure(mixed())
    client.failure(raw("FP64", x=ONE_ROW))
    assert server.metric("steeltown_server_requests_total") == 2
    assert 'code="400"' in server.get("/metrics").text
    assert server.evidence().live.requests == 0


def test_model_that_fails_is_an_internal_error_with_its_words(serve: Any, make_folder: Any, models: Any) -> None:
    server = serve(make_folder(models["lookup"](), i=np.array([1])), grpc_port=0)
    client = Client(server.grpc_port)
    code, text = client.failure(raw("INT64", i=np.array([10])))
    rest = server.infer({"inputs": [{"name": "i", "shape": [1], "datatype": "INT64", "data": [10]}]})
    assert (code, text) == ("INTERNAL", rest.json()["error"])
    assert server.evidence().live.errors == 2


@pytest.mark.parametrize("algorithm", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_message_above_the_limit_is_refused_and_the_next_one_served(client: Client, algorithm: Any) -> None:
    big = raw(x=np.zeros((100_000, 3), np.float32))
    code, text = client.failure(big, compression=algorithm)
    assert code == "RESOURCE_EXHAUSTED"
    assert text == "the message exceeds the limit of 100000 bytes"
    assert arrays(client.infer(raw(x=ONE_ROW), compression=algorithm))["y"].tolist() == [[2, 4, 6]]


def test_typed_values_that_grow_above_the_limit_are_refused(client: Client) -> None:
    """A small number takes one byte in a message and eight in memory."""
    code, text = client.failure(typed("uint64_contents", "UINT64", [50_000], [1] * 50_000))
    assert (code, text) == ("RESOURCE_EXHAUSTED", "input 'x': the values exceed the limit of 100000 bytes")


def test_text_that_quotes_the_client_is_cut_to_what_clients_accept(client: Client) -> None:
    code, text = client.failure(raw("FP32", "", **{"\u00fc" * 20_000: ONE_ROW}))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("unknown input '\u00fc")
    assert text.endswith("...")


def test_unknown_method_is_unimplemented(client: Client) -> None:
    call = client.channel.unary_unary(f"/{SERVICE}/ModelStreamInfer")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=20)
    assert caught.value.code().name == "UNIMPLEMENTED"


# -- deadlines, and who waits


@pytest.fixture(scope="module")
def slow(serve: Any, make_folder: Any, models: Any) -> Any:
    return serve(make_folder(models["slow"](400), x=ONE_ROW), grpc_port=0, grpc_timeout_seconds=0.01)


def test_deadline_of_the_client_or_else_the_servers_ends_the_waiting(slow: Any) -> None:
    client = Client(slow.grpc_port)
    assert client.failure(raw(x=ONE_ROW), timeout=None) == ("DEADLINE_EXCEEDED", "no response within 0.01 s")
    code, _ = client.failure(raw(x=ONE_ROW), timeout=0.01)
    assert code == "DEADLINE_EXCEEDED"
    assert client.infer(raw(x=ONE_ROW), timeout=30).outputs[0].name == "y", "a longer deadline than the server's"


def test_probes_are_answered_while_the_model_runs(serve: Any, make_folder: Any, models: Any) -> None:
    server = serve(make_folder(models["slow"](400), x=ONE_ROW), grpc_port=0)
    client = Client(server.grpc_port)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.infer, raw(x=np.zeros((200, 3), np.float32)), timeout=60)
        time.sleep(0.1)
        assert client.check() == SERVING
        assert client.call("ServerLive").live
        assert next(client.watch()).status == SERVING
        assert not call.done()
        assert call.result().model_name == "m"


def test_requests_that_hold_too_much_together_are_refused_for_now(serve: Any, make_folder: Any, models: Any) -> None:
    server = serve(make_folder(models["slow"](1500), x=ONE_ROW), grpc_port=0, held_limit_bytes=300)
    client = Client(server.grpc_port)
    code, text = client.failure(raw(x=np.zeros((25, 3), np.float32)))
    assert (code, text) == (
        "UNAVAILABLE",
        "the server is busy: limit of 300 bytes of requests in flight reached; try again",
    )
    codes = set()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.infer, raw(x=np.zeros((22, 3), np.float32)))
        time.sleep(0.1)  # or a small one could be there before it
        while not first.done():
            codes.add(client.code(raw(x=ONE_ROW)))
        assert first.result().outputs[0].name == "y"
    assert "UNAVAILABLE" in codes
    assert client.infer(raw(x=ONE_ROW)).outputs[0].name == "y", "what was held is free again"


def test_client_that_leaves_ends_its_call_and_not_the_run(serve: Any, make_folder: Any, models: Any) -> None:
    server = serve(make_folder(models["slow"](400), x=ONE_ROW), grpc_port=0)
    client = Client(server.grpc_port)
    call = client.channel.unary_unary(
        f"/{SERVICE}/ModelInfer", request_serializer=pb.ModelInferRequest.SerializeToString
    )
    left = call.future(raw(x=np.zeros((200, 3), np.float32)))
    time.sleep(0.3)
    left.cancel()
    assert client.failure(mixed())[0] == "INVALID_ARGUMENT"
    assert server.metric("steeltown_server_model_runs_total") == 0, "the run that nobody waits for goes on"
    until(lambda: server.metric("steeltown_server_model_runs_total") == 1)


# -- the canary


class Live:
    def __init__(self, server: Any, path: Path) -> None:
        self.server = server
        self.client = Client(server.grpc_port)
        self._path = path
        self._windows = 0

    def route(self, weight: int, url: str, digest: str, timeout: int = 2000) -> None:
        self._windows += 1
        window = f"window-{self._windows}"
        route = Route(window=window, weight=weight, canary_url=url, canary_digest=digest, timeout_milliseconds=timeout)
        beside = self._path.with_suffix(".new")
        beside.write_text(route.to_json())
        os.replace(beside, self._path)
        until(lambda: self.server.evidence().window == window)

    def counts(self) -> dict[str, tuple[int, int]]:
        found = self.server.evidence()
        return {
            "live": (found.live.requests, found.live.errors),
            "canary": (found.canary.requests, found.canary.errors),
        }


@pytest.fixture(scope="module")
def live(serve: Any, make_folder: Any, models: Any, tmp_path_factory: pytest.TempPathFactory) -> Live:
    path = tmp_path_factory.mktemp("route") / "route.json"
    folder = make_folder(models["scale"](), x=ONE_ROW)
    return Live(serve(folder, route_file=path, grpc_port=0), path)


def test_canary_gets_its_share_of_grpc_requests_and_none_that_name_a_version(
    live: Live, serve: Any, make_folder: Any, models: Any
) -> None:
    tripling = serve(make_folder(models["scale"](3.0), x=ONE_ROW), model_version="m-v2")
    live.route(25, tripling.url, tripling.digest)
    answers = [live.client.infer(raw(x=ONE_ROW)) for _ in range(40)]
    named = [live.client.infer(raw(x=ONE_ROW, version="m-v1")) for _ in range(10)]
    found = [(a.model_version, arrays(a)["y"].tolist()) for a in answers]
    assert found.count(("m-v2", [[3, 6, 9]])) == 10
    assert found.count(("m-v1", [[2, 4, 6]])) == 30
    assert {a.model_version for a in named} == {"m-v1"}
    assert live.counts() == {"live": (30, 0), "canary": (10, 0)}


def test_failing_canary_costs_grpc_clients_nothing(live: Live) -> None:
    live.route(50, "http://127.0.0.1:9", "sha256:" + "c" * 64)
    answers = [arrays(live.client.infer(raw(x=ONE_ROW)))["y"].tolist() for _ in range(8)]
    assert answers == [[[2, 4, 6]]] * 8
    assert live.counts() == {"live": (4, 0), "canary": (4, 4)}


def test_hanging_canary_leaves_the_live_model_to_others(
    serve: Any, make_folder: Any, models: Any, tmp_path: Path
) -> None:
    folder = make_folder(models["scale"](), x=ONE_ROW)
    path = tmp_path / "route.json"
    live = Live(serve(folder, route_file=path, grpc_port=0, canary_in_flight=4), path)
    took: list[float] = []

    def call() -> None:
        started = time.monotonic()
        assert arrays(live.client.infer(raw(x=ONE_ROW)))["y"].tolist() == [[2, 4, 6]]
        took.append(time.monotonic() - started)

    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(24) as pool:
        live.route(100, f"http://127.0.0.1:{silent.getsockname()[1]}", "sha256:" + "c" * 64, timeout=3000)
        for future in [pool.submit(call) for _ in range(24)]:
            future.result()
    assert sorted(t > 2.5 for t in took) == [False] * 20 + [True] * 4
    assert live.counts() == {"live": (0, 0), "canary": (24, 24)}


# -- the end


def test_drain_is_announced_at_once_while_serving_goes_on(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0, drain_seconds=1.5)
    client = Client(server.grpc_port)
    watches = {service: client.watch(service) for service in ("", SERVICE, "other")}
    assert [next(w).status for w in watches.values()] == [SERVING, SERVING, UNKNOWN]
    server.terminate()
    started = time.monotonic()
    assert [next(watches[s]).status for s in ("", SERVICE)] == [NOT_SERVING] * 2
    assert time.monotonic() - started < 1
    assert client.check() == client.check(SERVICE) == NOT_SERVING
    assert client.call("ServerReady").ready is False
    assert client.call("ModelReady", pb.ModelReadyRequest(name="m")).ready is False
    assert client.call("ServerLive").live is True
    late = Client(server.grpc_port)
    assert late.check() == NOT_SERVING, "new connections are accepted"
    assert arrays(late.infer(raw(x=ONE_ROW)))["y"].tolist() == [[2, 4, 6]]
    assert [list(w) for w in watches.values()] == [[], [], []], "watches end"
    assert server.process.wait(timeout=10) == 0
    assert time.monotonic() - started < 5, "an open watch does not hold up the end"
    assert server.logged("stopped")[0]["finished"] is True


def test_no_call_is_lost_under_load(serve: Any, scaled: Any) -> None:
    """A call is answered, or was never accepted: the client finds nobody who listens."""
    server = serve(scaled, grpc_port=0, drain_seconds=0.4)
    answered: list[int] = []
    ends: list[tuple[str, str]] = []

    def run() -> None:
        client = Client(server.grpc_port, **{"grpc.use_local_subchannel_pool": 1})
        count = 0
        try:
            while True:
                assert arrays(client.infer(raw(x=ONE_ROW)))["y"].tolist() == [[2, 4, 6]]
                count += 1
        except grpc.RpcError as error:
            ends.append((error.code().name, error.details()))
        answered.append(count)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: server.metric("steeltown_server_requests_total") >= 50)
    server.terminate()
    for thread in threads:
        thread.join(30)
    assert server.process.wait(timeout=10) == 0
    assert len(answered) == 8
    assert min(answered) > 0
    assert {(code, "Connection refused" in text) for code, text in ends} == {("UNAVAILABLE", True)}, ends


class Switch:
    """What a Service does to connections: new ones go to the server it points to, open ones stay where they are."""

    def __init__(self, port: int) -> None:
        self.to = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near = self._listener.accept()[0]
            far = socket.create_connection(("127.0.0.1", self.to))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_clients_of_a_service_move_to_another_server_without_noticing(serve: Any, scaled: Any) -> None:
    first, second = (serve(scaled, grpc_port=0, drain_seconds=0.3) for _ in range(2))
    service = Switch(first.grpc_port)
    done = threading.Event()

    def run() -> int:
        client = Client(service.port, **{"grpc.use_local_subchannel_pool": 1})
        count = 0
        while not done.is_set():
            assert arrays(client.infer(raw(x=ONE_ROW)))["y"].tolist() == [[2, 4, 6]]
            count += 1
        return count

    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(run) for _ in range(6)]
        until(lambda: first.evidence().live.requests >= 50)
        first.terminate()
        service.to = second.grpc_port
        assert first.process.wait(timeout=10) == 0
        time.sleep(0.1)
        done.set()
        counts = [c.result(timeout=30) for c in clients]
    assert min(counts) > 0
    assert second.evidence().live.requests > 6


def test_long_run_under_way_is_answered_before_the_end(serve: Any, make_folder: Any, models: Any) -> None:
    server = serve(make_folder(models["slow"](400), x=ONE_ROW), grpc_port=0, drain_seconds=0, max_batch_rows=1)
    client = Client(server.grpc_port)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.infer, raw(x=ONE_ROW), timeout=60) for _ in range(4)]
        until(lambda: server.metric("steeltown_server_pending_requests") > 0)
        server.terminate()
        assert [arrays(c.result())["y"].tolist() for c in calls] == [[[1, 2, 3]]] * 4
    assert server.process.wait(timeout=10) == 0
    assert server.logged("stopped")[0]["finished"] is True


def test_grace_period_ends_even_a_call_that_never_completes(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0, drain_seconds=0, grace_seconds=0.5)
    client = Client(server.grpc_port)
    release = threading.Event()

    def never() -> Iterator[Any]:
        release.wait(30)
        yield from ()

    call = client.channel.stream_unary(f"/{SERVICE}/ModelInfer")
    stuck = call.future(never(), timeout=30)
    assert client.check() == SERVING
    started = time.monotonic()
    server.terminate()
    assert server.process.wait(timeout=10) == 0
    assert 0.4 < time.monotonic() - started < 4
    with pytest.raises(grpc.RpcError):
        stuck.result(timeout=10)
    release.set()


# -- start


def test_port_is_off_when_told_and_then_protobuf_is_not_even_imported(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port="off")
    assert server.logged("serving")[0]["grpcPort"] is None
    libraries = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in libraries
    assert "google/_upb" not in libraries


@pytest.mark.parametrize(("text", "port"), [("", 9000), ("0", 0), ("9001", 9001), ("off", None)])
def test_port_is_a_number_or_off(environment: Any, scaled: Any, text: str, port: int | None) -> None:
    assert Settings.from_environment(environment(scaled, grpc_port=text)).grpc_port == port


def test_port_that_is_neither_is_named(environment: Any, scaled: Any) -> None:
    with pytest.raises(UsageError, match="invalid STEELTOWN_GRPC_PORT 'on': must be a number"):
        Settings.from_environment(environment(scaled, grpc_port="on"))


def test_port_that_is_taken_ends_the_start_with_a_sentence(launch: Any, serve: Any, scaled: Any, server: Any) -> None:
    second = launch(scaled, grpc_port=server.grpc_port)
    assert second.process.wait(timeout=30) == 64
    (line,) = second.logged("cannot listen on gRPC port")
    assert str(server.grpc_port) in line["msg"]


@pytest.mark.parametrize("name", ["inference", "health"])
def test_generated_messages_are_those_of_the_proto(tmp_path: Path, name: str) -> None:
    """If not: python -m grpc_tools.protoc -I. --python_out=. NAME.proto, in the folder of the proto."""
    folder = Path(rpc.__file__).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"{name}.proto"]
    subprocess.run(command, cwd=folder, check=True)
    assert (tmp_path / f"{name}_pb2.py").read_text() == (folder / f"{name}_pb2.py").read_text()

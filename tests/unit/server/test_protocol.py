"""The Open Inference Protocol v2 over HTTP, compared with onnxruntime called directly on the same file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto

INFER = "/v2/models/m/infer"


def binary_parts(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    length = int(response.headers["inference-header-content-length"])
    assert response.headers["content-type"] == "application/octet-stream"
    return json.loads(response.content[:length]), response.content[length:]


def post_binary(server: Any, head: dict[str, Any], tail: bytes) -> httpx.Response:
    text = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    return httpx.post(server.url + INFER, content=text + tail, headers=headers)


@pytest.fixture(scope="module")
def server(serve: Any, make_folder: Any, models: Any) -> Any:
    """y = 2 x. Shared: a test here may not assume what was counted before."""
    return serve(make_folder(models["scale"](), x=np.array([[1, 2, 3], [4, 5, 6]], np.float32)))


def test_health_and_metadata_say_what_the_protocol_says(server: Any) -> None:
    model = {
        "name": "m",
        "versions": ["m-v1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    ready = {"name": "m", "ready": True}
    expected = {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/m": model,
        "/v2/models/m/versions/m-v1": model,
        "/v2/models/m/ready": ready,
        "/v2/models/m/versions/m-v1/ready": ready,
        "/v2/models/%6d/ready?x=1": ready,
    }
    for path, body in expected.items():
        answer = server.get(path)
        assert (answer.status_code, answer.json()) == (200, body), path
    for path in ("/v2", "/v2/"):
        assert server.get(path).json()["extensions"] == ["binary_tensor_data", "statistics", "model_configuration"]
    head = httpx.head(server.url + "/v2/health/live")
    assert (head.status_code, head.content) == (200, b"")


def test_every_error_is_json_with_its_status(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, body_limit_bytes=1000, header_limit_bytes=500)
    url = server.url
    table = [
        (httpx.get(url + "/nothing"), 404, "path not found: /nothing"),
        (httpx.get(url + "/v2/models/other"), 404, "model 'other' not found: this server serves 'm'"),
        (httpx.post(url + "/v2/models/other/infer", json=row), 404, "model 'other' not found"),
        (httpx.post(url + "/v2/models/m/versions/9/infer", json=row), 404, "version '9' of model 'm' not found"),
        (httpx.get(url + "/v2/models/%252Fm"), 404, "model '%2Fm' not found: this server serves 'm'"),
        (httpx.get(url + "/v2/models/a%2Fb"), 404, "model 'a/b' not found: this server serves 'm'"),
        (httpx.get(url + "/v2/models/m%2Fready"), 404, "model 'm/ready' not found: this server serves 'm'"),
        (httpx.get(url + "/v2/models/%ff"), 404, "model '\ufffd' not found: this server serves 'm'"),
        (httpx.get(url + "/v2%2Fhealth"), 404, "path not found: /v2%2Fhealth"),
        (httpx.get(url + "/metrics/"), 404, "path not found: /metrics/"),
        (httpx.get(url + "/v2/models/m//"), 404, "path not found: /v2/models/m//"),
        (httpx.get(url + INFER), 405, "expected method POST, got GET"),
        (httpx.post(url + "/v2/health/live"), 405, "expected method GET, HEAD, got POST"),
        (httpx.post(url + INFER, content=b"{"), 400, "invalid request: "),
        (httpx.post(url + INFER, content=b""), 400, "the JSON is empty"),
        (httpx.post(url + INFER, content=b"x" * 1001), 413, "exceeds the limit of 1000 bytes"),
        (httpx.post(url + INFER, content=iter([b"x" * 600] * 2)), 413, "exceeds the limit of 1000 bytes"),
        (httpx.get(url + "/v2", headers={"a": "x" * 600}), 431, "exceed the limit of 500 bytes"),
        (
            httpx.post(url + INFER, content=b"{}", headers={"inference-header-content-length": "-1"}),
            400,
            "invalid Inference-Header-Content-Length -1: must be a number of bytes",
        ),
    ]
    for answer, status, message in table:
        assert answer.status_code == status, message
        assert list(answer.json()) == ["error"]
        assert message in answer.json()["error"]
        assert answer.headers["content-type"] == "application/json"
    assert server.infer(row).status_code == 200
    evidence = server.evidence()
    assert (evidence.live.requests, evidence.live.errors) == (1, 0), "a client's mistake counts for nobody"


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/health/ready/", "/v2/models/m/", "/v2/models/m/ready/?x=1", "/v2/models/%6d/versions/m%2Dv1/"]
)
def test_slash_at_the_end_of_a_path_and_percent_encoding_change_nothing(server: Any, path: str) -> None:
    plain = httpx.URL(server.url + path).path.rstrip("/").replace("%6d", "m").replace("%2D", "-")
    answer = httpx.get(server.url + path)
    assert answer.status_code == 200
    assert answer.json() == httpx.get(server.url + plain).json()


def test_slash_at_the_end_of_an_infer_path_changes_nothing(server: Any, row: Any) -> None:
    assert httpx.post(server.url + INFER + "/", json=row).json() == server.infer(row).json()


def test_answer_names_model_version_digest_and_echoes_the_id(server: Any, row: Any) -> None:
    answer = server.infer(row | {"id": 'a "quoted" id', "parameters": {"anything": 1}})
    assert answer.json() == {
        "model_name": "m",
        "model_version": "m-v1",
        "id": 'a "quoted" id',
        "outputs": [{"name": "y", "shape": [1, 3], "datatype": "FP32", "data": [2, 4, 6]}],
    }
    assert answer.headers["steeltown-digest"] == server.digest


def test_request_for_a_named_version_is_answered_but_is_no_evidence(server: Any, row: Any) -> None:
    before = server.evidence().to_json()
    versioned = httpx.post(f"{server.url}/v2/models/m/versions/m-v1/infer", json=row)
    assert versioned.json()["outputs"][0]["data"] == [2, 4, 6]
    assert server.evidence().to_json() == before


COLUMNS: dict[str, tuple[int, np.ndarray]] = {
    "a": (TensorProto.FLOAT, np.array([[1.5, np.pi]], np.float32)),
    "b": (TensorProto.DOUBLE, np.array([[0.1, 1e300]], np.float64)),
    "c": (TensorProto.INT64, np.array([[-(2**63), 2**53 + 1]], np.int64)),
    "d": (TensorProto.UINT64, np.array([[0, 2**64 - 1]], np.uint64)),
    "e": (TensorProto.BOOL, np.array([[True, False]])),
    "f": (TensorProto.UINT8, np.array([[0, 255]], np.uint8)),
    "g": (TensorProto.STRING, np.array([["straße", ""]], object)),
}


@pytest.fixture(scope="module")
def mirror(serve: Any, make_folder: Any, models: Any) -> Any:
    folder = make_folder(
        models["mirror"](**{n: kind for n, (kind, _) in COLUMNS.items()}),
        **{n: array for n, (_, array) in COLUMNS.items()},
    )
    return serve(folder)


def test_every_datatype_comes_back_exactly_in_json(mirror: Any, body: Callable[..., dict[str, Any]]) -> None:
    answer = mirror.infer(body(**{n: a for n, (_, a) in COLUMNS.items()}))
    outputs = {o["name"]: o["data"] for o in answer.json()["outputs"]}
    for name, (_, array) in COLUMNS.items():
        got = np.array(outputs[f"{name}_out"], array.dtype)
        assert got.tolist() == array.ravel().tolist(), name


def test_every_datatype_comes_back_exactly_in_binary_mixed_with_json(mirror: Any) -> None:
    inputs: list[dict[str, Any]] = []
    tail = b""
    for name, (_, array) in COLUMNS.items():
        words = [str(s).encode() for s in array.ravel()]
        raw = b"".join(struct.pack("<I", len(w)) + w for w in words) if name == "g" else array.tobytes()
        datatype = mirror.get("/v2/models/m").json()["inputs"][list(COLUMNS).index(name)]["datatype"]
        parameters = {"binary_data_size": len(raw)}
        inputs.append({"name": name, "shape": [1, 2], "datatype": datatype, "parameters": parameters})
        tail += raw
    outputs = [{"name": f"{n}_out", "parameters": {"binary_data": n != "c"}} for n in COLUMNS]
    head, rest = binary_parts(post_binary(mirror, {"inputs": inputs, "outputs": outputs}, tail))
    for described, (name, (_, array)) in zip(head["outputs"], COLUMNS.items(), strict=True):
        if name == "c":
            assert described["data"] == array.ravel().tolist()
            continue
        size = described["parameters"]["binary_data_size"]
        raw, rest = rest[:size], rest[size:]
        if name == "g":
            assert raw == struct.pack("<I", 7) + "straße".encode() + struct.pack("<I", 0)
        else:
            assert raw == array.tobytes(), name
    assert rest == b""


def test_half_precision_travels_in_binary_only(serve: Any, make_folder: Any, models: Any) -> None:
    array = np.array([[1.5, 65504]], np.float16)
    server = serve(make_folder(models["mirror"](h=TensorProto.FLOAT16), h=array))
    part = {"name": "h", "shape": [1, 2], "datatype": "FP16"}
    refused = server.infer({"inputs": [part | {"data": [1, 2]}]})
    assert refused.status_code == 400
    assert "FP16, which has no JSON representation" in refused.json()["error"]
    head = {"inputs": [part | {"parameters": {"binary_data_size": 4}}], "parameters": {"binary_data_output": True}}
    _, tail = binary_parts(post_binary(server, head, array.tobytes()))
    assert tail == array.tobytes()


def test_raw_request_answers_in_binary(server: Any) -> None:
    headers = {"inference-header-content-length": "0"}
    answer = httpx.post(server.url + INFER, content=np.arange(6, dtype=np.float32).tobytes(), headers=headers)
    head, tail = binary_parts(answer)
    assert head["outputs"][0]["shape"] == [2, 3]
    assert np.frombuffer(tail, np.float32).tolist() == [0, 2, 4, 6, 8, 10]


def test_zero_rows_are_a_request_like_any_other(server: Any, body: Any) -> None:
    answer = server.infer(body(x=np.zeros((0, 3), np.float32)))
    assert answer.json()["outputs"] == [{"name": "y", "shape": [0, 3], "datatype": "FP32", "data": []}]


def test_classifier_answers_as_onnxruntime_does(serve: Any, make_folder: Any, models: Any, body: Any) -> None:
    rows = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    folder = make_folder(models["classifier"](), x=rows[:3])
    direct = folder.direct({"x": rows})
    answer = serve(folder).infer(body(x=rows)).json()
    assert [o["name"] for o in answer["outputs"]] == ["label", "probabilities"]
    for output in answer["outputs"]:
        expected = direct[output["name"]]
        np.testing.assert_array_equal(np.array(output["data"], expected.dtype).reshape(output["shape"]), expected)


def test_non_finite_output_is_an_error_in_json_and_only_evidence_in_binary(
    serve: Any, make_folder: Any, models: Any, body: Any
) -> None:
    good, bad = np.array([[1, 2]], np.float32), np.array([[-1, 0]], np.float32)
    server = serve(make_folder(models["logarithm"](), x=good))
    answer = server.infer(body(x=bad))
    assert answer.status_code == 500
    assert answer.json()["error"] == (
        "output 'y' contains NaN or infinity, which JSON cannot represent: set binary_data to true"
    )
    only_z = server.infer(body(x=bad) | {"outputs": [{"name": "z"}]})
    assert only_z.status_code == 200
    binary = server.infer(body(x=bad) | {"parameters": {"binary_data_output": True}})
    assert binary.status_code == 200
    assert binary.headers["steeltown-non-finite"] == '["y"]'
    assert np.isnan(np.frombuffer(binary_parts(binary)[1][:4], np.float32)[0])
    evidence = server.evidence()
    assert (evidence.live.requests, evidence.live.errors, evidence.live.latency.total) == (3, 2, 1)


def test_failure_of_the_model_is_a_500_with_onnxruntimes_message(
    serve: Any, make_folder: Any, models: Any, body: Any
) -> None:
    server = serve(make_folder(models["lookup"](), i=np.array([1, 2])))
    answer = server.infer(body(i=np.array([99])))
    assert answer.status_code == 500
    assert "out of data bounds" in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert server.evidence().live.errors == 1


def test_metrics_and_evidence_tell_the_same_story(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled)
    for _ in range(5):
        server.infer(row)
    server.infer({"inputs": []})
    evidence = server.evidence()
    assert (evidence.digest, evidence.window, evidence.weight) == (scaled.digest, "", 0)
    assert (evidence.live.requests, evidence.live.errors, evidence.live.latency.total) == (5, 0, 5)
    assert evidence.canary.requests == 0
    text = server.get("/metrics").text
    assert (
        f'steeltown_server_requests_total{{code="400",digest="{scaled.digest}",model="m",version="m-v1"}} 1.0' in text
    )
    assert server.metric("steeltown_server_latency_seconds_count") == 5
    assert server.metric("steeltown_server_model_run_requests_total") == 5
    assert server.metric("steeltown_server_ready") == 1

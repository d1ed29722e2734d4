"""Statistics, model configuration and repository index: what clients of other servers ask for beside the protocol."""

from __future__ import annotations

import time
from typing import Any

import httpx
import numpy as np
import pytest


@pytest.fixture
def server(serve: Any, scaled: Any) -> Any:
    return serve(scaled)


def test_statistics_count_what_was_asked(server: Any, row: Any, body: Any) -> None:
    empty = server.get("/v2/models/m/stats").json()["model_stats"][0]
    assert (empty["inference_count"], empty["execution_count"], empty["last_inference"]) == (0, 0, 0)
    server.infer(row)
    server.infer(body(x=np.ones((5, 3), np.float32)))
    server.infer({"inputs": []})
    paths = ("/v2/models/m/stats", "/v2/models/m/versions/m-v1/stats", "/v2/models/stats")
    (stats,), (same,), (also,) = (server.get(path).json()["model_stats"] for path in paths)
    lasts = [each.pop("last_inference") for each in (stats, same, also)]
    assert stats == same == also
    assert max(lasts) - min(lasts) < 1000
    assert (stats["name"], stats["version"]) == ("m", "m-v1")
    assert (stats["inference_count"], stats["execution_count"]) == (6, 2)
    assert 0 <= time.time() * 1000 - max(lasts) < 20_000
    stages = stats["inference_stats"]
    assert {name: stages[name]["count"] for name in ("success", "fail", "queue", "compute_infer")} == {
        "success": 2,
        "fail": 1,
        "queue": 2,
        "compute_infer": 2,
    }
    assert 0 < stages["compute_infer"]["ns"] < stages["success"]["ns"]
    assert [(b["batch_size"], b["compute_infer"]["count"]) for b in stats["batch_stats"]] == [(1, 1), (5, 1)]


def test_config_leaves_the_batch_axis_out(server: Any) -> None:
    config = server.get("/v2/models/m/config").json()
    assert config == server.get("/v2/models/m/versions/m-v1/config").json()
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("m", "onnxruntime", 64)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [3]}]
    assert config["version_policy"] == {"specific": {"versions": ["m-v1"]}}


def test_config_of_a_model_that_does_not_batch_has_all_axes(serve: Any, make_folder: Any, models: Any) -> None:
    server = serve(make_folder(models["centred"](), x=np.array([[1, 2], [3, 4]], np.float32)))
    config = server.get("/v2/models/m/config").json()
    assert config["max_batch_size"] == 0
    assert config["input"][0]["dims"] == [-1, 2]
    assert "dynamic_batching" not in config


def test_index_lists_the_one_version(server: Any) -> None:
    url = server.url + "/v2/repository/index"
    here = [{"name": "m", "version": "m-v1", "state": "READY", "reason": ""}]
    assert httpx.post(url).json() == here
    assert httpx.post(url, json={}).json() == here
    assert httpx.post(url, json={"ready": True}).json() == here
    for wrong in (b"{", b'{"ready": 1}'):
        answer = httpx.post(url, content=wrong)
        assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_index_of_a_server_that_drains_says_so(serve: Any, scaled: Any) -> None:
    server = serve(scaled, drain_seconds=3)
    with httpx.Client(base_url=server.url) as client:
        client.get("/v2/health/live")
        server.terminate()
        deadline = time.monotonic() + 2
        while client.get("/v2/health/ready").status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.01)
        (entry,) = client.post("/v2/repository/index").json()
        assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "the server is draining")
        assert client.post("/v2/repository/index", json={"ready": True}).json() == []


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_model_is_immutable(server: Any, verb: str) -> None:
    answer = httpx.post(f"{server.url}/v2/repository/models/m/{verb}")
    assert answer.status_code == 501
    assert "change the MLModel" in answer.json()["error"]

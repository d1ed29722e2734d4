"""A fast wrong answer is no result: before a cell is timed, its server is asked and held against onnxruntime.

Asked with as many requests at once as the cell will send, each with rows of its own, because a server that mixes up
the rows of requests it runs together answers one request alone correctly.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from . import wire
from .cells import Cell, Payload, direct, features, payload

TOLERANCE: Final = 1e-5
TIMEOUT_SECONDS: Final = 20.0
MOST_AT_ONCE: Final = 16
TIMES: Final = 4


class WrongAnswer(Exception):
    """What was asked, what came."""


def path_of(model: str) -> str:
    return f"/v2/models/{model}/infer"


Answer = tuple[int, Mapping[str, str], bytes]


def ask(port: int, model: str, request: Payload, timeout: float = TIMEOUT_SECONDS) -> Answer:
    """Status, headers in lower case, body. OSError or HTTPException if there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", path_of(model), request.body, request.headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def check(cell: Cell, models: Path, port: int) -> int:
    """WrongAnswer unless every answer is onnxruntime's. Returns the size of the answer to the timed request."""
    at_once = min(cell.connections, MOST_AT_ONCE)
    seeds = range(1, at_once * TIMES + 1)
    ask_one = _ask_grpc if cell.kind == "grpc" else _ask_http
    with ThreadPoolExecutor(at_once) as pool:
        sizes = list(pool.map(lambda seed: ask_one(cell, models, port, seed), seeds))
    return sizes[0]


def _ask_http(cell: Cell, models: Path, port: int, seed: int) -> int:
    status, headers, body = ask(port, cell.model, payload(cell, seed))
    if status != 200:
        raise WrongAnswer(f"{cell.name}: status {status}: {body[:200]!r}")
    try:
        outputs = _binary_outputs(headers, body) if cell.kind == "binary" else _json_outputs(body)
    except (KeyError, ValueError, TypeError) as error:
        raise WrongAnswer(f"{cell.name}: {error!r} in {body[:200]!r}") from None
    _compare(cell, models, seed, outputs)
    return len(body)


def _ask_grpc(cell: Cell, models: Path, port: int, seed: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(wire.METHOD)
        try:
            message: bytes = call(payload(cell, seed).body, timeout=TIMEOUT_SECONDS)
            outputs = wire.infer_response(message)
        except (grpc.RpcError, ValueError, KeyError) as error:
            raise WrongAnswer(f"{cell.name}: {error!r}") from None
    _compare(cell, models, seed, outputs)
    return len(message)


def _json_outputs(body: bytes) -> dict[str, np.ndarray]:
    found: list[dict[str, Any]] = json.loads(body)["outputs"]
    return {each["name"]: np.asarray(each["data"], np.float64).ravel() for each in found}


def _binary_outputs(headers: Mapping[str, str], body: bytes) -> dict[str, np.ndarray]:
    at = int(headers["inference-header-content-length"])
    outputs = {}
    for each in json.loads(body[:at])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        outputs[each["name"]] = np.frombuffer(body[at : at + size], wire.DTYPES[each["datatype"]])
        at += size
    return outputs


def _compare(cell: Cell, models: Path, seed: int, outputs: Mapping[str, np.ndarray]) -> None:
    """Flat, because servers differ in whether a column of N values is [N] or [N, 1]."""
    expected = direct(models / cell.model / "model.onnx", features(cell.model, cell.rows, seed))
    if set(outputs) != set(expected):
        raise WrongAnswer(f"{cell.name}: outputs {sorted(outputs)}, expected {sorted(expected)}")
    for name, array in expected.items():
        got, flat = outputs[name], array.ravel()
        if got.shape != flat.shape or not np.allclose(got, flat, rtol=0, atol=TOLERANCE):
            raise WrongAnswer(f"{cell.name}: output {name}: {got[:4]}, onnxruntime says {flat[:4]}")

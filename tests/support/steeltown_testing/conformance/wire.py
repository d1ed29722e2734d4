"""The protocol's bytes, written a second time and without any of the server's code: tensors, requests, answers.

What is sent and read here must be right by inspection, so it is the plainest code that says it: `struct`, `json`
and a socket from the standard library, numpy only to name element types.
"""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TIMEOUT_SECONDS = 20
JSON_LENGTH = "inference-header-content-length"
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"{'U' if sign == 'u' else ''}INT{8 * n}": np.dtype(f"<{sign}{n}") for sign in "ui" for n in (1, 2, 4, 8)},
    **{f"FP{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    "BYTES": np.dtype(object),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Tensor:
    """described: its JSON object. raw: what follows the JSON, empty if all is in `described`."""

    described: dict[str, Any]
    raw: bytes = b""

    def but(self, **changes: Any) -> Tensor:
        """The same with other fields; None takes a field away."""
        return Tensor({k: v for k, v in (self.described | changes).items() if v is not None}, self.raw)


def _described(name: str, array: Array, **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": NAMES[array.dtype], **more}


def flat(name: str, array: Array) -> Tensor:
    return Tensor(_described(name, array, data=array.ravel().tolist()))


def nested(name: str, array: Array) -> Tensor:
    return Tensor(_described(name, array, data=array.tolist() if array.shape else [array.item()]))


def binary(name: str, array: Array) -> Tensor:
    raw = to_bytes(array)
    return Tensor(_described(name, array, parameters={"binary_data_size": len(raw)}), raw)


def to_bytes(array: Array) -> bytes:
    """Little-endian, row-major; a BYTES element is preceded by its length."""
    if array.dtype != object:
        return array.tobytes()
    words = [str(word).encode() for word in array.ravel()]
    return b"".join(struct.pack("<I", len(word)) + word for word in words)


def from_bytes(raw: bytes, datatype: str, shape: Sequence[int]) -> Array:
    if datatype != "BYTES":
        return np.frombuffer(raw, DTYPES[datatype]).reshape(shape)
    words = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        assert len(raw) >= 4 + length, "a BYTES element is longer than its tensor"
        words.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return strings(words, shape)


def strings(words: Sequence[str], shape: Sequence[int]) -> Array:
    array = np.empty(len(words), object)
    array[:] = words
    return array.reshape(shape)


def _from_json(data: Any, datatype: str, shape: Sequence[int]) -> Array:
    while data and isinstance(data[0], list):
        data = [element for part in data for element in part]
    assert len(data) == prod(shape), f"{len(data)} elements for shape {shape}"
    return strings(data, shape) if datatype == "BYTES" else np.array(data, DTYPES[datatype]).reshape(shape)


@dataclass(frozen=True)
class Body:
    """A request's body and the headers that go with it."""

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def gzip(self) -> Body:
        return Body(gzip.compress(self.content, mtime=0), self.headers | {"content-encoding": "gzip"})

    def deflate(self) -> Body:
        """HTTP's deflate is the zlib format (RFC 9110, 8.4.1.2)."""
        return Body(zlib.compress(self.content), self.headers | {"content-encoding": "deflate"})

    def but(self, **headers: str) -> Body:
        return Body(self.content, self.headers | {name.replace("_", "-"): value for name, value in headers.items()})


JSON_TYPE = {"content-type": "application/json"}
OCTETS_TYPE = {"content-type": "application/octet-stream"}


def in_json(content: bytes) -> Body:
    return Body(content, JSON_TYPE)


def infer(*inputs: Tensor, **more: Any) -> Body:
    """An infer request; more: its other fields."""
    text = json.dumps({"inputs": [t.described for t in inputs], **more}, ensure_ascii=False).encode()
    tail = b"".join(t.raw for t in inputs)
    if not tail and not any("binary_data_size" in (t.described.get("parameters") or {}) for t in inputs):
        return Body(text, JSON_TYPE)
    return Body(text + tail, OCTETS_TYPE | {JSON_LENGTH: str(len(text))})


@dataclass(frozen=True)
class Answer:
    """headers: names in lower case. content: as it came, perhaps compressed."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def encoding(self) -> str:
        return self.headers.get("content-encoding", "identity")

    @property
    def body(self) -> bytes:
        """Without the compression."""
        unpack: dict[str, Callable[[bytes], bytes]] = {
            "gzip": gzip.decompress,
            "deflate": zlib.decompress,
            "identity": bytes,
        }
        return unpack[self.encoding](self.content)

    @property
    def json(self) -> Any:
        return json.loads(self.parts[0], parse_constant=_no_constant)

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """The JSON and what follows it."""
        body = self.body
        length = int(self.headers.get(JSON_LENGTH, len(body)))
        assert length <= len(body), f"{JSON_LENGTH} says {length}, the body has {len(body)}"
        return body[:length], body[length:]

    @property
    def tensors(self) -> dict[str, Array]:
        found = {}
        tail = self.parts[1]
        for output in self.json["outputs"]:
            size = (output.get("parameters") or {}).get("binary_data_size")
            if size is None:
                found[output["name"]] = _from_json(output["data"], output["datatype"], output["shape"])
            else:
                assert "data" not in output, "an output has data and binary_data_size"
                found[output["name"]] = from_bytes(tail[:size], output["datatype"], output["shape"])
                tail = tail[size:]
        assert not tail, f"{len(tail)} bytes follow the last tensor"
        return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def send(url: str, method: str, path: str, body: Body) -> Answer:
    """Each on a connection of its own, so that no request is judged by the one before."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body.content or None, body.headers)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    finally:
        connection.close()


def send_raw(url: str, *chunks: bytes, answers: int = 1) -> list[Answer]:
    """Bytes as they are, one write each, and the answers that come back on that connection."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 80), TIMEOUT_SECONDS) as connection:
        for chunk in chunks:
            connection.sendall(chunk)
        stream = connection.makefile("rb")
        return [_read_answer(stream) for _ in range(answers)]


def _read_answer(stream: Any) -> Answer:
    status = 100
    while status == 100:
        line = stream.readline()
        assert line.startswith(b"HTTP/1."), f"expected an HTTP answer, got {line!r}"
        status = int(line.split()[1])
        headers = {k.lower(): v for k, v in http.client.parse_headers(stream).items()}
    return Answer(status, headers, stream.read(int(headers.get("content-length", 0))))

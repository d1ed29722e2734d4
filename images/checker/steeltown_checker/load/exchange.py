"""What is sent and what counts as an answer: the wire form of golden rows, and the judgement of a response.

JSON, as most clients send it; where it has no form for what the model takes or gives (FP16), binary both ways.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from steeltown.contract.evidence import DIGEST_HEADER, NON_FINITE_HEADER
from steeltown.contract.golden import Golden
from steeltown_tensors import BY_NAME, from_json

from .http1 import Response

LENGTH_HEADER: Final = "inference-header-content-length"
READY_PATH: Final = "/v2/health/ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One side. requests: whole HTTP requests, sent in turn. digest: the model that must answer, "" for any."""

    host: str
    port: int
    path: str
    requests: tuple[bytes, ...]
    digest: str = ""

    def complaint(self, response: Response) -> str:
        """Why this is an error, "" if it is a good answer."""
        if response.status != 200:
            return f"HTTP {response.status}: {response.body[:120].decode(errors='replace')}"
        answered = response.headers.get(DIGEST_HEADER, "")
        if self.digest and answered != self.digest:
            return f"response from model {answered or 'without digest'}, expected {self.digest}"
        if NON_FINITE_HEADER in response.headers:
            return f"outputs {response.headers[NON_FINITE_HEADER]} contain NaN or infinity"
        length = response.headers.get(LENGTH_HEADER)
        return _complaint_about(response.body) if length is None else _complaint_about_binary(response.body, length)


def target(url: str, model: str, golden: Golden, digest: str = "", *, whole: bool = False) -> Target:
    """ValueError names what is wrong with the URL or the golden rows."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"invalid URL {url!r}: must be http://host:port")
    port = parts.port or 80
    path = parts.path.rstrip("/")
    head = f"POST {path}/v2/models/{quote(model, safe='')}/infer HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    content = bodies(golden, whole=whole)
    encode = _as_binary if _needs_binary(golden) else _as_json
    requests = tuple(head.encode() + encode(inputs) for inputs in content)
    return Target(host=parts.hostname, port=port, path=path, requests=requests, digest=digest)


def bodies(golden: Golden, *, whole: bool = False) -> tuple[list[dict[str, Any]], ...]:
    """The inputs of one inference request per golden row, or of one for all.

    ValueError if the tensors do not have the same number of rows.
    """
    if whole:
        return (golden.inputs,)
    counts = {int(t["shape"][0]) if t["shape"] else 0 for t in golden.inputs}
    if len(counts) != 1 or not max(counts):
        raise ValueError(
            f"golden inputs have {sorted(counts)} rows: must be the same number, greater than 0, in all inputs"
        )
    return tuple([_row(t, i) for t in golden.inputs] for i in range(counts.pop()))


def _as_json(inputs: list[dict[str, Any]]) -> bytes:
    """From the content's headers to its last byte."""
    body = json.dumps({"inputs": inputs}, separators=(",", ":")).encode()
    return f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _as_binary(inputs: list[dict[str, Any]]) -> bytes:
    raws = [_raw(t) for t in inputs]
    described = [
        {
            "name": t["name"],
            "shape": t["shape"],
            "datatype": t["datatype"],
            "parameters": {"binary_data_size": len(raw)},
        }
        for t, raw in zip(inputs, raws, strict=True)
    ]
    body = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    length = len(body) + sum(map(len, raws))
    head = f"Content-Type: application/octet-stream\r\n{LENGTH_HEADER}: {len(body)}\r\nContent-Length: {length}\r\n\r\n"
    return b"".join((head.encode(), body, *raws))


def _raw(tensor: dict[str, Any]) -> bytes:
    datatype = BY_NAME[tensor["datatype"]]
    values = from_json(tensor, datatype)
    if datatype.is_bytes:
        texts = [str(v).encode() for v in values.ravel()]
        return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))
    return values.tobytes()


def _needs_binary(golden: Golden) -> bool:
    datatypes = {t.get("datatype") for t in (*golden.inputs, *golden.outputs)}
    return any(name in BY_NAME and BY_NAME[name].element is None for name in datatypes if isinstance(name, str))


def _row(tensor: dict[str, Any], i: int) -> dict[str, Any]:
    shape = [int(d) for d in tensor["shape"]]
    width = math.prod(shape[1:])
    return {**tensor, "shape": [1, *shape[1:]], "data": tensor["data"][i * width : (i + 1) * width]}


def _complaint_about(body: bytes) -> str:
    try:
        outputs = json.loads(body)["outputs"]
        data = [value for output in outputs for value in output["data"]]
    except (ValueError, KeyError, TypeError):
        return f"no outputs in {body[:120].decode(errors='replace')}"
    if not data:
        return "outputs are empty"
    for value in data:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return f"an output contains {value}"
    return ""


def _complaint_about_binary(body: bytes, length: str) -> str:
    """The server says itself which outputs are not finite."""
    try:
        outputs = json.loads(body[: int(length)])["outputs"]
        size = sum(int(output["parameters"]["binary_data_size"]) for output in outputs)
    except (ValueError, KeyError, TypeError):
        return f"no outputs in {body[:120].decode(errors='replace')}"
    if not size:
        return "outputs are empty"
    left = len(body) - int(length)
    return "" if left == size else f"outputs have {left} bytes, expected {size}"

"""What is sent and what counts as an answer: the wire form of golden rows, and the judgement of a response."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from steeltown.contract.evidence import DIGEST_HEADER
from steeltown.contract.golden import Golden

from .http1 import Response

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
        return _complaint_about(response.body)


def target(url: str, model: str, golden: Golden, digest: str = "") -> Target:
    """ValueError names what is wrong with the URL or the golden rows."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"invalid URL {url!r}: must be http://host:port")
    port = parts.port or 80
    path = parts.path.rstrip("/")
    head = (
        f"POST {path}/v2/models/{quote(model, safe='')}/infer HTTP/1.1\r\n"
        f"Host: {parts.netloc}\r\nContent-Type: application/json\r\n"
    )
    requests = tuple(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies(golden))
    return Target(host=parts.hostname, port=port, path=path, requests=requests, digest=digest)


def bodies(golden: Golden) -> tuple[bytes, ...]:
    """One inference request per golden row. ValueError if the tensors do not have the same number of rows."""
    counts = {int(t["shape"][0]) for t in golden.inputs}
    if len(counts) != 1 or not max(counts):
        raise ValueError(
            f"golden inputs have {sorted(counts)} rows: must be the same number, greater than 0, in all inputs"
        )
    return tuple(
        json.dumps({"inputs": [_row(t, i) for t in golden.inputs]}, separators=(",", ":")).encode()
        for i in range(counts.pop())
    )


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

"""Parsing HTTP/1.1 responses: bytes in, at most one response out, no socket.

As much of RFC 9112 as an inference server speaks: Content-Length, chunked, or a body that ends with the
connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_HEAD_BYTES: Final = 64 << 10
MAX_BODY_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Response:
    """headers: names in lower case. reusable: whether the connection may carry the next request."""

    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


class ResponseParser:
    """For one connection with one request in flight. ValueError if the peer does not speak HTTP/1.1."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[int, dict[str, str], int] | None = None  # status, headers, where the body begins

    def feed(self, data: bytes) -> Response | None:
        self._buffer += data
        if self._head is None:
            self._head = self._parse_head()
        if self._head is None:
            return None
        status, headers, start = self._head
        if headers.get("transfer-encoding", "").lower() == "chunked":
            found = self._chunked(start)
        else:
            found = self._sized(start, headers.get("content-length"), status)
        if found is None:
            return None
        body, end = found
        reusable = headers.get("connection", "").lower() != "close" and end == len(self._buffer)
        self._buffer.clear()
        self._head = None
        return Response(status, headers, body, reusable)

    def eof(self) -> Response | None:
        """The peer closed: the response whose body ends here, None if there is no complete one."""
        if self._head is None:
            return None
        status, headers, start = self._head
        if "content-length" in headers or "transfer-encoding" in headers:
            return None
        return Response(status, headers, bytes(self._buffer[start:]), False)

    def _parse_head(self) -> tuple[int, dict[str, str], int] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ValueError(f"response head exceeds the limit of {MAX_HEAD_BYTES} bytes")
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdecimal():
            raise ValueError(f"not an HTTP/1.1 response: {first[:40]!r}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if version == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return int(rest[:3]), headers, end + 4

    def _sized(self, start: int, length: str | None, status: int) -> tuple[bytes, int] | None:
        if length is None:
            if status in (204, 304):
                return b"", start
            if len(self._buffer) - start > MAX_BODY_BYTES:
                raise ValueError(f"response body exceeds the limit of {MAX_BODY_BYTES} bytes")
            return None  # until eof
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            raise ValueError(f"invalid content-length {length!r}: must be a number of at most {MAX_BODY_BYTES}")
        end = start + int(length)
        return (bytes(self._buffer[start:end]), end) if len(self._buffer) >= end else None

    def _chunked(self, at: int) -> tuple[bytes, int] | None:
        body = bytearray()
        while True:
            line_end = self._buffer.find(b"\r\n", at)
            if line_end < 0:
                return None
            size = int(bytes(self._buffer[at:line_end]).partition(b";")[0], 16)
            if size < 0 or len(body) + size > MAX_BODY_BYTES:
                raise ValueError(f"response body exceeds the limit of {MAX_BODY_BYTES} bytes")
            at = line_end + 2
            if size == 0:
                return self._after_trailers(bytes(body), at)
            if len(self._buffer) < at + size + 2:
                return None
            body += self._buffer[at : at + size]
            at += size + 2

    def _after_trailers(self, body: bytes, at: int) -> tuple[bytes, int] | None:
        while True:
            line_end = self._buffer.find(b"\r\n", at)
            if line_end < 0:
                return None
            if line_end == at:
                return body, at + 2
            at = line_end + 2

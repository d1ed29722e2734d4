"""gRPC over HTTP/2 (the protocol's PROTOCOL-HTTP2.md): a stream's request becomes a `Call` with one message.

Unary calls and one stream from the server, which is all that the services here have. Messages may come compressed;
answers are not.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from google.protobuf.message import DecodeError
from steeltown_http2 import Head, block

from .. import encoding
from ..signature import BadRequest, TooLarge
from ..unfolding import Unfolder
from .http2 import Exchange

PREFIX: Final = struct.Struct(">BI")  # whether compressed, length
TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
LONGEST_TIMEOUT_SECONDS: Final = 86400.0 * 365
ENCODINGS: Final = "identity,deflate,gzip"
CONTENT: Final = (("content-type", "application/grpc"), ("grpc-accept-encoding", ENCODINGS))
HEAD: Final = block((":status", "200"), *CONTENT)
MESSAGE_SAFE: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"
DETAIL_CHARACTERS: Final = 1000  # clients refuse metadata of more than 8 KiB, and a text may quote what they sent


class Code(IntEnum):
    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Refused(Exception):
    """A call that cannot be handed to its method."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


Metadata = tuple[tuple[str, str], ...]
OK_TRAILERS: Final = block(("grpc-status", "0"))


class Method(NamedTuple):
    """request: turns the message's bytes into what `handle` takes; google.protobuf's DecodeError if it cannot."""

    request: Callable[[bytes], Any]
    handle: Callable[[Call, Any], None]


class Plan(NamedTuple):
    """What a head asks for. timeout_seconds: None if it says nothing. encoding: of its messages that are compressed."""

    method: Method
    timeout_seconds: float | None
    encoding: bytes


def plan(head: Head, methods: Mapping[bytes, Method]) -> Plan:
    """Refused, if there is no such method or the head is none that gRPC allows."""
    method = methods.get(head.path)
    if method is None:
        raise Refused(Code.UNIMPLEMENTED, f"unknown method {head.path.decode('latin-1')!r}")
    timeout = head.fields.get(b"grpc-timeout")
    seconds: float | None = None
    if timeout is not None:
        match = TIMEOUT.fullmatch(timeout)
        if match is None:
            raise Refused(
                Code.INVALID_ARGUMENT,
                f"invalid grpc-timeout {timeout.decode('latin-1')!r}: must be 1 to 8 digits and a unit (H, M, S, m, u "
                "or n)",
            )
        seconds = min(int(match[1]) * UNITS[match[2]], LONGEST_TIMEOUT_SECONDS)
    return Plan(method, seconds, head.fields.get(b"grpc-encoding", b"identity"))


class Call:
    """One call under way. unfolded_bytes: counted for its message, until somebody takes them over."""

    __slots__ = ("_left", "_timer", "exchange", "unfolded_bytes")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.unfolded_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._left: Callable[[], Any] | None = None
        exchange.left = self._leave

    def end_after(self, seconds: float, late: Callable[[Call, float], None], loop: asyncio.AbstractEventLoop) -> None:
        """late: called if there is no answer by then."""
        self._timer = loop.call_later(seconds, late, self, seconds)

    def endless(self, left: Callable[[], Any]) -> None:
        """No deadline of ours. left: called when the client has gone, which is the end of it."""
        self._stop_timer()
        self._left = left

    def _leave(self) -> None:
        self._stop_timer()
        if self._left is not None:
            self._left()
            self.exchange.done()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def succeed(self, message: bytes, metadata: Metadata = ()) -> None:
        self._stop_timer()
        self.exchange.answer(HEAD, framed(message), _ok_trailers(metadata))

    def fail(self, code: Code, text: str, metadata: Metadata = (), *, early: bool = False) -> None:
        """early: what was begun for it goes on."""
        self._stop_timer()
        self.exchange.answer(b"", b"", failure(code, text, metadata), early=early)


def framed(message: bytes) -> bytes:
    return PREFIX.pack(0, len(message)) + message


def failure(code: Code, text: str, metadata: Metadata = ()) -> bytes:
    """The one header block of a call that failed."""
    if len(text) > DETAIL_CHARACTERS:
        text = text[:DETAIL_CHARACTERS] + "..."
    return _failure(code, text, metadata)


@lru_cache(256)
def _failure(code: Code, text: str, metadata: Metadata) -> bytes:
    return block((":status", "200"), *CONTENT, *_status(code, text), *metadata)


@lru_cache(256)
def _ok_trailers(metadata: Metadata) -> bytes:
    return block(*_status(Code.OK, ""), *metadata)


def _status(code: Code, text: str) -> Metadata:
    status = (("grpc-status", str(int(code))),)
    return (*status, ("grpc-message", quote(text, safe=MESSAGE_SAFE, errors="replace"))) if text else status


def message(body: bytes, packed: bytes) -> tuple[bytes, bytes]:
    """The one message of a request, and how it is compressed; b"" if it is not. packed: what the head says. Refused."""
    if len(body) < PREFIX.size:
        raise Refused(Code.UNIMPLEMENTED, "expected exactly one message, got none")
    compressed, length = PREFIX.unpack_from(body)
    if length > len(body) - PREFIX.size:
        raise Refused(Code.INTERNAL, f"incomplete message: expected {length} bytes, got {len(body) - PREFIX.size}")
    if length < len(body) - PREFIX.size:
        raise Refused(Code.UNIMPLEMENTED, "expected exactly one message, got more")
    content = body[PREFIX.size :]
    if compressed == 0:
        return content, b""
    if compressed != 1 or packed == b"identity":
        raise Refused(Code.INTERNAL, "the message is marked as compressed, but grpc-encoding is missing or identity")
    return content, packed


async def unfolded(content: bytes, packed: bytes, unfolder: Unfolder) -> bytes:
    """The message as it was; it is counted. Refused, TooLarge, Busy."""
    try:
        return await unfolder.unfold(packed, content)
    except encoding.UnsupportedEncoding:
        text = f"unsupported grpc-encoding {packed.decode('latin-1')!r}: must be one of {ENCODINGS}"
        raise Refused(Code.UNIMPLEMENTED, text) from None
    except encoding.TooManyTimes:
        raise TooLarge(f"the message decompresses to more than {encoding.MOST_RATIO} times its size") from None
    except TooLarge:
        raise TooLarge(f"the message exceeds the limit of {unfolder.limit_bytes} bytes") from None
    except BadRequest as error:
        raise Refused(Code.INTERNAL, f"cannot decompress the message: {error}") from None


def parsed(method: Method, content: bytes) -> Any:
    """Refused."""
    try:
        return method.request(content)
    except DecodeError:
        raise Refused(Code.INTERNAL, "cannot parse the message as the request type of this method") from None

"""HTTP/2's frames (RFC 9113) and header blocks, as bytes and as what they mean."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final

import hpack

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER: Final = struct.Struct(">HBBBI")  # length (high, low), type, flags, stream
HEADER_BYTES: Final = FRAME_HEADER.size
SETTING: Final = struct.Struct(">HI")
NUMBER: Final = struct.Struct(">I")
FRAME_BYTES: Final = 16384  # the largest frame that either side may send unless told otherwise
TABLE_BYTES: Final = 4096  # of header fields, unless told otherwise
DEFAULT_WINDOW: Final = 65535
LARGEST_WINDOW: Final = 2**31 - 1
NO_STREAM: Final = 2**31 - 1  # the largest id: what GOAWAY names when none is the last

TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
VALUE: Final = re.compile(rb"[^\x00\r\n]*")
CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
REQUEST_FIELDS: Final = frozenset((b":method", b":scheme", b":path", b":authority"))


class Kind(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Error(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)

Fields = Iterable[tuple[bytes, bytes]]


class Fault(Exception):
    """What ends the connection."""

    def __init__(self, error: Error, message: str) -> None:
        super().__init__(message)
        self.error = error


class Head:
    """A decoded header block. fields: regular ones; of a name that repeats, the values joined by commas.

    malformed: why it is no request (RFC 9113, 8.1.1), "" if it is one. trailers: it may end a request.
    plan: whatever the handler wants to remember with it.
    """

    __slots__ = ("content_length", "fields", "malformed", "method", "path", "plan", "trailers")

    def __init__(self, fields: Fields) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.plan: Any = None
        self.content_length: int | None = None
        pseudo: dict[bytes, bytes] = {}
        wrong = ""
        for name, value in fields:
            if name.startswith(b":"):
                if name not in REQUEST_FIELDS or name in pseudo or self.fields:
                    wrong = wrong or f"pseudo-header field {_show(name)} is unknown, given twice or late"
                pseudo[name] = value
                continue
            if not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
                wrong = wrong or f"header field {_show(name)} holds what it must not"
            elif name in CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
                wrong = wrong or f"header field {_show(name)} has no place in HTTP/2"
            self.fields[name] = value if name not in self.fields else b"%b,%b" % (self.fields[name], value)
        self.trailers = not pseudo and not wrong
        self.method = pseudo.get(b":method", b"")
        self.path = pseudo.get(b":path", b"")
        if not wrong and not (self.method and self.path and b":scheme" in pseudo):
            wrong = "one of :method, :scheme and :path is missing"
        length = self.fields.get(b"content-length")
        if length is not None:
            if length.isdigit() and len(length) < 16:
                self.content_length = int(length)
            else:
                wrong = wrong or "content-length is no number"
        self.malformed = wrong


def frame(kind: Kind, flags: int, stream_id: int, payload: bytes | memoryview) -> bytes:
    length = len(payload)
    return FRAME_HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def block(*fields: tuple[str, str]) -> bytes:
    """A header block that uses no table, so that it means the same on every connection."""
    return hpack.Encoder().encode([(name, value, True) for name, value in fields], huffman=False)


def window_update(stream_id: int, more: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, NUMBER.pack(more))


def goaway(last_id: int, error: Error, text: bytes) -> bytes:
    return frame(Kind.GOAWAY, 0, 0, NUMBER.pack(last_id) + NUMBER.pack(error) + text)


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Fault(Error.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def _show(raw: bytes) -> str:
    return repr(raw.decode("latin-1"))

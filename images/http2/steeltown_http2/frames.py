"""HTTP/2's frames (RFC 9113), as bytes and as what they mean."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

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


class Fault(Exception):
    """What ends the connection."""

    def __init__(self, error: Error, message: str) -> None:
        super().__init__(message)
        self.error = error


def frame(kind: Kind, flags: int, stream_id: int, payload: bytes | memoryview) -> bytes:
    length = len(payload)
    return FRAME_HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def window_update(stream_id: int, more: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, NUMBER.pack(more))


def goaway(last_id: int, error: Error, text: bytes) -> bytes:
    return frame(Kind.GOAWAY, 0, 0, NUMBER.pack(last_id) + NUMBER.pack(error) + text)


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Fault(Error.PROTOCOL_ERROR, "padding exceeds the frame")
    return payload[1 : len(payload) - payload[0]]

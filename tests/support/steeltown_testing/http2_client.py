"""The other end of a `steeltown_http2.Connection`: says bytes and reads bytes, without a socket or a clock."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import hpack
from steeltown_http2 import Connection, Event, Limits, Load
from steeltown_http2.frames import END_HEADERS, END_STREAM, PREFACE, Error, Kind, frame

LIMITS = Limits(header_bytes=1000, body_bytes=1000, held_bytes=1500, request_seconds=5, idle_seconds=9)
HELLO = PREFACE + frame(Kind.SETTINGS, 0, 0, b"")
WHOLE = END_HEADERS | END_STREAM
REQUEST = ((":method", "POST"), (":scheme", "http"), (":path", "/"))

Said = tuple[Kind, int, int, bytes]


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def plain(*fields: tuple[str, str]) -> bytes:
    """A header block that leaves the table as it is."""
    return bytes(hpack.Encoder().encode([(n, v, True) for n, v in fields], huffman=False))


def opened(stream: int, *more: tuple[str, str], flags: int = END_HEADERS) -> bytes:
    return frame(Kind.HEADERS, flags, stream, plain(*REQUEST, *more))


def reset(stream: int, error: Error = Error.CANCEL) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, number(error))


def more_window(stream: int, size: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, number(size))


def frames(data: bytes) -> Iterator[Said]:
    while data:
        high, low, kind, flags, stream = struct.unpack_from(">HBBBI", data)
        length = high << 8 | low
        yield Kind(kind), flags, stream, data[9 : 9 + length]
        data = data[9 + length :]


class Client:
    """Whoever is at the other end. answers: what is done with each event, as soon as it comes."""

    def __init__(
        self,
        first: bytes = b"",
        *,
        answers: Callable[[Event], None] | None = None,
        limits: Limits = LIMITS,
        load: Load | None = None,
    ) -> None:
        self.load = load or Load()
        self.http2 = Connection(limits, self.load, now=0.0, age_seconds=1000)
        self._answers = answers
        self.send(PREFACE + frame(Kind.SETTINGS, 0, 0, first))
        self.said()

    def send(self, data: bytes, now: float = 0.0) -> list[Event]:
        """And all turns that this takes."""
        seen = self.turn(data, now)
        while self.http2.more:
            seen += self.turn(b"", now)
        return seen

    def turn(self, data: bytes, now: float = 0.0) -> list[Event]:
        seen = []
        for event in self.http2.receive(data, now):
            seen.append(event)
            if self._answers:
                self._answers(event)
        return seen

    def said(self) -> list[Said]:
        """Since it was last asked, less grants of window."""
        return [f for f in frames(self.http2.output()) if f[0] != Kind.WINDOW_UPDATE]

    def goaways(self) -> list[tuple[int, int, str]]:
        """last stream, error, text"""
        found = [payload for kind, _, _, payload in self.said() if kind == Kind.GOAWAY]
        return [(*struct.unpack_from(">II", payload), payload[8:].decode()) for payload in found]

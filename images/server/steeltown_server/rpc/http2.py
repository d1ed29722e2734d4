"""HTTP/2 (RFC 9113) as a thin skin: frames on a socket become a `Stream` with its request, an answer becomes one write.

Only what a server of unary and server-streaming calls needs: no push, no priorities, no upgrade from HTTP/1.1. Header
blocks are decoded by hpack; a client repeats the same few, so what a block means is remembered for as long as the
table that it refers to stays as it is. Ours are written without a table.

What a client can make us hold or do is bounded, as in HTTP/1.1: header block, body, streams, connections, answers that
nobody reads, time, and streams that are opened only to be reset. A fault of one stream resets it; a fault of the
connection ends it, with a GOAWAY that says why.

A connection is left in two steps, so that no call is lost: first GOAWAY names no last stream and a PING goes out; what
the client sent before it knew is still served; when the PING is back, GOAWAY names the last stream, and the connection
ends with it.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

import hpack

from ..http import LINGER_SECONDS, Limits
from .frames import (
    ACK,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    FRAME_HEADER,
    HEADER_BYTES,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAMS,
    NO_STREAM,
    NUMBER,
    PADDED,
    PREFACE,
    SETTING,
    TABLE_BYTES,
    WITH_PRIORITY,
    Error,
    Fault,
    Fields,
    Head,
    Kind,
    frame,
    goaway,
    unpadded,
    window_update,
)

WINDOW: Final = 1 << 20  # of each stream; the connection's is four of them
STREAMS: Final = 256
CONTINUATIONS: Final = 64
REMEMBERED_STREAMS: Final = 256
REMEMBERED_BLOCKS: Final = 16
REMEMBERED_BYTES: Final = 512
RESETS: Final = (
    256  # streams reset before their answer, by the client or for its fault, beyond those that were answered
)
EMPTY_FRAMES: Final = 256
KEEPALIVE_SECONDS: Final = 60.0
PONG_SECONDS: Final = 20.0
LEAVING: Final = b"leaving!"
ALIVE: Final = b"alive???"
AGE_SPREAD: Final = 0.1
NOTHING: Final = memoryview(b"")


class Handler(Protocol):
    """Who answers streams. Each method may answer at once, later or never."""

    def opened(self, stream: Stream) -> None:
        """The head is there, more will come: the place to refuse early."""

    def handle(self, stream: Stream, body: bytes) -> None:
        """The request is complete."""

    def refuse(self, stream: Stream, status: int, message: str) -> None:
        """Answer in this sense. status: as HTTP has it: 408, 413 or 503."""


class Http2Server:
    """What all connections share. age_seconds: of a connection, then its client is told to open another."""

    def __init__(self, handler: Handler, limits: Limits, *, age_seconds: float) -> None:
        self.handler = handler
        self.limits = limits
        self.connections: set[Connection] = set()
        self.held_bytes = 0
        self.streams = 0
        self._age_seconds = age_seconds
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()
        self._sweep()

    def connection(self) -> Connection:
        return Connection(self, self._loop)

    def age(self) -> float:
        """How old a new connection may become: spread, so that clients do not come back all at once."""
        return self._age_seconds * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311

    def leave(self) -> None:
        """Every connection ends when what is under way on it is answered."""
        for connection in tuple(self.connections):
            connection.leave()

    def stop(self) -> None:
        self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        """One timer for all connections: a timer each would cost every request."""
        self.now = self._loop.time()
        for connection in tuple(self.connections):
            connection.check(self.now)
        shortest = min(self.limits.idle_seconds, self.limits.request_seconds, self._age_seconds)
        self._sweeper = self._loop.call_later(min(1.0, shortest / 4), self._sweep)


class Stream:
    """One request and its answer.

    left: called once if the client is gone before the answer. gone: nothing that is sent will reach it.
    """

    __slots__ = (
        "_connection",
        "answered",
        "began",
        "blocked_since",
        "chunks",
        "complete",
        "gone",
        "head",
        "held_bytes",
        "id",
        "left",
        "pending",
        "received_bytes",
        "trailers",
        "window",
        "window_in",
    )

    def __init__(self, connection: Connection, id: int, head: Head, window: int, now: float) -> None:
        self._connection = connection
        self.id = id
        self.head = head
        self.window = window  # what we may send
        self.window_in = WINDOW
        self.began = now
        self.chunks: list[bytes] = []
        self.received_bytes = 0
        self.held_bytes = 0
        self.complete = False  # the request is
        self.answered = False
        self.gone = False
        self.left: Callable[[], None] | None = None
        self.pending = NOTHING  # data of the answer for which there is no window
        self.trailers: bytes | None = None  # of the answer, once known
        self.blocked_since = 0.0

    def answer(self, head: bytes, data: bytes, trailers: bytes) -> None:
        """The whole of it; the first answer stands. head, trailers: from `block`, and b"" where there is none."""
        if not self.answered and not self.gone:
            self.answered = True
            self._connection.send(self, head, data, trailers)

    def send(self, head: bytes, data: bytes) -> None:
        """A part of an answer that goes on; head: b"" after the first."""
        if not self.answered and not self.gone:
            self._connection.send(self, head, data, None)


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, server: Http2Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._read_frames = self._preface
        self._rest = b""
        self._settled = False  # the client's first SETTINGS are there
        self._deaf = False
        self._decoder = hpack.Decoder(max_header_list_size=server.limits.header_bytes)
        self._heads: dict[bytes, Head] = {}
        self._fragments: list[bytes] = []
        self._fragments_of = 0  # the stream of an unfinished header block
        self._fragments_end_stream = False
        self._fragment_bytes = 0
        self._streams: dict[int, Stream] = {}
        self._closed: OrderedDict[int, bool] = OrderedDict()  # lately; True: by us, and the client may not know yet
        self._last_id = 0
        self._final_id = NO_STREAM  # streams above are not served
        self._leaving = False
        self._window = DEFAULT_WINDOW  # what we may send
        self._window_in = 4 * WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._frame_bytes = FRAME_BYTES
        self._blocked: dict[int, Stream] = {}
        self._table_update = b""
        self._resets = RESETS
        self._empty_frames = 0
        self._write_paused_since: float | None = None
        self._partial_since: float | None = None
        self._pinged = False
        self.active = server.now
        self._old = server.now + server.age()

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        server.connections.add(self)
        settings = (
            (MAX_STREAMS, STREAMS),
            (INITIAL_WINDOW_SIZE, WINDOW),
            (MAX_HEADER_LIST_SIZE, server.limits.header_bytes),
        )
        hello = frame(Kind.SETTINGS, 0, 0, b"".join(SETTING.pack(*s) for s in settings))
        self._transport.write(hello + window_update(0, 4 * WINDOW - DEFAULT_WINDOW))
        if len(server.connections) > server.limits.connections:
            text = f"the server is busy: more than {server.limits.connections} connections, the limit; try again"
            self._end(Error.ENHANCE_YOUR_CALM, text)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._deaf = True
        self._server.connections.discard(self)
        for stream in tuple(self._streams.values()):
            self._drop(stream)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self.active = self._server.now
        self._pinged = False
        try:
            self._rest = rest = self._read_frames(self._rest + data if self._rest else data)
        except Fault as fault:
            self._end(fault.error, str(fault))
            return
        if not rest and not self._fragments_of:
            self._partial_since = None
        elif self._partial_since is None:
            self._partial_since = self._server.now

    def eof_received(self) -> bool:
        """A client that half-closes is gone: no client of HTTP/2 does so and waits."""
        return False

    def pause_writing(self) -> None:
        self._write_paused_since = self._server.now
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._write_paused_since = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- frames that come

    def _preface(self, data: bytes) -> bytes:
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise Fault(Error.PROTOCOL_ERROR, "this port speaks HTTP/2 with prior knowledge (gRPC) and nothing else")
        if len(data) < len(PREFACE):
            return data
        self._read_frames = self._whole_frames
        return self._whole_frames(data[len(PREFACE) :])

    def _whole_frames(self, data: bytes) -> bytes:
        """Handles every whole frame; what is left over."""
        at, end = 0, len(data)
        while end - at >= HEADER_BYTES and not self._deaf:
            high, low, kind, flags, stream_id = FRAME_HEADER.unpack_from(data, at)
            length = high << 8 | low
            if length > FRAME_BYTES:
                raise Fault(Error.FRAME_SIZE_ERROR, f"a frame of {length} bytes, at most {FRAME_BYTES} are taken")
            start = at + HEADER_BYTES
            if end - start < length:
                break
            at = start + length
            if self._fragments_of and kind != Kind.CONTINUATION:
                raise Fault(Error.PROTOCOL_ERROR, "a header block is not finished")
            if not self._settled:
                if kind != Kind.SETTINGS or flags & ACK:
                    raise Fault(Error.PROTOCOL_ERROR, "the first frame must be SETTINGS")
                self._settled = True
            handle = FRAMES.get(kind)
            if handle is not None:  # frames of unknown types are ignored
                handle(self, flags, stream_id & NO_STREAM, data[start:at])
        return data[at:]

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise Fault(Error.PROTOCOL_ERROR, "DATA on stream 0")
        size = len(payload)
        self._window_in -= size
        if self._window_in < 0:
            raise Fault(Error.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        if self._window_in < 2 * WINDOW:
            self._write(window_update(0, 4 * WINDOW - self._window_in))
            self._window_in = 4 * WINDOW
        if flags & PADDED:
            payload = unpadded(payload)
        if not payload and not flags & END_STREAM:
            self._empty_frames += 1
            if self._empty_frames > EMPTY_FRAMES:
                raise Fault(Error.ENHANCE_YOUR_CALM, "too many empty frames")
        stream = self._streams.get(stream_id)
        if stream is None or stream.complete:
            self._late_frame(stream_id)
            return
        stream.window_in -= size
        if stream.window_in < 0:
            self._reset_for_fault(stream, Error.FLOW_CONTROL_ERROR)
            return
        if payload and not stream.answered:
            server, limits = self._server, self._server.limits
            stream.chunks.append(payload)
            stream.received_bytes += len(payload)
            stream.held_bytes += len(payload)
            server.held_bytes += len(payload)
            if stream.received_bytes > limits.body_bytes:
                text = f"the message is larger than the limit of {limits.body_bytes} bytes"
                server.handler.refuse(stream, 413, text)
                return
            if server.held_bytes > limits.held_bytes:
                text = f"requests of more than {limits.held_bytes} bytes are under way, the limit"
                server.handler.refuse(stream, 503, f"the server is busy: {text}; try again")
                return
        if flags & END_STREAM:
            self._complete(stream)
        elif stream.window_in < WINDOW // 2:
            self._write(window_update(stream_id, WINDOW - stream.window_in))
            stream.window_in = WINDOW

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise Fault(Error.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which no client opens")
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise Fault(Error.FRAME_SIZE_ERROR, "HEADERS too short for their priority")
            depends_on = NUMBER.unpack_from(payload)[0] & NO_STREAM
            payload = payload[5:]
            if depends_on == stream_id:
                raise Fault(Error.PROTOCOL_ERROR, "a stream depends on itself")
        if flags & END_HEADERS:
            self._block(stream_id, payload, bool(flags & END_STREAM))
            return
        self._fragments = [payload]
        self._fragments_of = stream_id
        self._fragments_end_stream = bool(flags & END_STREAM)
        self._fragment_bytes = len(payload)

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0 or stream_id != self._fragments_of:
            raise Fault(Error.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._fragments.append(payload)
        self._fragment_bytes += len(payload)
        if len(self._fragments) > CONTINUATIONS or self._fragment_bytes > self._server.limits.header_bytes:
            raise Fault(Error.ENHANCE_YOUR_CALM, f"headers larger than {self._server.limits.header_bytes} bytes")
        if flags & END_HEADERS:
            block = b"".join(self._fragments)
            self._fragments, self._fragments_of = [], 0
            self._block(stream_id, block, self._fragments_end_stream)

    def _block(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        head = self._heads.get(block) or self._decoded(block)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.complete:
            if end_stream and head.trailers:
                self._complete(stream)
            else:
                self._reset_for_fault(stream, Error.PROTOCOL_ERROR)
            return
        if stream_id <= self._last_id:
            if not self._closed.get(stream_id, False):
                known = stream is not None or stream_id in self._closed
                error = Error.STREAM_CLOSED if known else Error.PROTOCOL_ERROR
                raise Fault(error, f"HEADERS on stream {stream_id}, which has ended")
            return
        self._last_id = stream_id
        if stream_id > self._final_id:  # the client may not know yet
            self._rst(stream_id, Error.REFUSED_STREAM)
            return
        if len(self._streams) >= STREAMS:
            self._abused()
            self._rst(stream_id, Error.REFUSED_STREAM)
            return
        if head.malformed:
            self._abused()
            self._rst(stream_id, Error.PROTOCOL_ERROR)
            return
        stream = Stream(self, stream_id, head, self._stream_window, self._server.now)
        self._streams[stream_id] = stream
        self._server.streams += 1
        if end_stream:
            self._complete(stream)
        else:
            self._server.handler.opened(stream)

    def _decoded(self, block: bytes) -> Head:
        first = self._newest_entry()
        try:
            head = Head(cast(Fields, self._decoder.decode(block, raw=True)))
        except hpack.OversizedHeaderListError:
            text = f"headers larger than {self._server.limits.header_bytes} bytes"
            raise Fault(Error.ENHANCE_YOUR_CALM, text) from None
        except (hpack.HPACKError, IndexError):
            raise Fault(Error.COMPRESSION_ERROR, "a header block cannot be decoded") from None
        if self._newest_entry() is not first or len(self._heads) >= REMEMBERED_BLOCKS:
            self._heads.clear()
        elif len(block) <= REMEMBERED_BYTES:
            self._heads[block] = head
        return head

    def _newest_entry(self) -> object:
        """Of the table. Indices count from it, so they mean the same for as long as it is the newest."""
        entries = self._decoder.header_table.dynamic_entries
        return entries[0] if entries else None

    def _complete(self, stream: Stream) -> None:
        stream.complete = True
        expected = stream.head.content_length
        if expected is not None and expected != stream.received_bytes:
            self._reset_for_fault(stream, Error.PROTOCOL_ERROR)
            return
        chunks, stream.chunks = stream.chunks, []
        self._server.handler.handle(stream, chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _late_frame(self, stream_id: int) -> None:
        """DATA on a stream that takes none."""
        if stream_id > self._last_id or (stream_id % 2 == 0):
            raise Fault(Error.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is not open")
        if self._closed.get(stream_id, False):
            return  # we have ended it, and the client did not know
        if stream_id in self._streams:
            self._reset_for_fault(self._streams[stream_id], Error.STREAM_CLOSED)
        else:
            self._abused()
            self._rst(stream_id, Error.STREAM_CLOSED)

    def _priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise Fault(Error.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise Fault(Error.FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")
        if NUMBER.unpack_from(payload)[0] & NO_STREAM == stream_id:
            raise Fault(Error.PROTOCOL_ERROR, "a stream depends on itself")

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Error.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        if stream_id == 0 or stream_id > self._last_id:
            raise Fault(Error.PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}, which is not open")
        stream = self._streams.get(stream_id)
        if stream is not None:
            if not stream.answered:
                self._abused()
            self._forget(stream, by_us=False)
            self._drop(stream)
            self._close_if_left()

    def _abused(self) -> None:
        """Streams that are only opened and reset cost us more than the client (CVE-2023-44487), and no less where
        the client makes us send the reset (CVE-2025-8671)."""
        self._resets -= 1
        if self._resets < 0:
            raise Fault(Error.ENHANCE_YOUR_CALM, "too many streams were reset")

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise Fault(Error.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % SETTING.size or (flags & ACK and payload):
            raise Fault(Error.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if flags & ACK:
            return
        for name, value in SETTING.iter_unpack(payload):
            self._setting(name, value)
        self._write(frame(Kind.SETTINGS, ACK, 0, b""))
        self._pump_all()

    def _setting(self, name: int, value: int) -> None:
        if name == HEADER_TABLE_SIZE and value < TABLE_BYTES:
            self._table_update = b"\x20"  # we use no table, and say so (RFC 7541, 4.2)
        elif name == ENABLE_PUSH and value > 1:
            raise Fault(Error.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        elif name == MAX_FRAME_SIZE:
            if not FRAME_BYTES <= value < 1 << 24:
                raise Fault(Error.PROTOCOL_ERROR, f"MAX_FRAME_SIZE cannot be {value}")
            self._frame_bytes = value
        elif name == INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise Fault(Error.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE cannot be {value}")
            for stream in self._streams.values():
                stream.window += value - self._stream_window
                if stream.window > LARGEST_WINDOW:
                    raise Fault(Error.FLOW_CONTROL_ERROR, "a window too large")
            self._stream_window = value

    def _push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise Fault(Error.PROTOCOL_ERROR, "a client does not push")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise Fault(Error.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise Fault(Error.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if not flags & ACK:
            self._write(frame(Kind.PING, ACK, 0, payload))
        elif payload == LEAVING and self._leaving:
            self._name_last_stream()

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise Fault(Error.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise Fault(Error.FRAME_SIZE_ERROR, "GOAWAY has at least 8 bytes")
        self._leaving = True
        self._name_last_stream()

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Error.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        more = NUMBER.unpack(payload)[0] & LARGEST_WINDOW
        if stream_id == 0:
            if more == 0:
                raise Fault(Error.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._window += more
            if self._window > LARGEST_WINDOW:
                raise Fault(Error.FLOW_CONTROL_ERROR, "the connection's window is too large")
            self._pump_all()
            return
        if stream_id > self._last_id:
            raise Fault(Error.PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {stream_id}, which is not open")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.window += more
        if more == 0 or stream.window > LARGEST_WINDOW:
            self._reset_for_fault(stream, Error.PROTOCOL_ERROR if more == 0 else Error.FLOW_CONTROL_ERROR)
        elif stream.id in self._blocked:
            self._pump(stream)

    # -- frames that go

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def send(self, stream: Stream, head: bytes, data: bytes, trailers: bytes | None) -> None:
        """trailers: None if the answer goes on."""
        if trailers is not None:
            self._release(stream)
        if not stream.pending and len(data) <= min(self._window, stream.window, self._frame_bytes):
            self._write(self._frames_of(stream, head, data, trailers))
            if trailers is not None:
                self._finish(stream)
            return
        if head:
            self._write(self._header_frames(stream.id, head, 0))
        if not stream.pending:
            stream.blocked_since = self._server.now
        stream.pending = memoryview(b"".join((stream.pending, data)) if stream.pending else data)
        stream.trailers = trailers
        stream.held_bytes += len(data)
        self._server.held_bytes += len(data)
        self._blocked[stream.id] = stream
        self._pump(stream)

    def _frames_of(self, stream: Stream, head: bytes, data: bytes, trailers: bytes | None) -> bytes:
        """All that fits into the windows and one frame of DATA."""
        parts: list[bytes] = []
        end = END_STREAM if trailers == b"" else 0
        if head:
            parts.append(self._header_frames(stream.id, head, 0 if data else end))
        if data:
            self._window -= len(data)
            stream.window -= len(data)
            parts.append(frame(Kind.DATA, end, stream.id, data))
        if trailers:
            parts.append(self._header_frames(stream.id, trailers, END_STREAM))
        return b"".join(parts)

    def _header_frames(self, stream_id: int, fields: bytes, flags: int) -> bytes:
        if self._table_update:
            fields, self._table_update = self._table_update + fields, b""
        if len(fields) <= FRAME_BYTES:
            return frame(Kind.HEADERS, flags | END_HEADERS, stream_id, fields)
        parts = [fields[i : i + FRAME_BYTES] for i in range(0, len(fields), FRAME_BYTES)]
        first = frame(Kind.HEADERS, flags, stream_id, parts[0])
        middle = [frame(Kind.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
        return b"".join((first, *middle, frame(Kind.CONTINUATION, END_HEADERS, stream_id, parts[-1])))

    def _pump_all(self) -> None:
        for stream in tuple(self._blocked.values()):
            self._pump(stream)

    def _pump(self, stream: Stream) -> None:
        """Sends what the windows allow of an answer that did not fit into them."""
        pending = stream.pending
        sent = 0
        parts: list[bytes] = []
        while sent < len(pending):
            size = min(len(pending) - sent, self._window, stream.window, self._frame_bytes)
            if size <= 0:
                break
            end = END_STREAM if stream.trailers == b"" and sent + size == len(pending) else 0
            parts.append(frame(Kind.DATA, end, stream.id, pending[sent : sent + size]))
            sent += size
            self._window -= size
            stream.window -= size
        if parts:
            self._write(b"".join(parts))
            stream.pending = pending[sent:]
            stream.held_bytes -= sent
            self._server.held_bytes -= sent
            stream.blocked_since = self._server.now
        if not stream.pending:
            self._blocked.pop(stream.id, None)
            if stream.trailers is not None:
                if stream.trailers:
                    self._write(self._header_frames(stream.id, stream.trailers, END_STREAM))
                self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """The answer is sent."""
        if not stream.complete:
            self._rst(stream.id, Error.NO_ERROR)  # RFC 9113, 8.1: we need no more of the request
        self._resets = min(self._resets + 1, RESETS)
        stream.left = None
        self._forget(stream, by_us=not stream.complete)
        self._close_if_left()

    def _reset_for_fault(self, stream: Stream, error: Error) -> None:
        self._abused()
        self._reset(stream, error)

    def _reset(self, stream: Stream, error: Error) -> None:
        self._rst(stream.id, error)
        self._forget(stream, by_us=True)
        self._drop(stream)
        self._close_if_left()

    def _rst(self, stream_id: int, error: Error) -> None:
        self._write(frame(Kind.RST_STREAM, 0, stream_id, NUMBER.pack(error)))
        self._remember(stream_id, True)

    # -- the end of streams

    def _remember(self, stream_id: int, by_us: bool) -> None:
        self._closed[stream_id] = by_us
        if len(self._closed) > REMEMBERED_STREAMS:
            self._closed.popitem(last=False)

    def _forget(self, stream: Stream, *, by_us: bool) -> None:
        if self._streams.pop(stream.id, None) is not None:
            self._server.streams -= 1
        self._blocked.pop(stream.id, None)
        self._remember(stream.id, by_us)
        stream.pending = NOTHING
        stream.gone = True
        self._release(stream)

    def _release(self, stream: Stream) -> None:
        """Of what it holds, all but the answer that waits."""
        self._server.held_bytes -= stream.held_bytes - len(stream.pending)
        stream.held_bytes = len(stream.pending)
        stream.chunks = []

    def _drop(self, stream: Stream) -> None:
        """Nobody waits for it any more."""
        self._forget(stream, by_us=self._closed.get(stream.id, False))
        if not stream.answered and stream.left is not None:
            stream.left()
        stream.left = None

    # -- the end of the connection

    def leave(self) -> None:
        """Ends when what is under way is answered; what the client sends before it knows counts as under way."""
        if self._leaving or self._deaf:
            return
        self._leaving = True
        self._write(goaway(NO_STREAM, Error.NO_ERROR, b"") + frame(Kind.PING, 0, 0, LEAVING))
        self._loop.call_later(LINGER_SECONDS, self._name_last_stream)  # where no PING comes back

    def _name_last_stream(self) -> None:
        if self._final_id == NO_STREAM and not self._deaf:
            self._final_id = self._last_id
            self._write(goaway(self._last_id, Error.NO_ERROR, b""))
        self._close_if_left()

    def _close_if_left(self) -> None:
        if self._final_id != NO_STREAM and not self._streams and not self._deaf:
            self._linger()

    def _end(self, error: Error, message: str) -> None:
        """After a fault."""
        self._deaf = True
        self._write(goaway(min(self._last_id, self._final_id), error, message.encode()))
        for stream in tuple(self._streams.values()):
            self._drop(stream)
        self._linger()

    def _linger(self) -> None:
        """The client is to read all of it and close: a socket that is closed with unread input resets what it sent."""
        self._deaf = True
        if self._transport is not None:
            self._transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, self._transport.close)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """What time has ended; called every second or so."""
        limits = self._server.limits
        quiet = now - self.active
        paused, partial = self._write_paused_since, self._partial_since
        if paused is not None and now - paused > limits.idle_seconds:
            self.abort()  # a close would wait for a reader that does not read
            return
        if self._deaf:
            return
        if partial is not None and now - partial > limits.request_seconds:
            self._end(Error.ENHANCE_YOUR_CALM, "a frame did not arrive in time")
            return
        for stream in tuple(self._streams.values()):
            if stream.pending and now - stream.blocked_since > limits.idle_seconds:
                self._reset(stream, Error.CANCEL)
            elif not stream.complete and not stream.answered and now - stream.began > limits.request_seconds:
                self._server.handler.refuse(stream, 408, "the request did not arrive in time")
        if not self._streams:
            if quiet > limits.idle_seconds:
                self._leaving = True
                self._name_last_stream()
        elif quiet > KEEPALIVE_SECONDS + PONG_SECONDS:
            self.abort()
        elif quiet > KEEPALIVE_SECONDS and not self._pinged:
            self._pinged = True
            self._write(frame(Kind.PING, 0, 0, ALIVE))
        if now > self._old:
            self.leave()


FRAMES: Final[Mapping[int, Callable[[Connection, int, int, bytes], None]]] = {
    Kind.DATA: Connection._data,
    Kind.HEADERS: Connection._headers,
    Kind.PRIORITY: Connection._priority,
    Kind.RST_STREAM: Connection._rst_stream,
    Kind.SETTINGS: Connection._settings,
    Kind.PUSH_PROMISE: Connection._push_promise,
    Kind.PING: Connection._ping,
    Kind.GOAWAY: Connection._goaway,
    Kind.WINDOW_UPDATE: Connection._window_update,
    Kind.CONTINUATION: Connection._continuation,
}

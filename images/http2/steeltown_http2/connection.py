"""One connection of HTTP/2: from bytes to events, from answers to bytes.

What a client can make us hold or do is bounded, as in HTTP/1.1: header block, body, streams, answers that nobody
reads, time, and whatever it makes us do without taking an answer for it (`abuse`). A fault of one stream resets it; a
fault of the connection ends it, with a GOAWAY that says why.

Flow control: what we take is granted again as soon as it is here, for the bodies are bounded by themselves; what we
send waits for the client's windows, the connection's and the stream's, and answers of other streams pass it. Answers
that wait for their own window stand apart from those that wait for the connection's, which go in turn, a part of each:
so a frame makes us look at no stream but those that can move.

What is done at a time is bounded, in frames, requests and bytes that go out: what is left is for the next turn
(`more`), after other connections have had theirs. While the transport takes nothing (`pause`) answers wait here, where
they count.

A request that was handed over is work, and ends when the owner says so, with its answer or with `done`: until then it
keeps its place among the streams and its bytes count as held, also if its client has reset it, or its deadline has
answered it, and whether or not the connection lives on.

A connection is left in two steps, so that no call is lost: first GOAWAY names no last stream and a PING goes out; what
the client sent before it knew is still served; when the PING is back, GOAWAY names the last stream, and the connection
ends with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .abuse import BYTES_PER_FRAME, FRAME, RESET, AbuseBudget
from .blocks import OVERSIZE, Blocks, Head
from .events import Complete, Event, Left, Opened, Refused
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
    Kind,
    frame,
    goaway,
    unpadded,
    window_update,
)

WINDOW: Final = 1 << 20  # of each stream; the connection's is four of them
STREAMS: Final = 256
TURN_FRAMES: Final = 1024
EVENT_FRAMES: Final = 8  # that an event counts for: a request is two at most, and its answer may be made at once
FIELD_FRAMES: Final = 2  # that a field of a header block counts for, unless the block is remembered
TURN_BYTES: Final = 1 << 18
NONE_AT_ONCE: Final = -1
PART_BYTES: Final = 1 << 16  # of an answer that waits, before it is the next one's turn
CONTINUATIONS: Final = 64
SMALL_BYTES: Final = 64  # of DATA in the midst of a body; less is charged for
OVERSIZE_BYTES: Final = 1024  # of a block above the limit: a frame's worth of work
SETTINGS_BYTES: Final = 192  # of SETTINGS: a frame's worth of work
REMEMBERED_STREAMS: Final = 256
KEEPALIVE_SECONDS: Final = 60.0
PONG_SECONDS: Final = 20.0
LEAVING_SECONDS: Final = 2.0  # then the last stream is named though no PING has come back
LEAVING: Final = b"leaving!"
ALIVE: Final = b"alive???"
NOTHING: Final = memoryview(b"")
JOINED_BYTES: Final = 4096  # smaller parts of a body share a buffer
_DATA, _HEADERS = int(Kind.DATA), int(Kind.HEADERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may make us hold or wait for.

    header_bytes, body_bytes: of one request.
    held_bytes: of all bodies and answers under way, over all connections that share a `Load`.
    request_seconds: from a request's first byte to its last.
    idle_seconds: of a connection on which nothing happens, and of an answer for which no window comes.
    """

    header_bytes: int
    body_bytes: int
    held_bytes: int
    request_seconds: float
    idle_seconds: float


class Load:
    """What connections that share a server have under way together."""

    __slots__ = ("held_bytes", "streams")

    def __init__(self) -> None:
        self.held_bytes = 0
        self.streams = 0


class Stream:
    """One request and its answer. The owner may derive a class of its own, for what it wants to remember with it.

    gone: nothing that is sent will reach the client. working: the owner has it, and has not yet said that it is done.
    """

    __slots__ = (
        "answered",
        "began",
        "blocked_since",
        "chunks",
        "complete",
        "gone",
        "head",
        "held_bytes",
        "id",
        "pending",
        "received_bytes",
        "trailers",
        "window",
        "window_in",
        "working",
    )

    def __init__(self, id: int, head: Head, now: float) -> None:
        self.id = id
        self.head = head
        self.window = 0  # what we may send, beyond that of a new stream
        self.window_in = WINDOW
        self.began = now
        self.chunks: list[bytes | bytearray] = []
        self.received_bytes = 0
        self.held_bytes = 0
        self.complete = False  # the request is
        self.answered = False
        self.gone = False
        self.working = False
        self.pending = NOTHING  # data of the answer for which there is no window
        self.trailers: bytes | None = None  # of the answer, once known
        self.blocked_since = 0.0


def _append(parts: list[bytes | bytearray], part: bytes) -> None:
    """Parts that are small share a buffer: as objects of their own they would take many times their size."""
    if len(part) >= JOINED_BYTES or not parts:
        parts.append(part)
    elif type(parts[-1]) is bytearray:
        parts[-1] += part
    else:
        parts.append(bytearray(part))


class Connection:
    """One client connection. Times are seconds of one clock that does not jump.

    To be asked after each call: `output`, what is to be written; `ended`, then it is to be closed once that is written
    and the client has read it; `dead`, then it is to be cut off at once; `more`, then `receive` is to be called again,
    without bytes, as soon as others have had their turn, and nothing is to be read before.
    """

    def __init__(
        self,
        limits: Limits,
        load: Load,
        *,
        now: float,
        age_seconds: float,
        stream: type[Stream] = Stream,
    ) -> None:
        """age_seconds: then the client is told to open another. stream: what requests are held in."""
        self._new_stream = stream
        self._limits = limits
        self._load = load
        self._now = now
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self.ended = False
        self.dead = False
        self.more = False
        self._turn = 0  # frames that may still be read in this one
        self._room = TURN_BYTES  # of answers that waited, in this turn
        self._paused = False
        self._unsent_bytes = 0
        self._awaits_preface = True
        self._rest = b""
        self._settled = False  # the client's first SETTINGS are there
        self._blocks = Blocks(limits.header_bytes)
        self._budget = AbuseBudget()
        self._fragments: list[bytes] = []
        self._fragments_of = 0  # the stream of an unfinished header block
        self._fragments_end_stream = False
        self._fragment_bytes = 0
        self._streams: dict[int, Stream] = {}
        self._orphans = 0  # streams that are gone while the work for them goes on
        self._closed: OrderedDict[int, bool] = OrderedDict()  # lately; True: by us, and the client may not know yet
        self._last_id = 0
        self._final_id = NO_STREAM  # streams above are not served
        self._leaving_since: float | None = None
        self._window = DEFAULT_WINDOW  # what we may send
        self._window_in = 4 * WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._frame_bytes = FRAME_BYTES
        self._at_once_bytes = FRAME_BYTES  # of an answer that goes out in one frame, if the windows allow
        self._widest = 0  # no stream's `window` is wider
        self._waiting: dict[int, Stream] = {}  # their answers wait for windows of their own
        self._movable: OrderedDict[int, Stream] = OrderedDict()  # have one, and wait for the connection's, in turn
        self._table_update = b""
        self._partial_since: float | None = None
        self._pinged = False
        self._active = now
        self._old = now + age_seconds
        settings = (
            (MAX_STREAMS, STREAMS),
            (INITIAL_WINDOW_SIZE, WINDOW),
            (MAX_HEADER_LIST_SIZE, limits.header_bytes),
        )
        self._write(frame(Kind.SETTINGS, 0, 0, b"".join(SETTING.pack(*s) for s in settings)))
        self._write(window_update(0, 4 * WINDOW - DEFAULT_WINDOW))

    # -- what happens

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """Bytes of the client. Each event comes before the next frame is read, so that an answer to it counts there.

        To be iterated to its end before anything else is asked.
        """
        self.more = False
        if self.ended:
            return
        self._now = now
        if data:
            self._active = now
            self._pinged = False
        events, fragments_of = self._events, self._fragments_of
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        self._turn = TURN_FRAMES
        if not self._paused:
            self._room = TURN_BYTES
        if self._movable:
            self._pump()
        try:
            if self._awaits_preface:
                at = self._preface(data)
                end = end if at else 0
            while end - at >= HEADER_BYTES and self._turn > 0 and not self.ended:
                high, low, kind, flags, stream_id = FRAME_HEADER.unpack_from(data, at)
                length = high << 8 | low
                if length > FRAME_BYTES:
                    raise Fault(
                        Error.FRAME_SIZE_ERROR, f"frame of {length} bytes exceeds the limit of {FRAME_BYTES} bytes"
                    )
                start = at + HEADER_BYTES
                if end - start < length:
                    break
                at = start + length
                self._turn -= 1
                if self._fragments_of and kind != Kind.CONTINUATION:
                    raise Fault(Error.PROTOCOL_ERROR, "expected CONTINUATION: the header block is incomplete")
                if not self._settled:
                    if kind != Kind.SETTINGS or flags & ACK:
                        raise Fault(Error.PROTOCOL_ERROR, "the first frame must be SETTINGS")
                    self._settled = True
                handle = FRAMES.get(kind)
                if handle is None:  # unknown types are ignored
                    self._budget.spend_frames()
                    continue
                handle(self, flags, stream_id & NO_STREAM, data[start:at])
                if events:
                    self._turn -= EVENT_FRAMES * len(events)
                    yield from events
                    events.clear()
        except Fault as fault:
            self.end(fault.error, str(fault))
            yield from self._told()
            return
        self._rest = data[at:]
        if self._turn <= 0 and end - at >= HEADER_BYTES:
            self.more = True
        elif self._rest or self._fragments_of:
            another = at > 0 and (not self._fragments_of or self._fragments_of != fragments_of)
            if another or self._partial_since is None:
                self._partial_since = now
        else:
            self._partial_since = None

    def pass_time(self, now: float) -> list[Event]:
        """What time has ended; to be called every second or so."""
        self._now = now
        self._check()
        return self._told()

    def answer(self, stream: Stream, head: bytes, data: bytes, trailers: bytes, *, early: bool = False) -> None:
        """The whole of it, or its end; the first stands. head, trailers: from `block`, and b"" where there is none.

        early: the work for it goes on, as after a deadline; `done` or the answer that comes too late ends it.
        """
        if not early:
            self.done(stream)
        if stream.answered or stream.gone:
            return
        stream.answered = True
        if not stream.pending and (not data or self._fits(stream, len(data))):
            self._out.append(self._frames_of(stream, head, data, trailers))
            self._finish(stream)
        else:
            self._wait(stream, head, data, trailers)

    def done(self, stream: Stream) -> None:
        """The work for a request has ended, whether or not anybody still waits for its answer."""
        if stream.working:
            stream.working = False
            if stream.gone:
                self._orphans -= 1
        self._release(stream)

    def send(self, stream: Stream, head: bytes, data: bytes) -> None:
        """A part of an answer that goes on; head: b"" after the first."""
        if stream.answered or stream.gone:
            return
        if not stream.pending and (not data or self._fits(stream, len(data))):
            self._out.append(self._frames_of(stream, head, data, None))
        else:
            self._wait(stream, head, data, None)

    def pause(self, unsent_bytes: int) -> None:
        """The transport takes no more for now, and has not sent so much of what it took, which counts as held."""
        self._paused, self._room, self._at_once_bytes = True, 0, NONE_AT_ONCE
        self._hold_unsent(unsent_bytes)

    def resume(self) -> None:
        """The transport takes more: `receive` is to be called."""
        self._paused = False
        self._at_once_bytes = min(self._frame_bytes, PART_BYTES)
        self._hold_unsent(0)

    def _hold_unsent(self, size: int) -> None:
        self._load.held_bytes += size - self._unsent_bytes
        self._unsent_bytes = size

    def lost(self) -> list[Event]:
        """The transport is gone."""
        self.ended = True
        self.more = False
        self._hold_unsent(0)
        self._release_fragments()
        for stream in tuple(self._streams.values()):
            self._drop(stream)
        self._out.clear()
        return self._told()

    def output(self) -> bytes:
        """What is to be written, once."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def _told(self) -> list[Event]:
        events = self._events.copy()
        self._events.clear()
        return events

    def _write(self, data: bytes) -> None:
        self._out.append(data)

    # -- frames that come

    def _preface(self, data: bytes) -> int:
        """Its length, once it is all there."""
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise Fault(Error.PROTOCOL_ERROR, "this port only supports gRPC over HTTP/2 with prior knowledge")
        if len(data) < len(PREFACE):
            return 0
        self._awaits_preface = False
        return len(PREFACE)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise Fault(Error.PROTOCOL_ERROR, "DATA on stream 0")
        size = len(payload)
        self._window_in -= size
        if self._window_in < 0:
            raise Fault(Error.FLOW_CONTROL_ERROR, "DATA exceeds the connection window")
        if self._window_in < 2 * WINDOW:
            self._write(window_update(0, 4 * WINDOW - self._window_in))
            self._window_in = 4 * WINDOW
        if flags & PADDED:
            payload = unpadded(payload)
        if not payload and not flags & END_STREAM:
            self._budget.spend_empty_frame()
        elif len(payload) < SMALL_BYTES and not flags & END_STREAM:
            self._budget.spend_frames()
        stream = self._streams.get(stream_id)
        if stream is None or stream.complete:
            self._late_frame(stream_id)
            return
        stream.window_in -= size
        if stream.window_in < 0:
            self._reset_for_fault(stream, Error.FLOW_CONTROL_ERROR)
            return
        if payload and not stream.answered:
            load, limits = self._load, self._limits
            _append(stream.chunks, payload)
            stream.received_bytes += len(payload)
            stream.held_bytes += len(payload)
            load.held_bytes += len(payload)
            if stream.received_bytes > limits.body_bytes:
                text = f"the message exceeds the limit of {limits.body_bytes} bytes"
                self._events.append(Refused(stream, 413, text))
                return
            if load.held_bytes > limits.held_bytes:
                self._events.append(Refused(stream, 503, f"the server is busy: {_held(limits)}; try again"))
                return
        if flags & END_STREAM:
            self._complete(stream)
        elif stream.window_in < WINDOW // 2:
            self._write(window_update(stream_id, WINDOW - stream.window_in))
            stream.window_in = WINDOW

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise Fault(Error.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which a client cannot open")
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise Fault(Error.FRAME_SIZE_ERROR, "HEADERS frame too short for its priority fields")
            depends_on = NUMBER.unpack_from(payload)[0] & NO_STREAM
            payload = payload[5:]
            if depends_on == stream_id:
                raise Fault(Error.PROTOCOL_ERROR, "a stream depends on itself")
        if flags & END_HEADERS:
            self._block(stream_id, payload, bool(flags & END_STREAM))
            return
        self._fragments_of = stream_id
        self._fragments_end_stream = bool(flags & END_STREAM)
        self._hold_fragment(payload)

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0 or stream_id != self._fragments_of:
            raise Fault(Error.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._budget.spend_frames()
        self._hold_fragment(payload)
        if flags & END_HEADERS:
            block = b"".join(self._fragments)
            self._release_fragments()
            self._block(stream_id, block, self._fragments_end_stream)

    def _hold_fragment(self, payload: bytes) -> None:
        limits, load = self._limits, self._load
        self._fragments.append(payload)
        self._fragment_bytes += len(payload)
        load.held_bytes += len(payload)
        if len(self._fragments) > CONTINUATIONS or self._fragment_bytes > OVERSIZE * limits.header_bytes:
            raise Fault(Error.ENHANCE_YOUR_CALM, f"headers exceed the limit of {limits.header_bytes} bytes")
        if load.held_bytes > limits.held_bytes:
            raise Fault(Error.ENHANCE_YOUR_CALM, f"the server is busy: {_held(limits)}; try again")

    def _release_fragments(self) -> None:
        self._load.held_bytes -= self._fragment_bytes
        self._fragments, self._fragments_of, self._fragment_bytes = [], 0, 0

    def _block(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        blocks = self._blocks
        head = blocks.head(block)
        if blocks.decoded_fields:
            self._turn -= FIELD_FRAMES * blocks.decoded_fields
            blocks.decoded_fields = 0
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.complete:
            if head.too_large:
                self._refuse_head(stream, head, end_stream)
            elif end_stream and head.trailers:
                self._complete(stream)
            else:
                self._reset_for_fault(stream, Error.PROTOCOL_ERROR)
            return
        if stream_id <= self._last_id:
            if not self._closed.get(stream_id, False):
                known = stream is not None or stream_id in self._closed
                error = Error.STREAM_CLOSED if known else Error.PROTOCOL_ERROR
                raise Fault(error, f"HEADERS on closed stream {stream_id}")
            self._budget.spend_frames()
            return
        self._last_id = stream_id
        if stream_id > self._final_id:  # the client may not know yet
            self._budget.spend_frames()
            self._rst(stream_id, Error.REFUSED_STREAM)
            return
        if len(self._streams) + self._orphans >= STREAMS:
            self._budget.spend_reset()
            self._rst(stream_id, Error.REFUSED_STREAM)
            return
        if head.malformed and not head.too_large:
            self._budget.spend_reset()
            self._rst(stream_id, Error.PROTOCOL_ERROR)
            return
        stream = self._new_stream(stream_id, head, self._now)
        self._streams[stream_id] = stream
        self._load.streams += 1
        if head.too_large:
            self._refuse_head(stream, head, end_stream)
        elif end_stream:
            self._complete(stream)
        else:
            self._events.append(Opened(stream))

    def _refuse_head(self, stream: Stream, head: Head, end_stream: bool) -> None:
        """Its metadata is too large, which is nobody else's fault on this connection."""
        self._budget.spend_frames(1 + head.too_large // OVERSIZE_BYTES)
        stream.complete = stream.complete or end_stream
        if not stream.answered:
            text = f"metadata of {head.too_large} bytes exceeds the limit of {self._limits.header_bytes} bytes"
            self._events.append(Refused(stream, 431, text))

    def _complete(self, stream: Stream) -> None:
        stream.complete = True
        expected = stream.head.content_length
        if expected is not None and expected != stream.received_bytes:
            self._reset_for_fault(stream, Error.PROTOCOL_ERROR)
            return
        chunks, stream.chunks = stream.chunks, []
        if not stream.answered:
            stream.working = True
            body = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
            self._events.append(Complete(stream, body))

    def _late_frame(self, stream_id: int) -> None:
        """DATA on a stream that takes none."""
        if stream_id > self._last_id or (stream_id % 2 == 0):
            raise Fault(Error.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is not open")
        if self._closed.get(stream_id, False):
            self._budget.spend_frames()  # we have ended it, and the client did not know
            return
        if stream_id in self._streams:
            self._reset_for_fault(self._streams[stream_id], Error.STREAM_CLOSED)
        else:
            self._budget.spend_reset()
            self._rst(stream_id, Error.STREAM_CLOSED)

    def _priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise Fault(Error.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise Fault(Error.FRAME_SIZE_ERROR, "PRIORITY must have 5 bytes")
        if NUMBER.unpack_from(payload)[0] & NO_STREAM == stream_id:
            raise Fault(Error.PROTOCOL_ERROR, "a stream depends on itself")
        self._budget.spend_frames()

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Error.FRAME_SIZE_ERROR, "RST_STREAM must have 4 bytes")
        if stream_id == 0 or stream_id > self._last_id:
            raise Fault(Error.PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}, which is not open")
        stream = self._streams.get(stream_id)
        if stream is None:
            self._budget.spend_frames()
            return
        self._budget.spend_reset()
        self._forget(stream, by_us=False)
        self._drop(stream)
        self._close_if_left()

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise Fault(Error.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % SETTING.size or (flags & ACK and payload):
            raise Fault(Error.FRAME_SIZE_ERROR, "invalid length of SETTINGS")
        self._budget.spend_frames(1 + len(payload) // SETTINGS_BYTES)
        if flags & ACK:
            return
        window = self._stream_window
        for name, value in SETTING.iter_unpack(payload):
            self._setting(name, value)
        self._write(frame(Kind.SETTINGS, ACK, 0, b""))
        if self._stream_window > window:
            self._widened()

    def _setting(self, name: int, value: int) -> None:
        if name == HEADER_TABLE_SIZE and value < TABLE_BYTES:
            self._table_update = b"\x20"  # we use no table, and say so (RFC 7541, 4.2)
        elif name == ENABLE_PUSH and value > 1:
            raise Fault(Error.PROTOCOL_ERROR, "ENABLE_PUSH must be 0 or 1")
        elif name == MAX_FRAME_SIZE:
            if not FRAME_BYTES <= value < 1 << 24:
                raise Fault(Error.PROTOCOL_ERROR, f"invalid MAX_FRAME_SIZE {value}")
            self._frame_bytes = value
            if not self._paused:
                self._at_once_bytes = min(value, PART_BYTES)
        elif name == INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise Fault(Error.FLOW_CONTROL_ERROR, f"invalid INITIAL_WINDOW_SIZE {value}")
            self._stream_window = value

    def _widened(self) -> None:
        """The window that streams have from the start."""
        if self._stream_window + self._widest > LARGEST_WINDOW:
            self._budget.spend_frames(len(self._streams))
            self._widest = max((stream.window for stream in self._streams.values()), default=0)
            if self._stream_window + self._widest > LARGEST_WINDOW:
                raise Fault(Error.FLOW_CONTROL_ERROR, "stream window exceeds the maximum size")
        if self._waiting:
            self._budget.spend_frames(len(self._waiting))
            waiting, self._waiting = self._waiting, {}
            for stream in waiting.values():
                self._place(stream)
            self._pump()

    def _push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise Fault(Error.PROTOCOL_ERROR, "PUSH_PROMISE is not allowed from a client")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise Fault(Error.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise Fault(Error.FRAME_SIZE_ERROR, "PING must have 8 bytes")
        self._budget.spend_frames()
        if not flags & ACK:
            self._write(frame(Kind.PING, ACK, 0, payload))
        elif payload == LEAVING and self._leaving_since is not None:
            self._name_last_stream()

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise Fault(Error.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise Fault(Error.FRAME_SIZE_ERROR, "GOAWAY must have at least 8 bytes")
        self._budget.spend_frames()
        self._leaving_since = self._now
        self._name_last_stream()

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Error.FRAME_SIZE_ERROR, "WINDOW_UPDATE must have 4 bytes")
        self._budget.spend_frames()
        more = NUMBER.unpack(payload)[0] & LARGEST_WINDOW
        if stream_id == 0:
            if more == 0:
                raise Fault(Error.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._window += more
            if self._window > LARGEST_WINDOW:
                raise Fault(Error.FLOW_CONTROL_ERROR, "connection window exceeds the maximum size")
            self._pump()
            return
        if stream_id > self._last_id:
            raise Fault(Error.PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {stream_id}, which is not open")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.window += more
        if more == 0 or stream.window + self._stream_window > LARGEST_WINDOW:
            self._reset_for_fault(stream, Error.PROTOCOL_ERROR if more == 0 else Error.FLOW_CONTROL_ERROR)
            return
        self._widest = max(self._widest, stream.window)
        if self._waiting.pop(stream_id, None) is not None:
            self._place(stream)
            self._pump()

    # -- frames that go

    def _fits(self, stream: Stream, size: int) -> bool:
        """Into the windows and one frame, now."""
        return size <= min(self._window, stream.window + self._stream_window, self._at_once_bytes)

    def _wait(self, stream: Stream, head: bytes, data: bytes, trailers: bytes | None) -> None:
        """For windows. trailers: None if the answer goes on."""
        if head:
            self._write(self._header_frames(stream.id, head, 0))
        if not stream.pending:
            stream.blocked_since = self._now
        stream.pending = memoryview(b"".join((stream.pending, data)) if stream.pending else data)
        stream.trailers = trailers
        stream.held_bytes += len(data)
        self._load.held_bytes += len(data)
        if not stream.pending:
            self._sent(stream)
            return
        if stream.id not in self._movable:
            self._place(stream)
        self._pump()

    def _frames_of(self, stream: Stream, head: bytes, data: bytes, trailers: bytes | None) -> bytes:
        """All that fits into the windows and one frame of DATA."""
        if head and data and trailers and not self._table_update and len(head) + len(trailers) <= FRAME_BYTES:
            return self._usual_frames(stream, head, data, trailers)
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

    def _usual_frames(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> bytes:
        """As `_frames_of`, for what nearly every answer is, and therefore without detours."""
        first, size, last = len(head), len(data), len(trailers)
        self._window -= size
        stream.window -= size
        start, id = FRAME_HEADER.pack, stream.id
        return b"".join(
            (
                start(first >> 8, first & 0xFF, _HEADERS, END_HEADERS, id),
                head,
                start(size >> 8, size & 0xFF, _DATA, 0, id),
                data,
                start(last >> 8, last & 0xFF, _HEADERS, END_HEADERS | END_STREAM, id),
                trailers,
            )
        )

    def _header_frames(self, stream_id: int, fields: bytes, flags: int) -> bytes:
        if self._table_update:
            fields, self._table_update = self._table_update + fields, b""
        if len(fields) <= FRAME_BYTES:
            return frame(Kind.HEADERS, flags | END_HEADERS, stream_id, fields)
        parts = [fields[i : i + FRAME_BYTES] for i in range(0, len(fields), FRAME_BYTES)]
        first = frame(Kind.HEADERS, flags, stream_id, parts[0])
        middle = [frame(Kind.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
        return b"".join((first, *middle, frame(Kind.CONTINUATION, END_HEADERS, stream_id, parts[-1])))

    def _place(self, stream: Stream) -> None:
        """Where its answer waits."""
        places = self._movable if stream.window + self._stream_window > 0 else self._waiting
        places[stream.id] = stream

    def _pump(self) -> None:
        """Sends what the windows allow of answers that did not fit into them."""
        movable = self._movable
        while movable and self._window > 0 and self._room > 0:
            stream = movable.popitem(last=False)[1]
            self._send_part(stream)
            if stream.pending:
                self._place(stream)
            else:
                self._sent(stream)
        if movable and self._window > 0 and not self._paused:
            self.more = True

    def _send_part(self, stream: Stream) -> None:
        pending = stream.pending
        most = min(len(pending), self._window, stream.window + self._stream_window, PART_BYTES)
        sent = 0
        while sent < most:
            size = min(most - sent, self._frame_bytes)
            end = END_STREAM if stream.trailers == b"" and sent + size == len(pending) else 0
            self._write(frame(Kind.DATA, end, stream.id, pending[sent : sent + size]))
            sent += size
        if sent <= 0:
            return
        self._window -= sent
        self._room -= sent
        stream.window -= sent
        stream.pending = pending[sent:]
        stream.held_bytes -= sent
        self._load.held_bytes -= sent
        stream.blocked_since = self._now
        self._budget.earn_sent(sent)
        if stream.pending and sent < BYTES_PER_FRAME:
            self._budget.owe(FRAME)  # windows so small make frames of nearly nothing

    def _sent(self, stream: Stream) -> None:
        """All of the answer that there is."""
        if stream.trailers is not None:
            if stream.trailers:
                self._write(self._header_frames(stream.id, stream.trailers, END_STREAM))
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """The answer is sent."""
        if stream.complete:
            if not stream.working:
                self._budget.earn_answer()
        else:
            self._rst(stream.id, Error.NO_ERROR)  # RFC 9113, 8.1: we need no more of the request
        self._forget(stream, by_us=not stream.complete)
        self._close_if_left()

    def _reset_for_fault(self, stream: Stream, error: Error) -> None:
        self._budget.spend_reset()
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
            self._load.streams -= 1
        if stream.pending:
            self._waiting.pop(stream.id, None)
            self._movable.pop(stream.id, None)
            size, stream.pending = len(stream.pending), NOTHING
            stream.held_bytes -= size
            self._load.held_bytes -= size
        self._remember(stream.id, by_us)
        if stream.gone:
            return
        stream.gone = True
        if stream.working:
            self._orphans += 1
        else:
            self._release(stream)

    def _release(self, stream: Stream) -> None:
        """Of what it holds, all but the answer that waits."""
        if size := stream.held_bytes - len(stream.pending):
            self._load.held_bytes -= size
            stream.held_bytes -= size
        stream.chunks = []

    def _drop(self, stream: Stream) -> None:
        """Nobody waits for it any more."""
        self._forget(stream, by_us=self._closed.get(stream.id, False))
        if not stream.answered:
            self._events.append(Left(stream))

    # -- the end of the connection

    def leave(self, now: float) -> None:
        """Ends when what is under way is answered; what the client sends before it knows counts as under way."""
        if self._leaving_since is None and not self.ended:
            self._leaving_since = now
            self._write(goaway(NO_STREAM, Error.NO_ERROR, b"") + frame(Kind.PING, 0, 0, LEAVING))

    def end(self, error: Error, message: str) -> None:
        """At once, and says why."""
        if self.ended:
            return
        self.ended = True
        self._release_fragments()
        self._write(goaway(min(self._last_id, self._final_id), error, message.encode()))
        for stream in tuple(self._streams.values()):
            self._drop(stream)

    def _name_last_stream(self) -> None:
        if self._final_id == NO_STREAM and not self.ended:
            self._final_id = self._last_id
            self._write(goaway(self._last_id, Error.NO_ERROR, b""))
        self._close_if_left()

    def _close_if_left(self) -> None:
        if self._final_id != NO_STREAM and not self._streams:
            self.ended = True

    def _check(self) -> None:
        if self.ended:
            return
        now, limits = self._now, self._limits
        quiet = now - self._active
        if self._partial_since is not None and now - self._partial_since > limits.request_seconds:
            self.end(Error.ENHANCE_YOUR_CALM, "a frame did not arrive in time")
            return
        for stream in tuple(self._streams.values()):
            if stream.pending and now - stream.blocked_since > limits.idle_seconds:
                self._budget.owe(RESET)
                self._reset(stream, Error.CANCEL)
            elif not stream.complete and not stream.answered and now - stream.began > limits.request_seconds:
                self._events.append(Refused(stream, 408, "the request did not arrive in time"))
        if not self._streams:
            if quiet > limits.idle_seconds:
                self._leaving_since = now
                self._name_last_stream()
        elif quiet > KEEPALIVE_SECONDS + PONG_SECONDS:
            self.ended = self.dead = True
        elif quiet > KEEPALIVE_SECONDS and not self._pinged:
            self._pinged = True
            self._write(frame(Kind.PING, 0, 0, ALIVE))
        if self._leaving_since is not None and now - self._leaving_since > LEAVING_SECONDS:
            self._name_last_stream()
        if now > self._old:
            self.leave(now)


def _held(limits: Limits) -> str:
    return f"limit of {limits.held_bytes} bytes of requests in flight reached"


FRAMES: Final[Mapping[int, Callable[[Connection, int, int, bytes], None]]] = {
    int(Kind.DATA): Connection._data,
    int(Kind.HEADERS): Connection._headers,
    int(Kind.PRIORITY): Connection._priority,
    int(Kind.RST_STREAM): Connection._rst_stream,
    int(Kind.SETTINGS): Connection._settings,
    int(Kind.PUSH_PROMISE): Connection._push_promise,
    int(Kind.PING): Connection._ping,
    int(Kind.GOAWAY): Connection._goaway,
    int(Kind.WINDOW_UPDATE): Connection._window_update,
    int(Kind.CONTINUATION): Connection._continuation,
}

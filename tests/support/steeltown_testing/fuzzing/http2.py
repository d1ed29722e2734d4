"""`steeltown_http2` as it is fuzzed: a client that sends whatever, an owner that answers whenever, and the sums.

An input is a program as that of grpc.py, of the same steps, and two more: floods of what is known to bring servers
down, each with streams of its own, in one piece or in many, and what the owner does with the requests it has. What
must hold after every turn, counted here by what was sent and seen:

- What no answered request has paid for is bounded: frames that ask for nothing, and streams that end in a reset.
- Every stream keeps its place until its work is done, and there are never more than are allowed.
- What is held is the sum of bodies, answers and fragments, to the byte, and in the end it is nothing.
- No stream is looked at that cannot move, and none that can move is forgotten.
- A turn ends after a bounded number of events and of bytes that go out.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from steeltown_http2 import STREAMS, Complete, Connection, Event, Left, Limits, Load, Opened, Stream
from steeltown_http2.abuse import ANSWERED, BUDGET, BYTES_PER_FRAME, FRAME, RESET
from steeltown_http2.connection import EVENT_FRAMES, PART_BYTES, TURN_BYTES, TURN_FRAMES
from steeltown_http2.frames import END_HEADERS, END_STREAM, FRAME_BYTES, FRAME_HEADER, PREFACE, Kind, frame

from steeltown_testing.fuzzing.grpc import HOLD, Program, Sender, Step
from steeltown_testing.http2_client import WHOLE, more_window, number, opened, reset

LIMITS = Limits(header_bytes=4096, body_bytes=1 << 16, held_bytes=1 << 19, request_seconds=5, idle_seconds=9)
STEPS = 300
SIZES = (0, 1, 100, 5000, 1 << 16, 1 << 20)
SECONDS = (0.0, 0.5, 3.0, 6.0, 10.0, 70.0)
OTHERS = frozenset(Kind) - {Kind.DATA, Kind.HEADERS}
FLOODS: tuple[Callable[[int], bytes], ...] = (
    lambda n: opened(n, flags=WHOLE),
    lambda n: opened(n, flags=WHOLE) + reset(n),
    lambda n: opened(n, flags=WHOLE) + more_window(n, 0),
    lambda n: opened(n, flags=WHOLE) + more_window(n, 2**31 - 1),
    lambda n: opened(n, flags=WHOLE) + frame(Kind.DATA, 0, n, b"more"),
    lambda n: opened(n) + frame(Kind.DATA, END_STREAM, n, bytes(900)) + reset(n),
    lambda n: opened(n) + frame(Kind.DATA, 0, n, bytes(900)),
    lambda n: opened(n) + opened(n),
    lambda n: frame(Kind.PING, 0, 0, number(n) * 2),
    lambda n: frame(Kind.SETTINGS, 0, 0, b""),
    lambda n: frame(Kind.SETTINGS, 0, 0, b"\0\4" + number(n % 7)),
    lambda n: frame(Kind.PRIORITY, 0, n, bytes(5)),
    lambda n: more_window(0, 1),
    lambda n: more_window(n - 2, 1),
    lambda n: opened(n, ("large", "x" * 5000), flags=WHOLE),
    lambda n: FRAME_HEADER.pack(0, 0, 99, 0, 0),
)
FLOOD, OWNER = Step.TIME, Step.SERVER  # what these steps of grpc.py are here; PAUSE pauses, or lets time pass


class Owner:
    """What it has been told, and what that should make."""

    def __init__(self) -> None:
        self.load = Load()
        self.http2 = Connection(LIMITS, self.load, now=0.0, age_seconds=1e9)
        self.now = 0.0
        self.at_once = 0  # what is done with a request: nothing yet; an answer; an early one; it is done; both
        self.size = 0
        self.open: dict[Stream, None] = {}  # their requests are not complete
        self.work: dict[Stream, int] = {}  # bytes of the request
        self.answered = 0
        self.spent = 0
        self.sent_bytes = 0
        self.unsent = 0

    def receive(self, data: bytes) -> None:
        self._count(data)
        self._turn(data)
        for _ in range(1000):
            if not self.http2.more:
                break
            self._turn(b"")
        assert not self.http2.more, "turns without end"
        if not self.http2.ended:
            paid = BUDGET + ANSWERED * self.answered + self.sent_bytes // BYTES_PER_FRAME
            assert self.spent <= paid, "frames that nobody has paid for"

    def _count(self, data: bytes) -> None:
        """Whole frames of what is sent, which no request needs."""
        if self.http2.ended or data.startswith(PREFACE):
            return
        at = 0
        while at + FRAME_HEADER.size <= len(data):
            high, low, kind, _, _ = FRAME_HEADER.unpack_from(data, at)
            at += FRAME_HEADER.size + (high << 8 | low)
            if kind in OTHERS or kind > max(Kind):
                self.spent += 1

    def _turn(self, data: bytes) -> None:
        seen = 0
        for event in self.http2.receive(data, self.now):
            seen += not isinstance(event, Left)
            self.told(event)
        assert seen <= TURN_FRAMES / EVENT_FRAMES + 1, f"{seen} events in a turn"
        self.hear()

    def hear(self) -> None:
        out = self.http2.output()
        at = 0
        waited = 0
        while at < len(out):
            high, low, kind, _, _ = FRAME_HEADER.unpack_from(out, at)
            length = high << 8 | low
            at += FRAME_HEADER.size + length
            if kind == Kind.DATA:
                self.sent_bytes += length
                waited += length
        assert waited <= TURN_BYTES + PART_BYTES + FRAME_BYTES * TURN_FRAMES / EVENT_FRAMES, f"{waited} bytes in a turn"
        self.check()

    def told(self, event: Event) -> None:
        stream = event.stream
        if isinstance(event, Opened):
            self.open[stream] = None
            return
        if isinstance(event, Left) and not self.http2.ended:
            self.spent += RESET - FRAME
        if isinstance(event, Complete):
            self.open.pop(stream, None)
            self.work[stream] = len(event.body)
            self.do(stream, self.at_once)
        else:
            self.do(stream, 1)

    def do(self, stream: Stream, what: int) -> None:
        if what % 5 in (1, 2, 4):
            early = what % 5 != 1
            self.answered += not early and not stream.gone and not stream.answered
            self.http2.answer(stream, b"\x88", bytes(self.size), b"\x88", early=early)
            if not early:
                self.over(stream)
        if what % 5 in (3, 4):
            self.http2.done(stream)
            self.over(stream)

    def over(self, stream: Stream) -> None:
        self.work.pop(stream, None)
        self.open.pop(stream, None)

    def check(self) -> None:
        http2, load = self.http2, self.load
        live = http2._streams
        assert load.streams == len(live)
        assert http2._orphans == sum(stream.gone for stream in self.work), "a place is lost or kept for ever"
        assert len(live) + http2._orphans <= STREAMS, "more under way than allowed"
        bodies = sum(self.work.values())
        incomplete = sum(s.received_bytes for s in live.values() if not s.complete and not s.answered)
        waiting = sum(len(s.pending) for s in live.values())
        expected = bodies + incomplete + waiting + http2._fragment_bytes + self.unsent
        assert load.held_bytes == expected, f"{load.held_bytes} bytes are said to be held, and {expected} are"
        if not http2._paused:
            assert not http2._movable or http2._window <= 0 or http2.more, "an answer could move and does not"
        for stream in http2._waiting.values():
            assert stream.window + http2._stream_window <= 0, "an answer waits, and its window is open"
        assert all(s.pending for s in (*http2._waiting.values(), *http2._movable.values()))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for event in self.http2.pass_time(self.now):
            self.told(event)
        self.hear()
        if not self.http2.ended:
            self.receive(b"")

    def pause(self, unsent: int) -> None:
        self.unsent = unsent
        self.http2.pause(unsent)

    def resume(self) -> None:
        self.unsent = 0
        self.http2.resume()
        self.receive(b"")

    def end(self) -> None:
        """The transport goes, and whatever is still done ends."""
        self.unsent = 0
        for event in self.http2.lost():
            self.told(event)
        for number_, stream in enumerate(tuple(self.work)):
            self.do(stream, 1 if number_ % 2 else 3)
        self.check()
        assert (self.load.held_bytes, self.load.streams, self.http2._orphans) == (0, 0, 0)


class Http2Target:
    """ended: connections that the connection itself has ended."""

    def __init__(self) -> None:
        self.ended = 0

    def one_input(self, data: bytes) -> None:
        """The first byte is how large the pieces are."""
        program = Program(data)
        size = max(1, program.byte() ** 2)
        owner, sender = Owner(), Sender(program)
        owner.receive(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))
        ids = count(100_001, 2)
        for _ in range(STEPS):
            if program.over or owner.http2.ended:
                break
            chosen = program.byte()
            step = chosen & 0x0F
            if step == FLOOD:
                kind, times = FLOODS[program.byte() % len(FLOODS)], 8 * program.byte()
                parts = [kind(next(ids)) for _ in range(times)]
                for part in (b"".join(parts),) if chosen & HOLD else parts:
                    owner.receive(part)
            elif step == OWNER:
                self._does(owner, program, chosen)
            elif step == Step.PAUSE:
                self._pauses(owner, program, chosen)
            else:
                sent = sender.bytes_of(step)
                whole = _is_whole(sent) and size >= len(sent)
                for start in range(0, len(sent), size):
                    owner.receive(sent[start : start + size]) if whole else owner._turn(sent[start : start + size])
                    owner.receive(b"")
        self.ended += owner.http2.ended
        owner.end()

    @staticmethod
    def _does(owner: Owner, program: Program, chosen: int) -> None:
        what = program.byte()
        if chosen & 0x80:
            owner.at_once, owner.size = what % 5, SIZES[(what >> 3) % len(SIZES)]
            return
        for stream in tuple(owner.work)[: 1 + (what >> 3)]:
            owner.do(stream, 1 + what % 4)
            owner.hear()
        owner.receive(b"")

    @staticmethod
    def _pauses(owner: Owner, program: Program, chosen: int) -> None:
        if chosen & 0x80:
            owner.pass_time(SECONDS[program.byte() % len(SECONDS)])
        elif chosen & 0x40:
            owner.resume()
        else:
            owner.pause(SIZES[program.byte() % len(SIZES)])


def _is_whole(data: bytes) -> bool:
    """Frames and nothing else."""
    at = 0
    while at + FRAME_HEADER.size <= len(data):
        high, low, *_ = FRAME_HEADER.unpack_from(data, at)
        at += FRAME_HEADER.size + (high << 8 | low)
    return at == len(data)


def seeds() -> list[bytes]:
    """Each flood, with each thing that an owner does; the byte for pieces is put before each."""
    small = bytes([Step.SETTINGS, 1, 4, 1])
    wide = bytes([Step.WINDOW_UPDATE, 0, 9, Step.SETTINGS, 1, 4, 9])
    owners = [bytes([OWNER | 0x80, what]) for what in (0, 1, 2, 3, 4, 1 | 3 << 3, 2 | 4 << 3, 1 | 5 << 3)]
    floods = [bytes([FLOOD, kind, 8]) for kind in range(len(FLOODS))]
    several = bytes([OWNER, 1 | 31 << 3, OWNER, 3 | 31 << 3])
    return [
        *(owners[1] + bytes([FLOOD | HOLD, kind, 200]) for kind in range(len(FLOODS))),
        *(owner + flood + several + floods[8] for owner in owners for flood in floods),
        *(small + owners[5] + floods[0] + flood + wide + several for flood in floods),
        *(bytes([FLOOD, kind, 255]) * 3 for kind in range(len(FLOODS))),
        *(owners[7] + bytes([Step.PAUSE, 3]) + flood + bytes([Step.PAUSE | 0x40]) + wide * 3 for flood in floods[:4]),
        *(owners[n] + floods[6] + bytes([Step.PAUSE | 0x80, 4]) + floods[0] for n in range(5)),
        owners[1] + bytes([Step.HEADERS, 0, 2, 0, 0, Step.CONTINUATION, 1, END_HEADERS, 0, Step.CALL, 0, 0, 0, 0]),
    ]

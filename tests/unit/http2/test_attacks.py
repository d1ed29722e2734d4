"""What is known to bring down servers of HTTP/2, on bytes: one budget for all that no answered request pays for.

docs/http2.md lists the attacks, each with the test here (or on sockets) that shows that it is held.
"""

from __future__ import annotations

from collections.abc import Callable

import hpack
import pytest
from steeltown_http2 import RESETS, STREAMS, Event, Left, Load, Refused, Stream
from steeltown_http2.abuse import BUDGET, FRAMES, RESET
from steeltown_http2.connection import PART_BYTES, TURN_BYTES
from steeltown_http2.frames import ACK, END_HEADERS, END_STREAM, INITIAL_WINDOW_SIZE, SETTING, Error, Kind, frame
from steeltown_testing.counting import instructions
from steeltown_testing.http2_client import WHOLE, Client, more_window, number, opened, plain, reset

MANY = 20_000
CALM = number(Error.ENHANCE_YOUR_CALM)


def answered(client: Client, event: Event, size: int = 4) -> None:
    if not isinstance(event, Left):
        client.http2.answer(event.stream, b"\x88", b"x" * size, b"\x88")


def blocked(streams: int = 100) -> Client:
    """A client that lets so many answers wait."""
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 0))
    for stream in range(1, 2 * streams, 2):
        for event in client.send(opened(stream, flags=WHOLE)):
            answered(client, event)
    client.said()
    return client


def parted(client: Client, text: str) -> bool:
    """It was told so, and why."""
    kind, _, _, payload = client.said()[-1]
    return client.http2.ended and (kind, payload[4:8], payload[8:].decode()) == (Kind.GOAWAY, CALM, text)


def until_it_ends(client: Client, sent: Callable[[int], bytes], most: int = MANY) -> int:
    """How often it can be said."""
    for count in range(most):
        client.send(sent(2 * count + 1))
        if client.http2.ended:
            return count
    return most


# -- streams that end in a reset

MADE_YOU_RESET: dict[str, Callable[[int], bytes]] = {
    "a window grows by nothing": lambda n: opened(n, flags=WHOLE) + more_window(n, 0),
    "a window grows too large": lambda n: opened(n, flags=WHOLE) + more_window(n, 2**31 - 1),
    "headers after the end": lambda n: opened(n, flags=WHOLE) + opened(n),
    "data after the end": lambda n: opened(n, flags=WHOLE) + frame(Kind.DATA, 0, n, b"more"),
    "a priority of another length": lambda n: opened(n, flags=WHOLE) + frame(Kind.PRIORITY, 0, n, b"1234"),
    "a stream depends on itself": lambda n: opened(n, flags=WHOLE) + frame(Kind.PRIORITY, 0, n, number(n) + b"\0"),
}


@pytest.mark.parametrize("kind", MADE_YOU_RESET)
def test_made_you_reset(kind: str) -> None:
    """CVE-2025-8671: the client errs on a stream so that we reset it, while the work for it goes on."""
    client = Client()
    assert until_it_ends(client, MADE_YOU_RESET[kind]) <= RESETS


@pytest.mark.parametrize("kind", [kind for kind in MADE_YOU_RESET if kind != "a window grows too large"])
def test_made_you_reset_while_answers_wait_for_windows(kind: str) -> None:
    """The work is done and paid by nobody: what is reset before it is taken was not answered."""
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 1))
    client._answers = lambda event: answered(client, event)
    assert until_it_ends(client, MADE_YOU_RESET[kind]) <= RESETS


def test_rapid_reset() -> None:
    """CVE-2023-44487."""
    client = Client()
    assert until_it_ends(client, lambda n: opened(n, flags=WHOLE) + reset(n)) <= RESETS
    assert parted(client, "too many reset streams")


def test_answers_that_are_made_and_not_taken_pay_for_nothing() -> None:
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 0))
    client._answers = lambda event: answered(client, event)
    assert until_it_ends(client, lambda n: opened(n, flags=WHOLE) + reset(n)) <= RESETS
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 0))
    for stream in range(1, 2 * RESETS + 4, 2):
        for event in client.send(opened(stream, flags=WHOLE), now=10.0 * stream):
            answered(client, event)
        client.http2.pass_time(10.0 * stream + 9.5)  # waits longer than the idle time
    assert client.http2.ended


def test_answers_to_requests_that_are_not_complete_pay_for_nothing() -> None:
    """As to a method that is not there: our reset says that we need no more of it."""
    client = Client()
    client._answers = lambda event: answered(client, event) if event.stream.id % 4 == 1 else None
    assert until_it_ends(client, lambda n: opened(2 * n - 1) + opened(2 * n + 1) + reset(2 * n + 1)) <= RESETS


# -- frames that ask for nothing

NOTHING: dict[str, bytes] = {
    "ping": frame(Kind.PING, 0, 0, b"12345678"),
    "answer to a ping that was not sent": frame(Kind.PING, ACK, 0, b"12345678"),
    "settings": frame(Kind.SETTINGS, 0, 0, b""),
    "settings that change": b"".join(frame(Kind.SETTINGS, 0, 0, SETTING.pack(5, 16384 + n)) for n in (0, 1)),
    "many settings in a frame": frame(Kind.SETTINGS, 0, 0, SETTING.pack(9, 1) * 2730),
    "priority": frame(Kind.PRIORITY, 0, 5, number(3) + b"\0"),
    "priority of a stream that is not open": frame(Kind.PRIORITY, 0, 2**31 - 1, number(3) + b"\0"),
    "window of the connection": more_window(0, 1),
    "window of a stream that has ended": more_window(1, 1),
    "reset of a stream that has ended": reset(1),
    "data of a stream that has ended": frame(Kind.DATA, 0, 1, b"x"),
    "headers of a stream that has ended": opened(1),
    "unknown": frame(99, 0, 0, b""),  # type: ignore[arg-type]
    "unknown and long": frame(99, 0, 0, b"x" * 1000),  # type: ignore[arg-type]
    "empty data": frame(Kind.DATA, 0, 3, b""),
    "padding without data": frame(Kind.DATA, 0x8, 3, b"\xc8" + bytes(200)),
    "data by the byte": frame(Kind.DATA, 0, 3, b"x"),
}


@pytest.mark.parametrize("waiting", [0, 100])
@pytest.mark.parametrize("kind", NOTHING)
def test_frames_that_ask_for_nothing(kind: str, waiting: int) -> None:
    """Ping, settings, priority, window and empty-frame floods (CVE-2019-9512, 9515, 9513, 9511, 9518)."""
    client = blocked(waiting) if waiting else Client()
    first = 2 * waiting + 1
    (event,) = client.send(opened(first))
    client.http2.answer(event.stream, b"\x88", b"", b"")  # ended by us
    client.send(opened(first + 2))
    sent = NOTHING[kind]
    for old, new in ((1, first), (3, first + 2)):
        if sent[5:9] == number(old):
            sent = sent[:5] + number(new) + sent[9:]
    assert until_it_ends(client, lambda n: sent) <= FRAMES
    assert client.said()[-1][3][4:8] == CALM


@pytest.mark.parametrize("kind", ["ping", "settings", "window of the connection", "priority", "unknown"])
def test_what_comes_with_requests_is_paid_by_their_answers(kind: str) -> None:
    client = Client()
    client._answers = lambda event: answered(client, event)
    for stream in range(1, 4 * FRAMES // 8, 2):
        client.send(opened(stream, flags=WHOLE) + NOTHING[kind] * 8)
        client.said()
    assert not client.http2.ended
    assert client.http2._budget.left >= BUDGET - 16


def test_large_answer_pays_for_the_windows_and_pings_that_it_needs() -> None:
    """A client grants by the frame, and measures the way with a PING for each."""
    client = Client()
    (event,) = client.send(opened(1, flags=WHOLE))
    client.http2.answer(event.stream, b"\x88", bytes(32 << 20), b"\x88")
    while client.load.streams:
        client.said()
        client.send(more_window(0, 2000) + more_window(1, 2000) + frame(Kind.PING, 0, 0, b"12345678"))
        assert not client.http2.ended
    assert client.http2._budget.left == BUDGET


def test_continuations_without_content() -> None:
    """CVE-2024-27316."""
    client = Client()
    client.send(frame(Kind.HEADERS, 0, 1, b"") + frame(Kind.CONTINUATION, 0, 1, b"") * 100)
    assert parted(client, "headers exceed the limit of 1000 bytes")


def test_continuations_in_many_requests() -> None:
    """Each block in as many frames as are allowed, each request answered."""
    client = Client()
    client._answers = lambda event: answered(client, event)
    block = plain((":method", "POST"), (":scheme", "http"), (":path", "/" + "x" * 40))
    parts = [block[n : n + 1] for n in range(len(block))]

    def sent(n: int) -> bytes:
        rest = [frame(Kind.CONTINUATION, 0, n, part) for part in parts[1:]]
        return b"".join(
            (frame(Kind.HEADERS, END_STREAM, n, parts[0]), *rest, frame(Kind.CONTINUATION, END_HEADERS, n, b""))
        )

    assert len(parts) > 20
    assert until_it_ends(client, sent) < FRAMES


# -- windows


def work(client: Client, sent: bytes) -> int:
    """In instructions of the interpreter."""
    client.said()
    return instructions(lambda: client.send(sent))


WINDOWS: dict[str, bytes] = {
    "settings": NOTHING["settings"],
    "a narrower first window": frame(Kind.SETTINGS, 0, 0, SETTING.pack(INITIAL_WINDOW_SIZE, 0)),
    "window of the connection": more_window(0, 1),
    "ping": NOTHING["ping"],
    "priority": NOTHING["priority"],
    "window of one stream": more_window(1001, 1),
}


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("waits_for", ["their own windows", "that of the connection"])
def test_only_streams_that_can_move_are_looked_at(kind: str, waits_for: str) -> None:
    """What a frame costs does not grow with the answers that wait (CVE-2019-9511, 9517)."""

    def cost(streams: int) -> int:
        client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 0 if waits_for == "their own windows" else 100_000))
        if waits_for == "that of the connection":
            for event in client.send(opened(999, flags=WHOLE)):
                answered(client, event, 0xFFFF)
        for stream in range(1001, 1001 + 2 * streams, 2):
            for event in client.send(opened(stream, flags=WHOLE)):
                answered(client, event, 600)
        work(client, WINDOWS[kind])
        return work(client, WINDOWS[kind])

    assert cost(200) <= cost(20) * 1.2


def test_first_window_that_changes_again_and_again_pays_for_the_streams_that_are_looked_at() -> None:
    client = blocked(200)
    narrow = frame(Kind.SETTINGS, 0, 0, SETTING.pack(INITIAL_WINDOW_SIZE, 0))
    wide = frame(Kind.SETTINGS, 0, 0, SETTING.pack(INITIAL_WINDOW_SIZE, 1))
    assert until_it_ends(client, lambda n: wide + narrow) < FRAMES / 200 + 5


def test_windows_by_the_byte() -> None:
    """Data dribble (CVE-2019-9511): frames of one byte, as long as the answer is."""
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 0))
    for event in client.send(opened(1, flags=WHOLE)):
        answered(client, event, 1 << 20)
    assert until_it_ends(client, lambda n: more_window(1, 1)) <= FRAMES
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 1))
    client._answers = lambda event: answered(client, event, 1000)
    assert until_it_ends(client, lambda n: opened(n, flags=WHOLE) + more_window(n, 1) * 100) <= FRAMES


def test_answers_that_wait_for_the_connection_go_in_turn() -> None:
    """One that is large holds up none that is small."""
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 1 << 30))
    for event in client.send(opened(1, flags=WHOLE) + opened(3, flags=WHOLE)):
        answered(client, event, 1 << 22 if event.stream.id == 1 else 70_000)
    client.said()
    client.send(more_window(0, 300_000))
    assert (Kind.HEADERS, WHOLE, 3, b"\x88") in client.said()
    assert client.load.held_bytes == (1 << 22) - (65535 + 300_000 - 70_000)


@pytest.mark.parametrize(("granted", "ends"), [(2**31 - 1 - 65535, True), (1000, False)])
def test_first_window_that_makes_a_window_too_wide_is_a_fault(granted: int, ends: bool) -> None:
    client = Client()
    client.send(opened(1) + more_window(1, granted))
    client.send(frame(Kind.SETTINGS, 0, 0, SETTING.pack(INITIAL_WINDOW_SIZE, 70_000)))
    assert client.http2.ended is ends
    if ends:
        assert client.goaways() == [(1, Error.FLOW_CONTROL_ERROR, "stream window exceeds the maximum size")]


# -- work that goes on


GIVEN_UP: dict[str, Callable[[Client, Stream], object]] = {
    "reset by the client": lambda client, stream: client.send(reset(stream.id)),
    "reset for a fault": lambda client, stream: client.send(more_window(stream.id, 0)),
    "answered by its deadline": lambda client, stream: client.http2.answer(stream, b"", b"", b"\x88", early=True),
}


@pytest.mark.parametrize("kind", GIVEN_UP)
def test_stream_keeps_its_place_until_its_work_is_done(kind: str) -> None:
    """Else a client that gives up would have more under way than one that waits."""
    client = Client()
    streams = []
    for stream in range(1, 2 * STREAMS, 2):
        (event,) = client.send(opened(stream, flags=WHOLE))
        streams.append(event.stream)
        if stream < 100:
            GIVEN_UP[kind](client, event.stream)
    client.said()
    assert client.send(opened(1001, flags=WHOLE)) == []
    assert client.said() == [(Kind.RST_STREAM, 0, 1001, number(Error.REFUSED_STREAM))]
    client.http2.done(streams[0])
    client.http2.answer(streams[1], b"\x88", b"too late", b"\x88")
    client.http2.answer(streams[1], b"\x88", b"and again", b"\x88")
    assert client.said() == []
    assert [len(client.send(opened(stream, flags=WHOLE))) for stream in (1003, 1005, 1007)] == [1, 1, 0]
    assert client.load.streams == STREAMS - 50 + 2, "for which somebody waits"


@pytest.mark.parametrize("kind", [*GIVEN_UP, "the connection is lost"])
def test_bytes_are_held_until_the_work_is_done(kind: str) -> None:
    client = Client()
    (_, event) = client.send(opened(1) + frame(Kind.DATA, END_STREAM, 1, bytes(700)))
    if kind in GIVEN_UP:
        GIVEN_UP[kind](client, event.stream)
    else:
        client.http2.lost()
    assert (client.load.held_bytes, client.load.streams) == (700, 0)
    client.http2.answer(event.stream, b"\x88", b"too late", b"\x88")
    assert client.load.held_bytes == 0
    client.http2.done(event.stream)
    assert client.load.held_bytes == 0


def test_request_that_was_not_handed_over_holds_nothing_once_it_is_gone() -> None:
    client = Client()
    client.send(opened(1) + frame(Kind.DATA, 0, 1, bytes(700)) + reset(1))
    assert client.load.held_bytes == 0
    for stream in range(3, 203, 2):
        client.send(opened(stream) + reset(stream))
    assert all(client.send(opened(stream)) for stream in range(1001, 1001 + 2 * STREAMS, 2))


def test_answers_before_the_work_is_done_pay_for_nothing() -> None:
    """Nor do they cost: a deadline is no attack, and the place that is kept is bound enough."""
    client = Client()
    for stream in range(1, 4 * RESETS, 4):
        (event,) = client.send(opened(stream, flags=WHOLE))
        client.http2.answer(event.stream, b"", b"", b"\x88", early=True)
        client.http2.done(event.stream)
        client.send(opened(stream + 2) + reset(stream + 2))
    assert client.http2._budget.left < RESET
    client.send(opened(4 * RESETS + 1) + reset(4 * RESETS + 1))
    assert parted(client, "too many reset streams")


# -- header blocks


def large(size: int, name: str = "large") -> bytes:
    return plain((":method", "POST"), (":scheme", "http"), (":path", "/"), (name, "x" * size))


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize("as_trailers", [False, True])
def test_large_metadata_fails_its_own_call_and_no_other(fragmented: bool, as_trailers: bool) -> None:
    client = Client()
    (other,) = client.send(opened(1))
    if as_trailers:
        client.send(opened(3))
    block = plain(("large", "x" * 1000)) if as_trailers else large(1000)
    first = frame(Kind.HEADERS, 0 if fragmented else END_HEADERS, 3, block[:500] if fragmented else block)
    (refused,) = client.send(first + frame(Kind.CONTINUATION, END_HEADERS, 3, block[500:]) * fragmented)
    assert isinstance(refused, Refused)
    assert (refused.stream.id, refused.status) == (3, 431)
    assert refused.message.startswith("metadata of 1")
    assert refused.message.endswith(" bytes exceeds the limit of 1000 bytes")
    answered(client, refused)
    client.send(frame(Kind.DATA, END_STREAM, 1, b"body"))
    answered(client, other)
    assert client.goaways() == []
    assert client.load.held_bytes == 0


def test_table_stays_that_of_the_client_after_metadata_that_is_too_large() -> None:
    client, encoder = Client(), hpack.Encoder()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/shared"), ("large", "x" * 1500)]
    client.send(frame(Kind.HEADERS, WHOLE, 1, encoder.encode(fields)))
    (event,) = client.send(frame(Kind.HEADERS, WHOLE, 3, encoder.encode(fields[:3])))
    assert event.stream.head.path == b"/shared"


def test_header_block_that_is_many_times_too_large_ends_the_connection() -> None:
    """An HPACK bomb (CVE-2016-1544): an entry of the table, named again and again at a byte each."""
    client = Client()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), ("bomb", "x" * 900)]
    client.send(frame(Kind.HEADERS, WHOLE, 1, hpack.Encoder().encode([*fields, *fields[3:] * 100])))
    assert parted(client, "headers exceed the limit of 1000 bytes")


def test_fields_without_names_and_values_count() -> None:
    """CVE-2019-9516: each costs memory, and none of the bytes that are its own."""
    client = Client()
    few = [(":method", "POST"), (":scheme", "http"), (":path", "/")]
    client.send(frame(Kind.HEADERS, END_HEADERS, 1, plain(*few, ("", ""))))
    assert [(kind, stream) for kind, _, stream, _ in client.said()] == [(Kind.RST_STREAM, 1)], "no name is a name"
    client.send(frame(Kind.HEADERS, END_HEADERS, 3, plain(*few, *[("", "")] * 200)))
    assert parted(client, "headers exceed the limit of 1000 bytes")


def test_header_blocks_that_are_too_large_are_charged_for() -> None:
    client = Client()
    client._answers = lambda event: answered(client, event)
    block = large(3500)
    assert until_it_ends(client, lambda n: frame(Kind.HEADERS, END_HEADERS, n, block)) < FRAMES / 3


def test_fragments_of_header_blocks_count_as_held() -> None:
    """Over all connections."""
    load = Load()
    clients = [Client(load=load) for _ in range(3)]
    for client in clients[:2]:
        client.send(frame(Kind.HEADERS, 0, 1, bytes(700)))
    assert load.held_bytes == 1400
    clients[2].send(frame(Kind.HEADERS, 0, 1, bytes(700)))
    assert parted(clients[2], "the server is busy: limit of 1500 bytes of requests in flight reached; try again")
    assert load.held_bytes == 1400
    clients[0].http2.lost()
    clients[1].http2.end(Error.NO_ERROR, "")
    assert load.held_bytes == 0


# -- turns

FLOODS: dict[str, Callable[[int], bytes]] = {
    "calls": lambda n: opened(n) + frame(Kind.DATA, END_STREAM, n, b"12345"),
    "calls with fields that are new": lambda n: opened(n, *((f"a{n}-{i}", "x") for i in range(20)), flags=WHOLE),
    "calls that are refused": lambda n: opened(n),
    "pings": lambda n: frame(Kind.PING, 0, 0, number(n) * 2),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_what_is_done_at_a_time_is_bounded(kind: str) -> None:
    """Whatever comes in one piece: others have their turn in between, and in the end it means the same."""
    parts = [FLOODS[kind](n) for n in range(1, 4001, 2)]

    def run(client: Client) -> tuple[list[str], list[int]]:
        events, work = [], []
        sent = b"".join(parts)
        while sent or client.http2.more:
            seen: list[Event] = []
            work.append(instructions(lambda: seen.extend(client.turn(sent))))  # noqa: B023
            events += [f"{type(e).__name__} {e.stream.id}" for e in seen]
            sent = b""
        return events, work

    def client() -> Client:
        made = Client()
        made._answers = lambda event: answered(made, event) if event.stream.complete else None
        return made

    one, other = client(), client()
    events, work = run(one)
    assert [f"{type(e).__name__} {e.stream.id}" for part in parts for e in other.send(part)] == events
    assert one.said() == other.said()
    assert len(work) > 1
    assert max(work) < 300_000


def test_bytes_that_go_out_at_a_time_are_bounded() -> None:
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 1 << 30))
    client.send(more_window(0, 1 << 30))
    for event in client.send(opened(1, flags=WHOLE) + opened(3, flags=WHOLE)):
        answered(client, event, 4 << 20)
    sizes = [len(client.http2.output())]
    while client.http2.more:
        client.turn(b"")
        sizes.append(len(client.http2.output()))
    assert max(sizes) < TURN_BYTES + PART_BYTES
    assert sum(sizes) > 8 << 20
    assert client.load.streams == 0


def test_answers_wait_and_count_while_the_transport_takes_nothing() -> None:
    """Internal data buffering (CVE-2019-9517): windows without end, and nothing is read."""
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 1 << 30))
    client.send(more_window(0, 1 << 30))
    events = client.send(opened(1, flags=WHOLE) + opened(3, flags=WHOLE) + opened(5, flags=WHOLE))
    client.said()
    client.http2.pause(700)
    assert client.load.held_bytes == 700
    client.http2.answer(events[0].stream, b"\x88", b"x" * 300, b"\x88")
    client.http2.answer(events[1].stream, b"\x88", b"", b"\x88")
    client.http2.answer(events[2].stream, b"\x88", b"x" * 100_000, b"\x88")
    client.send(more_window(0, 1) + frame(Kind.SETTINGS, 0, 0, SETTING.pack(5, 1 << 20)))
    assert not client.http2.more
    assert not [f for f in client.said() if f[0] == Kind.DATA]
    assert client.load.held_bytes == 700 + 300 + 100_000
    client.http2.resume()
    assert client.load.held_bytes == 300 + 100_000
    client.send(b"")
    assert sum(len(payload) for kind, _, _, payload in client.said() if kind == Kind.DATA) == 300 + 100_000
    assert (client.load.held_bytes, client.load.streams) == (0, 0)


@pytest.mark.parametrize("ends", ["lost", "ended"])
def test_what_a_transport_has_not_sent_counts_until_it_is_gone(ends: str) -> None:
    client = Client()
    client.http2.pause(700)
    client.http2.pause(900)
    if ends == "ended":
        client.http2.end(Error.NO_ERROR, "")
        assert client.load.held_bytes == 900
    client.http2.lost()
    assert client.load.held_bytes == 0


def test_client_that_always_has_a_frame_half_sent_is_no_slow_one() -> None:
    """Reads end where they end, for hours, on a connection that carries much."""
    client = Client()
    client._answers = lambda event: answered(client, event)
    sent = b""
    for second in range(20):
        call = opened(2 * second + 1, flags=WHOLE)
        client.send(sent + call[:-1], now=float(second))
        client.http2.pass_time(second + 0.5)
        sent = call[-1:]
    assert not client.http2.ended
    client.http2.pass_time(24.1)
    assert parted(client, "a frame did not arrive in time")

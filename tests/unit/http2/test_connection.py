"""HTTP/2 on bytes: what a client says and when, and what it is told. No socket, no loop, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steeltown_http2 import RESETS, STREAMS, Complete, Connection, Head, Left, Load, Opened, Refused
from steeltown_http2.blocks import REMEMBERED_BLOCKS
from steeltown_http2.connection import ALIVE, LEAVING
from steeltown_http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    INITIAL_WINDOW_SIZE,
    NO_STREAM,
    SETTING,
    Error,
    Kind,
    frame,
)
from steeltown_testing.http2_client import (
    HELLO,
    LIMITS,
    REQUEST,
    WHOLE,
    Client,
    more_window,
    number,
    opened,
    plain,
    reset,
)

# -- requests and answers


def test_request_becomes_events_and_its_answer_bytes() -> None:
    client = Client()
    (first,) = client.send(opened(1) + frame(Kind.DATA, 0, 1, b"half"))
    assert isinstance(first, Opened)
    assert (first.stream.head.method, first.stream.head.path) == (b"POST", b"/")
    (second,) = client.send(frame(Kind.DATA, END_STREAM, 1, b" and half"))
    assert second == Complete(first.stream, b"half and half")
    client.http2.answer(first.stream, b"\x88", b"good", b"\x88")
    assert client.said() == [
        (Kind.HEADERS, END_HEADERS, 1, b"\x88"),
        (Kind.DATA, 0, 1, b"good"),
        (Kind.HEADERS, WHOLE, 1, b"\x88"),
    ]
    assert (client.load.streams, client.load.held_bytes) == (0, 0)
    client.http2.answer(first.stream, b"\x88", b"again", b"\x88")
    assert client.said() == [], "the first answer stands"


def test_answer_to_an_event_counts_for_the_frames_that_follow_it() -> None:
    """They came in one piece, and are taken one after the other."""
    client = Client(answers=lambda event: client.http2.answer(event.stream, b"\x88", b"", b""))
    events = client.send(opened(1) + frame(Kind.DATA, END_STREAM, 1, b"body") + opened(3, flags=WHOLE))
    assert [type(event) for event in events] == [Opened, Complete]
    assert [event.stream.id for event in events] == [1, 3]
    assert [(kind, stream) for kind, _, stream, _ in client.said()] == [
        (Kind.HEADERS, 1),
        (Kind.RST_STREAM, 1),
        (Kind.HEADERS, 3),
    ]


PROGRAM = HELLO + b"".join(
    (
        opened(1, ("x", "y")),
        frame(Kind.DATA, 0, 1, b"a" * 300),
        frame(Kind.PING, 0, 0, b"12345678"),
        opened(3, flags=WHOLE),
        frame(Kind.HEADERS, 0, 5, plain(*REQUEST)[:5]),
        frame(Kind.CONTINUATION, END_HEADERS, 5, plain(*REQUEST)[5:]),
        frame(Kind.DATA, END_STREAM, 1, b"b" * 300),
        more_window(3, 5),
        reset(5),
        frame(99, 1, 7, b"unknown"),  # type: ignore[arg-type]
        frame(Kind.DATA, END_STREAM, 9, b"not open"),
    )
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, len(PROGRAM)), max_size=8))
def test_what_bytes_mean_does_not_depend_on_the_pieces_they_come_in(cuts: list[int]) -> None:
    def run(pieces: list[bytes]) -> tuple[list[tuple[Any, ...]], bytes]:
        http2 = Connection(LIMITS, Load(), now=0.0, age_seconds=1000)
        events = [event for piece in pieces for event in http2.receive(piece, 0.0)]
        return [(type(e).__name__, e.stream.id, *e[1:]) for e in events], http2.output()

    ends = sorted((0, *cuts, len(PROGRAM)))
    pieces = [PROGRAM[a:b] for a, b in itertools.pairwise(ends)]
    whole = run([PROGRAM])
    assert run(pieces) == whole
    assert [name for name, *_ in whole[0]] == ["Opened", "Complete", "Opened", "Complete", "Left", "Left", "Left"]


def test_answer_in_parts_is_held_until_it_is_sent() -> None:
    """As a Watch is that ends while its client has no window."""
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 0))
    (_, complete) = client.send(opened(1) + frame(Kind.DATA, END_STREAM, 1, b"12345"))
    held = [client.load.held_bytes]
    client.http2.send(complete.stream, b"\x88", b"x" * 12)
    held.append(client.load.held_bytes)
    client.http2.answer(complete.stream, b"", b"", b"\x88")
    held.append(client.load.held_bytes)
    for more in (3, 9):
        client.send(more_window(1, more))
        held.append(client.load.held_bytes)
    assert held == [5, 17, 12, 9, 0]


# -- limits


def test_body_above_its_limit_is_to_be_refused() -> None:
    client = Client()
    events = client.send(opened(1) + frame(Kind.DATA, 0, 1, b"x" * 1001))
    assert events[1:] == [Refused(events[0].stream, 413, "the message exceeds the limit of 1000 bytes")]


def test_connections_share_what_may_be_held() -> None:
    load = Load()
    first, second = Client(load=load), Client(load=load)
    first.send(opened(1) + frame(Kind.DATA, 0, 1, b"x" * 1000))
    (_, refused) = second.send(opened(1) + frame(Kind.DATA, 0, 1, b"x" * 600))
    assert isinstance(refused, Refused)
    assert (refused.status, "limit of 1500 bytes of requests in flight reached" in refused.message) == (503, True)
    first.http2.lost()
    second.http2.lost()
    assert (load.held_bytes, load.streams) == (0, 0)


PROVOKED: dict[str, Callable[[int], bytes]] = {
    "the client resets": lambda n: opened(n) + reset(n),
    "a window grows by nothing": lambda n: opened(n) + more_window(n, 0),
    "a window grows too large": lambda n: opened(n) + more_window(n, 2**31 - 1),
    "data after the end": lambda n: opened(n, flags=WHOLE) + frame(Kind.DATA, 0, n, b"more"),
    "data after a reset": lambda n: opened(n) + reset(n) + frame(Kind.DATA, 0, n, b"more") * (n % 4 == 1),
    "headers that are no trailers": lambda n: opened(n) + opened(n),
    "headers in the middle": lambda n: opened(n) + frame(Kind.HEADERS, END_HEADERS, n, plain(("a", "b"))),
    "a length that is not kept": lambda n: opened(n, ("content-length", "7"), flags=WHOLE),
    "no request": lambda n: frame(Kind.HEADERS, WHOLE, n, plain((":method", "POST"))),
    "more streams than allowed": opened,
}


@pytest.mark.parametrize("kind", PROVOKED)
def test_resets_without_end_are_a_reason_to_part(kind: str) -> None:
    """Opened and reset at once, hundreds of times, by the client (CVE-2023-44487) or by us for its fault."""
    client = Client()
    for stream in range(1, 2 * (RESETS + STREAMS + 2), 2):
        client.send(PROVOKED[kind](stream))
    said = client.said()
    assert sum(kind == Kind.RST_STREAM for kind, *_ in said) <= RESETS
    kind_, _, _, payload = said[-1]
    assert (kind_, payload[4:8]) == (Kind.GOAWAY, number(Error.ENHANCE_YOUR_CALM))
    assert payload[8:] == b"too many reset streams"
    assert client.http2.ended


@pytest.mark.parametrize("kind", [kind for kind in PROVOKED if kind != "more streams than allowed"])
def test_client_that_errs_now_and_then_may_go_on(kind: str) -> None:
    client = Client()
    for stream in range(1, 4000, 6):
        for event in client.send(PROVOKED[kind](stream)):
            client.http2.done(event.stream)
        for other in (stream + 2, stream + 4):
            (event,) = client.send(opened(other, flags=WHOLE))
            client.http2.answer(event.stream, b"\x88", b"", b"")
    assert client.goaways() == []


def test_streams_refused_because_the_connection_is_left_cost_nothing() -> None:
    """The client may not know yet."""
    client = Client()
    client.send(opened(1) + frame(Kind.GOAWAY, 0, 0, number(0) + number(0)))
    for stream in range(3, 1003, 2):
        client.send(opened(stream, flags=WHOLE))
    assert client.goaways() == [(1, Error.NO_ERROR, "")]


# -- time


def test_request_that_does_not_end_is_to_be_refused() -> None:
    client = Client()
    (event,) = client.send(opened(1))
    assert client.http2.pass_time(5.0) == []
    assert client.http2.pass_time(5.1) == [Refused(event.stream, 408, "the request did not arrive in time")]


def test_frame_that_does_not_end_ends_the_connection() -> None:
    client = Client()
    client.send(opened(1)[:-1])
    assert client.http2.pass_time(5.0) == []
    client.http2.pass_time(5.1)
    assert client.goaways() == [(0, Error.ENHANCE_YOUR_CALM, "a frame did not arrive in time")]
    assert client.http2.ended


def test_answer_for_which_no_window_comes_is_given_up() -> None:
    client = Client(SETTING.pack(INITIAL_WINDOW_SIZE, 3))
    (event,) = client.send(opened(1, flags=WHOLE))
    client.http2.answer(event.stream, b"\x88", b"four", b"\x88")
    client.said()
    client.http2.pass_time(9.1)
    assert client.said()[0] == (Kind.RST_STREAM, 0, 1, number(Error.CANCEL))
    assert client.load.held_bytes == 0


def test_connection_on_which_nothing_happens_is_ended_without_blame() -> None:
    client = Client()
    client.http2.pass_time(9.0)
    assert not client.http2.ended
    client.http2.pass_time(9.1)
    assert client.goaways() == [(0, Error.NO_ERROR, "")]
    assert client.http2.ended


def test_silent_client_is_asked_whether_it_lives_and_then_given_up() -> None:
    client = Client(limits=replace(LIMITS, request_seconds=1000))
    client.send(opened(1))
    client.http2.pass_time(61.0)
    assert client.said() == [(Kind.PING, 0, 0, ALIVE)]
    client.http2.pass_time(79.0)
    assert (client.said(), client.http2.dead) == ([], False)
    client.http2.pass_time(81.0)
    assert client.http2.dead


@pytest.mark.parametrize("answers_ping", [True, False])
def test_connection_is_left_in_two_steps(answers_ping: bool) -> None:
    client = Client()
    client.http2.leave(now=1.0)
    goaway, ping = client.said()
    assert goaway[3][:4] == number(NO_STREAM)
    assert ping == (Kind.PING, 0, 0, LEAVING)
    (event,) = client.send(opened(1, flags=WHOLE), now=1.5)
    if answers_ping:
        client.send(frame(Kind.PING, ACK, 0, LEAVING), now=2.0)
    else:
        client.http2.pass_time(3.0)
        assert client.goaways() == []
        client.http2.pass_time(3.1)
    assert client.goaways() == [(1, Error.NO_ERROR, "")]
    assert client.send(opened(3, flags=WHOLE), now=3.2) == []
    assert client.said() == [(Kind.RST_STREAM, 0, 3, number(Error.REFUSED_STREAM))]
    assert not client.http2.ended
    client.http2.answer(event.stream, b"\x88", b"", b"")
    assert client.http2.ended


def test_old_connection_is_left() -> None:
    client = Client(limits=replace(LIMITS, idle_seconds=5000))
    client.http2.pass_time(1000.1)
    assert client.goaways() == [(NO_STREAM, Error.NO_ERROR, "")]


def test_who_is_gone_is_told_of_once() -> None:
    client = Client()
    first, second, third = client.send(opened(1) + opened(3) + opened(5))
    assert client.send(reset(1)) == [Left(first.stream)]
    client.http2.answer(second.stream, b"\x88", b"", b"")
    assert client.http2.lost() == [Left(third.stream)]
    assert client.http2.lost() == []
    assert client.load.streams == 0


# -- header blocks


PATHS = [f"/{letter}" for letter in "abcdefgh"]
FIELD = st.tuples(st.sampled_from(["x", "y", "grpc-timeout"]), st.sampled_from(["1", "2", "3" * 40]), st.booleans())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PATHS), st.lists(FIELD, max_size=2), st.sampled_from([None, None, None, 0, 100, 4096])
        ),
        max_size=60,
    )
)
def test_remembered_block_means_what_the_table_makes_of_it(
    requests: list[tuple[str, list[tuple[str, str, bool]], int | None]],
) -> None:
    """Any sequence of requests by an encoder with a table, which now and then changes its size."""

    client, encoder, paths = Client(), hpack.Encoder(), []
    for count, (path, fields, size) in enumerate(requests):
        if size is not None:
            encoder.header_table_size = size
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path)]
        block = encoder.encode([*pseudo, *fields], huffman=False)
        (event,) = client.send(frame(Kind.HEADERS, WHOLE, 2 * count + 1, bytes(block)))
        paths.append(event.stream.head.path)
    assert len(client.http2._blocks._heads) <= REMEMBERED_BLOCKS
    assert paths == [path.encode() for path, _, _ in requests]


@pytest.mark.parametrize(
    ("fields", "malformed"),
    [
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")], False),
        ([(b":method", b"POST"), (b":scheme", b"http")], True),
        ([(b":method", b"POST"), (b"a", b"b"), (b":scheme", b"http"), (b":path", b"/")], True),
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"A", b"b")], True),
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b"b\r\nc")], True),
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"te", b"gzip")], True),
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"content-length", b"-1")], True),
        ([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"connection", b"close")], True),
        ([(b":method", b"POST"), (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")], True),
        ([(b":status", b"200"), (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")], True),
    ],
)
def test_head_is_a_request_or_malformed(fields: list[tuple[bytes, bytes]], malformed: bool) -> None:
    assert bool(Head(fields).malformed) is malformed

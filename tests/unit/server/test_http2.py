"""The gRPC port, spoken to in frames over a socket: windows, limits, faults, and how a connection ends.

What the RFC demands of every frame is h2spec's to check (tests/conformance); what is ours to decide and needs no socket
is checked on bytes in tests/unit/http2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from steeltown_http2 import STREAMS, Head
from steeltown_server.budget import Budget
from steeltown_server.http import Limits
from steeltown_server.rpc import inference_pb2 as pb
from steeltown_server.rpc import messages
from steeltown_server.rpc.calls import Call, Method
from steeltown_server.rpc.http2 import Connection, Exchange, Http2Server
from steeltown_server.rpc.server import GrpcServer
from steeltown_testing.fuzzing.http import Transport
from steeltown_testing.http2_peer import (
    ACK,
    CALM,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    LIVE,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    frame,
    head,
    infer,
    message,
    number,
    plain,
    setting,
)

ROW = np.array([[1, 2, 3]], np.float32)


@pytest.fixture(scope="module")
def server(serve: Any, make_folder: Any, models: Any) -> Any:
    """y = 2 x."""
    return serve(make_folder(models["scale"](), x=ROW), grpc_port=0, grpc_connection_age_seconds=600)


@pytest.fixture
def peer(server: Any) -> Iterator[Peer]:
    found = Peer(server.grpc_port)
    with closing(found.socket):
        yield found


@pytest.fixture(scope="module")
def impatient(serve: Any, make_folder: Any, models: Any) -> Any:
    folder = make_folder(models["scale"](), x=ROW)
    limits = {"request_timeout_seconds": 0.4, "idle_timeout_seconds": 0.8, "header_limit_bytes": 1000}
    return serve(folder, grpc_port=0, grpc_connection_age_seconds=600, held_limit_bytes=100_000, **limits)


# -- what calls are made of


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"", 12, "expected exactly one message, got none"),
        (b"\0\0\0", 12, "expected exactly one message, got none"),
        (message() * 2, 12, "expected exactly one message, got more"),
        (message(b"abc")[:-1], 13, "incomplete message: expected 3 bytes, got 2"),
        (message(b"\xff"), 13, "cannot parse the message as the request type of this method"),
        (b"\1" + message()[1:], 13, "the message is marked as compressed, but grpc-encoding is missing or identity"),
    ],
)
def test_one_whole_message_makes_a_call(peer: Peer, content: bytes, status: int, text: str) -> None:
    peer.call(1, LIVE, content)
    assert peer.status(1) == (status, text)


def test_compression_that_is_not_known_is_unimplemented_and_the_known_ones_are_named(peer: Peer) -> None:
    peer.call(1, LIVE, b"\1" + message()[1:], grpc_encoding="snappy")
    _, fields = peer.answer(1)
    assert (fields["grpc-status"], fields["grpc-accept-encoding"]) == ("12", "identity,deflate,gzip")
    assert fields["grpc-message"] == "unsupported grpc-encoding 'snappy': must be one of identity,deflate,gzip"
    peer.call(3, LIVE, b"\1\0\0\0\3abc", grpc_encoding="gzip")
    status, text = peer.status(3)
    assert status == 13
    assert text.startswith("cannot decompress the message: ")


@pytest.mark.parametrize("timeout", ["1", "m", "123456789m", "-1S", "1.5S", "1s"])
def test_timeout_that_is_none_is_refused(peer: Peer, timeout: str) -> None:
    peer.call(1, grpc_timeout=timeout)
    assert peer.status(1) == (
        3,
        f"invalid grpc-timeout '{timeout}': must be 1 to 8 digits and a unit (H, M, S, m, u or n)",
    )


@pytest.mark.parametrize("timeout", ["1H", "99999999H", "1M", "5S", "5000m", "5000000u", "99999999n"])
def test_timeout_has_a_unit(peer: Peer, timeout: str) -> None:
    peer.call(1, grpc_timeout=timeout)
    assert peer.status(1) == (0, "")


def test_timeout_of_nothing_is_over(serve: Any, make_folder: Any, models: Any) -> None:
    slow = serve(make_folder(models["slow"](400), x=ROW), grpc_port=0)
    found = Peer(slow.grpc_port)
    found.call(1, INFER, infer(50), grpc_timeout="1m")
    assert found.status(1) == (4, "no response within 0.001 s")


def test_what_is_no_grpc_is_told_so(peer: Peer) -> None:
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "here")]
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, plain(fields)))
    kind, flags, _, payload = peer.next()
    assert (kind, flags) == (HEADERS, END_HEADERS)
    assert peer.fields(payload)[":status"] == "415"
    assert peer.next() == (DATA, END_STREAM, 1, b"this port speaks gRPC; REST has a port of its own\n")
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, plain([(":method", "GET"), *head()[1:]])))
    assert peer.fields(peer.next()[3])[":status"] == "405"


def test_stream_to_a_method_that_is_not_here_is_refused_before_it_ends(peer: Peer) -> None:
    peer.send(frame(HEADERS, END_HEADERS, 1, plain(head("/inference.GRPCInferenceService/ModelStreamInfer"))))
    assert peer.status(1) == (12, "unknown method '/inference.GRPCInferenceService/ModelStreamInfer'")
    assert peer.next() == (RST_STREAM, 0, 1, number(0)), "no more of the request is needed (RFC 9113, 8.1)"
    peer.send(frame(DATA, END_STREAM, 1, b"late"))
    peer.call(3)
    assert peer.status(3) == (0, ""), "what the client sent before it knew is no fault"


def test_text_of_a_status_is_percent_encoded(peer: Peer) -> None:
    request = pb.ModelInferRequest(model_name="\u00fc% \x07\x7f")
    peer.call(1, INFER, message(request.SerializeToString()))
    _, text = peer.status(1)
    assert text.startswith("model '%C3%BC%25 ")
    assert text.isascii()
    assert text.isprintable()


# -- windows


def test_large_request_and_answer_go_through_small_windows(serve: Any, make_folder: Any, models: Any) -> None:
    """5 MB each way; the request has windows of 1 and 4 MiB, the answer one of 1,000 bytes."""
    server = serve(make_folder(models["scale"](), x=ROW), grpc_port=0, grpc_connection_age_seconds=600)
    found = Peer(server.grpc_port, setting(4, 1000))
    body = infer(400_000)
    found.send(frame(HEADERS, END_HEADERS, 1, plain(head(INFER))))
    for at in range(0, len(body), 16384):
        found.send(frame(DATA, END_STREAM if at + 16384 >= len(body) else 0, 1, body[at : at + 16384]))
    kind, flags, _, payload = found.next()
    assert (kind, flags) == (HEADERS, END_HEADERS)
    assert found.fields(payload)[":status"] == "200"
    first = found.next()
    assert (first[0], len(first[3])) == (DATA, 1000)
    found.send(frame(WINDOW_UPDATE, 0, 1, number(20_000)))
    assert [len(found.next()[3]) for _ in range(2)] == [16384, 3616], "a frame is never above the client's limit"
    found.send(frame(SETTINGS, 0, 0, setting(4, 11_000)))
    assert len(found.next()[3]) == 10_000, "a larger first window is a larger window for what is under way"
    found.send(frame(WINDOW_UPDATE, 0, 1, number(1 << 24)))
    sent = 31_000
    while sent < 65_535:
        sent += len(found.next()[3])
    assert sent == 65_535, "the connection's window"
    found.send(frame(PING, 0, 0, b"12345678"))
    assert found.next() == (PING, ACK, 0, b"12345678"), "and nothing else"
    found.send(frame(WINDOW_UPDATE, 0, 0, number(1 << 24)))
    rest, fields = found.answer(1)
    assert fields["grpc-status"] == "0"
    assert sent + len(rest) > 4_800_000


def test_answers_of_other_streams_pass_one_that_waits_for_its_window(server: Any) -> None:
    found = Peer(server.grpc_port, setting(4, 10))
    found.call(1, INFER, infer(1))
    assert [found.next()[0] for _ in range(2)] == [HEADERS, DATA]
    found.call(3)
    assert found.status(3) == (0, "")
    found.send(frame(WINDOW_UPDATE, 0, 1, number(1000)))
    assert found.status(1) == (0, "")


def test_client_that_wants_larger_frames_gets_them(server: Any) -> None:
    found = Peer(server.grpc_port, setting(4, 1 << 20) + setting(5, 40_000))
    found.call(1, INFER, infer(3000))
    found.next()
    assert len(found.next()[3]) > 36_000


def test_client_without_a_header_table_is_told_that_none_is_used(server: Any) -> None:
    """RFC 7541, 4.2: the next block must say so, and those after it need not."""
    found = Peer(server.grpc_port, setting(1, 0))
    blocks = []
    for stream in (1, 3):
        found.call(stream)
        blocks.append([payload for kind, _, _, payload in (found.next() for _ in range(3)) if kind == HEADERS])
    assert [b[0] == 0x20 for pair in blocks for b in pair] == [True, False, False, False]


# -- limits


def opened(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, plain(head(INFER)))


@pytest.mark.parametrize("fault", [frame(RST_STREAM, 0, 1, number(CANCEL)), frame(WINDOW_UPDATE, 0, 1, number(0))])
def test_resets_without_end_are_a_reason_to_part(peer: Peer, fault: bytes) -> None:
    """Opened and reset at once, by the client (CVE-2023-44487) or for its fault; tests/unit/http2 has every kind."""
    for stream in range(1, 2001, 2):
        try:
            peer.send(opened(stream) + fault[:5] + number(stream) + fault[9:])
        except ConnectionError:
            break
    assert peer.goaway()[1:] == (CALM, "too many reset streams")


def test_client_that_cancels_now_and_then_may_go_on(peer: Peer) -> None:
    block = plain(head(INFER))
    for stream in range(1, 2401, 4):
        peer.send(frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, number(CANCEL)))
        peer.call(stream + 2)
        assert peer.status(stream + 2) == (0, "")


def test_streams_beyond_the_limit_are_refused_and_may_be_tried_again(peer: Peer) -> None:
    block = plain(head(INFER))
    ids = range(1, 2 * STREAMS + 3, 2)
    peer.send(b"".join(frame(HEADERS, END_HEADERS, stream, block) for stream in ids))
    assert peer.next() == (RST_STREAM, 0, ids[-1], number(REFUSED_STREAM))
    peer.send(frame(RST_STREAM, 0, 1, number(CANCEL)))
    peer.call(ids[-1] + 2)
    assert peer.status(ids[-1] + 2) == (0, "")


def test_call_that_is_reset_keeps_its_place_until_its_run_has_ended(serve: Any, make_folder: Any, models: Any) -> None:
    """MadeYouReset (CVE-2025-8671): else a connection would have any number of runs under way."""
    folder = make_folder(models["slow"](100), x=ROW)
    slow = serve(folder, grpc_port=0, max_queue_seconds=600, max_batch_rows=1)
    found = Peer(slow.grpc_port)
    ids = range(1, 2 * STREAMS, 2)
    for stream in ids[:200]:
        found.call(stream, INFER, infer(50))
        found.send(frame(WINDOW_UPDATE, 0, stream, number(0)))
    for stream in ids[200:]:
        found.call(stream, INFER, infer(50), grpc_timeout="1m")
    found.call(ids[-1] + 2, INFER, infer(50))
    refused = [stream for kind, _, stream, payload in found.so_far() if payload == number(REFUSED_STREAM)]
    assert refused == [ids[-1] + 2]


@pytest.mark.parametrize(
    ("flood", "text"),
    [
        (frame(DATA, 0, 1) * 300, "too many empty frames"),
        (frame(HEADERS, 0, 3, b"") + frame(CONTINUATION, 0, 3) * 100, "headers exceed the limit of 16384 bytes"),
        (
            frame(HEADERS, 0, 3, b"") + frame(CONTINUATION, 0, 3, b"\x82" * 9000) * 8,
            "headers exceed the limit of 16384 bytes",
        ),
        (
            frame(HEADERS, END_HEADERS, 3, b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 20),
            "headers exceed the limit of 16384 bytes",
        ),
    ],
)
def test_frames_that_cost_the_client_nothing_end_the_connection(peer: Peer, flood: bytes, text: str) -> None:
    peer.send(frame(HEADERS, END_HEADERS, 1, plain(head(INFER))) + flood)
    _, error, said = peer.goaway()
    assert error == CALM
    assert said.startswith(text)


def test_large_metadata_fails_its_own_call_and_no_other(peer: Peer) -> None:
    """A proxy carries many people's calls on one connection."""
    peer.send(frame(HEADERS, END_HEADERS, 1, plain(head(INFER))))
    large = plain([*head(INFER), ("large", "x" * 20_000)])
    peer.send(frame(HEADERS, 0, 3, large[:16384]) + frame(CONTINUATION, END_HEADERS, 3, large[16384:]))
    status, text = peer.status(3)
    assert (status, text.startswith("metadata of 20")) == (8, True)
    assert text.endswith(" bytes exceeds the limit of 16384 bytes")
    assert peer.next() == (RST_STREAM, 0, 3, number(0))
    peer.send(frame(DATA, END_STREAM, 1, infer(1)))
    assert peer.answer(1)[1]["grpc-status"] == "0"


def test_message_above_the_limit_is_refused_while_it_comes(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0, body_limit_bytes=20_000)
    found = Peer(server.grpc_port)
    found.send(frame(HEADERS, END_HEADERS, 1, plain(head(INFER))))
    found.send(frame(DATA, 0, 1, b"\0" * 16384) + frame(DATA, 0, 1, b"\0" * 16384))
    assert found.status(1) == (8, "the message exceeds the limit of 20000 bytes")
    assert found.next() == (RST_STREAM, 0, 1, number(0))
    assert server.metric("steeltown_server_requests_total") == 1


def test_connections_have_a_limit(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0, max_connections=1)
    first = Peer(server.grpc_port)
    first.call(1)
    assert first.status(1) == (0, "")
    text = "the server is busy: limit of 1 connections reached; try again"
    assert Peer(server.grpc_port).goaway() == (0, CALM, text)
    first.call(3)
    assert first.status(3) == (0, "")


def test_answers_that_nobody_takes_count_as_held_and_end(impatient: Any) -> None:
    found = Peer(impatient.grpc_port, setting(4, 0))
    found.call(1, INFER, infer(7000))
    found.next()
    other = Peer(impatient.grpc_port)
    other.call(1, INFER, infer(3000))
    status, text = other.status(1)
    assert (status, "the server is busy" in text) == (14, True)
    assert found.next() == (RST_STREAM, 0, 1, number(CANCEL)), "no window within the idle time"
    other = Peer(impatient.grpc_port)
    other.call(1, INFER, infer(3000))
    assert other.status(1) == (0, "")


def test_request_that_trickles_in_is_ended(impatient: Any) -> None:
    found = Peer(impatient.grpc_port)
    found.send(frame(HEADERS, END_HEADERS, 1, plain(head(INFER))))
    ended = time.monotonic() + 10
    found.socket.settimeout(0.1)
    said = b""
    while b"grpc-status" not in said and time.monotonic() < ended:
        found.send(frame(DATA, 0, 1, b"x"))
        try:
            said += found.socket.recv(65536)
        except TimeoutError:
            continue
    assert b"the request did not arrive in time" in said


@pytest.mark.parametrize(
    "piece", [PREFACE[:1], PREFACE + frame(SETTINGS, 0, 0) + b"\0", PREFACE + frame(SETTINGS, 0, 0) + frame(1, 0, 1)]
)
def test_frame_that_does_not_end_ends_the_connection(impatient: Any, piece: bytes) -> None:
    found = Peer(impatient.grpc_port, preface=piece)
    started = time.monotonic()
    while time.monotonic() < started + 10:
        kind = (found.read() or (None,))[0]
        if kind in (GOAWAY, None):
            break
    assert kind == GOAWAY
    assert time.monotonic() - started < 3


def test_connection_on_which_nothing_happens_is_ended_without_blame(impatient: Any) -> None:
    found = Peer(impatient.grpc_port)
    found.call(1)
    assert found.status(1) == (0, "")
    assert found.goaway() == (1, 0, "")
    assert found.read() is None


def test_whoever_speaks_something_else_is_told(server: Any) -> None:
    found = Peer(server.grpc_port, preface=b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert found.goaway() == (0, PROTOCOL_ERROR, "this port only supports gRPC over HTTP/2 with prior knowledge")


# -- the end


def test_leaving_loses_nothing_that_was_sent_before_the_client_knew(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0, grpc_connection_age_seconds=0.3)
    found = Peer(server.grpc_port)
    assert found.goaway() == (2**31 - 1, 0, ""), "old, and told so"
    kind, flags, _, ping = found.next()
    assert (kind, flags) == (PING, 0)
    found.call(1)
    assert found.status(1) == (0, "")
    found.send(frame(HEADERS, END_HEADERS, 3, plain(head())))
    found.send(frame(PING, ACK, 0, ping))
    assert found.goaway() == (3, 0, ""), "the last stream is named when the client knows"
    found.send(frame(HEADERS, END_HEADERS, 5, plain(head())))
    assert found.next() == (RST_STREAM, 0, 5, number(REFUSED_STREAM)), "later ones may be tried elsewhere"
    found.send(frame(DATA, END_STREAM, 3, message()))
    assert found.status(3) == (0, "")
    assert found.read() is None, "and with the last answer the connection ends"


def test_client_that_does_not_answer_the_ping_is_left_all_the_same(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0, grpc_connection_age_seconds=0.3)
    found = Peer(server.grpc_port)
    assert found.goaway()[0] == 2**31 - 1
    assert found.goaway()[0] == 0
    assert found.read() is None


def test_last_stream_that_was_named_stays_the_last(server: Any) -> None:
    """RFC 9113, 6.8: else the client would not try again what was refused."""
    found = Peer(server.grpc_port)
    found.send(frame(HEADERS, END_HEADERS, 1, plain(head())) + frame(GOAWAY, 0, 0, number(0) + number(0)))
    assert found.goaway() == (1, 0, "")
    found.send(frame(HEADERS, END_HEADERS, 3, plain(head())) + frame(DATA, 0, 0))
    assert found.next() == (RST_STREAM, 0, 3, number(REFUSED_STREAM))
    assert found.goaway()[:2] == (1, PROTOCOL_ERROR)


def test_client_that_leaves_gets_its_answers(server: Any) -> None:
    found = Peer(server.grpc_port)
    found.call(1, INFER, infer(1))
    found.send(frame(GOAWAY, 0, 0, number(0) + number(0)))
    kinds = [kind for kind, *_ in found.frames()]
    assert kinds.count(DATA) == 1
    assert kinds[-1] in (HEADERS, GOAWAY)


def test_calls_and_watches_that_cross_the_end_are_answered(serve: Any, scaled: Any) -> None:
    """The listener is closed, and the client has not read that it should leave."""
    server = serve(scaled, grpc_port=0, drain_seconds=0, grpc_connection_age_seconds=600)
    found = Peer(server.grpc_port)
    found.call(1)
    assert found.status(1) == (0, "")
    server.terminate()
    assert found.goaway() == (2**31 - 1, 0, "")
    assert found.next()[0] == PING
    found.call(3, INFER, infer(1))
    assert found.status(3) == (0, "")
    found.call(5, "/grpc.health.v1.Health/Watch")
    data, fields = found.answer(5)
    assert (data, fields["grpc-status"]) == (message(b"\x08\x02"), "0"), "NOT_SERVING, and the end"
    assert server.process.wait(timeout=10) == 0
    assert server.logged("stopped")[0]["finished"] is True


# -- turns


class Served:
    """A handler that answers at once, and says whom."""

    def __init__(self) -> None:
        self.order: list[tuple[int, int]] = []

    def opened(self, exchange: Exchange) -> None: ...

    def handle(self, exchange: Exchange, body: bytes) -> None:
        self.order.append((id(exchange.connection), exchange.id))
        exchange.answer(plain([(":status", "200")]), b"x" * len(body), plain([("grpc-status", "0")]))

    def refuse(self, exchange: Exchange, status: int, message: str) -> None: ...


def two_connections(happens: Callable[[Served, Connection, Connection], Awaitable[None]]) -> Served:
    """On one loop, without sockets."""

    async def run() -> Served:
        served = Served()
        limits = Limits(
            body_bytes=1 << 24,
            header_bytes=16384,
            held_bytes=1 << 28,
            connections=9,
            request_seconds=60,
            idle_seconds=60,
        )
        server = Http2Server(served, limits, Budget(limit_bytes=limits.held_bytes, most_connections=9), age_seconds=600)
        connections = server.connection(), server.connection()
        for connection in connections:
            connection.connection_made(Transport())
            opening = setting(4, 1 << 30)
            connection.data_received(
                PREFACE + frame(SETTINGS, 0, 0, opening) + frame(WINDOW_UPDATE, 0, 0, number(1 << 30))
            )
        await happens(served, *connections)
        server.stop()
        return served

    return asyncio.run(run())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_connection_that_sends_much_at_a_time_does_not_hold_up_others() -> None:
    """A quarter of a megabyte is read at a time: thousands of calls."""

    async def happens(served: Served, much: Connection, other: Connection) -> None:
        block = plain(head())
        call = b"".join(frame(HEADERS, END_HEADERS | END_STREAM, n, block) for n in range(1, 4001, 2))
        much.data_received(call)
        other.data_received(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
        assert much._reads is False, "and is not read meanwhile"
        await turns(100)
        assert much._reads is True

    served = two_connections(happens)
    assert len(served.order) == 2001
    (place,) = [n for n, (whose, _) in enumerate(served.order) if whose != served.order[0][0]]
    assert place < 200
    assert [stream for whose, stream in served.order if whose == served.order[0][0]] == [*range(1, 4001, 2)]


def test_client_that_takes_nothing_is_sent_nothing_more_than_a_transport_holds() -> None:
    """Internal data buffering (CVE-2019-9517)."""

    async def happens(served: Served, much: Connection, other: Connection) -> None:
        transport: Any = much._transport
        body = bytes(16384)
        for stream in range(1, 41, 2):
            much.data_received(frame(HEADERS, END_HEADERS, stream, plain(head())))
            for _ in range(63):
                much.data_received(frame(DATA, 0, stream, body))
            if stream == 1:
                much.data_received(frame(DATA, END_STREAM, stream, body))
                await turns(1)
                much.pause_writing()
                held = len(transport.written)
            else:
                much.data_received(frame(DATA, END_STREAM, stream, body))
        await turns(50)
        assert len(transport.written) < held + 10_000, "grants of window, heads"
        assert much._server.load.held_bytes > 19 << 20
        transport.written.clear()
        much.resume_writing()
        await turns(200)
        assert len(transport.written) > 19 << 20
        assert much._server.load.held_bytes == 0

    two_connections(happens)


# -- what is remembered of clients


def test_call_whose_client_left_while_it_was_read_is_not_begun() -> None:
    """A Watch would be told of every change for ever."""

    async def run() -> list[Any]:
        begun: list[Any] = []
        exchanges = [Exchange(id, Head([]), 0.0) for id in (1, 3)]
        exchanges[0].gone = True
        read = asyncio.get_running_loop().create_future()
        read.set_result("request")
        for exchange in exchanges:
            method = Method(bytes.decode, lambda call, request: begun.append(call.exchange))
            GrpcServer._begin(GrpcServer.__new__(GrpcServer), Call(exchange), method, read)
        return [exchange.id for exchange in begun]

    assert asyncio.run(run()) == [3]


def test_names_of_clients_are_remembered_only_if_they_are_short() -> None:
    """Else a few hundred requests with names as large as a body would stay in memory."""
    messages.model_path("m", "v")
    before = messages._model_path.cache_info().currsize
    assert messages.model_path("x" * 1000, "v") == b"/v2/models/" + b"x" * 1000 + b"/versions/v"
    assert messages._model_path.cache_info().currsize == before
    messages.model_path("another", "v")
    assert messages._model_path.cache_info().currsize == before + 1

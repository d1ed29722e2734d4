"""HTTP/1.1 on a raw socket: what well-behaved, clumsy and hostile clients send."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

PING = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
LIVE = b'{"live":true}'


class Client:
    """A socket that reads whole answers."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        length = int(headers.get(b"content-length", b"0"))
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(first.split()[1]), headers, body

    def _more(self) -> None:
        part = self.socket.recv(65536)
        assert part, f"the server closed after {self.buffer!r}"
        self.buffer += part

    def is_closed(self) -> bool:
        return not self.buffer and self.socket.recv(1) == b""


def infer(row: dict[str, Any], *headers: bytes, chunked: bool = False) -> bytes:
    body = json.dumps(row).encode()
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n" + b"".join(h + b"\r\n" for h in headers)
    if not chunked:
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts)
    return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\ncontent-encoding: gzip\r\n\r\n"


@pytest.fixture(scope="module")
def server(serve: Any, make_folder: Any, models: Any) -> Any:
    folder = make_folder(models["scale"](), x=np.array([[1, 2, 3]], np.float32))
    return serve(folder, body_limit_bytes=5000, header_limit_bytes=1000, idle_timeout_seconds=1)


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    client = Client(server.port)
    yield client
    client.socket.close()


def test_pipelined_requests_are_answered_in_order(client: Client, row: Any) -> None:
    wanted = [f"id-{i}" for i in range(100)]
    client.send(b"".join(infer(row | {"id": i}) + PING for i in wanted))
    for i in wanted:
        assert json.loads(client.answer()[2])["id"] == i
        assert client.answer()[2] == LIVE


def test_request_that_arrives_byte_by_byte_is_answered(client: Client, row: Any) -> None:
    for byte in infer(row):
        client.send(bytes([byte]))
    assert client.answer()[0] == 200


def test_chunked_body_is_answered_and_its_trailer_is_no_header(client: Client, row: Any) -> None:
    client.send(infer(row, chunked=True) + PING)
    assert json.loads(client.answer()[2])["outputs"][0]["data"] == [2, 4, 6]
    assert client.answer()[2] == LIVE


def test_expect_continue_is_answered_before_the_body(client: Client, row: Any) -> None:
    head, _, body = infer(row, b"expect: 100-continue").partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert client.answer()[0] == 100
    client.send(body)
    assert client.answer()[0] == 200


def test_half_closed_client_gets_its_answers(serve: Any, make_folder: Any, models: Any, row: Any) -> None:
    server = serve(make_folder(models["slow"](), x=np.array([[1, 2, 3]], np.float32)))
    client = Client(server.port)
    client.send(infer(row) * 3)
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.answer()[0] for _ in range(3)] == [200] * 3
    assert client.is_closed()


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /v2/health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n",
    ],
)
def test_connection_closes_where_it_cannot_go_on(client: Client, request_head: bytes) -> None:
    client.send(request_head)
    status, headers, body = client.answer()
    assert (status, headers[b"connection"], body) == (200, b"close", LIVE)
    assert client.is_closed()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET /v2 HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_malformed_http_is_refused_after_what_came_before(client: Client, sent: bytes) -> None:
    client.send(PING + sent + PING)
    assert client.answer()[2] == LIVE
    status, headers, body = client.answer()
    assert (status, headers[b"connection"]) == (400, b"close")
    assert json.loads(body)["error"].startswith("malformed HTTP: ")
    assert client.is_closed()


def test_endless_header_is_refused_while_it_arrives(client: Client) -> None:
    client.send(b"GET /v2 HTTP/1.1\r\na: ")
    for _ in range(3):
        time.sleep(0.02)
        client.send(b"x" * 600)
    assert client.answer()[0] == 431


def test_oversized_body_is_refused_before_it_is_sent_and_the_reason_arrives(client: Client) -> None:
    client.send(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n")
    time.sleep(0.1)
    for _ in range(10):
        client.send(b"x" * 100_000)
    assert client.answer()[0] == 413


def test_large_head_that_follows_a_large_body_is_not_mistaken_for_a_large_head(client: Client, row: Any) -> None:
    padded = row | {"id": "x" * 4000}
    client.send(infer(padded) + PING[:20])
    assert client.answer()[0] == 200
    client.send(PING[20:])
    assert client.answer()[2] == LIVE


def test_silent_connection_is_closed_and_half_a_request_is_told_why(server: Any) -> None:
    silent, half = Client(server.port), Client(server.port)
    half.send(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
    assert half.answer()[0] == 408
    assert silent.is_closed()


def test_unread_answers_stop_the_reading_of_requests(serve: Any, scaled: Any, row: Any) -> None:
    """A client that only sends must be held back by TCP, or the server would hold every answer in memory."""
    server = serve(scaled)  # its idle time is far off: nobody is let go meanwhile
    client = Client(server.port)
    client.socket.settimeout(0.5)
    flood = infer(row | {"id": "x" * 2000}) * 50
    deadline = time.monotonic() + 5

    def send_without_reading() -> None:
        while time.monotonic() < deadline:
            client.socket.sendall(flood)

    with pytest.raises(TimeoutError):
        send_without_reading()
    assert server.metric("process_resident_memory_bytes") < 300e6
    client.socket.close()

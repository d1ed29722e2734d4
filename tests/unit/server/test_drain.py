"""SIGTERM: readiness goes first, serving goes on, nothing in flight is lost, the process ends in time with 0."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from http.client import HTTPConnection
from typing import Any

import httpx
import numpy as np


class Load:
    """Clients that keep their connection, follow `connection: close`, and stop when nobody listens any more."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self.answered = 0
        self.lost: list[str] = []
        self.closed_by_header = 0

    def run(self) -> None:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), timeout=10)
            except ConnectionRefusedError:
                return
            with connection:
                if not self._use(connection):
                    return

    def _use(self, connection: socket.socket) -> bool:
        while True:
            try:
                connection.sendall(self._request)
                head, body = self._read(connection)
            except OSError as error:
                self.lost.append(repr(error))
                return False
            if not head.startswith(b"HTTP/1.1 200") or json.loads(body)["outputs"][0]["data"] != [2, 4, 6]:
                self.lost.append(repr(head))
                return False
            self.answered += 1
            if b"\r\nconnection: close\r\n" in head:
                self.closed_by_header += 1
                return True

    def _read(self, connection: socket.socket) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data or len(data) < self._length(data):
            part = connection.recv(65536)
            if not part:
                raise ConnectionError(f"closed after {data!r}")
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        return head + b"\r\n", body

    @staticmethod
    def _length(data: bytes) -> int:
        head, _, _ = data.partition(b"\r\n\r\n")
        (line,) = (x for x in head.split(b"\r\n") if x.startswith(b"content-length: "))
        return len(head) + 4 + int(line.split()[1])


def has_read(server: Any) -> None:
    """The server has one loop: once it answers this, it has seen what other connections brought before."""
    assert httpx.get(f"{server.url}/v2/health/live", timeout=10).status_code == 200


def test_no_request_is_lost_under_load_and_clients_are_told_to_leave(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, drain_seconds=0.6)
    body = json.dumps(row).encode()
    request = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    clients = [Load(server.port, request) for _ in range(8)]
    threads = [threading.Thread(target=c.run) for c in clients]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while sum(c.answered for c in clients) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    before = sum(c.answered for c in clients)
    server.terminate()
    for thread in threads:
        thread.join(15)
    assert [c.lost for c in clients] == [[]] * 8
    assert sum(c.answered for c in clients) > before >= 50, "it went on serving after the signal"
    assert all(c.closed_by_header for c in clients)
    assert server.process.wait(timeout=10) == 0


def test_readiness_turns_false_at_once_while_serving_goes_on(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, drain_seconds=2)
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/v2/health/ready").status_code == 200
        server.terminate()
        time.sleep(0.2)
        for path in ("/v2/health/ready", "/v2/models/m/ready"):
            assert client.get(path).status_code == 503
            assert client.get(path).json() == {"error": "the server is draining"}
        assert client.get("/v2/health/live").status_code == 200
        assert server.infer(row).status_code == 200, "new connections are accepted"
    assert server.process.wait(timeout=10) == 0


def test_long_run_under_way_is_answered_before_the_end(serve: Any, make_folder: Any, models: Any, row: Any) -> None:
    server = serve(make_folder(models["slow"](200), x=np.array([[1, 2, 3]], np.float32)), drain_seconds=0)
    clients = [HTTPConnection("127.0.0.1", server.port, timeout=20) for _ in range(4)]
    for client in clients:
        client.request("POST", "/v2/models/m/infer", json.dumps(row))
    has_read(server)
    server.terminate()
    answers = [json.load(client.getresponse()) for client in clients]
    assert [a["outputs"][0]["data"] for a in answers] == [[1, 2, 3]] * 4
    assert server.process.wait(timeout=10) == 0
    assert server.logged("stopped")[0]["finished"] is True


def test_request_of_which_half_has_arrived_is_finished(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, drain_seconds=0)
    body = json.dumps(row).encode()
    idle = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    half = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    half.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:9])
    has_read(server)
    server.terminate()
    assert idle.recv(1) == b"", "a connection that stays silent ends"
    half.sendall(body[9:])
    answer = half.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in answer
    assert half.recv(1) == b""
    assert server.process.wait(timeout=10) == 0


def test_connection_made_as_the_server_stops_listening_still_gets_its_answer(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, drain_seconds=0)
    body = json.dumps(row).encode()
    late = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    has_read(server)
    server.terminate()
    time.sleep(0.3)
    late.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    assert late.recv(65536).startswith(b"HTTP/1.1 200")
    assert server.process.wait(timeout=10) == 0


def test_grace_period_ends_even_a_request_that_never_completes(serve: Any, scaled: Any) -> None:
    server = serve(scaled, drain_seconds=0, grace_seconds=0.5)
    stuck = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    stuck.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n")
    has_read(server)
    start = time.monotonic()
    server.terminate()
    assert server.process.wait(timeout=10) == 0
    assert 0.4 < time.monotonic() - start < 3
    assert server.logged("stopped")[0]["finished"] is False


def test_second_signal_changes_nothing(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, drain_seconds=1.5)
    server.terminate()
    time.sleep(0.1)
    server.terminate()
    server.process.send_signal(signal.SIGINT)
    assert server.infer(row).status_code == 200
    assert server.process.wait(timeout=10) == 0

"""What an infer request costs, over REST and over gRPC, beside a bare echo on HTTP/1.1, in CPU time of the process.

Both servers get the same bytes from the same client in turn, so a slow or busy machine slows both alike.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from steeltown_testing.http2_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INFER,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    infer,
    number,
    plain,
)
from steeltown_testing.http2_peer import head as grpc_head

ROUNDS, CONNECTIONS, PIPELINED, REPEATS = 8, 2, 8, 60
MOST = 4.0
"""Measured 2.1 to 2.8: decoding, checks, the run, encoding and counters cost more than a bare request."""
MOST_GRPC = 9.0
"""Measured 6.0 to 6.6: frames in Python cost more than HTTP/1.1 in C, and a message is taken apart twice."""

ECHO = """
import asyncio, sys, uvloop
from steeltown_server.http import Answer, HttpServer, Limits

class Echo:
    def handle(self, exchange, request):
        exchange.answer(Answer(200, b'{"ok":true}'))

async def main():
    limits = Limits(body_bytes=1 << 20, header_bytes=1 << 14, held_bytes=1 << 28, connections=100,
                    request_seconds=60, idle_seconds=60)
    http = HttpServer(Echo(), limits)
    server = await asyncio.get_running_loop().create_server(http.connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""


class Client:
    """Two connections, eight requests in a row on each: so a batch does not depend on who is scheduled when.

    opening: what a connection begins with. request: the bytes of the n-th request of a connection.
    """

    def __init__(self, port: int, request: Callable[[int], bytes], opening: bytes = b"") -> None:
        self._request = request
        self._asked = 0
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(CONNECTIONS)]
        self._length = 0
        for each in self._sockets:
            if opening:
                each.sendall(opening)
                time.sleep(0.2)
                each.recv(65536)
            each.sendall(request(0))
            self._length = PIPELINED * len(each.recv(65536))

    def run(self) -> None:
        for _ in range(REPEATS):
            requests = b"".join(self._request(self._asked + n) for n in range(1, PIPELINED + 1))
            self._asked += PIPELINED
            for each in self._sockets:
                each.sendall(requests)
            for each in self._sockets:
                missing = self._length
                while missing:
                    part = each.recv(missing)
                    assert part
                    missing -= len(part)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def cpu_nanoseconds(pid: int) -> int:
    """Of all threads, as the scheduler accounts it."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


@pytest.fixture
def echo() -> Iterator[tuple[int, int]]:
    """(pid, port)"""
    root = Path(__file__).parents[3]
    environment = {
        **os.environ,
        "PYTHONPATH": ":".join(
            str(root / place) for place in ("operator", "images/server", "images/http2", "images/tensors")
        ),
    }
    process = subprocess.Popen([sys.executable, "-c", ECHO], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.pid, int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_infer_request_costs_few_bare_requests(serve: Any, scaled: Any, row: Any, echo: tuple[int, int]) -> None:
    server = serve(scaled)
    request = infer_request(row)
    ours = (server.process.pid, Client(server.port, lambda n: request))
    assert 1 < compare(ours, bare(echo, request)) < MOST


def test_grpc_call_costs_few_bare_requests(serve: Any, scaled: Any, row: Any, echo: tuple[int, int]) -> None:
    server = serve(scaled, grpc_port=0, grpc_connection_age_seconds=600)
    head = plain(grpc_head(INFER))
    body = infer(1)

    def call(n: int) -> bytes:
        return frame(HEADERS, END_HEADERS, 2 * n + 1, head) + frame(DATA, END_STREAM, 2 * n + 1, body)

    opening = PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, number(1 << 30))
    ours = (server.process.pid, Client(server.grpc_port, call, opening))
    assert 1 < compare(ours, bare(echo, infer_request(row))) < MOST_GRPC


def infer_request(row: Any) -> bytes:
    body = json.dumps(row).encode()
    return b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def bare(echo: tuple[int, int], request: bytes) -> tuple[int, Client]:
    return echo[0], Client(echo[1], lambda n: request)


def compare(first: tuple[int, Client], second: tuple[int, Client]) -> float:
    """CPU time of the first server over that of the second for the same requests.

    The least of several rounds each: what else runs on the machine makes a round dearer (cold caches), never cheaper.
    """
    costs: list[list[int]] = [[], []]
    for _ in range(ROUNDS):
        for (pid, client), seen in zip((first, second), costs, strict=True):
            before = cpu_nanoseconds(pid)
            client.run()
            seen.append(cpu_nanoseconds(pid) - before)
    for _, client in (first, second):
        client.close()
    return min(costs[0]) / min(costs[1])

"""What an infer request costs beside a bare echo on the same HTTP, in CPU time of the process, not on the clock.

Both servers get the same bytes from the same client in turn, so a slow or busy machine slows both alike.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROUNDS, CONNECTIONS, PIPELINED, REPEATS = 8, 2, 8, 60
MOST = 4.5
"""Measured 2.8 to 3.3: decoding, checks, the run, encoding and counters cost as much as two bare requests."""

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
    """Two connections, eight requests in a row on each: so a batch does not depend on who is scheduled when."""

    def __init__(self, port: int, request: bytes) -> None:
        self._requests = request * PIPELINED
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(CONNECTIONS)]
        self._length = 0
        for each in self._sockets:
            each.sendall(request)
            self._length = PIPELINED * len(each.recv(65536))

    def run(self) -> None:
        for _ in range(REPEATS):
            for each in self._sockets:
                each.sendall(self._requests)
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
    environment = {**os.environ, "PYTHONPATH": f"{root / 'operator'}:{root / 'images/server'}"}
    process = subprocess.Popen([sys.executable, "-c", ECHO], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.pid, int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_infer_request_costs_few_bare_requests(serve: Any, scaled: Any, row: Any, echo: tuple[int, int]) -> None:
    server = serve(scaled)
    ratio = compare(infer_request(row), (server.process.pid, server.port), echo)
    assert 1 < ratio < MOST


def infer_request(row: Any) -> bytes:
    body = json.dumps(row).encode()
    return b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def compare(request: bytes, first: tuple[int, int], second: tuple[int, int]) -> float:
    """CPU time of the first server over that of the second for the same requests.

    The least of several rounds each: what else runs on the machine makes a round dearer (cold caches), never cheaper.
    """
    sides = [(pid, Client(port, request)) for pid, port in (first, second)]
    costs: list[list[int]] = [[], []]
    for _ in range(ROUNDS):
        for (pid, client), seen in zip(sides, costs, strict=True):
            before = cpu_nanoseconds(pid)
            client.run()
            seen.append(cpu_nanoseconds(pid) - before)
    for _, client in sides:
        client.close()
    return min(costs[0]) / min(costs[1])

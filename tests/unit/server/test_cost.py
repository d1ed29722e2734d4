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
from statistics import median
from typing import Any

import pytest

ROUNDS, CONNECTIONS, REPEATS = 5, 8, 150
MOST = 3.5
"""Measured 2.5 to 2.7: decoding, checks, the run, encoding and counters cost as much as 1.6 bare requests."""

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
    """Eight connections, a request on each, then an answer from each."""

    def __init__(self, port: int, request: bytes) -> None:
        self._request = request
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(CONNECTIONS)]
        self._length = 0
        for each in self._sockets:
            each.sendall(request)
            self._length = len(each.recv(65536))

    def run(self) -> None:
        for _ in range(REPEATS):
            for each in self._sockets:
                each.sendall(self._request)
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
    body = json.dumps(row).encode()
    request = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    sides = {server.process.pid: Client(server.port, request), echo[0]: Client(echo[1], request)}
    ratios = []
    for _ in range(ROUNDS):
        costs = []
        for pid, client in sides.items():
            before = cpu_nanoseconds(pid)
            client.run()
            costs.append(cpu_nanoseconds(pid) - before)
        ratios.append(costs[0] / costs[1])
    for client in sides.values():
        client.close()
    assert 1 < median(ratios) < MOST, ratios

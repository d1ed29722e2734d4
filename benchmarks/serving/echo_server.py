"""Our server's HTTP skin with nothing behind it: every request is read and answered with the same 11 bytes.

What remains of a request's cost here is HTTP itself, on this stack: the limit that the benchmark holds servers
against. Usage: echo_server.py PORT, with images/server, http2 and tensors, and operator on PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import uvloop
from steeltown_server.http import Answer, Answering, HttpServer, Limits, Request

ANSWER: Final = Answer(200, b'{"ok":true}')
LIMITS: Final = Limits(
    body_bytes=64 << 20,
    header_bytes=16 << 10,
    held_bytes=256 << 20,
    connections=10_000,
    request_seconds=60.0,
    idle_seconds=75.0,
)


class Echo:
    def handle(self, exchange: Answering, request: Request) -> None:
        exchange.answer(ANSWER)


async def serve(port: int) -> None:
    server = HttpServer(Echo(), LIMITS)
    listening = await asyncio.get_running_loop().create_server(server.connection, "127.0.0.1", port, backlog=1024)
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

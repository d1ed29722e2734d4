"""Whether our server's memory stays where it is: millions of requests, then connection after connection.

`.venv/bin/python benchmarks/serving/soak.py` (10 to 15 minutes; needs wrk, with --grpc h2load) prints a line a minute,
writes results/soak/<date>.json and exits with 1 if memory has grown or a request has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from serving_bench import generators, wire
from serving_bench.answers import path_of
from serving_bench.cells import CELLS, model_folders, payload
from serving_bench.environments import cache_folder
from serving_bench.rounds import Running, running
from serving_bench.subjects import SUBJECTS

SETTLED_REQUESTS: Final = 500_000
"""Until then allocators and caches fill; from then on nothing may grow."""

MOST_GROWTH_MIB: Final = 4.0
BLOCK_SECONDS: Final = 60.0
CHURN_BLOCK: Final = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--connections", type=int, default=100_000, help="opened and closed, a request on each")
    parser.add_argument("--grpc", action="store_true", help="the gRPC port instead")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "soak")
    options = parser.parse_args()
    subject, models = SUBJECTS["steeltown"], model_folders(cache_folder())
    with running(subject, models, "logreg", grpc=options.grpc) as server:
        kept = steady(server, options.requests, grpc=options.grpc)
        churned = churn(server, options.connections, grpc=options.grpc)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "load": os.getloadavg(),
        "requests": kept,
        "connections": churned,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = f"{result['date']}{'-grpc' if options.grpc else ''}.json"
    (options.out / name).write_text(json.dumps(result, indent=1) + "\n")
    grown = [part["grown_mib"] for part in (kept, churned)]
    failed = kept["failed"] + churned["failed"]
    print(f"grown by {grown[0]} MiB over requests, by {grown[1]} MiB over connections; {failed} failed")
    return int(max(grown) > MOST_GROWTH_MIB or failed > 0)


def steady(server: Running, requests: int, *, grpc: bool) -> dict[str, Any]:
    """64 connections that stay."""
    cell = replace(CELLS["logreg-c64"], name="soak", kind="grpc" if grpc else "json")
    port = server.place.grpc_port if grpc else server.place.http_port
    done, failed, seen = 0, 0, []
    while done < requests:
        seconds = BLOCK_SECONDS if done >= SETTLED_REQUESTS else BLOCK_SECONDS / 4
        closed = generators.closed(cell, port, seconds, server.place.folder)
        done, failed = done + closed.requests, failed + closed.bad
        seen.append((done, memory(server)))
        print(f"{done:>12,} requests, {failed} failed, {seen[-1][1]} MiB", flush=True)
    return outcome(seen, failed, SETTLED_REQUESTS)


def churn(server: Running, connections: int, *, grpc: bool) -> dict[str, Any]:
    """One connection a request; every tenth client leaves without reading its answer."""
    request, good = _call() if grpc else _request()
    address = ("127.0.0.1", server.place.grpc_port if grpc else server.place.http_port)
    failed, seen = 0, []
    for number in range(1, connections + 1):
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(request)
            if number % 10 and not _answers(client, good):
                failed += 1
        if number % CHURN_BLOCK == 0:
            time.sleep(0.2)
            seen.append((number, memory(server)))
            print(f"{number:>12,} connections, {failed} failed, {seen[-1][1]} MiB", flush=True)
    return outcome(seen, failed, CHURN_BLOCK)


def _request() -> tuple[bytes, bytes]:
    """A request, and what every good answer to it holds."""
    body = payload(CELLS["logreg-c1"]).body
    head = f"POST {path_of('logreg')} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    return head + body, b"HTTP/1.1 200"


def _call() -> tuple[bytes, bytes]:
    """The same as the bytes of an HTTP/2 connection. Good is status 0, in a literal, since ours come so."""
    message = wire.framed(payload(CELLS["logreg-grpc"]).body)
    pseudo = {":method": "POST", ":scheme": "http", ":path": wire.METHOD, ":authority": "x"}
    fields = pseudo | {"content-type": "application/grpc", "te": "trailers"}
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    frames = [_frame(4, 0, 0, b""), _frame(1, 4, 1, block), _frame(0, 1, 1, message)]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frames), _text("grpc-status") + _text("0")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _answers(client: socket.socket, good: bytes) -> bool:
    said = b""
    while good not in said:
        more = client.recv(65536)
        if not more:
            return False
        said += more
        if said.startswith(b"HTTP/1.1") and not said.startswith(good):
            return False
    return True


def memory(server: Running) -> float:
    return round(server.process.memory_mib()[0], 1)


def outcome(seen: list[tuple[int, float]], failed: int, settled: int) -> dict[str, Any]:
    """grown_mib: from the first look after `settled` to the last."""
    first = next((mib for count, mib in seen if count >= settled), seen[-1][1])
    return {"seen": seen, "failed": failed, "grown_mib": round(seen[-1][1] - first, 1)}


if __name__ == "__main__":
    sys.exit(main())

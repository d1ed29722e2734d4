"""What one client, or all of them together, cannot make the server hold, wait for or run."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest

INFER = "/v2/models/m/infer"
HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


def connect(server: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def everything(client: socket.socket) -> bytes:
    received = b""
    while part := client.recv(65536):
        received += part
    return received


def reads(server: Any) -> None:
    """The server has one loop: once it answers this, it has seen what other connections brought before."""
    assert httpx.get(f"{server.url}/v2/health/live", timeout=10).status_code == 200


def test_connection_beyond_the_limit_is_told_so_and_another_may_follow(serve: Any, scaled: Any) -> None:
    server = serve(scaled, max_connections=3)
    clients = [connect(server) for _ in range(3)]
    clients[0].sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    assert clients[0].recv(65536).startswith(b"HTTP/1.1 200")
    refused = everything(connect(server))
    assert refused.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1\r\n" in refused
    assert b"limit of 3 connections reached" in refused
    clients.pop().close()
    deadline = time.monotonic() + 10
    while httpx.get(f"{server.url}/v2/health/live").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    reads(server)


def test_bodies_under_way_are_bounded_together_and_given_back(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, held_limit_bytes=100_000)
    holders = [connect(server) for _ in range(2)]
    for holder in holders:
        holder.sendall(HEAD % 60_000 + bytes(45_000))
    reads(server)
    late = connect(server)
    late.sendall(HEAD % 60_000 + bytes(20_000))
    refused = everything(late)
    assert refused.startswith(b"HTTP/1.1 503")
    assert b"limit of 100000 bytes of requests in flight reached" in refused
    for holder in holders:
        holder.close()
    reads(server)
    again = connect(server)
    again.sendall(HEAD % 99_000 + b" " * 98_999 + b"{")
    assert again.recv(65536).startswith(b"HTTP/1.1 400"), "all was given back"
    for _ in range(20):  # answered requests hold nothing
        assert server.infer(row | {"parameters": {"x": "x" * 20_000}}).status_code == 200


def test_request_that_trickles_in_has_a_deadline(serve: Any, scaled: Any) -> None:
    """Each byte in time for the idle limit, all of them never in time."""
    server = serve(scaled, request_timeout_seconds=0.6, idle_timeout_seconds=30)
    client = connect(server)
    received = b""

    def trickle() -> None:
        for byte in HEAD % 1000 + bytes(1000):
            try:
                client.sendall(bytes([byte]))
            except OSError:
                return
            time.sleep(0.02)

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    start = time.monotonic()
    received = client.recv(65536)
    assert received.startswith(b"HTTP/1.1 408")
    assert 0.4 < time.monotonic() - start < 8
    client.close()
    thread.join(10)


def test_connection_kept_for_long_is_no_late_request(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, request_timeout_seconds=0.2)
    with httpx.Client(base_url=server.url) as client:
        assert client.post(INFER, json=row).status_code == 200
        time.sleep(0.8)
        assert client.post(INFER, json=row).status_code == 200


def test_large_json_is_sent_to_binary(serve: Any, scaled: Any) -> None:
    server = serve(scaled, json_limit_bytes=1000)
    array = np.ones((400, 3), np.float32)
    answer = server.infer(
        {"inputs": [{"name": "x", "shape": [400, 3], "datatype": "FP32", "data": array.ravel().tolist()}]}
    )
    assert answer.status_code == 413
    assert answer.json() == {"error": "the JSON part exceeds the limit of 1000 bytes: send tensors as binary data"}
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [400, 3],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": array.nbytes},
                }
            ]
        }
    ).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = httpx.post(server.url + INFER, content=head + array.tobytes(), headers=headers)
    assert answer.status_code == 200


def test_overload_is_refused_at_once_and_the_accepted_keep_their_time(
    serve: Any, make_folder: Any, models: Any, row: Any
) -> None:
    """Five times more than the model can run, each run some 0.1 s, at most 0.3 s in the queue."""
    server = serve(
        make_folder(models["slow"](200), x=np.array([[1, 2, 3]], np.float32)),
        max_queue_seconds=0.3,
        max_batch_rows=1,
    )

    async def load() -> list[tuple[int, float, str]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30) as client:

            async def one() -> tuple[int, float, str]:
                start = time.monotonic()
                answer = await client.post(INFER, json=row)
                return answer.status_code, time.monotonic() - start, answer.text

            first = await one()
            tasks = [asyncio.create_task(one()) for _ in range(60)]
            return [first, *(await asyncio.gather(*tasks))]

    answers = asyncio.run(load())
    accepted = [seconds for status, seconds, _ in answers if status == 200]
    refused = [(seconds, text) for status, seconds, text in answers if status == 503]
    assert len(accepted) + len(refused) == 61
    assert len(accepted) >= 2
    assert len(refused) >= 20
    assert "requests are queued" in refused[0][1]
    assert "the limit is 0.3 s" in refused[0][1]
    assert max(seconds for seconds, _ in refused) < max(accepted)
    evidence = server.evidence()
    assert evidence.live.errors == len(refused), "who sheds more is the worse version"


SMUGGLED = {
    "both lengths": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    "list of lengths": b"content-length: 4, 5\r\n\r\nabcde",
    "signed length": b"content-length: +4\r\n\r\nabcd",
    "hexadecimal length": b"content-length: 0x4\r\n\r\nabcd",
    "negative length": b"content-length: -1\r\n\r\n",
    "length without end": b"content-length: 99999999999999999999999999\r\n\r\n",
    "chunked twice": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked with a tab": b"transfer-encoding:\tchunk\x0bed\r\n\r\n0\r\n\r\n",
    "space before the colon": b"content-length : 4\r\n\r\nabcd",
    "folded line": b"x: a\r\n content-length: 4\r\n\r\n",
    "bare line feed": b"x: a\ncontent-length: 4\n\nabcd",
    "null byte": b"x: a\x00b\r\n\r\n",
    "chunk size with junk": b"transfer-encoding: chunked\r\n\r\n4;\nabcd\r\n0\r\n\r\n",
    "chunk size without end": b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "chunk longer than it says": b"transfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("shape", SMUGGLED.values(), ids=SMUGGLED)
def test_request_that_two_servers_could_read_differently_ends_the_connection(
    serve: Any, scaled: Any, shape: bytes, row: Any
) -> None:
    """Whatever it is answered, nothing after it on this connection is taken for a request."""
    server = serve(scaled)
    client = connect(server)
    client.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n" + shape)
    client.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    received = everything(client)
    assert received.count(b"HTTP/1.1 ") == 1, received
    assert received.startswith(b"HTTP/1.1 4"), received
    assert b'{"live":true}' not in received
    assert server.infer(row).status_code == 200

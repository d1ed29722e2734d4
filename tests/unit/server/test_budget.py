"""One budget for what the process holds: whatever strangers send or leave unread, REST and gRPC together."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from steeltown.contract.evidence import Route
from steeltown_server.budget import Budget, Busy, append
from steeltown_server.rpc import inference_pb2 as pb
from steeltown_server.unfolding import Unfolder
from steeltown_testing.http2_peer import DATA, END_HEADERS, HEADERS, INFER, PREFACE, SETTINGS, frame, plain
from steeltown_testing.http2_peer import head as grpc_head

MB = 1 << 20
PATH = "/v2/models/m/infer"
HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def memory(server: Any, name: str = "VmRSS") -> int:
    """Bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


class Peak:
    """How far above its size of now the process goes in between."""

    def __init__(self, server: Any) -> None:
        self._server = server
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the highest size starts anew
        self._before = memory(server)

    @property
    def growth(self) -> int:
        return memory(self._server, "VmHWM") - self._before


def connect(server: Any, port: int = 0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port or server.port), timeout=20)


def alive(server: Any) -> None:
    """The server has one loop: once it answers this, it has seen what other connections brought before."""
    assert httpx.get(f"{server.url}/v2/health/live", timeout=20).status_code == 200


def everything(client: socket.socket) -> bytes:
    received = b""
    while part := client.recv(65536):
        received += part
    return received


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that within 20 s"
        time.sleep(0.02)


def packed_post(server: Any, body: bytes) -> httpx.Response:
    return httpx.post(server.url + PATH, content=body, headers={"content-encoding": "gzip"}, timeout=60)


def packed_request(body: bytes, encoding: bytes) -> bytes:
    return HEAD[:-2] % len(body) + b"content-encoding: %b\r\n\r\n" % encoding + body


def test_bombs_unfold_beside_the_loop_and_not_far(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled)
    assert packed_post(server, gzip.compress(json.dumps(row).encode())).status_code == 200
    twice = packed_request(gzip.compress(gzip.compress(bytes(64 * MB), 9), 9), b"gzip, gzip")
    once = packed_request(gzip.compress(bytes(63 * MB), 9), b"gzip")
    peak, longest = Peak(server), 0.0
    clients = {connect(server): request for request in (twice, once) for _ in range(20)}
    health = connect(server)
    for client, request in clients.items():
        client.sendall(request)
    for client, request in clients.items():
        started = time.monotonic()
        health.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert health.recv(65536).startswith(b"HTTP/1.1 200")
        longest = max(longest, time.monotonic() - started)
        answer = client.recv(65536)
        client.close()
        if request is twice:
            assert answer.startswith(b"HTTP/1.1 415")
            assert b"content-encoding has 2 layers" in answer
        else:
            assert answer.startswith(b"HTTP/1.1 413")
            assert b"more than 200 times as much" in answer
    health.close()
    assert peak.growth < 60 * MB
    assert longest < 2
    assert packed_post(server, gzip.compress(json.dumps(row).encode())).json()["outputs"][0]["data"] == [2, 4, 6]


def test_what_bodies_unfold_to_is_counted_and_given_back(serve: Any, scaled: Any, row: Any) -> None:
    server = serve(scaled, held_limit_bytes=MB, grpc_port=0)
    large = os.urandom(30_000) * 100
    for _ in range(3):
        answer = packed_post(server, gzip.compress(large))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "limit of 1048576 bytes of requests in flight reached" in answer.json()["error"]
    for _ in range(40):  # 20 of them would fill the budget if they were kept
        packed = gzip.compress(json.dumps(row | {"parameters": {"x": "x" * 50_000}}).encode())
        assert packed_post(server, packed).status_code == 200
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    small = pb.ModelInferRequest(
        model_name="m", inputs=[tensor], raw_input_contents=[np.ones(3, np.float32).tobytes()], id="x" * 50_000
    )
    big = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[large])
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                call(big, timeout=20, compression=grpc.Compression.Gzip)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "limit of 1048576 bytes of requests in flight reached" in caught.value.details()
        for _ in range(40):
            assert call(small, timeout=20, compression=grpc.Compression.Gzip).model_name == "m"


def test_body_in_chunks_of_two_bytes_takes_its_size(serve: Any, scaled: Any) -> None:
    server = serve(scaled)
    peak = Peak(server)
    with connect(server) as client:
        client.sendall(CHUNKED + b"2\r\n  \r\n" * MB)
        alive(server)
        assert peak.growth < 16 * MB, "2 MiB of body"
        client.sendall(b"1\r\n{\r\n0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400"), "it is read as one body, and is no JSON"


def test_grpc_message_in_frames_of_two_bytes_takes_its_size(serve: Any, scaled: Any) -> None:
    server = serve(scaled, grpc_port=0, grpc_connection_age_seconds=600)
    peak = Peak(server)
    with connect(server, server.grpc_port) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, plain(grpc_head(INFER))))
        threading.Thread(target=drop_all, args=(client,), daemon=True).start()
        client.sendall(frame(DATA, 0, 1, b"\0\0") * (MB // 2))
        until(lambda: not unread(server.grpc_port))
        alive(server)
        assert peak.growth < 16 * MB, "1 MiB of message"


def drop_all(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(65536):
            pass


def unread(port: int) -> int:
    """Bytes that lie in sockets of connections to this port, in either direction."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if f"{port:04X}" in (local.split(":")[1], remote.split(":")[1]):
            total += sum(int(queue, 16) for queue in queues.split(":"))
    return total


def test_both_front_ends_share_bytes(serve: Any, scaled: Any) -> None:
    server = serve(scaled, held_limit_bytes=100_000, grpc_port=0)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    request = pb.ModelInferRequest(
        model_name="m", inputs=[tensor], raw_input_contents=[np.ones(3, np.float32).tobytes()], id="x" * 60_000
    )
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        assert call(request, timeout=20).id == request.id
        with connect(server) as holder:
            holder.sendall(HEAD % 60_000 + bytes(50_000))
            alive(server)
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=20)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "limit of 100000 bytes of requests in flight reached" in caught.value.details()
        alive(server)
        assert call(request, timeout=20).id == request.id


def test_both_front_ends_share_connections(serve: Any, scaled: Any) -> None:
    server = serve(scaled, max_connections=3, grpc_port=0)
    clients = [connect(server, server.grpc_port) for _ in range(3)]
    for client in clients:
        assert client.recv(65536), "SETTINGS: it is there"
    with connect(server) as refused:
        assert b"limit of 3 connections reached" in refused.recv(65536)
    for client in clients:
        client.close()
    until(lambda: httpx.get(f"{server.url}/v2/health/live").status_code == 200)


def test_trailers_without_end_are_refused(serve: Any, scaled: Any) -> None:
    server = serve(scaled)
    peak = Peak(server)
    with connect(server) as client:
        client.sendall(HEAD[:-2] % 10 + b"x: " + b"y" * 60_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 431"), "at once, if it is there at once"
    with connect(server) as client:
        client.sendall(CHUNKED + b"1\r\n{\r\n0\r\nx: ")
        with suppress(OSError):
            for _ in range(400):
                client.sendall(b"y" * 65536)
                time.sleep(0.001)
        assert client.recv(65536).startswith(b"HTTP/1.1 431")
    assert peak.growth < 10 * MB
    alive(server)


def test_heads_that_are_not_there_yet_are_counted(serve: Any, scaled: Any, row: Any) -> None:
    """Each in its bounds, in pieces, so that none is complete."""
    server = serve(scaled, held_limit_bytes=50_000)
    clients = [connect(server) for _ in range(8)]
    for client in clients:
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n" + HEAD[:-2] % 10 + b"x: " + b"y" * 8000)
        alive(server)
    assert b"limit of 50000 bytes of requests in flight reached" in everything(clients[-1])
    for client in clients:
        client.close()
    alive(server)
    for _ in range(20):
        with connect(server) as client:
            client.sendall(HEAD[:-2] % 1 + b"x: " + b"y" * 3000)
            alive(server)
            client.sendall(b"y" * 3000 + b"\r\n\r\n{")
            assert client.recv(65536).startswith(b"HTTP/1.1 400"), "all was given back"
    assert server.infer(row).status_code == 200


def test_client_that_reads_no_answers_is_cut_off(serve: Any, scaled: Any, row: Any) -> None:
    """Of 10 MB each: more than sockets take."""
    server = serve(scaled, held_limit_bytes=24 * MB)
    rows = 400_000
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [rows, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12 * rows}}
            ]
        }
    ).encode()
    body = head + np.full(3 * rows, 1.2345678, np.float32).tobytes()
    start = b"POST %b HTTP/1.1\r\nhost: x\r\ninference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n"
    request = start % (PATH.encode(), len(head), len(body)) + body
    clients = [connect(server) for _ in range(30)]
    peak = Peak(server)
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        with suppress(OSError):
            client.sendall(request * 2)
    time.sleep(1)
    assert server.infer(row).status_code == 200, "those who read are served"
    assert peak.growth < 200 * MB, "of 600 MB that were asked for"
    for client in clients:
        client.close()
    assert server.infer(row).status_code == 200


DIGEST = "sha256:" + "c" * 64


@pytest.fixture
def canary() -> Iterator[Any]:
    """`answer(socket)` is called for each connection, when a request has begun."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    class Canary:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answer: Callable[[socket.socket], None]

    def serve_one(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65536)
            Canary.answer(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield Canary
    listener.close()


def routed(serve: Any, scaled: Any, tmp_path: Path, url: str, **environment: Any) -> Any:
    path = tmp_path / "route.json"
    route = Route(window="w", weight=100, canary_url=url, canary_digest=DIGEST, timeout_milliseconds=20_000)
    path.write_text(route.to_json())
    return serve(scaled, route_file=path, **environment)


def test_answers_of_a_canary_are_counted(serve: Any, scaled: Any, row: Any, canary: Any, tmp_path: Path) -> None:
    """24 of 16 MiB each: what does not fit is the canary's error, and the live model answers."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nsteeltown-digest: %b\r\n" % DIGEST.encode())
        connection.sendall(b"content-length: %d\r\n\r\n" % (16 * MB) + bytes(16 * MB - 1))
        time.sleep(3)  # all of them are there but for one byte
        connection.sendall(b"\0")

    canary.answer = staticmethod(answer)
    server = routed(serve, scaled, tmp_path, canary.url, held_limit_bytes=40 * MB)
    peak = Peak(server)
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: server.infer(row), range(24)))
    assert {a.status_code for a in answers} == {200}
    evidence = server.evidence()
    assert evidence.canary.requests == 24
    assert evidence.canary.errors >= 22
    assert peak.growth < 120 * MB
    assert "limit of 41943040 bytes of requests in flight reached" in server.logged("canary failed")[0]["error"]
    assert len(server.infer(row).content) in (16 * MB, len(answers[-1].content)), "all was given back"


def test_head_of_a_canary_without_end_is_its_fault(
    serve: Any, scaled: Any, row: Any, canary: Any, tmp_path: Path
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            connection.sendall(b"y" * 65536)

    canary.answer = staticmethod(answer)
    server = routed(serve, scaled, tmp_path, canary.url)
    peak, started = Peak(server), time.monotonic()
    assert server.infer(row).json()["outputs"][0]["data"] == [2, 4, 6]
    assert time.monotonic() - started < 5
    assert peak.growth < 10 * MB
    (logged,) = server.logged("canary failed")
    assert logged["error"] == "the head of the canary's response exceeds the limit of 65536 bytes"


async def test_unfolding_stops_when_the_budget_is_used_up() -> None:
    budget = Budget(limit_bytes=3 * MB, most_connections=1)
    unfolder = Unfolder(budget, 64 * MB)
    body = os.urandom(100_000) * 20
    assert await unfolder.unfold(b"gzip", gzip.compress(body)) == body
    assert budget.held_bytes == len(body), "the caller gives it back"
    with pytest.raises(Busy, match="limit of 3145728 bytes"):
        await unfolder.unfold(b"gzip", gzip.compress(body))
    assert budget.held_bytes == len(body)
    unfolder.close()


@pytest.mark.parametrize("sizes", [[2] * 5000, [9000, 1, 1, 9000, 3], [1], [], [5000, 5000]])
def test_small_parts_share_buffers(sizes: list[int]) -> None:
    parts: list[bytes | bytearray] = []
    whole = b""
    for size in sizes:
        part = os.urandom(size)
        whole += part
        append(parts, part)
    assert b"".join(parts) == whole
    assert len(parts) <= 2 + 2 * sum(size >= 4096 for size in sizes)

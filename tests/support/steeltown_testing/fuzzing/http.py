"""What is fuzzed: everything from bytes on a socket to the bytes of an answer, with a real model behind it.

`Served` is what every target stands on: the service, a transport and a loop that is turned by hand. `Target` is the
HTTP/1.1 port; that of gRPC is in grpc.py.

`Target.one_input` plays one client: it sends the input in pieces that the input itself chooses, hangs up, and then
checks what must hold whatever was sent: no exception, whole answers in HTTP, errors in the protocol's form, and
nothing of the client left in the server.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import onnx
from onnx import TensorProto, helper
from steeltown_server import engine as engines
from steeltown_server import log, unfolding
from steeltown_server import service as services
from steeltown_server.counters import Counters
from steeltown_server.engine import Engine
from steeltown_server.http import HttpServer, Limits
from steeltown_server.model import load
from steeltown_server.request import RequestDecoder
from steeltown_server.router import Router
from steeltown_server.service import Service

DIGEST = "sha256:" + "0" * 64


class Transport(asyncio.Transport):
    """Keeps what is written, and closes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.ended = False
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.aborted:  # may come in the same turn
            return
        assert not self.closed, "wrote to a closed transport"
        assert not self.ended, "wrote after write_eof"
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Answers:
    """A client's parser for what came back."""

    def __init__(self, raw: bytes) -> None:
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(raw)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        self.bodies.append(self._body)
        self.statuses.append(self._parser.get_status_code())


def model_bytes() -> bytes:
    """Three inputs of three kinds, each given back: floats, whole numbers and texts."""
    kinds: dict[str, tuple[int, list[str | int | None]]] = {
        "f": (TensorProto.FLOAT, ["N", 2]),
        "i": (TensorProto.INT64, ["N"]),
        "s": (TensorProto.STRING, ["N"]),
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds],
        "fuzz",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in kinds.items()],
        [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, (kind, shape) in kinds.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(onnx.ModelProto.SerializeToString(model))


def inputs(rows: int) -> list[dict[str, Any]]:
    return [
        {"name": "f", "shape": [rows, 2], "datatype": "FP32", "data": [1.5] * (2 * rows)},
        {"name": "i", "shape": [rows], "datatype": "INT64", "data": [-7] * rows},
        {"name": "s", "shape": [rows], "datatype": "BYTES", "data": ["é"] * rows},
    ]


def post(body: bytes, *headers: bytes, path: bytes = b"/v2/models/m/infer") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (path, lines, len(body), body)


def seeds() -> list[bytes]:
    """Valid requests of every form, which a fuzzer then bends."""
    body = json.dumps({"id": "a", "inputs": inputs(2)}).encode()
    long = json.dumps({"inputs": inputs(100), "outputs": [{"name": "f_out"}]}).encode()
    tail = np.ones((2, 2), np.float32).tobytes() + struct.pack("<2q", 1, 2) + b"\2\0\0\0\xc3\xa9\0\0\0\0"
    sizes = {"f": 16, "i": 16, "s": 10}
    head = json.dumps(
        {
            "inputs": [
                {k: v for k, v in tensor.items() if k != "data"}
                | {"parameters": {"binary_data_size": sizes[tensor["name"]]}}
                for tensor in inputs(2)
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    requests = [
        post(body),
        post(long),
        post(head + tail, b"inference-header-content-length: %d" % len(head)),
        post(gzip.compress(long, mtime=0), b"content-encoding: gzip", b"accept-encoding: deflate"),
        post(b"raw", b"inference-header-content-length: 0"),
        post(body, path=b"/v2/models/m/versions/m-v1/infer"),
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(body), body),
        post(b'{"ready":true}', path=b"/v2/repository/index"),
        *(
            b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path
            for path in (b"/v2", b"/v2/health/ready", b"/v2/models/m", b"/v2/models/m/stats", b"/steeltown/evidence")
        ),
    ]
    return [*requests, b"".join(requests)]


class Served:
    """A service without threads: when a turn of the loop is over, all is answered that will be."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        asyncio.set_event_loop(self.loop)
        self.unhandled: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        self.faults: list[str] = []
        engines.INLINE_SECONDS = float("inf")  # type: ignore[misc]
        services.INLINE_BYTES = 1 << 30  # type: ignore[misc]
        unfolding.INLINE_BYTES = unfolding.INLINE_SLICE_BYTES = 1 << 30  # type: ignore[misc]
        log.error = lambda message, **fields: self.faults.append(f"{message} {fields}")
        self.limits = Limits(
            body_bytes=1 << 18,
            header_bytes=4096,
            held_bytes=1 << 20,
            connections=4,
            request_seconds=5,
            idle_seconds=5,
        )

    async def _service(self) -> Service:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model.onnx").write_bytes(model_bytes())
            model = load(Path(folder), 1)
        counters = Counters(DIGEST)
        engine = self.engine = Engine(model, max_batch_rows=64, run_seconds=1e-5)
        return Service(
            name="m",
            version="m-v1",
            signature=model.signature,
            decoder=RequestDecoder(model.signature, batching=True, json_limit_bytes=1 << 16),
            engine=engine,
            router=Router(counters, max_in_flight=4, body_limit_bytes=1 << 20),
            counters=counters,
            body_limit_bytes=1 << 20,
        )

    def _turn(self) -> None:
        """Until nothing is left that could run now."""
        turns = 0
        while turns < 4 or self.engine.pending:
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            turns += 1

    def _no_faults(self) -> None:
        assert not self.unhandled, self.unhandled
        assert not self.faults, self.faults


class Target(Served):
    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self.server = self.loop.run_until_complete(self._build())

    async def _build(self) -> HttpServer:
        return HttpServer(await self._service(), self.limits)

    def one_input(self, data: bytes) -> None:
        """The first byte says how large the pieces are in which the rest arrives."""
        connection, transport = self.server.connection(), Transport()
        connection.connection_made(transport)
        size = max(1, data[0] ** 2) if data else 1
        for start in range(1, len(data), size):
            if transport.closed:
                break
            connection.data_received(data[start : start + size])
            self._turn()
        self._turn()
        if b"HEAD" not in data:  # its answer has a length and no body, which only who asked can know
            self._check(bytes(transport.written))
        if not transport.closed and not connection.eof_received():
            transport.close()
        self._turn()
        connection.connection_lost(None)
        self._no_faults()
        assert not self.server.connections
        assert self.server.budget.held_bytes == 0

    @staticmethod
    def _check(written: bytes) -> None:
        answers = Answers(written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))
        for status, body in zip(answers.statuses, answers.bodies, strict=True):
            if status != 200 and body:
                assert list(json.loads(body)) == ["error"], body

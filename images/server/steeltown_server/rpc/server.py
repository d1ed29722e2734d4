"""The port and its methods: calls become requests to the core, its answers become theirs.

Everything runs on the event loop, as REST does; only large messages are taken apart beside it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from steeltown_http2 import Head, block

from .. import log
from ..budget import Busy
from ..http import Answer, Limits, Request, error_answer
from ..listening import DRAIN_POLL_SECONDS, stop_listening
from ..router import DIGEST_HEADER, NON_FINITE_HEADER
from ..service import Service
from ..settings import Settings
from ..signature import BadRequest, TooLarge
from ..unfolding import Held
from . import health, health_pb2, messages
from . import inference_pb2 as pb
from .calls import Call, Code, Metadata, Method, Plan, Refused, failure, message, parsed, plan, unfolded
from .health import Health
from .http2 import Exchange, Http2Server

SERVICE: Final = "inference.GRPCInferenceService"
CODES: Final = {
    400: Code.INVALID_ARGUMENT,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    413: Code.RESOURCE_EXHAUSTED,
    431: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
DIGEST: Final = DIGEST_HEADER.decode()
NON_FINITE: Final = NON_FINITE_HEADER.decode()
INLINE_BYTES: Final = 32 << 10  # typed values of a larger message would hold the event loop for milliseconds
TEXT: Final = b"this port speaks gRPC; REST has a port of its own\n"


class Captured:
    """An exchange for endpoints that answer at once."""

    answered: Answer

    def answer(self, answer: Answer) -> None:
        self.answered = answer


class Inference:
    """An exchange whose answer is that of a ModelInfer."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def answer(self, answer: Answer) -> None:
        headers = messages.headers(answer.headers)
        metadata = tuple((name, headers[name]) for name in (DIGEST, NON_FINITE) if name in headers)
        if answer.status != 200:
            _fail(self._call, answer, metadata)
            return
        length = int(headers.get("inference-header-content-length", len(answer.body)))
        try:
            response = messages.infer_response(answer, length)
        except ValueError as error:
            log.error("cannot convert a response to gRPC", error=str(error))
            self._call.fail(Code.INTERNAL, "the answer cannot be read", metadata)
            return
        self._call.succeed(response, metadata)


class GrpcServer:
    """http2.Handler for the services of one model. All methods are called on the event loop."""

    def __init__(self, service: Service, settings: Settings, limits: Limits, listener: socket.socket) -> None:
        """limits: as HTTP has them; what all hold is counted with it."""
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._limit_bytes = settings.body_limit_bytes
        self._unfolding: set[asyncio.Task[None]] = set()
        self._timeout_seconds = settings.grpc_timeout_seconds
        self._digest: Metadata = ((DIGEST, service.counters.digest),)
        self._health = Health(SERVICE)
        self._methods = self._table()
        self._http2 = Http2Server(self, limits, service.budget, age_seconds=settings.grpc_connection_age_seconds)
        self._server: asyncio.AbstractServer | None = None
        self.port: int = listener.getsockname()[1]

    @property
    def idle(self) -> bool:
        """No call is under way."""
        return self._http2.load.streams == 0

    async def start(self) -> None:
        self._server = await self._loop.create_server(self._http2.connection, sock=self._listener)

    def drain(self) -> None:
        """Says NOT_SERVING and goes on serving."""
        self._health.drain()

    def announce_close(self) -> None:
        """Clients are told to open another connection, which may lead them to another Pod."""
        self._http2.leave()

    async def stop(self, deadline: float) -> bool:
        """Listens no more and waits for what is under way; False if the deadline ended it."""
        if self._server is not None:
            await stop_listening(self._server, self._listener, deadline)
        self._health.end_watches()
        while self._http2.connections and time.monotonic() < deadline:
            self._http2.leave()
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        finished = not self._http2.connections
        self._http2.stop()
        return finished

    # -- http2.Handler

    def opened(self, exchange: Exchange) -> None:
        """A client that streams to a method that is not here need not go on."""
        if _is_grpc(exchange.head):
            self._planned(exchange)

    def handle(self, exchange: Exchange, body: bytes) -> None:
        planned = self._planned(exchange)
        if planned is None:
            return
        method, seconds, packed = planned
        call = Call(exchange)
        call.end_after(self._timeout_seconds if seconds is None else seconds, self._late, self._loop)
        try:
            content, packed = message(body, packed)
            if packed:
                task = self._loop.create_task(self._unfold(call, method, content, packed))
                self._unfolding.add(task)
                task.add_done_callback(self._unfolding.discard)
                return
            if len(content) > INLINE_BYTES:
                work = self._loop.run_in_executor(None, parsed, method, content)
                work.add_done_callback(partial(self._begin, call, method))
                return
            request = parsed(method, content)
        except Exception as error:
            self._not_begun(call, error)
            return
        self._do(call, method, request)

    def refuse(self, exchange: Exchange, status: int, message: str) -> None:
        self._service.counters.count_answer(status)
        exchange.answer(b"", b"", failure(CODES[status], message, self._digest))

    # -- calls

    def _planned(self, exchange: Exchange) -> Plan | None:
        """None: it is refused and answered."""
        head = exchange.head
        if head.plan is None:
            head.plan = self._plan(head)
        if isinstance(head.plan, Plan):
            return head.plan
        exchange.answer(*head.plan)
        return None

    def _plan(self, head: Head) -> Plan | tuple[bytes, bytes, bytes]:
        """Or the answer that says why not."""
        if not _is_grpc(head):
            return (
                block((":status", "415"), ("content-type", "text/plain"), ("accept-post", "application/grpc")),
                TEXT,
                b"",
            )
        if head.method != b"POST":
            return block((":status", "405"), ("content-type", "text/plain"), ("allow", "POST")), TEXT, b""
        try:
            return plan(head, self._methods)
        except Refused as refused:
            return b"", b"", failure(refused.code, str(refused))

    async def _unfold(self, call: Call, method: Method, content: bytes, packed: bytes) -> None:
        """A message that came compressed."""
        budget = self._service.budget
        try:
            content = await unfolded(content, packed, self._service.unfolder)
            call.unfolded_bytes = len(content)
            if len(content) > INLINE_BYTES:
                request = await self._loop.run_in_executor(None, parsed, method, content)
            else:
                request = parsed(method, content)
            if not call.exchange.gone:
                self._do(call, method, request)
        except Exception as error:
            self._not_begun(call, error)
        finally:
            budget.held_bytes -= call.unfolded_bytes  # unless whoever answers has taken it over
            call.unfolded_bytes = 0

    def _begin(self, call: Call, method: Method, read: asyncio.Future[Any]) -> None:
        """Read beside the loop. Meanwhile the client may have gone, or its deadline."""
        if call.exchange.gone or call.exchange.answered:
            call.exchange.done()
            return
        try:
            request = read.result()
        except Exception as error:
            self._not_begun(call, error)
            return
        self._do(call, method, request)

    def _do(self, call: Call, method: Method, request: Any) -> None:
        try:
            method.handle(call, request)
        except Exception as error:
            log.error("cannot handle a call", error=repr(error))
            call.fail(Code.INTERNAL, "internal error")

    def _not_begun(self, call: Call, error: Exception) -> None:
        """What only gRPC can get wrong; of ModelInfer, counted as the core counts its refusals."""
        match error:
            case Refused():
                call.fail(error.code, str(error))
            case BadRequest():
                self._refuse_call(call, 400, str(error))
            case TooLarge():
                self._refuse_call(call, 413, str(error))
            case Busy():
                self._refuse_call(call, 503, f"the server is busy: {error}; try again")
            case _:
                log.error("cannot read a call", error=repr(error))
                call.fail(Code.INTERNAL, "internal error")

    def _refuse_call(self, call: Call, status: int, text: str) -> None:
        self._service.counters.count_answer(status)
        call.fail(CODES[status], text, self._digest)

    @staticmethod
    def _late(call: Call, seconds: float) -> None:
        call.fail(Code.DEADLINE_EXCEEDED, f"no response within {seconds:.3g} s", early=True)

    # -- methods

    def _table(self) -> Mapping[bytes, Method]:
        inference: dict[str, tuple[Callable[[bytes], Any], Callable[[Call, Any], None]]] = {
            "ServerLive": (pb.ServerLiveRequest.FromString, self._server_live),
            "ServerReady": (pb.ServerReadyRequest.FromString, self._server_ready),
            "ModelReady": (pb.ModelReadyRequest.FromString, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest.FromString, self._server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest.FromString, self._model_metadata),
            "ModelInfer": (self._infer_request, self._model_infer),
        }
        checks: dict[str, tuple[Callable[[bytes], Any], Callable[[Call, Any], None]]] = {
            "Check": (health_pb2.HealthCheckRequest.FromString, self._health.check),
            "Watch": (health_pb2.HealthCheckRequest.FromString, self._health.watch),
        }
        services = {SERVICE: inference, health.SERVICE: checks}
        return {f"/{s}/{n}".encode(): Method(*m) for s, methods in services.items() for n, m in methods.items()}

    def _infer_request(self, content: bytes) -> Request:
        return messages.infer_request(pb.ModelInferRequest.FromString(content), self._limit_bytes)

    def _model_infer(self, call: Call, request: Request) -> None:
        held_bytes, call.unfolded_bytes = call.unfolded_bytes, 0
        inference = Inference(call)
        self._service.handle(Held(self._service.budget, inference, held_bytes) if held_bytes else inference, request)

    def _server_live(self, call: Call, request: Any) -> None:
        answer = self._get(b"/v2/health/live")
        call.succeed(pb.ServerLiveResponse(live=answer.status == 200).SerializeToString())

    def _server_ready(self, call: Call, request: Any) -> None:
        answer = self._get(b"/v2/health/ready")
        call.succeed(pb.ServerReadyResponse(ready=answer.status == 200).SerializeToString())

    def _model_ready(self, call: Call, request: Any) -> None:
        answer = self._get(messages.model_path(request.name, request.version) + b"/ready")
        if answer.status == 404:
            _fail(call, answer)
        else:
            call.succeed(pb.ModelReadyResponse(ready=answer.status == 200).SerializeToString())

    def _server_metadata(self, call: Call, request: Any) -> None:
        call.succeed(messages.server_metadata(self._get(b"/v2")).SerializeToString())

    def _model_metadata(self, call: Call, request: Any) -> None:
        path = messages.model_path(request.name, request.version)
        if (ready := self._get(path + b"/ready")).status == 404:  # "stats" is no model, and a path that is there
            _fail(call, ready)
        elif (answer := self._get(path)).status != 200:
            _fail(call, answer)
        else:
            call.succeed(messages.model_metadata(answer, self._service.counters.digest).SerializeToString())

    def _get(self, target: bytes) -> Answer:
        captured = Captured()
        captured.answer(error_answer(500, "internal error"))
        self._service.handle(captured, Request(b"GET", target, {}, b""))
        return captured.answered


def _is_grpc(head: Head) -> bool:
    return head.fields.get(b"content-type", b"").startswith(b"application/grpc")


def _fail(call: Call, answer: Answer, metadata: Metadata = ()) -> None:
    call.fail(CODES.get(answer.status, Code.INTERNAL), messages.error_text(answer), metadata)

"""The port, its threads, and the handing over between them and the event loop.

A call is decoded in a thread, handed to the event loop with `call_soon_threadsafe`, and waited for there, at most
until the client's deadline. A client that leaves ends the waiting, not the run.

grpcio's `stop` cancels calls that are on their way to it while it tells clients to leave. So clients are told before:
every connection ends, gracefully, after `grpc_connection_age_seconds`, and the client's next call opens another. In
normal operation that is what brings load to new Pods; at the end, once nobody listens any more, it empties the server
without a loss, and only then it is stopped. grpcio has no call that closes a listening socket alone, so the process
looks for it among its own descriptors.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn

import grpc
from grpc_health.v1 import health_pb2

from .. import log
from ..http import Answer, Request, error_answer
from ..router import DIGEST_HEADER, NON_FINITE_HEADER
from ..service import Service
from ..settings import Settings, UsageError
from ..signature import BadRequest, TooLarge
from . import health, messages
from . import inference_pb2 as pb
from .health import Health

SERVICE: Final = "inference.GRPCInferenceService"
CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
DIGEST: Final = DIGEST_HEADER.decode()
NON_FINITE: Final = NON_FINITE_HEADER.decode()
PROBE_THREADS: Final = 2
WAITING_CALLS: Final = 1024  # beyond, calls are refused; one that waits for a thread has not been read yet
PROBE_SECONDS: Final = 5.0
DETAIL_CHARACTERS: Final = 1000  # clients refuse metadata of more than 8 KiB, and a text may quote what they sent
KEEPALIVE_SECONDS: Final = 60
LEAVE_AGES: Final = 1.2  # grpcio spreads connection ages by a tenth
POLL_SECONDS: Final = 0.02
OWN_DESCRIPTORS: Final = "/proc/self/fd"


class Waiting:
    """An exchange whose answer a thread waits for. A `Future` does the same in ten times the time."""

    def __init__(self) -> None:
        self._said: SimpleQueue[Answer | None] = SimpleQueue()

    def answer(self, answer: Answer) -> None:
        """The first answer stands."""
        self._said.put(answer)

    def leave(self) -> None:
        """The client is gone."""
        self._said.put(None)

    def result(self, seconds: float) -> Answer | None:
        """None: the client is gone. queue.Empty: too late."""
        return self._said.get(timeout=seconds)


class Held:
    """What the requests under way hold, counted by several threads."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nothing(self) -> bool:
        return self._bytes == 0

    @contextmanager
    def take(self, size: int) -> Iterator[bool]:
        """False: it would be too much."""
        with self._lock:
            taken = self._bytes + size <= self.limit_bytes
            self._bytes += size
        try:
            yield taken
        finally:
            with self._lock:
                self._bytes -= size


class GrpcServer:
    """port: that it listens on. All methods are called on the event loop."""

    def __init__(
        self, service: Service, settings: Settings, loop: asyncio.AbstractEventLoop, *, held_limit_bytes: int
    ) -> None:
        """held_limit_bytes: requests that are not answered yet; a budget of its own beside HTTP's."""
        self._service = service
        self._loop = loop
        self._limit_bytes = settings.body_limit_bytes
        self._timeout_seconds = settings.grpc_timeout_seconds
        self._age_seconds = settings.grpc_connection_age_seconds
        self._digest = service.ledger.digest
        self._held = Held(held_limit_bytes)
        self._health = Health(SERVICE)
        self._probes = ThreadPoolExecutor(PROBE_THREADS, thread_name_prefix="grpc-probe")
        self._server = grpc.server(
            ThreadPoolExecutor(settings.grpc_threads, thread_name_prefix="grpc"),
            handlers=self._handlers(),
            options=_options(settings),
            maximum_concurrent_rpcs=settings.grpc_threads + WAITING_CALLS,
        )
        self.port = self._bind(settings)

    def _bind(self, settings: Settings) -> int:
        host = settings.host or "::"  # gRPC takes it for every address of both families
        address = f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"
        try:
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise UsageError(
                f"gRPC cannot listen on {address}, set STEELTOWN_GRPC_PORT to a free port or off: {error}"
            ) from None

    @property
    def idle(self) -> bool:
        """No call is under way."""
        return self._held.nothing

    def start(self) -> None:
        self._server.start()

    def drain(self) -> None:
        """Says NOT_SERVING and goes on serving."""
        self._health.drain()

    async def stop(self, deadline: float) -> bool:
        """Listens no more, waits for clients to leave and for what is under way; False if the deadline ended it."""
        await self._close_listener(deadline)
        self._health.end_watches()
        leave = min(deadline, time.monotonic() + LEAVE_AGES * self._age_seconds)
        while _has_sockets_at(self.port) and time.monotonic() < leave:  # noqa: ASYNC110  (grpcio tells nobody)
            await asyncio.sleep(POLL_SECONDS)
        stopped: threading.Event = self._server.stop(max(0.0, deadline - time.monotonic()))
        while not stopped.is_set() and time.monotonic() < deadline:  # noqa: ASYNC110  (an event of threads)
            await asyncio.sleep(POLL_SECONDS)
        return stopped.is_set()

    async def _close_listener(self, deadline: float) -> None:
        """Once no connection waits to be accepted: closing the listening socket would reset it."""
        for candidate in _sockets_at(self.port):
            if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                while select.select([candidate], [], [], 0)[0] and time.monotonic() < deadline:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                candidate.shutdown(socket.SHUT_RDWR)

    # -- calls: everything below runs in threads

    def _handlers(self) -> list[Any]:
        probe = partial(_handler, pool=self._probes)
        watch = partial(self._health.watch)
        watch.experimental_non_blocking = True  # type: ignore[attr-defined]
        watch.experimental_thread_pool = self._probes  # type: ignore[attr-defined]
        watch_handler = grpc.unary_stream_rpc_method_handler(
            watch,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        inference = {
            "ServerLive": probe(self._server_live, pb.ServerLiveRequest, pb.ServerLiveResponse),
            "ServerReady": probe(self._server_ready, pb.ServerReadyRequest, pb.ServerReadyResponse),
            "ModelReady": probe(self._model_ready, pb.ModelReadyRequest, pb.ModelReadyResponse),
            "ServerMetadata": probe(self._server_metadata, pb.ServerMetadataRequest, pb.ServerMetadataResponse),
            "ModelMetadata": probe(self._model_metadata, pb.ModelMetadataRequest, pb.ModelMetadataResponse),
            "ModelInfer": _handler(self._model_infer, pb.ModelInferRequest),
        }
        check = probe(self._health.check, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)
        return [
            grpc.method_handlers_generic_handler(SERVICE, inference),
            grpc.method_handlers_generic_handler(health.SERVICE, {"Check": check, "Watch": watch_handler}),
        ]

    def _server_live(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.ServerLiveResponse(live=self._get(b"/v2/health/live", context).status == 200)

    def _server_ready(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.ServerReadyResponse(ready=self._get(b"/v2/health/ready", context).status == 200)

    def _model_ready(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = self._get(messages.model_path(request.name, request.version) + b"/ready", context)
        if answer.status == 404:
            self._refuse(answer, context)
        return pb.ModelReadyResponse(ready=answer.status == 200)

    def _server_metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return messages.server_metadata(self._get(b"/v2", context))

    def _model_metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = self._get(messages.model_path(request.name, request.version), context)
        if answer.status != 200:
            self._refuse(answer, context)
        return messages.model_metadata(answer, self._digest)

    def _model_infer(self, message: Any, context: grpc.ServicerContext) -> bytes:
        with self._held.take(message.ByteSize()) as taken:
            if not taken:
                text = f"requests of more than {self._held.limit_bytes} bytes are under way, the limit"
                self._refuse_here(503, f"the server is busy: {text}; try again", context)
            try:
                request = messages.infer_request(message, self._limit_bytes)
            except BadRequest as error:
                self._refuse_here(400, str(error), context)
            except TooLarge as error:
                self._refuse_here(413, str(error), context)
            answer = self._ask(request, context, self._timeout_seconds)
        headers = messages.headers(answer.headers)
        context.set_trailing_metadata([(name, headers[name]) for name in (DIGEST, NON_FINITE) if name in headers])
        if answer.status != 200:
            self._refuse(answer, context)
        try:
            return messages.infer_response(
                answer, int(headers.get("inference-header-content-length", len(answer.body)))
            )
        except ValueError as error:
            log.error("an answer could not be carried over gRPC", error=str(error))
            self._refuse(error_answer(500, "the answer cannot be read"), context)

    def _get(self, target: bytes, context: grpc.ServicerContext) -> Answer:
        return self._ask(Request(b"GET", target, {}, b""), context, PROBE_SECONDS)

    def _ask(self, request: Request, context: grpc.ServicerContext, timeout_seconds: float) -> Answer:
        """timeout_seconds: where the client has set no deadline."""
        waiting = Waiting()
        if not context.add_callback(waiting.leave):
            context.abort(grpc.StatusCode.CANCELLED, "the client has left")
        self._loop.call_soon_threadsafe(self._service.handle, waiting, request)
        left = context.time_remaining()
        seconds = timeout_seconds if left is None or left > threading.TIMEOUT_MAX else left
        try:
            answer = waiting.result(seconds)
        except Empty:
            self._refuse(error_answer(504, f"no answer within {seconds:.3g} s"), context)
        if answer is None:
            context.abort(grpc.StatusCode.CANCELLED, "the client has left")
            raise AssertionError("abort raises")
        return answer

    def _refuse_here(self, status: int, message: str, context: grpc.ServicerContext) -> NoReturn:
        """What only gRPC can get wrong, counted as the core counts its refusals."""
        self._loop.call_soon_threadsafe(self._service.ledger.count_answer, status)
        context.set_trailing_metadata([(DIGEST, self._digest)])
        self._refuse(error_answer(status, message), context)

    def _refuse(self, answer: Answer, context: grpc.ServicerContext) -> NoReturn:
        text = messages.error_text(answer)
        if len(text) > DETAIL_CHARACTERS:
            text = text[:DETAIL_CHARACTERS] + "..."
        context.abort(CODES.get(answer.status, grpc.StatusCode.INTERNAL), text)
        raise AssertionError("abort raises")


def _handler(
    call: Callable[[Any, grpc.ServicerContext], Any],
    request: Any,
    response: Any = None,
    pool: ThreadPoolExecutor | None = None,
) -> Any:
    """response: its message, if `call` does not serialize it. pool: where it runs, if not where ModelInfer does."""
    behaviour = partial(call)
    if pool is not None:
        behaviour.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=request.FromString,
        response_serializer=response and response.SerializeToString,
    )


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Else two servers on one port would share its clients and nobody would know.
        ("grpc.so_reuseport", int(settings.worker is not None)),
        ("grpc.max_receive_message_length", settings.body_limit_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_SECONDS * 1000 // 3),
        ("grpc.max_connection_age_ms", int(settings.grpc_connection_age_seconds * 1000)),
    ]


def _has_sockets_at(port: int) -> bool:
    return any(True for _ in _sockets_at(port))


def _sockets_at(port: int) -> Iterator[socket.socket]:
    """This process's open TCP sockets whose own port is this one; each is good until the next is asked for."""
    if not os.path.isdir(OWN_DESCRIPTORS):  # not Linux: clients are told to leave by grpcio's stop alone
        return
    for name in os.listdir(OWN_DESCRIPTORS):
        with suppress(OSError):  # closed meanwhile
            descriptor = os.dup(int(name))
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                continue
            with closing(socket.socket(fileno=descriptor)) as candidate:
                if candidate.family in (socket.AF_INET, socket.AF_INET6) and candidate.getsockname()[1] == port:
                    yield candidate

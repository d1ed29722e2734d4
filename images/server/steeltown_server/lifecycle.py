"""The order of things in time: prove the model, listen, serve, drain.

Start: digest, session, golden rows, and only then a socket, so that "the port answers" already means "the model
answers as in training". A model that fails ends the process with exit code 65 and a report in the termination
log, where the operator reads it without network.

End: on SIGTERM readiness turns false at once, but the process goes on accepting and serving, since the endpoint's
removal takes a moment to reach every node. In the second half of that time answers say `connection: close`, so
that clients with kept-alive connections leave by themselves. Then the listening socket is closed when its queue
is empty (closing it earlier would reset connections the kernel has accepted), idle connections end, and the
process waits for what is in flight.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop
from steeltown.contract.files import MODEL_OBJECT, ExitCode
from steeltown.contract.reports import TERMINATION_LOG, StepReport

from . import __version__, log
from .budget import Budget
from .counters import Counters
from .deadline import Watch
from .engine import Engine
from .http import HttpServer, Limits
from .listening import DRAIN_POLL_SECONDS, listening_socket, stop_listening
from .model import Model, StartFailure, check_size, cpu_limit, load, memory_limit, verify
from .request import RequestDecoder
from .router import POLL_SECONDS, Router, RouteWatch
from .service import Service
from .settings import Settings, UsageError
from .warmup import WarmUp, warm_up
from .workers import Siblings, count, supervise

if TYPE_CHECKING:
    from .rpc import GrpcServer

HELD_BYTES: Final = 256 << 20
RUN_SECONDS: Final = 30.0
USUAL_RUNS: Final = 10
LAST_WORDS_SECONDS: Final = 0.5
"""How long those whose requests end with the process are given to read so."""


def main(environment: Mapping[str, str]) -> int:
    """Exit code."""
    started = time.monotonic()
    try:
        settings = Settings.from_environment(environment)
    except UsageError as error:
        return _misconfigured(environment, error)
    cpus = cpu_limit()
    if settings.worker is None:
        workers = workers_for(settings, cpus)
        if workers > 1:
            return supervise(workers, settings, environment, cpus=cpus)
    threads = settings.intra_op_threads or cpus
    deadline = threading.Timer(settings.load_seconds, _give_up, (settings,))
    deadline.daemon = True
    deadline.start()
    try:
        verify(settings.model_dir, settings.model_digest)
        check_size(settings.model_dir, memory_limit())
        model = load(settings.model_dir, threads)
        warm = warm_up(model, settings.model_dir, most_batch_rows=settings.max_batch_rows)
    except StartFailure as failure:
        return _refuse(settings, failure)
    finally:
        deadline.cancel()
    log.info(
        "the model answers its golden rows",
        model=settings.model_name,
        version=settings.model_version,
        digest=settings.model_digest,
        rows=warm.rows,
        batches=warm.batches,
        batchRows=warm.batch_rows,
        runMicroseconds=round(warm.run_seconds * 1e6, 1),
        threads=threads,
        server=__version__,
    )
    if warm.why_not_more:
        what = f"at most {warm.batch_rows} rows share a run" if warm.batches else "requests run one at a time"
        log.info(what, why=warm.why_not_more)
    if model.unbounded:
        log.info("no run of the model happens on the event loop", why=model.unbounded)
    if settings.grpc_port is not None:
        from . import rpc  # noqa: F401  (before the freeze; not at the top, since it costs memory even where it is off)
    gc.collect()
    gc.freeze()  # what the imports and the model made lives for ever: the collector need not visit it again
    try:
        finished = uvloop.run(_serve(settings, model, warm, started))
    except UsageError as error:
        log.error(str(error))
        return ExitCode.USAGE
    if not finished:
        sys.stdout.flush()
        os._exit(ExitCode.OK)  # a run of the model that does not end would hold up an orderly exit
    return ExitCode.OK


def workers_for(settings: Settings, cpus: int) -> int:
    model = settings.model_dir / MODEL_OBJECT
    size = model.stat().st_size if model.exists() else 0
    return count(settings, cpus=cpus, memory_bytes=memory_limit(), model_bytes=size)


def _misconfigured(environment: Mapping[str, str], error: UsageError) -> int:
    log.error(str(error))
    path = Path(environment.get("STEELTOWN_TERMINATION_LOG", TERMINATION_LOG))
    if path.exists():
        path.write_text(StepReport(reason="InvalidPlan", message=str(error)).encode())
    return ExitCode.USAGE


def _refuse(settings: Settings, failure: StartFailure) -> int:
    log.error("refusing to serve the model", reason=failure.reason, error=str(failure))
    if settings.termination_log.exists():
        report = StepReport(reason=failure.reason, message=str(failure), digest=settings.model_digest)
        settings.termination_log.write_text(report.encode())
    return ExitCode.DATA


def _give_up(settings: Settings) -> None:
    """In a thread of its own: a model may hold the main one for ever."""
    message = f"the model did not load and pass its golden rows within {settings.load_seconds:g} s"
    code = _refuse(settings, StartFailure("ModelDoesNotLoad", message))
    sys.stdout.flush()
    os._exit(code)


def _end_stuck(settings: Settings, engine: Engine, loop: asyncio.AbstractEventLoop, message: str) -> None:
    """In the watching thread: the event loop itself may be what is held. The kubelet starts the container anew."""
    log.error("ending the process", error=message)
    if settings.termination_log.exists():
        settings.termination_log.write_text(message)
    loop.call_soon_threadsafe(engine.give_up, message)
    time.sleep(LAST_WORDS_SECONDS)
    sys.stdout.flush()
    os._exit(ExitCode.TRANSIENT)


async def _serve(settings: Settings, model: Model, warm: WarmUp, started: float) -> bool:
    """False if something was still in flight at the end of the grace period."""
    loop = asyncio.get_running_loop()
    worker = settings.worker
    processes = worker.count if worker else 1
    counters = Counters(settings.model_digest, worker.group if worker else "")
    run_seconds = settings.run_seconds or max(RUN_SECONDS, USUAL_RUNS * warm.run_seconds)
    engine = Engine(
        model,
        max_batch_rows=min(settings.max_batch_rows, warm.batch_rows),
        run_seconds=warm.run_seconds,
        batches=warm.batches,
        max_queue_seconds=settings.max_queue_seconds,
        batch_wait_seconds=settings.batch_wait_milliseconds / 1000,
        inline=not model.unbounded,
        longest_wait_seconds=run_seconds,
    )
    watch = Watch(
        seconds=run_seconds,
        grace_seconds=settings.run_grace_seconds,
        give_up=partial(_end_stuck, settings, engine, loop),
    )
    model.watch = watch
    limits = Limits(
        body_bytes=settings.body_limit_bytes,
        header_bytes=settings.header_limit_bytes,
        held_bytes=(settings.held_limit_bytes or min(HELD_BYTES, memory_limit() // 4)) // processes,
        connections=settings.max_connections,
        request_seconds=settings.request_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
    )
    budget = Budget(limit_bytes=limits.held_bytes, most_connections=limits.connections)
    router = Router(
        counters,
        max_in_flight=settings.canary_in_flight,
        body_limit_bytes=settings.body_limit_bytes,
        budget=budget,
    )
    service = Service(
        name=settings.model_name,
        version=settings.model_version,
        signature=model.signature,
        decoder=RequestDecoder(model.signature, batching=warm.batches, json_limit_bytes=settings.json_limit_bytes),
        engine=engine,
        router=router,
        counters=counters,
        body_limit_bytes=settings.body_limit_bytes,
        stuck=lambda: watch.stuck,
        budget=budget,
    )
    http = HttpServer(service, limits, budget)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    route_watch = _watch_route(settings, router, counters)
    grpc = await _grpc_server(settings, service, limits)
    engine.alone = lambda: len(http.connections) == 1 and (grpc is None or grpc.idle)
    if worker:
        service.siblings = Siblings(worker, service.told)
        await service.siblings.start()
    listener = listening_socket(settings.host, settings.port, shared=worker is not None)
    listener.setblocking(False)
    server = await loop.create_server(http.connection, sock=listener)
    log.info(
        "serving",
        port=listener.getsockname()[1],
        grpcPort=grpc.port if grpc else None,
        startSeconds=round(time.monotonic() - started, 3),
    )
    await stop.wait()
    finished = await _drain(settings, service, http, server, listener, grpc)
    if route_watch is not None:
        route_watch.cancel()
    if service.siblings is not None:
        service.siblings.close()
    router.close()
    http.stop()
    engine.close()
    service.unfolder.close()
    watch.close()
    log.info("stopped", finished=finished)
    return finished


async def _grpc_server(settings: Settings, service: Service, limits: Limits) -> GrpcServer | None:
    if settings.grpc_port is None:
        return None
    from .rpc import GrpcServer

    try:
        listener = listening_socket(settings.host, settings.grpc_port, shared=settings.worker is not None)
    except OSError as error:
        raise UsageError(
            f"cannot listen on gRPC port {settings.grpc_port}: {error}: set STEELTOWN_GRPC_PORT to a free port or off"
        ) from None
    listener.setblocking(False)
    server = GrpcServer(service, settings, limits, listener)
    await server.start()
    return server


def _watch_route(settings: Settings, router: Router, counters: Counters) -> asyncio.Task[None] | None:
    if settings.route_file is None:
        return None
    watch = RouteWatch(settings.route_file, router, counters)
    watch.poll()

    async def poll() -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                watch.poll()
            except Exception as error:  # the watch must outlive whatever a file can hold
                log.error("route watch failed", error=repr(error))

    return asyncio.create_task(poll())


async def _drain(
    settings: Settings,
    service: Service,
    http: HttpServer,
    server: asyncio.AbstractServer,
    listener: socket.socket,
    grpc: GrpcServer | None,
) -> bool:
    deadline = time.monotonic() + settings.grace_seconds
    service.ready = False
    if grpc:
        grpc.drain()
    log.info("draining", seconds=settings.drain_seconds, connections=len(http.connections))
    await asyncio.sleep(settings.drain_seconds / 2)
    http.announce_close()
    if grpc:
        grpc.announce_close()
    await asyncio.sleep(settings.drain_seconds / 2)
    grpc_end = asyncio.create_task(grpc.stop(deadline)) if grpc else None
    await stop_listening(server, listener, deadline)
    http.close_idle()
    while http.connections and time.monotonic() < deadline:
        await asyncio.sleep(DRAIN_POLL_SECONDS)
        http.close_idle()
    grpc_finished = grpc_end is None or await grpc_end
    return grpc_finished and not http.connections

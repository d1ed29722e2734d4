"""grpc.health.v1: Check, and Watch for clients that would rather be told.

The messages are those of grpcio-health-checking, its servicer is not used: it holds a lock while it sends, so that
one client which does not read would hold up everybody's Check, and it cannot end its watches, for which a server
that stops would then wait until the end of its grace period.

A Watch holds no thread: grpcio hands over a callback that sends (the way its own health servicer uses).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2 as pb

SERVICE: Final = "grpc.health.v1.Health"
Status = pb.HealthCheckResponse

Send = Callable[[Any], None]


class Watch:
    """One client's stream. Sends may come from several threads: the lock keeps the newest status last."""

    def __init__(self, health: Health, service: str, send: Send) -> None:
        self._health = health
        self._service = service
        self._send = send
        self._lock = threading.Lock()
        self._told: int | None = None
        self._ended = False

    def tell(self) -> None:
        with self._lock:
            status = self._health.status(self._service)
            if status != self._told and not self._ended:
                self._told = status
                self._send(Status(status=status))

    def end(self) -> None:
        with self._lock:
            if not self._ended:
                self._ended = True
                self._send(None)


class Health:
    """Status of the server and of each service: the same for all, since there is one model."""

    def __init__(self, *services: str) -> None:
        self._services = frozenset(("", *services))
        self._serving = True
        self._ended = False
        self._watches: set[Watch] = set()

    def status(self, service: str) -> int:
        if service not in self._services:
            return int(Status.SERVICE_UNKNOWN)
        return int(Status.SERVING if self._serving else Status.NOT_SERVING)

    def check(self, request: Any, context: grpc.ServicerContext) -> Any:
        status = self.status(request.service)
        if status == Status.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no such service: {request.service}")
        return Status(status=status)

    def watch(self, request: Any, context: grpc.ServicerContext, send: Send) -> None:
        watch = Watch(self, request.service, send)
        self._watches.add(watch)
        if not context.add_callback(lambda: self._watches.discard(watch)):
            self._watches.discard(watch)  # the client has left already
            return
        watch.tell()
        if self._ended:  # it came over a connection that is still open
            watch.end()

    def drain(self) -> None:
        """Check says NOT_SERVING from now on; who watches is told from another thread, since a send may wait."""
        self._serving = False
        self._for_each(Watch.tell)

    def end_watches(self) -> None:
        self._ended = True
        self._for_each(Watch.end)

    def _for_each(self, do: Callable[[Watch], None]) -> None:
        watches = tuple(self._watches)

        def run() -> None:
            for watch in watches:
                do(watch)

        threading.Thread(target=run, name="grpc-health", daemon=True).start()

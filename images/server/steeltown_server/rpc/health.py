"""grpc.health.v1: Check, and Watch for clients that would rather be told."""

from __future__ import annotations

from typing import Any, Final

from . import health_pb2 as pb
from .calls import HEAD, OK_TRAILERS, Call, Code, framed

SERVICE: Final = "grpc.health.v1.Health"
Status = pb.HealthCheckResponse


class Health:
    """Status of the server and of each service: the same for all, since there is one model."""

    def __init__(self, *services: str) -> None:
        self._services = frozenset(("", *services))
        self._serving = True
        self._ended = False
        self._watches: dict[Call, str] = {}

    def status(self, service: str) -> int:
        if service not in self._services:
            return int(Status.SERVICE_UNKNOWN)
        return int(Status.SERVING if self._serving else Status.NOT_SERVING)

    def check(self, call: Call, request: Any) -> None:
        status = self.status(request.service)
        if status == Status.SERVICE_UNKNOWN:
            call.fail(Code.NOT_FOUND, f"unknown service {request.service!r}")
        else:
            call.succeed(Status(status=status).SerializeToString())

    def watch(self, call: Call, request: Any) -> None:
        """Answers now and with every change, until the client leaves or the server ends."""
        call.endless(lambda: self._watches.pop(call, None))
        call.exchange.send(HEAD, self._said(request.service))
        if self._ended:
            call.exchange.answer(b"", b"", OK_TRAILERS)
        else:
            self._watches[call] = request.service

    def _said(self, service: str) -> bytes:
        return framed(Status(status=self.status(service)).SerializeToString())

    def drain(self) -> None:
        """NOT_SERVING from now on, and who watches is told."""
        self._serving = False
        for call, service in self._watches.items():
            if service in self._services:
                call.exchange.send(b"", self._said(service))

    def end_watches(self) -> None:
        self._ended = True
        for call in tuple(self._watches):
            call.exchange.answer(b"", b"", OK_TRAILERS)
        self._watches.clear()

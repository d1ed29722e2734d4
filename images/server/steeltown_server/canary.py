"""A small HTTP/1.1 client to the canary: a bounded pool of keep-alive connections, one request each at a time.

It exists because the router must promise three things that general clients do not: a deadline over everything
(connecting included), a bound on what a canary can make us hold (requests it does not answer and answers of any size
count against the `budget`, heads without end are a fault), and a callback for every request,
exactly once. A kept-alive connection may be closed by the other end just as we write; that is no fault of the
canary, so a request whose reused connection ends before the first byte of an answer is sent once more on a new
one, within the same deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from .budget import Budget, Busy, append

HEAD_BYTES: Final = 64 << 10
"""Of one answer, all that is not its body; the framing of chunks may take as much again as the body has."""


class CanaryAnswer(NamedTuple):
    """A complete answer, whatever its status. headers: names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class CanaryFailure(NamedTuple):
    """No complete answer. kind: a short word for counters."""

    kind: str
    message: str


Outcome = CanaryAnswer | CanaryFailure


class Address(NamedTuple):
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """ValueError unless the URL is http://host[:port]."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"invalid route.canaryURL {url!r}: must be http://host:port")
        return cls(parts.hostname, parts.port or 80)

    @property
    def header(self) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()


class CanaryPool:
    """Connections to one canary. max_in_flight: requests under way; body_limit_bytes: of an answer."""

    def __init__(self, address: Address, *, max_in_flight: int, body_limit_bytes: int, budget: Budget) -> None:
        self.address = address
        self.budget = budget
        self.body_limit_bytes = body_limit_bytes
        self._max_in_flight = max_in_flight
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.in_flight = 0

    def send(self, request: bytes, timeout_seconds: float, done: Callable[[Outcome], None]) -> None:
        """Calls `done` exactly once; at once, with kind "full", if too much is under way already."""
        if self.in_flight >= self._max_in_flight:
            done(CanaryFailure("full", f"{self.in_flight} requests are already waiting for the canary"))
            return
        try:
            self.budget.hold(len(request))
        except Busy as busy:
            done(CanaryFailure("full", str(busy)))
            return
        self.in_flight += 1
        attempt = _Attempt(self, request, done)
        attempt.timer = self._loop.call_later(timeout_seconds, attempt.expire, timeout_seconds)
        if self._idle:
            self._idle.pop().send(attempt, reused=True)
        else:
            self.connect(attempt)

    def connect(self, attempt: _Attempt) -> None:
        task = self._loop.create_task(self._connect(attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, attempt: _Attempt) -> None:
        try:
            _, connection = await self._loop.create_connection(lambda: _Connection(self), *self.address)
        except OSError as error:
            attempt.finish(CanaryFailure("broken", f"cannot connect to the canary: {error}"))
            return
        if attempt.finished:
            self.release(connection)
        else:
            connection.send(attempt, reused=False)

    def release(self, connection: _Connection) -> None:
        """Takes a connection back that is between two requests."""
        if self._closed or len(self._idle) >= self._max_in_flight:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Ends idle connections now and the others after their answer."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class _Attempt:
    """One request on its way. Whatever happens first (answer, fault, deadline) finishes it."""

    __slots__ = ("_done", "_pool", "connection", "finished", "request", "retried", "timer")

    def __init__(self, pool: CanaryPool, request: bytes, done: Callable[[Outcome], None]) -> None:
        self._pool = pool
        self._done = done
        self.request = request
        self.connection: _Connection | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.retried = False
        self.finished = False

    def expire(self, timeout_seconds: float) -> None:
        connection = self.connection
        self.finish(CanaryFailure("timeout", f"no response within {timeout_seconds:g} s"))
        if connection is not None:
            connection.abort()

    def lost(self, message: str, *, may_retry: bool) -> None:
        self.connection = None
        if may_retry and not self.retried and not self.finished:
            self.retried = True
            self._pool.connect(self)
        else:
            self.finish(CanaryFailure("broken", message))

    def finish(self, outcome: Outcome) -> None:
        if self.finished:
            return
        self.finished = True
        self.connection = None
        self._pool.in_flight -= 1
        self._pool.budget.held_bytes -= len(self.request)
        if self.timer is not None:
            self.timer.cancel()
        self._done(outcome)


class _Connection(asyncio.Protocol):
    def __init__(self, pool: CanaryPool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._attempt: _Attempt | None = None
        self._reused = False
        self._clear()

    def _clear(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes | bytearray] = []
        self._size = 0
        self._held_bytes = 0
        self._received = 0
        self._fault_of_body: CanaryFailure | None = None
        self._begun = False
        self._complete = False
        self._keep_alive = False

    def send(self, attempt: _Attempt, *, reused: bool) -> None:
        self._clear()
        self._reused = reused
        self._attempt = attempt
        attempt.connection = self
        if self._transport is None:  # lost between two turns of the event loop
            self._fault("the canary closed the connection")
        else:
            self._transport.write(attempt.request)

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._parser = None
        self._pool.forget(self)
        self._fault(f"connection to the canary lost: {exc or 'end of stream'}")

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self._attempt is None:
            self.abort()  # an answer that nobody asked for
            return
        self._begun = True
        self._received += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fault(f"malformed response from the canary: {error}")
            self.abort()
            return
        if self._complete:
            self._deliver(parser)
        elif self._fault_of_body is not None:
            self._end(self._fault_of_body)
        elif self._received - self._size > HEAD_BYTES + self._size:
            self._fault(f"the head of the canary's response exceeds the limit of {HEAD_BYTES} bytes")
            self.abort()

    # -- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, part: bytes) -> None:
        if self._fault_of_body is not None:
            return
        self._size += len(part)
        if self._size > self._pool.body_limit_bytes:
            limit = self._pool.body_limit_bytes
            text = f"the response of the canary exceeds the limit of {limit} bytes"
            self._fault_of_body = CanaryFailure("broken", text)
            return
        try:
            self._pool.budget.hold(len(part))
        except Busy as busy:
            self._fault_of_body = CanaryFailure("full", f"no room for the canary's response: {busy}")
            return
        self._held_bytes += len(part)
        append(self._chunks, part)

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser is None:
            return
        if parser.get_status_code() < 200:  # 100 Continue comes before the answer
            self._clear()
        else:
            self._complete = True
            self._keep_alive = parser.should_keep_alive()  # only here: llhttp forgets with the end of the message

    # --

    def _deliver(self, parser: httptools.HttpResponseParser) -> None:
        if self._fault_of_body is not None:
            self._end(self._fault_of_body)
            return
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        outcome = CanaryAnswer(parser.get_status_code(), self._headers, b"".join(self._chunks))
        held_bytes, self._held_bytes, self._chunks = self._held_bytes, 0, []
        if self._keep_alive:
            self._pool.release(self)
        else:
            self.close()
        try:
            attempt.finish(outcome)
        finally:
            self._pool.budget.held_bytes -= held_bytes  # the connection of the client counts it now

    def _end(self, failure: CanaryFailure) -> None:
        """No more of this answer is wanted."""
        attempt, self._attempt = self._attempt, None
        self._let_go()
        self.abort()
        if attempt is not None:
            attempt.finish(failure)

    def _fault(self, message: str) -> None:
        attempt, self._attempt = self._attempt, None
        self._let_go()
        if attempt is not None:
            attempt.lost(message, may_retry=self._reused and not self._begun)

    def _let_go(self) -> None:
        self._pool.budget.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self._chunks = []

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

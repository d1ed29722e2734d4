"""The generator: one thread, non-blocking sockets and `select`.

`select` because its timeout is in microseconds; asyncio's timer and epoll round to a millisecond, which at the
latencies of small models would be most of what is measured. Its limit of 1024 descriptors is far above the
pool's.
"""

from __future__ import annotations

import errno
import gc
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from steeltown.contract.faults import Fault, Faults, merged
from steeltown.contract.histogram import Histogram
from steeltown.contract.reports import LoadSide

from .exchange import Target
from .http1 import Response, ResponseParser

POOL: Final = 64
GRACE_SECONDS: Final = 0.25  # after the end of a block, requests that are due and not sent are given up
READ_BYTES: Final = 1 << 16


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one side saw. intended: requests of the schedule. late: actual minus intended send, in seconds."""

    objective_seconds: float
    intended: int = 0
    sent: int = 0
    errors: int = 0
    over: int = 0
    latency: Histogram = field(default_factory=Histogram)
    late: list[float] = field(default_factory=list)
    first_error: str = ""
    faults: Faults = ()

    def ok(self, seconds: float) -> None:
        self.latency.add(int(seconds * 1e6))
        self.over += seconds > self.objective_seconds

    def error(self, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what
        self.faults = merged((self.faults, (Fault.of(what.partition(": ")[0], what),)))

    def to_side(self) -> LoadSide:
        return LoadSide(
            sent=self.sent,
            errors=self.errors,
            over=self.over,
            latency=self.latency,
            first_error=self.first_error,
            faults=self.faults,
        )


class Connection:
    """A socket with at most one request in flight. `pending`: bytes that the kernel has not taken yet."""

    __slots__ = ("intended", "parser", "pending", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parser = ResponseParser()
        self.intended = 0.0
        self.pending = b""
        code = self.socket.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(code, f"connect: {errno.errorcode.get(code, code)}")

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: bytes, intended: float) -> None:
        self.intended = intended
        self.pending = request
        self.flush()

    def flush(self) -> None:
        try:
            self.pending = self.pending[self.socket.send(self.pending) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # still connecting
                raise


class Side:
    """A target, its pool of kept-alive connections, and what is in flight, oldest first."""

    def __init__(self, target: Target, timeout_seconds: float) -> None:
        self.target = target
        self.timeout_seconds = timeout_seconds
        resolved = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)[0][4]
        self.address = (str(resolved[0]), target.port)
        self.idle: list[Connection] = []
        self.busy: dict[Connection, None] = {}
        self._next = 0

    def block(self, tally: Tally, rate_per_second: float, seconds: float) -> None:
        """Send rate * seconds requests on schedule and wait until each is answered or timed out."""
        count, gap = max(1, round(rate_per_second * seconds)), 1 / rate_per_second
        tally.intended += count
        start = time.monotonic() + min(gap, 0.01)
        give_up = start + count * gap + GRACE_SECONDS
        i = 0
        with _no_collection():
            while i < count or self.busy:
                now = time.monotonic()
                while i < count and start + i * gap <= now:
                    self._issue(tally, start + i * gap)
                    i += 1
                    now = time.monotonic()
                    if now > give_up:
                        i = count
                self._expire(tally, now)
                due = start + i * gap if i < count else now + self.timeout_seconds
                self._wait(tally, min(due, self._first_deadline(due)))

    def close(self) -> None:
        for connection in (*self.idle, *self.busy):
            connection.socket.close()

    def _issue(self, tally: Tally, intended: float) -> None:
        tally.sent += 1
        tally.late.append(time.monotonic() - intended)
        request = self.target.requests[self._next % len(self.target.requests)]
        self._next += 1
        if not self.idle and len(self.busy) >= POOL:
            tally.error("no free connection")
            return
        try:
            connection = self.idle.pop() if self.idle else Connection(self.address)
        except OSError as error:
            tally.error(f"connection failed: {error}")
            return
        self.busy[connection] = None
        try:
            connection.send(request, intended)
        except OSError as error:
            self._fail(tally, connection, f"connection lost: {error}")

    def _wait(self, tally: Tally, until: float) -> None:
        writing = [c for c in self.busy if c.pending]
        readable, writable, _ = select.select([*self.busy, *self.idle], writing, [], max(0.0, until - time.monotonic()))
        for connection in writable:
            try:
                connection.flush()
            except OSError as error:
                self._fail(tally, connection, f"connection failed: {error}")
        for connection in readable:
            self._read(tally, connection)

    def _read(self, tally: Tally, connection: Connection) -> None:
        if connection.fileno() < 0:
            return  # failed while writing, in this same round
        try:
            data = connection.socket.recv(READ_BYTES)
            response = connection.parser.feed(data) if data else connection.parser.eof()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ValueError) as error:
            self._fail(tally, connection, f"connection lost: {error}")
            return
        if response is not None and connection in self.busy:
            self._answered(tally, connection, response)
        elif not data or connection not in self.busy:
            self._fail(tally, connection, "connection closed before the response was complete")

    def _answered(self, tally: Tally, connection: Connection, response: Response) -> None:
        seconds = time.monotonic() - connection.intended
        del self.busy[connection]
        if response.reusable and not connection.pending:
            self.idle.append(connection)
        else:
            connection.socket.close()
        complaint = self.target.complaint(response)
        if complaint:
            tally.error(complaint)
        else:
            tally.ok(seconds)

    def _fail(self, tally: Tally, connection: Connection, what: str) -> None:
        """Drop a connection; an error only if a request was waiting on it (an idle one may be closed by the peer)."""
        connection.socket.close()
        if connection in self.busy:
            del self.busy[connection]
            tally.error(what)
        elif connection in self.idle:
            self.idle.remove(connection)

    def _expire(self, tally: Tally, now: float) -> None:
        overdue = [c for c in self.busy if c.intended + self.timeout_seconds <= now]
        for connection in overdue:
            self._fail(tally, connection, f"no response within {self.timeout_seconds:g} s")

    def _first_deadline(self, default: float) -> float:
        """Requests are in flight in the order of their intended times, so the first one expires first."""
        return next((c.intended + self.timeout_seconds for c in self.busy), default)


@contextmanager
def _no_collection() -> Iterator[None]:
    """A garbage collection in the middle of a block would look like a slow server."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

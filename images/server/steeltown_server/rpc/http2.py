"""The gRPC port's connections: `steeltown_http2` on sockets and on the event loop.

What HTTP/2 says is decided there, on bytes; here is what a value cannot have: the transport, the clock, and one timer
for all connections, since a timer each would cost every request. Answers of one turn of the parser leave in one write.
A client that sends or takes more than one turn is worth waits for its next one, and is not read meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

import steeltown_http2 as http2
from steeltown_http2 import Complete, Error, Event, Head, Opened, Refused, Stream

from ..budget import Budget
from ..http import LINGER_SECONDS, Limits

AGE_SPREAD: Final = 0.1


class Handler(Protocol):
    """Who answers. Each method may answer at once, later or never."""

    def opened(self, exchange: Exchange) -> None:
        """The head is there, more will come: the place to refuse early."""

    def handle(self, exchange: Exchange, body: bytes) -> None:
        """The request is complete."""

    def refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """Answer in this sense. status: as HTTP has it: 408, 413, 431 or 503."""


class Http2Server:
    """What all connections share. age_seconds: of a connection, then its client is told to open another. budget: with
    the other front end; a `Load` is counted in it."""

    def __init__(self, handler: Handler, limits: Limits, budget: Budget, *, age_seconds: float) -> None:
        self.handler = handler
        self.budget = budget
        self.limits = http2.Limits(
            header_bytes=limits.header_bytes,
            body_bytes=limits.body_bytes,
            held_bytes=limits.held_bytes,
            request_seconds=limits.request_seconds,
            idle_seconds=limits.idle_seconds,
        )
        self.load = cast(http2.Load, budget)  # has its attributes; a class of one package cannot be that of the other
        self.connections: set[Connection] = set()
        self._age_seconds = age_seconds
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()
        self._sweep()

    def connection(self) -> Connection:
        return Connection(self, self._loop)

    def age(self) -> float:
        """How old a new connection may become: spread, so that clients do not come back all at once."""
        return self._age_seconds * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311

    def leave(self) -> None:
        """Every connection ends when what is under way on it is answered."""
        for connection in tuple(self.connections):
            connection.leave()

    def stop(self) -> None:
        self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        self.now = self._loop.time()
        for connection in tuple(self.connections):
            connection.check(self.now)
        shortest = min(self.limits.idle_seconds, self.limits.request_seconds, self._age_seconds)
        self._sweeper = self._loop.call_later(min(1.0, shortest / 4), self._sweep)


class Exchange(Stream):
    """One request and its answer. left: called once if the client is gone before the answer."""

    __slots__ = ("connection", "left")

    def __init__(self, id: int, head: Head, now: float) -> None:
        Stream.__init__(self, id, head, now)
        self.connection: Connection | None = None  # known once anybody hears of it
        self.left: Callable[[], None] | None = None

    def answer(self, head: bytes, data: bytes, trailers: bytes, *, early: bool = False) -> None:
        """The whole of it, or its end; the first stands. head, trailers: from `block`, and b"" where there is none.

        early: the work for it goes on, and ends with the answer that comes too late or with `done`.
        """
        self.left = None
        if (connection := self.connection) is not None:
            connection.http2.answer(self, head, data, trailers, early=early)
            connection.flush()

    def done(self) -> None:
        """Nothing is done for it any more, and there will be no answer."""
        if (connection := self.connection) is not None:
            connection.http2.done(self)

    def send(self, head: bytes, data: bytes) -> None:
        """A part of an answer that goes on; head: b"" after the first."""
        if (connection := self.connection) is not None:
            connection.http2.send(self, head, data)
            connection.flush()


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, server: Http2Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._busy = False  # in the middle of what happened: what is to be written may become more
        self._lingers = False
        self._reads = True
        self._goes_on = False  # in the next turn of the loop
        self._write_paused_since: float | None = None
        self._unsent_bytes = 0
        self.http2 = http2.Connection(
            server.limits, server.load, now=server.now, age_seconds=server.age(), stream=Exchange
        )

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        server.connections.add(self)
        budget = server.budget
        budget.connections += 1
        if budget.connections > budget.most_connections:
            text = f"the server is busy: {budget.too_many_connections}; try again"
            self.http2.end(Error.ENHANCE_YOUR_CALM, text)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)
        self._server.budget.connections -= 1
        self._write_paused_since = None
        self._count_unsent()
        self._handle(self.http2.lost())

    def data_received(self, data: bytes) -> None:
        self._handle(self.http2.receive(data, self._server.now))

    def eof_received(self) -> bool:
        """A client that half-closes is gone: no client of HTTP/2 does so and waits."""
        return False

    def pause_writing(self) -> None:
        self._write_paused_since = self._server.now
        self._count_unsent()
        if self._transport is not None:
            self.http2.pause(self._transport.get_write_buffer_size())
            self._read_or_wait()

    def resume_writing(self) -> None:
        self._write_paused_since = None
        self._count_unsent()
        self.http2.resume()
        self._go_on_later()

    def _go_on_later(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            self._read_or_wait()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """With what the last turn left."""
        self._goes_on = False
        if self._transport is not None and self._write_paused_since is None:
            self._handle(self.http2.receive(b"", self._server.now))
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        transport, reads = self._transport, self._write_paused_since is None and not self._goes_on
        if transport is None or transport.is_closing() or reads is self._reads:
            return
        self._reads = reads
        if reads:
            transport.resume_reading()
        else:
            transport.pause_reading()

    # -- what happens, and what it leads to

    def _handle(self, events: Iterable[Event]) -> None:
        handler = self._server.handler
        self._busy = True
        try:
            for event in events:
                exchange: Any = event.stream  # an Exchange: this connection makes no other streams
                exchange.connection = self
                if type(event) is Complete:
                    handler.handle(exchange, event.body)
                elif type(event) is Opened:
                    handler.opened(exchange)
                elif type(event) is Refused:
                    handler.refuse(exchange, event.status, event.message)
                else:
                    left, exchange.left = exchange.left, None
                    if left is not None:
                        left()
        finally:
            self._busy = False
        self.flush()

    def flush(self) -> None:
        """Writes what is to be written, and ends the connection if that was the last."""
        transport = self._transport
        if self._busy or transport is None:
            return
        if data := self.http2.output():
            transport.write(data)
            if self._write_paused_since is not None:
                self._count_unsent()
        if self.http2.dead:
            transport.abort()
        elif self.http2.ended and not self._lingers:
            # The client is to read all of it and close: a socket that is closed with unread input resets what it sent.
            self._lingers = True
            transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, transport.close)
        elif self.http2.more and self._write_paused_since is None:
            self._go_on_later()

    def _count_unsent(self) -> None:
        """What was written and not read; a client of which that is too much is cut off."""
        transport = self._transport
        paused = self._write_paused_since is not None
        size = transport.get_write_buffer_size() if paused and transport is not None else 0
        fits = self._server.budget.unsent(size, self._unsent_bytes)
        self._unsent_bytes = size
        if not fits and transport is not None:
            transport.abort()

    def leave(self) -> None:
        """Ends when what is under way is answered."""
        self.http2.leave(self._server.now)
        self.flush()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """What time has ended; called every second or so."""
        paused = self._write_paused_since
        if paused is not None and now - paused > self._server.limits.idle_seconds:
            self.abort()  # a close would wait for a reader that does not read
        else:
            self._handle(self.http2.pass_time(now))

"""HTTP/1.1 as a thin skin: bytes on a socket become a `Request`, an `Answer` becomes one write.

The parser is llhttp (httptools): a strict parser is worth more than the few microseconds a hand-written one would
save. A connection keeps its exchanges in the order they came, so pipelined requests are answered in order however
long each takes. What a connection can make us hold is bounded: header, body, trailers, exchanges under way, answers
that its client does not read, and the time in which nothing happens; what all of them hold is one `budget`. After a
refusal the socket lingers until the client has read it, because closing a socket with unread input resets it and the
client would never see why.

A drain ends connections in two steps. From `announce_close` on, answers say `connection: close`, so that clients
leave by themselves while the process still listens; `close_idle` then ends those that are silent. A request of
which the first byte has arrived counts as in flight.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, cast

import httptools
import orjson

from .budget import Budget, append

JSON: Final = b"application/json"
OCTETS: Final = b"application/octet-stream"
TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"

PIPELINE: Final = 32  # exchanges under way on one connection before we stop reading it
LINGER_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 1.0
VERSIONS: Final = ("1.1", "1.0")
KEPT_HEADERS: Final = frozenset(
    (
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"accept-encoding",
        b"inference-header-content-length",
        b"expect",
    )
)
REASONS: Final = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


class Request(NamedTuple):
    """headers: those of KEPT_HEADERS, names in lower case."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes


class Answer(NamedTuple):
    """headers: further header lines, each ending in CRLF."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: bytes = b""


def error_answer(status: int, message: str, headers: bytes = b"") -> Answer:
    """The protocol's only form of an error."""
    body = orjson.dumps({"error": message.encode("utf-8", "replace").decode()})
    return Answer(status, body, JSON, headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients can make the process hold, and for how long.

    held_bytes: bodies of all requests that are not answered yet. request_seconds: from the first byte of a request
    to its last; idle_seconds: without any byte.
    """

    body_bytes: int
    header_bytes: int
    held_bytes: int
    connections: int
    request_seconds: float
    idle_seconds: float


class Answering(Protocol):
    """What a handler needs of an exchange, whoever speaks with the client."""

    def answer(self, answer: Answer) -> None:
        """The first answer stands."""


class Handler(Protocol):
    def handle(self, exchange: Answering, request: Request) -> None:
        """Answers the exchange, now or later."""


class HttpServer:
    """What all connections share."""

    def __init__(self, handler: Handler, limits: Limits, budget: Budget | None = None) -> None:
        """budget: what is shared with others; None: nothing is."""
        self.handler = handler
        self.limits = limits
        self.budget = budget or Budget(limit_bytes=limits.held_bytes, most_connections=limits.connections)
        self.closing = False
        self.connections: set[Connection] = set()
        self.now = 0.0
        self._heads: dict[tuple[int, bytes, bool], bytes] = {}
        self._loop = asyncio.get_running_loop()
        self._sweep()

    def connection(self) -> Connection:
        return Connection(self, self._loop)

    def head(self, status: int, content_type: bytes, close: bool) -> bytes:
        key = (status, content_type, close)
        head = self._heads.get(key)
        if head is None:
            head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n" % (status, REASONS[status], content_type)
            if close:
                head += b"connection: close\r\n"
            self._heads[key] = head
        return head

    def announce_close(self) -> None:
        """Connections end with their next answer."""
        self.closing = True

    def close_idle(self) -> None:
        for connection in tuple(self.connections):
            connection.close_if_idle()

    def _sweep(self) -> None:
        """One timer for all connections: a timer each would cost every request."""
        self.now = self._loop.time()
        for connection in tuple(self.connections):
            connection.count_unsent()
            if self.now - connection.active > self.limits.idle_seconds:
                connection.expire()
            elif self.now - connection.began > self.limits.request_seconds:
                connection.hurry()
        shortest = min(self.limits.idle_seconds, self.limits.request_seconds)
        self._sweeper = self._loop.call_later(min(1.0, shortest / 4), self._sweep)

    def stop(self) -> None:
        self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.abort()


class Exchange:
    """One request's place in the answers of its connection."""

    __slots__ = ("_connection", "answered", "held_bytes", "keep_alive", "without_body")

    def __init__(
        self, connection: Connection, keep_alive: bool, without_body: bool = False, held_bytes: int = 0
    ) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        self.without_body = without_body
        self.held_bytes = held_bytes
        self.answered: Answer | None = None

    def answer(self, answer: Answer) -> None:
        """The first answer stands."""
        if self.answered is None:
            self.answered = answer
            connection = self._connection
            connection.release(self.held_bytes)
            self.held_bytes = 0
            if connection.holds_back(self):
                self.held_bytes = len(answer.body)
                connection.release(-self.held_bytes)
            connection.flush()


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpRequestParser | None = None
        self._waiting: deque[Exchange] = deque()
        self._deaf = False  # nothing that still comes is a request: refused, upgraded, or the client said close
        self._refused = False
        self._half_closed = False
        self._write_paused = False
        self._read_paused = False
        self._unsent_bytes = 0
        self._partial_held_bytes = 0
        self._begun = 0
        self.active = self.began = server.now
        self._born = loop.time()
        self._served = False
        self._begin()

    def _begin(self) -> None:
        self._begun += 1
        self._in_message = False
        self._head_complete = False
        self._head_bytes = 0
        self._hosts = 0
        self._partial_bytes = 0
        self._body_bytes = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes | bytearray] = []

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._server.connections.add(self)
        budget = self._server.budget
        budget.connections += 1
        if budget.connections > budget.most_connections:
            self._refuse_busy(budget.too_many_connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._drop_partial()
        self._parser = None  # parser and connection hold each other
        self._server.connections.discard(self)
        self._server.budget.connections -= 1
        self._write_paused = False
        self.count_unsent()

    def data_received(self, data: bytes) -> None:
        if self._deaf or self._parser is None:
            return
        self.active = self._server.now
        goes_on, body_bytes, begun = self._in_message, self._body_bytes, self._begun
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # the request was delivered, is answered in HTTP/1.1, and is the connection's last
        except httptools.HttpParserError as error:
            self._refuse(400, f"malformed HTTP: {error}")
            return
        if self._in_message:
            new = self._begun - begun
            if self._body_bytes == (0 if new else body_bytes):  # of the head, or of trailers, which end the body
                self._take_partial(len(data), whole=new == (0 if goes_on else 1))

    def _take_partial(self, size: int, *, whole: bool) -> None:
        """What is held of a head, or of trailers, that are not complete. whole: none of it was of another request."""
        budget = self._server.budget
        self._partial_held_bytes += size
        budget.held_bytes += size
        if whole:
            self._partial_bytes += size
        if self._partial_bytes > self._server.limits.header_bytes:
            self._refuse_head()
        elif budget.held_bytes > budget.limit_bytes:
            self._refuse_busy(budget.too_many_bytes)

    def eof_received(self) -> bool:
        """True keeps the transport open: a client that half-closes still wants its answers."""
        self._deaf = True
        self._half_closed = True
        return bool(self._waiting)

    def pause_writing(self) -> None:
        self._write_paused = True
        self.count_unsent()
        self._throttle()

    def resume_writing(self) -> None:
        self._write_paused = False
        self.count_unsent()
        self._throttle()

    def _throttle(self) -> None:
        stop = self._write_paused or len(self._waiting) > PIPELINE
        if stop != self._read_paused and self._transport is not None and not self._transport.is_closing():
            self._read_paused = stop
            if stop:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # -- httptools

    def on_message_begin(self) -> None:
        self._begin()
        self._in_message = True
        self.began = self._server.now

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_complete:  # a trailer
            return
        self._head_bytes += len(name) + len(value) + 4
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name in KEPT_HEADERS:
            # Lines of one name are one list (RFC 9110, 5.3), so a second length is no length.
            self._headers[name] = value if name not in self._headers else b"%b, %b" % (self._headers[name], value)

    def on_headers_complete(self) -> None:
        self._head_complete = True
        if self._deaf:
            return
        if self._head_bytes + len(self._target) > self._server.limits.header_bytes:
            self._refuse_head()
        elif int(self._headers.get(b"content-length", b"0")) > self._server.limits.body_bytes:
            self._refuse_body()
        elif b"expect" in self._headers and self._transport is not None and not self._waiting:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        if self._deaf:
            return
        budget = self._server.budget
        self._body_bytes += len(part)
        budget.held_bytes += len(part)
        if self._body_bytes > self._server.limits.body_bytes:
            self._refuse_body()
        elif budget.held_bytes > budget.limit_bytes:
            self._refuse_busy(budget.too_many_bytes)
        else:
            append(self._chunks, part)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._served = True
        parser = self._parser
        if self._deaf or parser is None:
            return
        if self._partial_held_bytes:
            self.release(self._partial_held_bytes)
            self._partial_held_bytes = 0
        version = parser.get_http_version()
        if version not in VERSIONS:
            self._refuse(505, f"unsupported HTTP/{version}: use HTTP/1.1")
            return
        if self._hosts != 1 and version == "1.1":
            self._refuse(400, f"malformed HTTP: expected exactly one Host header (RFC 9112, 3.2), got {self._hosts}")
            return
        chunks = self._chunks
        request = Request(
            parser.get_method(),
            self._target,
            self._headers,
            cast(bytes, chunks[0]) if len(chunks) == 1 else b"".join(chunks),  # the first is always bytes
        )
        self._chunks = []
        held_bytes, self._body_bytes = self._body_bytes, 0  # the exchange's from now on
        # HTTP/1.0 has keep-alive only by an old extension that would need a header of ours: close instead.
        keep_alive = parser.should_keep_alive() and version == "1.1" and not parser.should_upgrade()
        exchange = Exchange(self, keep_alive, request.method == b"HEAD", held_bytes)
        self._waiting.append(exchange)
        if not keep_alive:
            self._deaf = True
        if len(self._waiting) > PIPELINE:
            self._throttle()
        self._server.handler.handle(exchange, request)

    # -- answers

    def flush(self) -> None:
        """Writes what is ready at the head of the queue, in one write."""
        waiting, server = self._waiting, self._server
        parts: list[bytes] = []
        close = False
        while waiting and waiting[0].answered is not None and not close:
            exchange = waiting.popleft()
            if exchange.held_bytes:
                self.release(exchange.held_bytes)
            status, body, content_type, headers = exchange.answered  # type: ignore[misc]
            close = not exchange.keep_alive or (server.closing and not waiting and not self._in_message)
            parts.append(
                b"%bcontent-length: %d\r\n%b\r\n%b"
                % (
                    server.head(status, content_type, close),
                    len(body),
                    headers,
                    b"" if exchange.without_body else body,
                )
            )
        transport = self._transport
        if transport is None or not parts:
            return
        self.active = server.now
        transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._write_paused and not self.count_unsent():
            return
        if self._refused and close:
            self._linger(transport)
        elif close or (self._half_closed and not waiting):
            transport.close()
        elif self._read_paused:
            self._throttle()

    def _refuse_head(self) -> None:
        self._refuse(431, f"the request line and headers exceed the limit of {self._server.limits.header_bytes} bytes")

    def _refuse_body(self) -> None:
        self._refuse(413, f"the body exceeds the limit of {self._server.limits.body_bytes} bytes")

    def _refuse_busy(self, message: str) -> None:
        self._refuse(503, f"the server is busy: {message}; try again", b"retry-after: 1\r\n")

    def _refuse(self, status: int, message: str, headers: bytes = b"") -> None:
        """Answers after whatever is under way, then listens to nothing more."""
        if self._deaf:
            return
        self._deaf = True
        self._refused = True
        self._in_message = False
        self._drop_partial()
        exchange = Exchange(self, keep_alive=False)
        self._waiting.append(exchange)
        exchange.answer(error_answer(status, message, headers))

    def _drop_partial(self) -> None:
        """What has arrived of a request that will not be handled."""
        self.release(self._body_bytes + self._partial_held_bytes)
        self._body_bytes = self._partial_held_bytes = 0
        self._chunks = []

    def release(self, held_bytes: int) -> None:
        self._server.budget.held_bytes -= held_bytes

    def holds_back(self, exchange: Exchange) -> bool:
        """Whether an answer must wait for those before it."""
        return self._waiting[0] is not exchange

    def count_unsent(self) -> bool:
        """What was written and not read; False if the client was cut off, since nobody reads too much."""
        transport = self._transport
        if not self._write_paused and not self._unsent_bytes:
            return True
        size = transport.get_write_buffer_size() if self._write_paused and transport is not None else 0
        fits = self._server.budget.unsent(size, self._unsent_bytes)
        self._unsent_bytes = size
        if fits or transport is None:
            return True
        transport.abort()
        return False

    # -- the end of a connection

    def _linger(self, transport: asyncio.Transport) -> None:
        """Goes on reading (and dropping) what the client still sends, so that it gets to read why."""
        transport.write_eof()
        if self._read_paused:
            transport.resume_reading()
        self._loop.call_later(LINGER_SECONDS, transport.close)

    def close_if_idle(self) -> None:
        """Not one that was just made: its first request is on its way."""
        fresh = not self._served and self._loop.time() - self._born < FRESH_SECONDS
        if not self._waiting and not self._in_message and not fresh and self._transport is not None:
            self._transport.close()

    def expire(self) -> None:
        """Nothing has happened for the idle time; a request that waits for its answer is not idle."""
        if self._waiting or self._transport is None:
            return
        if self._write_paused:
            self._transport.abort()  # a close would wait for a reader that does not read
        elif self._in_message and not self._deaf:
            self._refuse_late()
        else:
            self._transport.close()

    def hurry(self) -> None:
        """A request that trickles in is never idle, and still must end."""
        if self._in_message and not self._deaf:
            self._refuse_late()

    def _refuse_late(self) -> None:
        self._refuse(408, "the request did not arrive in time")

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

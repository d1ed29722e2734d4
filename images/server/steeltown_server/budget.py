"""What the process holds for its clients, counted in one place: REST and gRPC, bodies and answers, all connections.

Two counts would each allow the whole, and what is counted nowhere has no bound. So bytes are counted where they come to
be (a part of a body, a part that unfolds, a part of the canary's answer) and given back by who let go of them; and what
does not fit is refused with a message, before it is held.
"""

from __future__ import annotations

from typing import Final

SMALL_BYTES: Final = 4096


class Busy(Exception):
    """503: there is no room; the message names the limit."""


class Budget:
    """On the event loop only.

    held_bytes: bodies and answers of all requests that are not answered yet, and answers that nobody reads.
    unsent_bytes: the last of these; beyond half of the limit whoever does not read is cut off.
    connections: open now. streams: calls under way over HTTP/2.
    """

    __slots__ = ("connections", "held_bytes", "limit_bytes", "most_connections", "streams", "unsent_bytes")

    def __init__(self, *, limit_bytes: int, most_connections: int) -> None:
        self.limit_bytes = limit_bytes
        self.most_connections = most_connections
        self.connections = 0
        self.held_bytes = 0
        self.streams = 0
        self.unsent_bytes = 0

    def hold(self, size: int) -> None:
        """Counts `size` more. Busy: there is no room, and they are not counted."""
        if self.held_bytes + size > self.limit_bytes:
            raise Busy(self.too_many_bytes)
        self.held_bytes += size

    def unsent(self, size: int, before: int) -> bool:
        """A transport holds `size` bytes that its client does not read, instead of `before`. False: too many."""
        self.unsent_bytes += size - before
        self.held_bytes += size - before
        return self.unsent_bytes <= self.limit_bytes // 2

    @property
    def too_many_bytes(self) -> str:
        return f"limit of {self.limit_bytes} bytes of requests in flight reached"

    @property
    def too_many_connections(self) -> str:
        return f"limit of {self.most_connections} connections reached"


def append(parts: list[bytes | bytearray], part: bytes) -> None:
    """Parts that are small share a buffer: as objects of their own they would take many times their size."""
    if len(part) >= SMALL_BYTES or not parts:
        parts.append(part)
    elif type(parts[-1]) is bytearray:
        parts[-1] += part
    else:
        parts.append(bytearray(part))

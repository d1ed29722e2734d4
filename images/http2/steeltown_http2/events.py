"""What a connection tells its owner. Each is about one stream, which the owner may answer at once, later or never."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .connection import Stream


class Opened(NamedTuple):
    """The head is there, more will come: the place to refuse early."""

    stream: Stream


class Complete(NamedTuple):
    """The request is complete. It counts as work under way until it is answered, or said to be done."""

    stream: Stream
    body: bytes


class Refused(NamedTuple):
    """Answer in this sense. status: as HTTP has it: 408, 413, 431 or 503."""

    stream: Stream
    status: int
    message: str


class Left(NamedTuple):
    """The client is gone before the answer, for which nobody waits. Work that goes on is still to be said done."""

    stream: Stream


Event = Opened | Complete | Refused | Left

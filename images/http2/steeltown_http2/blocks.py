"""Header blocks (RFC 7541): what a client's mean, and ours.

hpack decodes; a client repeats the same few blocks, so what one means is remembered for as long as the table that it
refers to stays as it is. Ours are written without a table and mean the same on every connection.

A block above the limit fails its own call and no other, so it is decoded to its end for the sake of the table, but not
kept. Only one that is many times too large ends the connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, cast

import hpack

from .frames import Error, Fault

OVERSIZE: Final = 4  # times the limit is decoded
REMEMBERED_BLOCKS: Final = 16
REMEMBERED_BYTES: Final = 512
FIELD_BYTES: Final = 32  # that a field counts beside its name and value
TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
VALUE: Final = re.compile(rb"[^\x00\r\n]*")
CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
REQUEST_FIELDS: Final = frozenset((b":method", b":scheme", b":path", b":authority"))


Fields = Iterable[tuple[bytes, bytes]]


class Head:
    """A decoded header block. fields: regular ones; of a name that repeats, the values joined by commas.

    malformed: why it is no request (RFC 9113, 8.1.1), "" if it is one. trailers: it may end a request.
    too_large: bytes of a block above the limit (as RFC 9113, 6.5.2 counts them), whose fields are not kept; else 0.
    plan: whatever the handler wants to remember with it.
    """

    __slots__ = ("content_length", "fields", "malformed", "method", "path", "plan", "too_large", "trailers")

    def __init__(self, fields: Fields, too_large: int = 0) -> None:
        self.too_large = too_large
        self.fields: dict[bytes, bytes] = {}
        self.plan: Any = None
        self.content_length: int | None = None
        pseudo: dict[bytes, bytes] = {}
        wrong = ""
        for name, value in fields:
            if name.startswith(b":"):
                if name not in REQUEST_FIELDS or name in pseudo or self.fields:
                    wrong = wrong or f"pseudo-header field {_show(name)} is unknown, repeated or misplaced"
                pseudo[name] = value
                continue
            if not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
                wrong = wrong or f"header field {_show(name)} contains invalid characters"
            elif name in CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
                wrong = wrong or f"header field {_show(name)} is not allowed in HTTP/2"
            self.fields[name] = value if name not in self.fields else b"%b,%b" % (self.fields[name], value)
        self.trailers = not pseudo and not wrong
        self.method = pseudo.get(b":method", b"")
        self.path = pseudo.get(b":path", b"")
        if not wrong and not (self.method and self.path and b":scheme" in pseudo):
            wrong = "one of :method, :scheme and :path is missing"
        length = self.fields.get(b"content-length")
        if length is not None:
            if length.isdigit() and len(length) < 16:
                self.content_length = int(length)
            else:
                wrong = wrong or "invalid content-length: must be a number"
        self.malformed = wrong


class Blocks:
    """The decoder of one connection. A Fault ends the connection, since the tables of both sides differ then."""

    __slots__ = ("_decoder", "_heads", "_limit_bytes", "decoded_fields")

    def __init__(self, limit_bytes: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=OVERSIZE * limit_bytes)
        self._limit_bytes = limit_bytes
        self.decoded_fields = 0  # since it was last set to 0
        self._heads: dict[bytes, Head] = {}

    def head(self, block: bytes) -> Head:
        return self._heads.get(block) or self._decoded(block)

    def _decoded(self, block: bytes) -> Head:
        first = self._newest_entry()
        try:
            fields = cast(list[tuple[bytes, bytes]], self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError:
            raise Fault(Error.ENHANCE_YOUR_CALM, f"headers exceed the limit of {self._limit_bytes} bytes") from None
        except (hpack.HPACKError, IndexError):
            raise Fault(Error.COMPRESSION_ERROR, "cannot decode the header block") from None
        self.decoded_fields += len(fields)
        size = sum(len(name) + len(value) + FIELD_BYTES for name, value in fields)
        head = Head(fields) if size <= self._limit_bytes else Head((), size)
        if self._newest_entry() is not first or len(self._heads) >= REMEMBERED_BLOCKS:
            self._heads.clear()
        elif len(block) <= REMEMBERED_BYTES:
            self._heads[block] = head
        return head

    def _newest_entry(self) -> object:
        """Of the table. Indices count from it, so they mean the same for as long as it is the newest."""
        entries = self._decoder.header_table.dynamic_entries
        return entries[0] if entries else None


def block(*fields: tuple[str, str]) -> bytes:
    """A header block that uses no table, so that it means the same on every connection."""
    return hpack.Encoder().encode([(name, value, True) for name, value in fields], huffman=False)


def _show(raw: bytes) -> str:
    return repr(raw.decode("latin-1"))

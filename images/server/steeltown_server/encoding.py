"""Content-Encoding of bodies: gzip (RFC 1952) and deflate (RFC 1950, and RFC 1951 as many clients send it).

What a small body may unfold to is bounded while it unfolds, never after. Lengths in the other headers of the
protocol are those of the body as it is without its encoding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Final

from .signature import BadRequest, TooLarge

GZIP: Final = 16 + zlib.MAX_WBITS
ZLIB: Final = zlib.MAX_WBITS
RAW: Final = -zlib.MAX_WBITS
LEVEL: Final = 1  # the time is the client's latency; a higher level gains a few percent of size for twice the time
LEAST_BYTES: Final = 1024  # below, an encoded answer is hardly smaller and costs more than it saves

MOST_MEMBERS: Final = 1024
MOST_RATIO: Final = 200
FREE_BYTES: Final = 1 << 20
"""What unfolds to more than this may not unfold to more than so many times its size: numbers that are of use do not."""
SLICE_BYTES: Final = 64 << 10
PART_BYTES: Final = 64 << 10

SUPPORTED: Final = "gzip, deflate, identity"


class UnsupportedEncoding(Exception):
    """415; the message names what was asked for and what is possible."""


class TooManyTimes(TooLarge):
    """It is not the size that is too large, but how much of it so little becomes."""


def decode(encoding: bytes, body: bytes, limit: int) -> bytes:
    """The body as it was before `encoding`, at once; otherwise as `unfold`."""
    return b"".join(unfold(encoding, body, limit))


def unfold(encoding: bytes, body: bytes, limit: int) -> Iterator[bytes]:
    """The body as it was before `encoding` (a Content-Encoding header), in parts of some 64 KiB.

    One layer: a layer around a layer has no use but to make a small body large. UnsupportedEncoding: it has more of
    them, or another. BadRequest: it is not in that encoding. TooLarge: it is larger than `limit` bytes, or than
    MOST_RATIO times what came.
    """
    names = [name for part in encoding.split(b",") if (name := part.strip().lower()) not in (b"identity", b"")]
    if len(names) > 1:
        raise UnsupportedEncoding(f"content-encoding has {len(names)} layers: use one of {SUPPORTED}")
    match names:
        case []:
            return iter([body])
        case [b"gzip" | b"x-gzip"]:
            return _inflate(body, GZIP, limit, "gzip")
        case [b"deflate"]:
            return _inflate(body, ZLIB if _has_zlib_header(body) else RAW, limit, "deflate")
    raise UnsupportedEncoding(f"unsupported content-encoding {names[0].decode('utf-8', 'replace')}: use {SUPPORTED}")


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflate(body: bytes, wbits: int, limit: int, name: str) -> Iterator[bytes]:
    """In slices: what follows the end of a member is copied, and must not be all of the rest."""
    fair = max(FREE_BYTES, MOST_RATIO * len(body))
    size, at, members = 0, 0, 0
    decoder = zlib.decompressobj(wbits)
    view = memoryview(body)
    while at < len(body):
        if decoder.eof:
            members += 1
            if wbits != GZIP or members == MOST_MEMBERS:
                many = f"{members} members, the limit, " if wbits == GZIP else ""
                raise BadRequest(f"the body is not valid {name}: {many}{len(body) - at} trailing bytes")
            decoder = zlib.decompressobj(wbits)
        data: bytes | memoryview = view[at : at + SLICE_BYTES]
        at += len(data)
        while data:
            try:
                part = decoder.decompress(data, min(PART_BYTES, limit - size + 1))
            except zlib.error as error:
                raise BadRequest(f"the body is not valid {name}: {error}") from None
            size += len(part)
            if size > limit:
                raise TooLarge(f"the decompressed body exceeds the limit of {limit} bytes")
            if size > fair:
                raise TooManyTimes(
                    f"the body is {len(body)} bytes and decompresses to more than {MOST_RATIO} times as much: send it "
                    "without a content-encoding"
                )
            if part:
                yield part
            data = decoder.unconsumed_tail
        at -= len(decoder.unused_data)
    if body and not decoder.eof:
        raise BadRequest(f"the body is not valid {name}: truncated")


Encoder = Callable[[bytes], bytes]


def negotiate(accepted: bytes) -> tuple[bytes, Encoder] | None:
    """The encoding that an Accept-Encoding header likes best, None = identity. Of equals, gzip."""
    qualities: dict[bytes, float] = {}
    for item in accepted.lower().split(b","):
        name, _, parameters = item.strip().partition(b";")
        name = name.strip()
        qualities[b"gzip" if name == b"x-gzip" else name] = _quality(parameters)
    others = qualities.get(b"*", 0.0)
    gzip, deflate = (qualities.get(name, others) for name in (b"gzip", b"deflate"))
    if not max(gzip, deflate) > 0:
        return None
    return (b"gzip", _gzip) if gzip >= deflate else (b"deflate", _deflate)


def _quality(parameters: bytes) -> float:
    for parameter in parameters.split(b";"):
        name, _, value = parameter.strip().partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _gzip(body: bytes) -> bytes:
    encoder = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    return encoder.compress(body) + encoder.flush()


def _deflate(body: bytes) -> bytes:
    return zlib.compress(body, LEVEL)

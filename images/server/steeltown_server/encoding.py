"""Content-Encoding of bodies: gzip (RFC 1952) and deflate (RFC 1950, and RFC 1951 as many clients send it).

What a small body may unfold to is bounded while it unfolds, never after. Lengths in the other headers of the
protocol are those of the body as it is without its encoding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from .signature import BadRequest, TooLarge

GZIP: Final = 16 + zlib.MAX_WBITS
ZLIB: Final = zlib.MAX_WBITS
RAW: Final = -zlib.MAX_WBITS
LEVEL: Final = 1  # the time is the client's latency; a higher level gains a few percent of size for twice the time
LEAST_BYTES: Final = 1024  # below, an encoded answer is hardly smaller and costs more than it saves

SUPPORTED: Final = "gzip, deflate, identity"


class UnsupportedEncoding(Exception):
    """415; the message names what was asked for and what is possible."""


def decode(encoding: bytes, body: bytes, limit: int) -> bytes:
    """The body as it was before `encoding` (a Content-Encoding header). BadRequest: it is not in that encoding."""
    for name in reversed([part.strip().lower() for part in encoding.split(b",")]):
        if name in (b"gzip", b"x-gzip"):
            body = _inflate(body, GZIP, limit, "gzip")
        elif name == b"deflate":
            body = _inflate(body, ZLIB if _has_zlib_header(body) else RAW, limit, "deflate")
        elif name not in (b"identity", b""):
            raise UnsupportedEncoding(
                f"content-encoding {name.decode('utf-8', 'replace')} is not supported: send {SUPPORTED}"
            )
    return body


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflate(body: bytes, wbits: int, limit: int, name: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest:
        decoder = zlib.decompressobj(wbits)
        try:
            part = decoder.decompress(rest, limit - size + 1)
        except zlib.error as error:
            raise BadRequest(f"the body is not {name}: {error}") from None
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body unfolds to more than the limit of {limit} bytes")
        if not decoder.eof:
            raise BadRequest(f"the body is not {name}: it ends too early")
        parts.append(part)
        rest = decoder.unused_data
        if rest and wbits != GZIP:
            raise BadRequest(f"the body is not {name}: {len(rest)} bytes follow its end")
    return parts[0] if len(parts) == 1 else b"".join(parts)


Encoder = Callable[[bytes], bytes]


def negotiate(accepted: bytes) -> tuple[bytes, Encoder] | None:
    """The encoding that an Accept-Encoding header likes best, None = identity. Of equals, gzip."""
    best, best_quality = None, 0.0
    for item in accepted.lower().split(b","):
        name, _, parameters = item.strip().partition(b";")
        name, quality = name.strip(), _quality(parameters)
        if name in (b"gzip", b"x-gzip", b"*") and quality > 0 and quality >= best_quality:
            best, best_quality = (b"gzip", _gzip), quality
        elif name == b"deflate" and quality > best_quality:
            best, best_quality = (b"deflate", _deflate), quality
    return best


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

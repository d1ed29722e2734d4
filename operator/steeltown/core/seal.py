"""Seals: what makes a record of the operator's one that nobody else can write.

Records that decide about production stand in annotations, where a backup tool keeps them and where anybody with
`edit` could write them. So each carries an HMAC-SHA256 (RFC 2104) under a key that only the operator holds, over
what it says and what it says it *about*: a record that is copied to another object, another namespace or another
spec does not open. A backup tool carries it along unread. Without the key that wrote it a record counts for
nothing, as if it were absent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from ..contract import strict

SEAL: Final = "seal"
LONGEST: Final = 1 << 16
"""Bytes of a record: far above the longest that is written."""
REMEMBERED: Final = 256


def sealed(key: bytes, about: tuple[str, ...], payload: dict[str, Any]) -> str:
    """The record as JSON, with its seal."""
    return _json({**payload, SEAL: seal(key, about, payload)})


@lru_cache(maxsize=REMEMBERED)
def opened(key: bytes, about: tuple[str, ...], text: str | None) -> Mapping[str, Any] | None:
    """The payload of a record; None unless it was sealed with this key about exactly this.

    Whoever may write an annotation writes the text, so nothing in it is an error. A model is looked at several times
    in a row, so what was opened last is remembered.
    """
    try:
        raw = dict(strict.parse_object(text or "", "record", max_bytes=LONGEST).raw)
        given = raw.pop(SEAL, None)
        genuine = isinstance(given, str) and hmac.compare_digest(given.encode(), seal(key, about, raw).encode())
    except ValueError:
        return None
    return MappingProxyType(raw) if genuine else None


def seal(key: bytes, about: tuple[str, ...], payload: Any) -> str:
    """64 hexadecimal digits."""
    return hmac.new(key, _json([*about, payload]).encode(), hashlib.sha256).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))

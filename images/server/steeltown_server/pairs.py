"""One request, two answers: what the live model and the canary said, and how far apart it is.

Both answers are taken as the client would read them, so a difference in how an answer is made up counts too. The
comparison happens after the user has the live answer, and only for the share of requests that is copied.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import orjson
from steeltown.contract.golden import Golden
from steeltown_tensors import BY_NAME, Array, Tolerance, excess

from .counters import Pairing

_USUAL = Golden(inputs=[], outputs=[])
TOLERANCE: Final = Tolerance(_USUAL.atol, _USUAL.rtol)
"""What two machines may make of one model is what two models may make of one request, and agree."""

UNLIKE: Final = 1.0


class Pair:
    """Counts itself once both sides are known; a side that failed leaves nothing to compare."""

    __slots__ = ("_canary", "_live", "_pairing")

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self._live: tuple[bytes, int | None] | None = None
        self._canary: tuple[bytes, int | None] | None = None

    def live(self, body: bytes, json_length: int | None) -> None:
        self._live = (body, json_length)
        self._compare()

    def canary(self, body: bytes, json_length: int | None) -> None:
        self._canary = (body, json_length)
        self._compare()

    def canary_failed(self) -> None:
        self._pairing.failed += 1

    def _compare(self) -> None:
        if self._live is None or self._canary is None:
            return
        try:
            difference, agreed = compare(tensors(*self._live), tensors(*self._canary))
        except (ValueError, KeyError, TypeError):  # an answer that is none
            self._pairing.failed += 1
            return
        self._pairing.add(difference, agreed)


def tensors(body: bytes, json_length: int | None) -> dict[str, Array]:
    """Outputs by name. json_length: of the JSON before binary tensors, None = all of it. Raises what decoding does."""
    view = memoryview(body)
    offset = len(body) if json_length is None else json_length
    found: dict[str, Array] = {}
    for output in orjson.loads(view[:offset])["outputs"]:
        found[output["name"]], size = _tensor(output, view[offset:])
        offset += size
    return found


def _tensor(output: dict[str, Any], tail: memoryview) -> tuple[Array, int]:
    """The array, and how much of `tail` it was. Binary texts stay one piece: equal pieces are equal texts."""
    datatype = BY_NAME[output["datatype"]]
    size = (output.get("parameters") or {}).get("binary_data_size")
    if size is None:
        return np.array(output["data"], datatype.dtype).reshape(output["shape"]), 0
    if datatype.is_bytes:
        return np.array([bytes(tail[:size])], object), size
    return np.frombuffer(tail[:size], datatype.dtype).reshape(output["shape"]), size


def compare(live: dict[str, Array], canary: dict[str, Array]) -> tuple[float, bool]:
    """(difference of the worst element, whether all are within the tolerance); see contract.evidence.Pairs."""
    if live.keys() != canary.keys():
        return UNLIKE, False
    worst, agreed = 0.0, True
    for name, a in live.items():
        b = canary[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return UNLIKE, False
        if not a.size:
            continue
        if a.dtype.kind != "f":
            same = bool((a == b).all())
            worst, agreed = (worst, agreed) if same else (max(worst, UNLIKE), False)
            continue
        within = np.minimum(excess(a, b, TOLERANCE), excess(b, a, TOLERANCE)) <= 1
        agreed = agreed and bool(within.all())
        worst = max(worst, float(_difference(a, b).max()))
    return worst, agreed


def _difference(a: Array, b: Array) -> Array:
    """Per element |a - b| / max(1, |a|, |b|); 0 where both are equal, UNLIKE where they cannot be compared."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        relative = np.abs(x - y) / np.maximum(1.0, np.maximum(np.abs(x), np.abs(y)))
    relative = np.where(np.isfinite(relative), relative, UNLIKE)
    return np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, relative)

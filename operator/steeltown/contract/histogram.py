"""A mergeable log-linear histogram of latencies.

Eight linear buckets per power of two give a relative error of at most 1/16 at any quantile, cost one
bit_length and one shift per value, and merge exactly by adding counts, so the histograms of many pods are
the histogram of all their requests. (The layout is that of HdrHistogram with 3 significant bits.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from . import strict

SUB_BITS = 3
SUB = 1 << SUB_BITS


def bucket(microseconds: int) -> int:
    """Index of the bucket of a latency in whole microseconds (negative counts as 0)."""
    if microseconds < SUB:
        return max(microseconds, 0)
    shift = microseconds.bit_length() - SUB_BITS - 1
    return ((shift + 1) << SUB_BITS) + (microseconds >> shift) - SUB


def lower_bound(index: int) -> int:
    """Smallest latency in microseconds that falls into bucket `index`."""
    if index < SUB:
        return index
    shift = (index >> SUB_BITS) - 1
    return (SUB + (index & (SUB - 1))) << shift


MAX_BUCKET: Final = bucket(2**63)
"""Of the largest value that anybody counts. A bound is a shift by an index, so no stranger may choose a larger one."""


class Histogram:
    """Counts by bucket; sparse, JSON-able as {"<bucket>": count}."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.counts == other.counts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, microseconds: int, count: int = 1) -> None:
        i = bucket(microseconds)
        self.counts[i] = self.counts.get(i, 0) + count

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def count_over(self, microseconds: int) -> int:
        """Values in buckets that begin above `microseconds`: exact at bucket bounds, never too many."""
        return sum(n for i, n in self.counts.items() if lower_bound(i) > microseconds)

    def quantile(self, q: float) -> float | None:
        """Midpoint in microseconds of the bucket that holds quantile `q`; None without values."""
        total = self.total
        if not total:
            return None
        rank = max(1, min(total, -(-int(q * total * 1_000_000) // 1_000_000)))
        seen = 0
        for i in sorted(self.counts):
            seen += self.counts[i]
            if seen >= rank:
                return (lower_bound(i) + lower_bound(i + 1)) / 2
        raise AssertionError("unreachable: counts add up to total")

    def to_json(self) -> dict[str, int]:
        return {str(i): n for i, n in sorted(self.counts.items())}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "histogram") -> Histogram:
        """ValueError names what is wrong. path: where it stands, for the message."""
        counts = {}
        for key, count in raw.items():
            index = int(key) if key.isascii() and key.isdecimal() and len(key) <= 3 else None
            if index is None or str(index) != key or index > MAX_BUCKET:
                raise ValueError(f"{path} has the bucket {key[:80]!r}: must be a whole number 0..{MAX_BUCKET}")
            counts[index] = strict.whole(count, f"{path}.{key}")
        return cls(counts)

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Histogram:
        out = cls()
        for part in parts:
            for i, n in part.counts.items():
                out.counts[i] = out.counts.get(i, 0) + n
        return out

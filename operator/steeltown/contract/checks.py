"""One check and its verdict, in the form that every gate of Steeltown produces and consumes.

A check measures; it does not decide what happens. `InsufficientData` is a verdict of its own because a
check without evidence must never be read as a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from . import strict

_TEXT: Final = 4096
_NAME: Final = 512
_NON_FINITE: Final = ("nan", "inf", "-inf")


LIVE_NOT_COMPARABLE: Final = "LiveModelNotComparable"
"""Name of the check that says why the live model was not measured on the evaluation rows."""


class Verdict(StrEnum):
    PASS = "Pass"
    WARN = "Warn"
    FAIL = "Fail"
    INSUFFICIENT_DATA = "InsufficientData"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`value` against `threshold`, with the sample sizes that give them meaning.

    name, verdict: what was checked, and how it came out. message: what was seen. method: how it was measured.
    value, threshold: in the unit of the check (rows, share 0..1, seconds, points of a metric).
    noise_floor: what the value would be by chance alone, None where that has no meaning.
    n: size of the new sample. m: size of the reference.
    """

    name: str
    verdict: Verdict
    message: str
    method: str = ""
    value: float | None = None
    threshold: float | None = None
    noise_floor: float | None = None
    n: int | None = None
    m: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Compact: fields without a value are left out; NaN and infinity become strings."""
        raw: dict[str, Any] = {
            "name": self.name,
            "verdict": self.verdict.value,
            "message": self.message,
            "method": self.method,
            "value": _finite(self.value),
            "threshold": _finite(self.threshold),
            "noiseFloor": _finite(self.noise_floor),
            "n": self.n,
            "m": self.m,
        }
        return {k: v for k, v in raw.items() if v not in (None, "")}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "check") -> Check:
        """ValueError names what is wrong. path: where it stands, for the message."""
        fields = strict.Fields(raw, path)
        return cls(
            name=fields.text("name", _NAME),
            verdict=fields.word("verdict", Verdict),
            message=fields.text("message", _TEXT, ""),
            method=fields.text("method", _TEXT, ""),
            value=_number(fields, "value"),
            threshold=_number(fields, "threshold"),
            noise_floor=_number(fields, "noiseFloor"),
            n=fields.maybe_whole("n"),
            m=fields.maybe_whole("m"),
        )


def metric_check(metric: str) -> str:
    """Name of the check that says why a metric was not measured, and what to write so that it is."""
    return f"Metric:{metric}"


def worst(checks: tuple[Check, ...]) -> Verdict:
    """The verdict of a group: Fail before InsufficientData before Warn before Pass. No check at all is no evidence."""
    verdicts = {c.verdict for c in checks}
    for verdict in (Verdict.FAIL, Verdict.INSUFFICIENT_DATA, Verdict.WARN, Verdict.PASS):
        if verdict in verdicts:
            return verdict
    return Verdict.INSUFFICIENT_DATA


def _finite(x: float | None) -> float | str | None:
    if x is None or math.isfinite(x):
        return x
    return str(x)


def _number(fields: strict.Fields, key: str) -> float | None:
    x = fields.raw.get(key)
    if x is None:
        return None
    return float(x) if isinstance(x, str) and x in _NON_FINITE else fields.number(key)

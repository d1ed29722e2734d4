"""What a container tells the operator: one JSON document in its termination message.

It works without network, credentials or sidecar. Kubernetes keeps at most 4096 bytes per container, so
`encode` drops the least important parts (passing checks first, then long messages) until it fits.
`reason` is a CamelCase word that becomes the reason of a condition, `message` a sentence for a person.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .checks import Check, Verdict
from .histogram import Histogram

LIMIT_BYTES: Final = 4096
TERMINATION_LOG: Final = "/dev/termination-log"
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
"""What may become the reason of a condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """A metric of candidate and live model on the same rows.

    difference: candidate - live, signed so that positive is better; [lower, upper] is its paired bootstrap
    interval at the plan's confidence (two-sided). None where there is no live model. n: rows.
    """

    name: str
    candidate: float
    n: int
    live: float | None = None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None

    def to_json(self) -> dict[str, Any]:
        raw = {s: getattr(self, s) for s in ("name", "candidate", "n", "live", "difference", "lower", "upper")}
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in raw.items() if v is not None}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> MetricComparison:
        return cls(**{str(k): v for k, v in raw.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Report of `prepare`, `finalise` or `fetch`.

    rows: of the training data. digest, uri, size_bytes: of the model that was uploaded.
    """

    reason: str
    message: str
    checks: tuple[Check, ...] = ()
    metrics: tuple[MetricComparison, ...] = ()
    rows: int | None = None
    digest: str = ""
    uri: str = ""
    size_bytes: int | None = None

    def encode(self) -> str:
        """JSON of at most LIMIT_BYTES."""
        checks = list(self.checks)
        message = self.message
        while True:
            text = _compact(
                {
                    "reason": self.reason,
                    "message": message,
                    "checks": [c.to_json() for c in checks],
                    "metrics": [m.to_json() for m in self.metrics],
                    "rows": self.rows,
                    "digest": self.digest,
                    "uri": self.uri,
                    "sizeBytes": self.size_bytes,
                }
            )
            if len(text.encode()) <= LIMIT_BYTES:
                return text
            if checks:
                checks.remove(next((c for c in reversed(checks) if c.verdict is Verdict.PASS), checks[-1]))
            elif len(message) > 200:
                message = message[: len(message) // 2] + "…"
            else:
                raise ValueError(f"a report of {len(text)} bytes cannot be cut to {LIMIT_BYTES}: too many metrics")

    @classmethod
    def decode(cls, text: str) -> StepReport | None:
        """None if the text is no report (a crash leaves log lines in its place), whatever else it may be."""
        raw = _object(text)
        if raw is None or not _WORD.fullmatch(str(raw.get("reason", ""))):
            return None
        try:
            return cls(
                reason=str(raw["reason"]),
                message=str(raw.get("message", "")),
                checks=tuple(Check.from_json(c) for c in raw.get("checks", ())),
                metrics=tuple(MetricComparison.from_json(m) for m in raw.get("metrics", ())),
                rows=_integer(raw.get("rows")),
                digest=str(raw.get("digest", "")),
                uri=str(raw.get("uri", "")),
                size_bytes=_integer(raw.get("sizeBytes")),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSide:
    """One side of a load check, warm-up left out. sent = ok + errors. over: ok requests slower than the objective.

    Latency in microseconds from the intended send time. first_error: a sample for the message.
    """

    sent: int
    errors: int
    over: int
    latency: Histogram = field(default_factory=Histogram)
    first_error: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "errors": self.errors,
            "over": self.over,
            "latency": self.latency.to_json(),
            "firstError": self.first_error[:200],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LoadSide:
        return cls(
            sent=int(raw["sent"]),
            errors=int(raw["errors"]),
            over=int(raw["over"]),
            latency=Histogram.from_json(raw.get("latency", {})),
            first_error=str(raw.get("firstError", "")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Report of `loadcheck`. saturated: the generator could not keep its schedule, so nothing is known.

    problem: why nothing could be measured ("" if it could). lag_p99_milliseconds: actual minus intended send.
    """

    candidate: LoadSide | None = None
    baseline: LoadSide | None = None
    saturated: bool = False
    lag_p99_milliseconds: float = 0.0
    problem: str = ""

    def encode(self) -> str:
        text = _compact(
            {
                "candidate": self.candidate.to_json() if self.candidate else None,
                "baseline": self.baseline.to_json() if self.baseline else None,
                "saturated": self.saturated,
                "lagP99Milliseconds": round(self.lag_p99_milliseconds, 3),
                "problem": self.problem[:1000],
            }
        )
        if len(text.encode()) > LIMIT_BYTES:
            raise ValueError(f"a load report of {len(text)} bytes does not fit in {LIMIT_BYTES}")
        return text

    @classmethod
    def decode(cls, text: str) -> LoadReport | None:
        raw = _object(text)
        if raw is None or "saturated" not in raw:
            return None
        try:
            return cls(
                candidate=LoadSide.from_json(raw["candidate"]) if raw.get("candidate") else None,
                baseline=LoadSide.from_json(raw["baseline"]) if raw.get("baseline") else None,
                saturated=bool(raw["saturated"]),
                lag_p99_milliseconds=float(raw.get("lagP99Milliseconds", 0.0)),
                problem=str(raw.get("problem", "")),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _compact(raw: Mapping[str, Any]) -> str:
    kept = {k: v for k, v in raw.items() if v is not None and v != [] and v != ""}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)


def _object(text: str) -> dict[str, Any] | None:
    try:
        raw = json.loads(text)
    except ValueError:
        return None
    return raw if isinstance(raw, dict) else None

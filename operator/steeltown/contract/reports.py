"""What a container tells the operator: one JSON document in its termination message.

It works without network, credentials or sidecar. Kubernetes keeps at most 4096 bytes per container, so
`encode` drops the least important parts (passing checks first, then long messages) until it fits.
`reason` is a CamelCase word that becomes the reason of a condition, `message` a sentence for a person.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from . import faults, strict
from .checks import Check, Verdict
from .faults import Fault
from .histogram import Histogram

LIMIT_BYTES: Final = 4096
TERMINATION_LOG: Final = "/dev/termination-log"
WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
"""What may become the reason of a condition."""
_MAX_ITEMS: Final = 512
_METRIC_NAME: Final = 64
_DIGEST: Final = 71
_URI: Final = 1024
_LINE: Final = 240
_LINES_BYTES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """A metric of candidate and live model on the same rows.

    A value that is not finite (AUC of rows of one class) is no measurement: without a candidate the comparison does
    not cross the border, any other value crosses it as None.

    name: such as accuracy, auc, logloss, rmse. candidate, live: value of the new and of the live model.
    difference: candidate - live, signed so that positive is better; [lower, upper] is its paired bootstrap
    interval at the plan's confidence (two-sided). None where there is no live model. n: rows.
    lower, upper: ends of the interval of difference.
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

    @property
    def measured(self) -> MetricComparison | None:
        """What of it may cross the border."""
        if not math.isfinite(self.candidate):
            return None
        return replace(
            self,
            live=_finite(self.live),
            difference=_finite(self.difference),
            lower=_finite(self.lower),
            upper=_finite(self.upper),
        )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "metric") -> MetricComparison:
        """ValueError names what is wrong; a value that is not finite is not. path: where it stands, for the message."""
        fields = strict.Fields(raw, path)

        def value(key: str) -> float:
            given = fields.raw.get(key)
            return given if isinstance(given, float) and not math.isfinite(given) else fields.number(key)

        def maybe(key: str) -> float | None:
            return None if fields.raw.get(key) is None else value(key)

        return cls(
            name=fields.text("name", _METRIC_NAME),
            candidate=value("candidate"),
            n=fields.whole("n"),
            live=maybe("live"),
            difference=maybe("difference"),
            lower=maybe("lower"),
            upper=maybe("upper"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Report of `prepare`, `finalise`, `fetch` or `collect`, and of a model server that does not start.

    reason: CamelCase word that becomes the reason of a condition. message: the same as a sentence for a person.
    checks: those that were made; passing ones may be missing. metrics: quality on the evaluation rows.
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
        metrics = [m.to_json() for m in _measured(self.metrics)]
        message = self.message
        while True:
            text = _compact(
                {
                    "reason": self.reason,
                    "message": message,
                    "checks": [c.to_json() for c in checks],
                    "metrics": metrics,
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
        try:
            fields = strict.parse_object(text, "report", max_bytes=LIMIT_BYTES)
            reason = fields.text("reason", LIMIT_BYTES)
            metrics = [MetricComparison.from_json(m.raw, m.path) for m in fields.each("metrics", _MAX_ITEMS)]
            report = cls(
                reason=reason,
                message=fields.text("message", LIMIT_BYTES, ""),
                checks=tuple(Check.from_json(c.raw, c.path) for c in fields.each("checks", _MAX_ITEMS)),
                metrics=_measured(metrics),
                rows=fields.maybe_whole("rows"),
                digest=fields.text("digest", _DIGEST, ""),
                uri=fields.text("uri", _URI, ""),
                size_bytes=fields.maybe_whole("sizeBytes"),
            )
        except ValueError:
            return None
        return report if WORD.fullmatch(reason) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceReport:
    """How the interface of a candidate differs from that of the live model, in lines that a person can read.

    live: digest of the model that it was compared with. problem: why it could not be compared ("" if it could).
    breaking: what a client of the live model may stumble over. notes: what it need not know. more: breaking lines
    that had no room.
    """

    live: str
    problem: str = ""
    breaking: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    more: int = 0

    @classmethod
    def of(cls, live: str, breaking: Sequence[str], notes: Sequence[str]) -> InterfaceReport:
        """As much as there is room for, what breaks first."""
        kept = _within(breaking, _LINES_BYTES)
        left = _LINES_BYTES - sum(len(line.encode()) for line in kept)
        return cls(live=live, breaking=kept, notes=_within(notes, left), more=len(breaking) - len(kept))

    def to_json(self) -> dict[str, Any]:
        raw = {
            "live": self.live,
            "problem": self.problem[:_LINE],
            "breaking": list(self.breaking),
            "notes": list(self.notes),
            "more": self.more,
        }
        return {k: v for k, v in raw.items() if v}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "interface") -> InterfaceReport:
        """ValueError names what is wrong. path: where it stands, for the message."""
        fields = strict.Fields(raw, path)
        return cls(
            live=fields.text("live", _DIGEST),
            problem=fields.text("problem", LIMIT_BYTES, ""),
            breaking=fields.texts("breaking", _MAX_ITEMS, LIMIT_BYTES),
            notes=fields.texts("notes", _MAX_ITEMS, LIMIT_BYTES),
            more=fields.whole("more", 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSide:
    """One side of a load check, warm-up left out. sent = ok + errors.

    sent, errors: requests, and those that failed. over: ok requests slower than the objective.
    latency: of each ok request, in microseconds from the intended send time. first_error: a sample for the message.
    faults: the first error of each kind.
    """

    sent: int
    errors: int
    over: int
    latency: Histogram = field(default_factory=Histogram)
    first_error: str = ""
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        raw: dict[str, Any] = {
            "sent": self.sent,
            "errors": self.errors,
            "over": self.over,
            "latency": self.latency.to_json(),
            "firstError": self.first_error[:200],
        }
        return raw | {"faults": [f.to_json() for f in self.faults]} if self.faults else raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "side") -> LoadSide:
        """ValueError names what is wrong. path: where it stands, for the message."""
        fields = strict.Fields(raw, path)
        sent, errors = fields.whole("sent"), fields.whole("errors")
        latency = Histogram.from_json(fields.inner("latency").raw, f"{path}.latency")
        if errors + latency.total != sent:
            raise ValueError(
                f"{path} has {sent} sent, {errors} errors and {latency.total} latencies: every request must be an "
                "error or have a latency"
            )
        return cls(
            sent=sent,
            errors=errors,
            over=fields.whole("over", most=latency.total),
            latency=latency,
            first_error=fields.text("firstError", LIMIT_BYTES, ""),
            faults=faults.read(fields, errors),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Report of `loadcheck`. saturated: the generator could not keep its schedule, so nothing is known.

    candidate, baseline: what each side answered; absent where it was not asked.
    problem: why nothing could be measured ("" if it could). lag_p99_milliseconds: actual minus intended send.
    interface: the candidate's beside that of the live model; absent where there is none, or the image is too old.
    """

    candidate: LoadSide | None = None
    baseline: LoadSide | None = None
    saturated: bool = False
    lag_p99_milliseconds: float = 0.0
    problem: str = ""
    interface: InterfaceReport | None = None

    def encode(self) -> str:
        text = _compact(
            {
                "candidate": self.candidate.to_json() if self.candidate else None,
                "baseline": self.baseline.to_json() if self.baseline else None,
                "saturated": self.saturated,
                "lagP99Milliseconds": round(self.lag_p99_milliseconds, 3),
                "problem": self.problem[:1000],
                "interface": self.interface.to_json() if self.interface else None,
            }
        )
        if len(text.encode()) > LIMIT_BYTES:
            raise ValueError(f"a load report of {len(text)} bytes does not fit in {LIMIT_BYTES}")
        return text

    @classmethod
    def decode(cls, text: str) -> LoadReport | None:
        """None if the text is no report, whatever else it may be."""
        try:
            fields = strict.parse_object(text, "report", max_bytes=LIMIT_BYTES)
            candidate, baseline = fields.maybe_inner("candidate"), fields.maybe_inner("baseline")
            interface = fields.maybe_inner("interface")
            return cls(
                candidate=LoadSide.from_json(candidate.raw, candidate.path) if candidate else None,
                baseline=LoadSide.from_json(baseline.raw, baseline.path) if baseline else None,
                saturated=fields.flag("saturated"),
                lag_p99_milliseconds=fields.number("lagP99Milliseconds", 0.0),
                problem=fields.text("problem", LIMIT_BYTES, ""),
                interface=InterfaceReport.from_json(interface.raw, interface.path) if interface else None,
            )
        except ValueError:
            return None


def _measured(metrics: Iterable[MetricComparison]) -> tuple[MetricComparison, ...]:
    return tuple(measured for m in metrics if (measured := m.measured))


def _within(lines: Sequence[str], room: int) -> tuple[str, ...]:
    """The first of them that fit into so many bytes, each cut to a length that a person reads."""
    kept: list[str] = []
    for line in lines:
        cut = line if len(line) <= _LINE else line[: _LINE - 1] + "…"
        room -= len(cut.encode())
        if room < 0:
            break
        kept.append(cut)
    return tuple(kept)


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None


def _compact(raw: Mapping[str, Any]) -> str:
    kept = {k: v for k, v in raw.items() if v is not None and v != [] and v != ""}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)

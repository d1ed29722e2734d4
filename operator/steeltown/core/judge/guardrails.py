"""What serving must keep, as one table: the load check, the canary and the bake all judge by iterating over it.

A guardrail is a share of requests with a limit from the objectives. To add one: a row here, and its limit in
`api.objectives.ServingObjective`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ...api.conditions import Reason
from ...api.objectives import ServingObjective
from ...contract.evidence import Counts
from ...contract.faults import Fault, Faults, told
from ...contract.histogram import Histogram
from ...contract.reports import LoadSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side answered. over: requests slower than the objective, where they were counted one by one; elsewhere
    the histogram tells, exactly at the bounds of its buckets and never too many."""

    requests: int = 0
    errors: int = 0
    latency: Histogram = field(default_factory=Histogram)
    over: int | None = None
    faults: Faults = ()

    @classmethod
    def of_live(cls, counts: Counts) -> Side:
        return cls(requests=counts.requests, errors=counts.errors, latency=counts.latency, faults=counts.faults)

    @classmethod
    def of_load(cls, side: LoadSide) -> Side:
        first = (Fault.of("", side.first_error),) if side.first_error else ()
        told = side.faults or first  # images of before tell only one
        return cls(requests=side.sent, errors=side.errors, latency=side.latency, over=side.over, faults=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """events: how many of a side's requests count against it. limit: share 0..1. what completes "3 of 400 requests".

    why: what is known of these requests, "" if nothing is.
    """

    name: str
    reason: Reason
    limit: Callable[[ServingObjective], float]
    what: Callable[[ServingObjective], str]
    events: Callable[[Side, ServingObjective], int]
    why: Callable[[Side], str] = lambda side: ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One guardrail applied to both sides."""

    guardrail: Guardrail
    what: str
    limit: float
    events: int
    n: int
    reference_events: int
    reference_n: int
    why: str = ""

    def told(self) -> str:
        rate = self.events / self.n if self.n else 0.0
        text = f"{self.events} of {self.n} requests {self.what} ({rate:.2%}, limit {self.limit:.2%})"
        text += f", live {self.reference_events} of {self.reference_n}" if self.reference_n else ""
        return text + (f" ({self.why})" if self.events and self.why else "")


def _slow(side: Side, objective: ServingObjective) -> int:
    if side.over is not None:
        return side.over
    return side.latency.count_over(objective.latency_milliseconds * 1000)


GUARDRAILS: Final = (
    Guardrail(
        name="errors",
        reason=Reason.ERROR_RATE_TOO_HIGH,
        limit=lambda objective: float(objective.error_rate),
        what=lambda objective: "failed",
        events=lambda side, objective: side.errors,
        why=lambda side: told(side.faults),
    ),
    Guardrail(
        name="slow answers",
        reason=Reason.LATENCY_TOO_HIGH,
        limit=lambda objective: float(objective.slow_rate),
        what=lambda objective: f"took longer than {objective.latency_milliseconds} ms",
        events=_slow,
    ),
)


def shares(side: Side, reference: Side, objective: ServingObjective) -> tuple[Share, ...]:
    """Every guardrail, applied."""
    return tuple(
        Share(
            guardrail=each,
            what=each.what(objective),
            limit=each.limit(objective),
            events=each.events(side, objective),
            n=side.requests,
            reference_events=each.events(reference, objective),
            reference_n=reference.requests,
            why=each.why(side),
        )
        for each in GUARDRAILS
    )


def tightest(objective: ServingObjective) -> float:
    """The smallest of all limits: it decides how many requests are needed."""
    return min(each.limit(objective) for each in GUARDRAILS)

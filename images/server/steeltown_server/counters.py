"""Counters: per route for the judge, over the life of the process for Prometheus.

A `WindowCounts` belongs to one route, and to the route's window with it. A request takes hold of the one in force when
it begins and counts there however late it ends, so a new route starts at zero without a lock, a reset or a request in
the wrong column. Any change of the route is a new one, also within a window: what was counted while somebody had bent
the route must never be told under the fingerprint of the route that the operator wrote. Everything is a plain int;
formatting happens when somebody asks. Latency is kept for answers that were good: a failed or late request is an
error already, and a fast failure must not look like a fast model.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from steeltown.contract.evidence import Counts, Evidence, Pairs, Route
from steeltown.contract.faults import Fault, Faults, merged
from steeltown.contract.histogram import Histogram, bucket


class Side:
    """Requests of one side. ok and error count one request each."""

    __slots__ = ("buckets", "errors", "faults", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.buckets: dict[int, int] = {}
        self.faults: Faults = ()

    def ok(self, index: int) -> None:
        """index: bucket of the latency."""
        self.requests += 1
        self.buckets[index] = self.buckets.get(index, 0) + 1

    def error(self, kind: str, text: str) -> None:
        """text: what a person needs to know of it; kept of the first of each kind."""
        self.requests += 1
        self.errors += 1
        self.faults = merged((self.faults, (Fault.of(kind, text),)))

    def counts(self) -> Counts:
        return Counts(requests=self.requests, errors=self.errors, latency=Histogram(self.buckets), faults=self.faults)


class Pairing:
    """Copied requests, compared."""

    __slots__ = ("agreed", "compared", "differences", "failed")

    def __init__(self) -> None:
        self.compared = 0
        self.agreed = 0
        self.failed = 0
        self.differences: dict[int, int] = {}

    def add(self, difference: float, agreed: bool) -> None:
        self.compared += 1
        self.agreed += agreed
        index = bucket(round(difference * 1e6))
        self.differences[index] = self.differences.get(index, 0) + 1

    def pairs(self) -> Pairs:
        return Pairs(
            compared=self.compared, agreed=self.agreed, failed=self.failed, difference=Histogram(self.differences)
        )


class WindowCounts:
    """What this process saw while one route was in force. route: its fingerprint. weight: its share in percent."""

    __slots__ = ("canary", "live", "pairing", "route", "weight", "window")

    def __init__(self, route: Route | None = None) -> None:
        self.window = route.window if route else ""
        self.weight = route.weight if route else 0
        self.route = route.fingerprint if route else ""
        self.live = Side()
        self.canary = Side()
        self.pairing = Pairing()


class Counters:
    """Every counter of the process. `current` is what requests that begin now count in."""

    def __init__(self, digest: str, instance: str = "") -> None:
        self.digest = digest
        self.instance = instance or uuid.uuid4().hex
        self.current = WindowCounts()
        self.answers: dict[int, int] = {}  # infer requests by HTTP status
        self.latency: dict[int, int] = {}  # of the live model's good answers, by histogram bucket
        self.latency_microseconds = 0
        self.canary_results: dict[str, int] = {}
        self.route_errors = 0
        self._evidence: Evidence | None = None  # of several processes, already added up

    def begin(self, route: Route | None) -> None:
        """From zero, for the route that takes force."""
        self.current = WindowCounts(route)

    def count_answer(self, status: int) -> None:
        self.answers[status] = self.answers.get(status, 0) + 1

    def count_latency(self, microseconds: int, index: int) -> None:
        """index: bucket of the latency."""
        self.latency[index] = self.latency.get(index, 0) + 1
        self.latency_microseconds += microseconds

    def count_canary(self, result: str) -> None:
        self.canary_results[result] = self.canary_results.get(result, 0) + 1

    def evidence(self) -> Evidence:
        if self._evidence is not None:
            return self._evidence
        current = self.current
        return Evidence(
            instance=self.instance,
            digest=self.digest,
            window=current.window,
            weight=current.weight,
            live=current.live.counts(),
            canary=current.canary.counts(),
            pairs=current.pairing.pairs(),
            route=current.route,
        )

    # Between workers: what one tells and another adds to its own

    def told(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "evidence": self.evidence().to_json(),
            "answers": self.answers,
            "latency": self.latency,
            "latencyMicroseconds": self.latency_microseconds,
            "canaryResults": self.canary_results,
            "routeErrors": self.route_errors,
        }

    def with_told(self, others: Sequence[Mapping[str, Any]]) -> Counters:
        """Those of this process and others. Its evidence is of this one's route: who has another in force is counted
        when all have the same."""
        both = Counters(self.digest, self.instance)
        both.current = self.current
        both.latency_microseconds = self.latency_microseconds + sum(o["latencyMicroseconds"] for o in others)
        both.route_errors = self.route_errors + sum(o["routeErrors"] for o in others)
        both.answers = added(int, self.answers, *(o["answers"] for o in others))
        both.latency = added(int, self.latency, *(o["latency"] for o in others))
        both.canary_results = added(str, self.canary_results, *(o["canaryResults"] for o in others))
        own = self.evidence()
        told = [Evidence.from_json(o["evidence"]) for o in others]
        seen = [own, *(e for e in told if (e.window, e.route) == (own.window, own.route))]
        both._evidence = replace(
            own,
            live=Counts.merged(e.live for e in seen),
            canary=Counts.merged(e.canary for e in seen),
            pairs=Pairs.merged(e.pairs for e in seen),
        )
        return both


K = TypeVar("K", int, str)


def added(key: type[K], *parts: Mapping[Any, int]) -> dict[K, int]:
    """The sum of counts by key; keys that went through JSON are texts."""
    total: dict[K, int] = {}
    for part in parts:
        for name, count in part.items():
            own = key(name)
            total[own] = total.get(own, 0) + count
    return total

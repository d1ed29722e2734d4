"""Counters: per epoch for the judge, over the life of the process for Prometheus.

A `Tally` belongs to one epoch. A request takes hold of the tally in force when it begins and counts there however
late it ends, so a new epoch starts at zero without a lock, a reset or a request in the wrong column. Everything is
a plain int; formatting happens when somebody asks. Latency is kept for answers that were good: a failed or late
request is an error already, and a fast failure must not look like a fast model.
"""

from __future__ import annotations

import uuid

from steeltown.contract.evidence import Counts, Evidence, Pairs
from steeltown.contract.histogram import Histogram, bucket


class Side:
    """Requests of one side. ok and error count one request each."""

    __slots__ = ("buckets", "errors", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.buckets: dict[int, int] = {}

    def ok(self, microseconds: int) -> None:
        self.requests += 1
        index = bucket(microseconds)
        self.buckets[index] = self.buckets.get(index, 0) + 1

    def error(self) -> None:
        self.requests += 1
        self.errors += 1

    def counts(self) -> Counts:
        return Counts(requests=self.requests, errors=self.errors, latency=Histogram(self.buckets))


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


class Tally:
    """What this process saw in one epoch."""

    __slots__ = ("canary", "epoch", "live", "pairing")

    def __init__(self, epoch: str = "") -> None:
        self.epoch = epoch
        self.live = Side()
        self.canary = Side()
        self.pairing = Pairing()


class Ledger:
    """Every counter of the process. `current` is the tally that requests beginning now belong to."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.instance = uuid.uuid4().hex
        self.current = Tally()
        self.weight = 0
        self.answers: dict[int, int] = {}  # infer requests by HTTP status
        self.latency: dict[int, int] = {}  # of the live model's good answers, by histogram bucket
        self.latency_microseconds = 0
        self.canary_results: dict[str, int] = {}
        self.route_errors = 0

    def begin_epoch(self, epoch: str) -> None:
        self.current = Tally(epoch)

    def count_answer(self, status: int) -> None:
        self.answers[status] = self.answers.get(status, 0) + 1

    def count_latency(self, microseconds: int) -> None:
        index = bucket(microseconds)
        self.latency[index] = self.latency.get(index, 0) + 1
        self.latency_microseconds += microseconds

    def count_canary(self, result: str) -> None:
        self.canary_results[result] = self.canary_results.get(result, 0) + 1

    def evidence(self) -> Evidence:
        current = self.current
        return Evidence(
            instance=self.instance,
            digest=self.digest,
            epoch=current.epoch,
            weight=self.weight,
            live=current.live.counts(),
            canary=current.canary.counts(),
            pairs=current.pairing.pairs(),
        )

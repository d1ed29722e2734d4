"""GET /metrics: the counters in Prometheus' words, made at the scrape.

prometheus-client's own counters take a lock and a label look-up per request; a collector that reads plain ints
costs requests nothing. The latency histogram has a bound at every power of two, where the log-linear buckets of
the evidence end, so both tell the same story exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from steeltown.contract.histogram import bucket, lower_bound

from .counters import Counters
from .engine import RunStatistics

MICROSECONDS = range(4, 25)  # 16 us to 16.8 s
ROWS = range(1, 13)


class Metrics:
    """Renders the exposition text."""

    def __init__(self, labels: dict[str, str], ready: Callable[[], bool]) -> None:
        self._registry = CollectorRegistry()
        self._collector = _Steeltown(labels, ready)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, counters: Counters, done: RunStatistics, pending: int) -> bytes:
        self._collector.now = (counters, done, pending)
        try:
            return generate_latest(self._registry)
        finally:
            self._collector.now = None


class _Steeltown(Collector):
    def __init__(self, labels: dict[str, str], ready: Callable[[], bool]) -> None:
        self._names = tuple(labels)
        self._values = tuple(labels.values())
        self._ready = ready
        self.now: tuple[Counters, RunStatistics, int] | None = None

    def collect(self) -> Iterator[Metric]:
        if self.now is None:  # when it is registered
            return
        counters, done, pending = self.now
        yield self._counter(
            "requests", "Total number of answered inference requests by HTTP status code.", "code", counters.answers
        )
        yield self._counter(
            "canary_requests",
            "Total number of requests routed to the canary by result.",
            "result",
            counters.canary_results,
        )
        yield self._histogram(
            "latency_seconds",
            "Seconds from the complete request to the successful response of the live model.",
            counters.latency,
            powers=MICROSECONDS,
            unit=1e-6,
            total=counters.latency_microseconds,
        )
        yield self._plain_counter("model_runs", "Total number of model runs.", done.runs)
        yield self._plain_counter("model_run_rows", "Total number of rows in model runs.", done.rows)
        yield self._plain_counter("model_run_requests", "Total number of requests answered by model runs.", done.jobs)
        yield self._plain_counter(
            "model_run_seconds", "Total time of model runs in seconds.", done.run_nanoseconds / 1e9
        )
        yield self._histogram(
            "batch_rows",
            "Number of rows per model run.",
            _by_bucket(done.batches),
            powers=ROWS,
            unit=1,
            total=done.rows,
            whole=1,  # fewer than 8 rows are at most 7
        )
        yield self._histogram(
            "queue_seconds",
            "Seconds from the decoded request to the start of its model run.",
            done.waits,
            powers=MICROSECONDS,
            unit=1e-6,
            total=done.queue_nanoseconds / 1000,
        )
        errors = CounterMetricFamily("steeltown_route_errors", "Total number of route files that could not be read.")
        errors.add_metric((), counters.route_errors)
        yield errors
        yield self._gauge("route_weight", "Percentage of requests routed to the canary.", counters.current.weight)
        yield self._gauge("pending_requests", "Number of requests waiting for the model.", pending)
        yield self._gauge("ready", "1 if the server is ready, else 0.", int(self._ready()))

    def _histogram(
        self,
        name: str,
        text: str,
        counts: Mapping[int, int],
        *,
        powers: range,
        unit: float,
        total: float,
        whole: int = 0,
    ) -> Metric:
        """counts: by log-linear bucket, whose bounds the powers of two are."""
        ordered = sorted(counts.items())
        buckets: list[tuple[str, float]] = []
        seen, at = 0, 0
        for power in powers:
            while at < len(ordered) and lower_bound(ordered[at][0]) < 1 << power:
                seen += ordered[at][1]
                at += 1
            buckets.append((str(((1 << power) - whole) * unit), seen))
        buckets.append(("+Inf", seen + sum(n for _, n in ordered[at:])))
        family = HistogramMetricFamily(f"steeltown_server_{name}", text, labels=self._names)
        family.add_metric(self._values, buckets, total * unit)
        return family

    def _counter(self, name: str, text: str, label: str, values: dict[int, int] | dict[str, int]) -> Metric:
        family = CounterMetricFamily(f"steeltown_server_{name}", text, labels=(*self._names, label))
        for key, value in values.items():
            family.add_metric((*self._values, str(key)), value)
        return family

    def _plain_counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"steeltown_server_{name}", text, labels=self._names)
        family.add_metric(self._values, value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"steeltown_server_{name}", text, labels=self._names)
        family.add_metric(self._values, value)
        return family


def _by_bucket(batches: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for rows, (runs, _) in batches.items():
        counts[bucket(rows)] = counts.get(bucket(rows), 0) + runs
    return counts

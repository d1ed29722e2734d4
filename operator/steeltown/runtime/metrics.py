"""What the operator says about itself, under the names of controller-runtime.

The names are theirs so that existing dashboards and alert rules for controllers work unchanged; what has no
counterpart there begins with `steeltown_`. Whatever can be read when asked is read when asked: gauges of
depth, ages and counts cost nothing between two scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

QUEUE_NAME: Final = "steeltown"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1000)


class QueueMetrics:
    """Fulfils `queue.Hooks`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def named(metric: Counter) -> Counter:
            return metric.labels(name=QUEUE_NAME)

        self._adds = named(
            Counter("workqueue_adds", "Total number of adds handled by the workqueue.", ["name"], registry=registry)
        )
        self._retries = named(
            Counter(
                "workqueue_retries", "Total number of retries handled by the workqueue.", ["name"], registry=registry
            )
        )
        self._waited = Histogram(
            "workqueue_queue_duration_seconds",
            "Seconds a key waits in the workqueue before it is processed.",
            ["name"],
            buckets=_SECONDS,
            registry=registry,
        ).labels(name=QUEUE_NAME)
        self._worked = Histogram(
            "workqueue_work_duration_seconds",
            "Seconds it takes to process a key from the workqueue.",
            ["name"],
            buckets=_SECONDS,
            registry=registry,
        ).labels(name=QUEUE_NAME)

    def added(self) -> None:
        self._adds.inc()

    def retried(self) -> None:
        self._retries.inc()

    def started(self, waited_seconds: float) -> None:
        self._waited.observe(waited_seconds)

    def finished(self, worked_seconds: float) -> None:
        self._worked.observe(worked_seconds)


class WorkerMetrics:
    """Fulfils `worker.Hooks`."""

    def __init__(self, registry: CollectorRegistry, *, kinds: Iterable[str], workers: int) -> None:
        label = ["controller"]
        prefix = "controller_runtime"
        self._total = Counter(
            f"{prefix}_reconcile",
            "Total number of reconciles per controller and result.",
            [*label, "result"],
            registry=registry,
        )
        self._errors = Counter(
            f"{prefix}_reconcile_errors", "Total number of failed reconciles per controller.", label, registry=registry
        )
        self._seconds = Histogram(
            f"{prefix}_reconcile_time_seconds", "Seconds per reconcile.", label, buckets=_SECONDS, registry=registry
        )
        self._active = Gauge(
            f"{prefix}_active_workers", "Number of workers currently reconciling.", label, registry=registry
        )
        limit = Gauge(
            f"{prefix}_max_concurrent_reconciles",
            "Maximum number of concurrent reconciles, shared by all controllers.",
            label,
            registry=registry,
        )
        for kind in kinds:
            limit.labels(kind.lower()).set(workers)
            self._errors.labels(kind.lower())
            self._active.labels(kind.lower()).set(0)

    def reconciling(self, kind: str) -> None:
        self._active.labels(kind.lower()).inc()

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        name = kind.lower()
        self._active.labels(name).dec()
        self._total.labels(name, result).inc()
        self._seconds.labels(name).observe(seconds)
        if result == "error":
            self._errors.labels(name).inc()


class _Read(Collector):
    """Gauges that are read when they are asked for."""

    def __init__(self, name: str, text: str, label: str, read: Callable[[], Iterable[tuple[str, float]]]) -> None:
        self._name, self._text, self._label, self._read = name, text, label, read

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, number in self._read():
            family.add_metric([value], number)
        yield family


class Metrics:
    """Everything but what the queue and the workers count themselves."""

    def __init__(self, registry: CollectorRegistry, *, lease_name: str) -> None:
        self._registry = registry
        self._lease_name = lease_name
        self._requests = Counter(
            "rest_client_requests",
            "Total number of requests to the API server.",
            ["code", "method", "resource"],
            registry=registry,
        )
        self._leading = Gauge(
            "leader_election_master_status", "1 if this process is the leader, else 0.", ["name"], registry=registry
        )
        self._pruned = Counter(
            "steeltown_ghosts_pruned",
            "Total number of deletions missed by watches and found by a full list.",
            ["kind"],
            registry=registry,
        )
        self._feeds = Counter("steeltown_watch_restarts", "Total number of restarts of the watches.", registry=registry)
        self.leading(False)

    def request(self, method: str, resource: str, code: str) -> None:
        self._requests.labels(code, method, resource).inc()

    def leading(self, leading: bool) -> None:
        self._leading.labels(self._lease_name).set(1 if leading else 0)

    def pruned(self, kind: str, count: int) -> None:
        self._pruned.labels(kind).inc(count)

    def feed_restarted(self) -> None:
        self._feeds.inc()

    def read_queue(self, *, depth: Callable[[], float], unfinished_seconds: Callable[[], float]) -> None:
        self._register(
            "workqueue_depth", "Number of keys waiting in the workqueue.", "name", lambda: [(QUEUE_NAME, depth())]
        )
        self._register(
            "workqueue_unfinished_work_seconds",
            "Sum of the seconds spent so far on reconciles in progress.",
            "name",
            lambda: [(QUEUE_NAME, unfinished_seconds())],
        )

    def read_cache(
        self,
        *,
        objects: Callable[[], Iterable[tuple[str, float]]],
        event_ages: Callable[[], Iterable[tuple[str, float]]],
    ) -> None:
        self._register("steeltown_cache_objects", "Number of objects in the cache.", "kind", objects)
        self._register(
            "steeltown_watch_last_event_age_seconds",
            "Seconds since the last watch event of the kind.",
            "kind",
            event_ages,
        )

    def _register(self, name: str, text: str, label: str, read: Callable[[], Iterable[tuple[str, float]]]) -> None:
        self._registry.register(_Read(name, text, label, read))

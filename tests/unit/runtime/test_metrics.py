"""The names that dashboards and alerts for controllers already know."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, generate_latest
from steeltown.core.plan import Key
from steeltown.runtime.metrics import Metrics, QueueMetrics, WorkerMetrics
from steeltown.runtime.queue import WorkQueue
from steeltown.runtime.reconciler import Outcome
from steeltown.runtime.worker import Workers

NAMES = """
controller_runtime_active_workers
controller_runtime_max_concurrent_reconciles
controller_runtime_reconcile_errors_total
controller_runtime_reconcile_time_seconds_bucket
controller_runtime_reconcile_total
leader_election_master_status
rest_client_requests_total
steeltown_cache_objects
steeltown_ghosts_pruned_total
steeltown_watch_last_event_age_seconds
steeltown_watch_restarts_total
workqueue_adds_total
workqueue_depth
workqueue_queue_duration_seconds_bucket
workqueue_retries_total
workqueue_unfinished_work_seconds
workqueue_work_duration_seconds_bucket
"""


async def test_metrics_bear_the_names_of_controller_runtime_and_count_what_happens() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, lease_name="operator")
    queue: WorkQueue[Key] = WorkQueue(clock=asyncio.get_running_loop().time, hooks=QueueMetrics(registry))
    metrics.read_queue(depth=lambda: float(len(queue)), unfinished_seconds=queue.unfinished_seconds)
    metrics.read_cache(objects=lambda: [("Pod", 3.0)], event_ages=lambda: [("Pod", 1.5)])
    metrics.request("PATCH", "deployments", "201")
    metrics.pruned("Pod", 2)
    metrics.leading(True)

    async def reconcile(key: Key, *, reconcile_id: str = "") -> Outcome:
        if key.name == "bad":
            raise ZeroDivisionError
        return Outcome()

    hooks = WorkerMetrics(registry, kinds=("MLModel",), workers=4)
    workers = Workers(queue=queue, reconcile=reconcile, clock=asyncio.get_running_loop().time, hooks=hooks)
    for name in ("good", "bad"):
        queue.add(Key("MLModel", "team", name))
        key = queue.pop()
        assert key is not None
        await workers.process(key)
        queue.done(key)

    text = generate_latest(registry).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert set(NAMES.split()) <= {line.partition("{")[0].partition(" ")[0] for line in lines}

    def value(metric: str, /, **labels: str) -> float | None:
        return registry.get_sample_value(metric, labels)

    assert value("controller_runtime_reconcile_total", controller="mlmodel", result="success") == 1
    assert value("controller_runtime_reconcile_errors_total", controller="mlmodel") == 1
    assert value("controller_runtime_max_concurrent_reconciles", controller="mlmodel") == 4
    assert value("controller_runtime_active_workers", controller="mlmodel") == 0
    assert value("rest_client_requests_total", code="201", method="PATCH", resource="deployments") == 1
    assert value("workqueue_retries_total", name="steeltown") == 1
    assert value("leader_election_master_status", name="operator") == 1
    assert value("steeltown_cache_objects", kind="Pod") == 3

"""The trigger of trigger.patch at work: the real planner asked again as time goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from steeltown.api.base import API_VERSION
from steeltown.api.conditions import rfc3339
from steeltown.core.model import plan_model
from steeltown.core.plan import TRAINING_RUN, Create, Plan, Snapshot
from steeltown.core.policy import Policy

POLICY = Policy(trainer_image="trainer", checker_image="checker", server_image="server", seal_key=b"example")
START = datetime(2026, 1, 1, tzinfo=UTC)
TRAINING = {
    "everyHours": 24,
    "template": {
        "task": {"type": "Classification", "target": "late"},
        "train": {"data": {"uri": "s3://data/flights.csv", "digest": "sha256:" + "a" * 64}},
    },
}


def plan(runs: dict[str, Any], hours: float, **spec: Any) -> Plan:
    metadata = {"name": "flight-delay", "namespace": "team-ops", "uid": "model", "generation": 1}
    root = {"apiVersion": API_VERSION, "kind": "MLModel", "metadata": metadata, "spec": {"training": TRAINING, **spec}}
    return plan_model(Snapshot(root=root, members={TRAINING_RUN: runs}), START + timedelta(hours=hours), POLICY)


def created(runs: dict[str, Any], hours: float, **spec: Any) -> list[str]:
    """Names of the runs that the plan creates; they are there from then on."""
    bodies = [a.body for a in plan(runs, hours, **spec).actions if isinstance(a, Create)]
    stamp = rfc3339(START + timedelta(hours=hours))
    for body in bodies:
        metadata = {**body["metadata"], "uid": body["metadata"]["name"], "generation": 1, "creationTimestamp": stamp}
        runs[metadata["name"]] = {**body, "metadata": metadata}
    return [b["metadata"]["name"] for b in bodies]


runs: dict[str, Any] = {}
assert created(runs, 0) == ["flight-delay-v1"]
assert created(runs, 0) == [], "one is enough"
assert created(runs, 23.5) == []
assert plan(runs, 23.5).requeue_after == 1800.0, "it asks to be asked again when the time has come"
assert created(runs, 24, frozen=True) == [], "not while the brake is on"
assert created(runs, 24) == ["flight-delay-v2"]
assert created(runs, 47) == []
assert created(runs, 100) == ["flight-delay-v3"], "an absence is made up for by one run, not by many"

"""Clusters of any size, as the API server would list them, made without one.

Each model is brought to rest by the operator's own planners on a few objects in memory, so that an operator that
starts with all of them finds nothing to do. Pages are written as the API server sends them, managedFields included:
what is measured decodes them itself, and shares no memory with what made them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steeltown.core.plan import Action, Annotate, Apply, Create, Key, Obj, Target, target
from steeltown.core.planners import PLANNERS
from steeltown.core.policy import Policy
from steeltown.kube.apply import Answer
from steeltown.kube.lists import PAGE_SIZE
from steeltown.kube.resources import WATCHED
from steeltown.runtime.reconciler import Reconciler
from steeltown.runtime.store import Store

POLICY = Policy(
    trainer_image="steeltown/trainer",
    checker_image="steeltown/checker",
    server_image="steeltown/server",
    seal_key=b"of the benchmark",
)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
STAMP = "2026-01-02T00:00:00Z"
CONDITIONS = ("DataValidated", "TrainingHealthy", "ResourcesWithinBudget", "QualityAccepted", "Ready")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """namespaces: how many the models are spread over; with more than one the operator serves them by name."""

    models: int
    runs: int
    namespaces: int = 1

    @property
    def roots(self) -> int:
        return self.models * (1 + self.runs)

    def names(self) -> list[str]:
        return [f"team-{number:03d}" for number in range(self.namespaces)]

    def served(self) -> list[str | None]:
        return [None] if self.namespaces == 1 else [*self.names()]


class Plain:
    """An applier in memory: what is applied stands there, with a new resourceVersion."""

    def __init__(self, versions: Iterator[int]) -> None:
        self.objects: dict[Target, Obj] = {}
        self.writes = 0
        self._versions = versions

    def put(self, obj: Obj) -> Obj:
        number = next(self._versions)
        where = Target(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
        known = self.objects.get(where, {"metadata": {}})
        metadata = {
            "uid": f"00000000-0000-4000-8000-{number:012d}",
            "creationTimestamp": STAMP,
            "generation": 1,
            **known["metadata"],
            **obj["metadata"],
            "resourceVersion": str(number),
        }
        self.objects[where] = {**known, **obj, "metadata": metadata}
        return self.objects[where]

    async def run(self, action: Action) -> Answer:
        self.writes += 1
        if isinstance(action, Apply | Create):
            return Answer(result="done", obj=self.put(action.body))
        known = self.objects[target(action)]
        if isinstance(action, Annotate):
            annotations = {**(known["metadata"].get("annotations") or {}), **action.annotations}
            return Answer(
                result="done", obj=self.put({**known, "metadata": {**known["metadata"], "annotations": annotations}})
            )
        del self.objects[target(action)]
        return Answer(result="done")

    async def status(self, root: Obj, status: Obj, *, locked: bool) -> Answer:
        self.writes += 1
        metadata = {key: root["metadata"][key] for key in ("name", "namespace")}
        return Answer(result="done", obj=self.put({"kind": root["kind"], "metadata": metadata, "status": status}))


class Silent:
    def record(self, root: Obj, note: Any) -> None:
        pass


def write(crowd: Crowd, folder: Path) -> None:
    """A file per kind and namespace that is listed, a page a line."""
    versions = itertools.count(1000)
    places: dict[tuple[str, str], list[str]] = {}
    names = crowd.names()
    for number in range(crowd.models):
        namespace = names[number % crowd.namespaces]
        for obj in settle(f"model-{number:05d}", namespace, crowd.runs, versions):
            listed = namespace if crowd.namespaces > 1 else ""
            places.setdefault((obj["kind"], listed), []).append(json.dumps(_as_stored(obj)))
    version = next(versions)
    for (kind, namespace), items in places.items():
        with (folder / file_name(kind, namespace or None)).open("w") as out:
            for begin in range(0, len(items), PAGE_SIZE):
                more = "more" if begin + PAGE_SIZE < len(items) else ""
                metadata = json.dumps({"resourceVersion": str(version), "continue": more})
                out.write(f'{{"metadata": {metadata}, "items": [{", ".join(items[begin : begin + PAGE_SIZE])}]}}\n')


def file_name(kind: str, namespace: str | None) -> str:
    return f"{WATCHED[kind].plural}.{namespace or 'all'}"


def settle(name: str, namespace: str, runs: int, versions: Iterator[int]) -> list[Obj]:
    """A model, its finished runs and its children, at rest."""
    made = [_model(name, namespace), *(_run(name, namespace, number) for number in range(runs))]
    settled = come_to_rest(made, versions)
    return [*settled, *(_replica_set(obj, versions) for obj in settled if obj["kind"] == "Deployment")]


def come_to_rest(made: list[Obj], versions: Iterator[int]) -> list[Obj]:
    """The objects, and those that the operator's planners have added to them until nothing is left to do."""
    applier, store = Plain(versions), Store()
    keys: dict[Key, None] = {}
    reconciler = Reconciler(
        store=store,
        planners=PLANNERS,
        policy=POLICY,
        applier=applier,
        recorder=Silent(),
        fence=lambda: None,
        wake=lambda key: keys.setdefault(key),
        now=lambda: NOW,
        clock=lambda: 0.0,
    )
    for obj in made:
        for key in store.apply_event("ADDED", applier.put(obj)):
            keys[key] = None
    while keys:
        key = next(iter(keys))
        del keys[key]
        drive(reconciler.reconcile(key))
    return [*applier.objects.values()]


def drive(coroutine: Any) -> Any:
    """Here nothing ever waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("something waits")


def _model(name: str, namespace: str) -> Obj:
    requests = {"cpu": "100m", "memory": "64Mi"}
    serving = {"replicas": 0, "resources": {"requests": requests, "limits": {"memory": "16Gi"}}}
    return {
        "apiVersion": "steeltown.dev/v1alpha1",
        "kind": "MLModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"stage": "Experimental", "serving": serving},
    }


def _run(model: str, namespace: str, number: int) -> Obj:
    digest = f"sha256:{hashlib.sha256(f'{namespace}/{model}/{number}'.encode()).hexdigest()}"
    name = f"{model}-v{number + 1}"
    seconds = f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
    common = {"status": "True", "observedGeneration": 1, "lastTransitionTime": seconds, "reason": "Succeeded"}
    status = {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "reason": "Succeeded",
        "startTime": seconds,
        "completionTime": seconds,
        "jobName": f"{name}-train",
        "rows": 100_000 + number,
        "artifact": {"digest": digest, "uri": f"s3://models/{digest}", "sizeBytes": 4096 + number},
        "conditions": [{"type": kind, "message": f"{kind} holds for {name}", **common} for kind in CONDITIONS],
    }
    data = {"uri": f"s3://data/{model}/{number}.csv", "digest": digest}
    spec = {"modelRef": {"name": model}, "task": {"type": "Classification", "target": "y"}, "train": {"data": data}}
    return {
        "apiVersion": "steeltown.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": seconds},
        "spec": spec,
        "status": status,
    }


def _replica_set(deployment: Obj, versions: Iterator[int]) -> Obj:
    metadata, template = deployment["metadata"], deployment["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
    own = {
        "name": f"{metadata['name']}-5d4f8c7b9",
        "namespace": metadata["namespace"],
        "labels": {**template["metadata"]["labels"], "pod-template-hash": "5d4f8c7b9"},
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
    }
    spec = {"replicas": 0, "selector": deployment["spec"]["selector"], "template": template}
    made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": own, "spec": spec, "status": {"replicas": 0}}
    return Plain(versions).put(made)


def _as_stored(obj: Obj) -> Obj:
    """As the API server lists it: without its kind, and with who owns which of its fields."""
    fields = {f"f:{key}": _owned(value) for key, value in obj.items() if key in ("spec", "status")}
    entry = {"manager": "steeltown", "operation": "Apply", "time": STAMP, "fieldsType": "FieldsV1", "fieldsV1": fields}
    rest = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
    return {**rest, "metadata": {**obj["metadata"], "managedFields": [entry]}}


def _owned(value: Any) -> Obj:
    if isinstance(value, dict):
        return {f"f:{key}": _owned(each) for key, each in value.items()}
    return {}

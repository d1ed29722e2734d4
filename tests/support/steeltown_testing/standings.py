"""Models as the planner observes them, from plain values: for tables of what is concluded from each situation.

Versions are named after their runs: `version("m-v2")` is what run m-v2 made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from steeltown.api.base import API_VERSION
from steeltown.api.conditions import RUN_GATES, rfc3339
from steeltown.api.mlmodel import HistoryEntry, MLModelSpec, MLModelStatus, Phase, RolloutFinding, RolloutStatus
from steeltown.core.children.serving import TRACK_LABEL, VERSION_LABEL
from steeltown.core.naming import deployment_name
from steeltown.core.observed.model import ObservedModel, Run
from steeltown.core.observed.pods import Obstacle
from steeltown.core.plan import Obj, Refusal
from steeltown.core.record import RETRY_ANNOTATION, LiveRecord, Outcome, Version, sealed_child
from steeltown.core.status import Standing

from steeltown_testing.explore.cluster import START
from steeltown_testing.explore.schedule import POLICY

TIME = rfc3339(START)
GATES: Mapping[str, tuple[str, str, str]] = {g.value: ("True", "Fine", f"{g.value} holds") for g in RUN_GATES}


def version(run: str) -> Version:
    return Version(run=run, digest="sha256:" + run.encode().hex().ljust(64, "0")[:64])


def run(
    name: str,
    *,
    made: bool = True,
    failed: bool = False,
    gates: Mapping[str, tuple[str, str, str]] = GATES,
    ready: tuple[str, str, str] = ("True", "Succeeded", "made it"),
    outcome: Outcome | None = None,
    retry: str = "",
    spec: Obj | None = None,
) -> Obj:
    """A TrainingRun that has made its version, has failed, or (neither) is under way."""
    conditions = [
        {"type": t, "status": s, "reason": r, "message": m, "observedGeneration": 1, "lastTransitionTime": TIME}
        for t, (s, r, m) in {**gates, "Ready": ready}.items()
    ]
    status: Obj = {"conditions": conditions}
    if made or failed:
        status["completionTime"] = TIME
    if made and not failed:
        status["artifact"] = {"digest": version(name).digest, "uri": "s3://x"}
    notes = {RETRY_ANNOTATION: retry} if retry else {}
    meta: Obj = {"name": name, "namespace": "team", "uid": name, "creationTimestamp": TIME, "annotations": notes}
    found = {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": meta,
        "spec": spec or {"modelRef": {"name": "m"}},
        "status": status,
    }
    if outcome:
        notes.update({k: v for k, v in outcome.annotate(found, POLICY).annotations.items() if v is not None})
    return found


def outcome(run: str, result: str, reason: str, message: str, findings: Iterable[Any] = ()) -> Outcome:
    return Outcome(result=result, digest=version(run).digest, reason=reason, message=message, findings=tuple(findings))


def deployment(run: str, *, ready: int, uid: str = "") -> Obj:
    name = deployment_name("m", version(run).id)
    status = {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": ready, "replicas": ready}
    meta = {
        "name": name,
        "namespace": "team",
        "uid": uid or f"deployment of {run}",
        "generation": 1,
        "ownerReferences": [{"uid": "model", "controller": True}],
    }
    template = {"metadata": {"labels": labels(run)}, "spec": {"containers": [{"name": "server", "image": "server"}]}}
    made = {"kind": "Deployment", "metadata": meta, "spec": {"template": template}, "status": status}
    return sealed_child(made, POLICY)


def labels(run: str) -> dict[str, str]:
    return {VERSION_LABEL: version(run).id, TRACK_LABEL: "serving"}


def pod(run: str, **status: Any) -> Obj:
    """A serving Pod of the version, ours by its chain of controllers. status: of it, or `waiting`, `ready`."""
    told: Obj = {"conditions": [{"type": "Ready", "status": str(status.pop("ready", False))}]}
    if waiting := status.pop("waiting", None):
        state = {"waiting": {"reason": waiting, "message": "cannot"}}
        told["containerStatuses"] = [{"name": "server", "state": state, "restartCount": 0}]
    if crashed := status.pop("crashed", None):
        last = {"terminated": {"exitCode": 1, "message": crashed}}
        told["containerStatuses"] = [{"name": "server", "state": {}, "lastState": last, "restartCount": 3}]
    meta = {
        "name": f"pod of {run}",
        "uid": f"pod of {run}",
        "labels": labels(run),
        "ownerReferences": [{"uid": f"set of {run}", "controller": True}],
    }
    containers = [{"name": "server", "image": "server"}]
    return {"kind": "Pod", "metadata": meta, "spec": {"containers": containers}, "status": {**told, **status}}


def replica_set(run: str) -> Obj:
    owner = {"uid": f"deployment of {run}", "controller": True}
    return {"kind": "ReplicaSet", "metadata": {"name": run, "uid": f"set of {run}", "ownerReferences": [owner]}}


def rollout(run: str, phase: Phase, **more: Any) -> RolloutStatus:
    found = version(run)
    return RolloutStatus(
        id="h123", run=run, digest=found.digest, phase=phase, started_time=TIME, phase_time=TIME, **more
    )


def history(
    run: str,
    outcome: str,
    reason: str = "X",
    message: str = "said so",
    retry: str | None = None,
    findings: Iterable[RolloutFinding] = (),
) -> HistoryEntry:
    return HistoryEntry(
        time=TIME,
        run=run,
        digest=version(run).digest,
        outcome=outcome,
        reason=reason,
        message=message,
        retry=retry,
        findings=[*findings],
    )


def model(
    *runs: Obj,
    live: str | None = None,
    promoted: bool = False,
    previous: str | None = None,
    ready: Mapping[str, int] | None = None,
    pods: Iterable[Obj] = (),
    entries: Iterable[HistoryEntry] = (),
    in_flight: RolloutStatus | None = None,
    status: Obj | None = None,
    taken: Iterable[str] = (),
    **spec: Any,
) -> ObservedModel:
    """live: its run, with one replica ready unless `ready` (run -> replicas) says other. taken: names of runs
    of another model."""
    counts = {**({live: 1} if live else {}), **(ready or {})}
    deployments = [deployment(name, ready=n) for name, n in counts.items()]
    told = MLModelStatus.model_validate(status or {})
    told = told.model_copy(update={"history": list(entries), "rollout": in_flight})
    meta = {"name": "m", "namespace": "team", "uid": "model", "generation": 1, "creationTimestamp": TIME}
    live_record = None
    if live:
        before = version(previous) if previous else None
        live_record = LiveRecord(live=version(live), promoted=promoted, previous=before, created=TIME)
    return ObservedModel(
        root={"apiVersion": API_VERSION, "kind": "MLModel", "metadata": meta, "spec": json.loads(json.dumps(spec))},
        spec=MLModelSpec.model_validate(spec),
        status=told,
        policy=POLICY,
        now=START,
        runs={r["metadata"]["name"]: Run(r, POLICY) for r in runs},
        run_names=[*(r["metadata"]["name"] for r in runs), *taken],
        record=live_record,
        service=None,
        deployments={d["metadata"]["name"]: d for d in deployments},
        services={},
        jobs={},
        all_pods=tuple(pods),
        replicasets=tuple(replica_set(name) for name in counts),
        evidence={},
    )


def standing(
    world: ObservedModel,
    *,
    held: tuple[str, str] | None = None,
    blocked: Obstacle | None = None,
    refusals: tuple[Refusal, ...] = (),
    refused_by_router: str = "",
) -> Standing:
    """As the planner would have it if it changed nothing."""
    return Standing(
        world=world,
        rollout=world.rollout,
        record=world.record,
        promoted=world.promoted,
        held=held,
        blocked=blocked,
        refusals=refusals,
        refused_by_router=refused_by_router,
    )

"""A TrainingRun, its Job as the planner makes it, and Pods as the kubelet tells of them: for tables of its planner."""

from __future__ import annotations

import copy
from typing import Any

from steeltown.api.base import API_VERSION
from steeltown.api.conditions import rfc3339, violations
from steeltown.contract.plans import FinalisePlan, PreparePlan
from steeltown.contract.reports import StepReport
from steeltown.core.plan import Annotate, Create, Obj, Plan, Snapshot
from steeltown.core.record import LiveRecord, Version
from steeltown.core.training import plan_run

from steeltown_testing.explore.cluster import START, later
from steeltown_testing.explore.scenarios import GOOD_A, model, template
from steeltown_testing.explore.schedule import POLICY

MODEL: Obj = {**model(GOOD_A), "metadata": {"name": "m", "namespace": "team", "uid": "mu", "generation": 1}}
DIGEST = "sha256:" + "c" * 64
MADE = StepReport(reason="ModelReady", message="", digest=DIGEST, uri="s3://x").encode()


def run(status: Obj | None = None, *, name: str = "r", uid: str = "u", notes: Any = None, **spec: Any) -> Obj:
    meta = {
        "name": name,
        "namespace": "team",
        "uid": uid,
        "generation": 1,
        "creationTimestamp": rfc3339(START),
        "annotations": dict(notes or {}),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": meta,
        "spec": {"modelRef": {"name": "m"}, **template(GOOD_A), **spec},
        "status": status or {"observedGeneration": -1},
    }


def service(live: LiveRecord, *, root: Obj = MODEL) -> Obj:
    """The Service of the model, with the record of who is live."""
    meta = {
        "name": "m",
        "namespace": "team",
        "ownerReferences": [{"kind": "MLModel", "uid": "mu", "controller": True}],
        "annotations": live.annotation(root, POLICY),
    }
    return {"kind": "Service", "metadata": meta, "spec": {}}


LIVE = LiveRecord(live=Version(run="m-v0", digest="sha256:" + "b" * 64), promoted=True, switches=1)


def plan(root: Obj, *members: Obj, seconds: float = 1, **more: Any) -> Plan:
    """seconds: since the run was created. more: fields of the snapshot."""
    by_kind: dict[str, dict[str, Obj]] = {}
    for each in (MODEL, *members):
        by_kind.setdefault(each["kind"], {})[each["metadata"]["name"]] = each
    made = plan_run(Snapshot(root=root, members=by_kind, **more), later(START, seconds), POLICY)
    if made.status is not None:
        assert violations({**root, "status": made.status}) == []
    return made


def created(root: Obj, *members: Obj) -> Obj:
    """The Job that the planner makes."""
    (action,) = plan(root, *members).actions
    assert isinstance(action, Create)
    return action.body


def plans(job: Obj) -> tuple[PreparePlan, FinalisePlan]:
    """What `prepare` and `finalise` are asked to do."""
    spec = job["spec"]["template"]["spec"]
    prepare, finalise = (
        next(e["value"] for e in c["env"] if e["name"] == "STEELTOWN_PLAN")
        for c in (spec["initContainers"][0], spec["containers"][0])
    )
    return PreparePlan.from_json(prepare), FinalisePlan.from_json(finalise)


def begun(root: Obj | None = None, *members: Obj, at: float = 0.0) -> tuple[Obj, Obj]:
    """(run whose status says that its Job was made, that Job as it stands). at: seconds after the run's creation."""
    first = root or run()
    made = plan(first, *members)
    (action,) = made.actions
    assert isinstance(action, Create)
    job = copy.deepcopy(action.body)
    job["metadata"] |= {"uid": "j", "creationTimestamp": rfc3339(later(START, at))}
    return {**first, "status": made.status}, job


def over(job: Obj, kind: str, *, at: float, reason: str = "") -> Obj:
    """The Job, Complete or Failed since so many seconds after the run's creation."""
    stamp = rfc3339(later(START, at))
    told = {"type": kind, "status": "True", "reason": reason, "message": "says the Job", "lastTransitionTime": stamp}
    return {**job, "status": {"conditions": [told]}}


def pod(job: Obj, *steps: tuple[str, Obj], name: str = "p", at: float = 0.0, **status: Any) -> Obj:
    """A Pod of the Job, created so many seconds after the run. steps: (container, its state)."""
    meta = {
        "name": name,
        "namespace": "team",
        "uid": name,
        "creationTimestamp": rfc3339(later(START, at)),
        "labels": dict(job["spec"]["template"]["metadata"]["labels"]),
        "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"], "uid": "j", "controller": True}],
    }
    told = [{"name": n, "state": s, "restartCount": 0} for n, s in steps]
    spec = copy.deepcopy(job["spec"]["template"]["spec"])
    return {"kind": "Pod", "metadata": meta, "spec": spec, "status": {"containerStatuses": told, **status}}


def ended(code: int, message: str = "", *, at: float | None = None) -> Obj:
    told: Obj = {"exitCode": code, "message": message, "reason": "Completed" if code == 0 else "Error"}
    return {"terminated": told if at is None else {**told, "finishedAt": rfc3339(later(START, at))}}


RUNNING: Obj = {"running": {}}


def unscheduled(why: str = "0/1 nodes are available") -> Obj:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "message": why}]}


def phase(made: Plan) -> tuple[str, str]:
    """(phase, reason) that the plan writes."""
    assert made.status is not None
    return made.status["phase"], made.status["reason"]


def message(made: Plan) -> str:
    assert made.status is not None
    return str(next(c["message"] for c in made.status["conditions"] if c["type"] == "Ready"))


def after(root: Obj, made: Plan) -> Obj:
    """The run with what the plan writes onto it."""
    notes = dict(root["metadata"]["annotations"])
    for action in made.actions:
        if isinstance(action, Annotate):
            notes |= {k: v for k, v in action.annotations.items() if v is not None}
    return {**root, "metadata": {**root["metadata"], "annotations": notes}, "status": made.status or root["status"]}

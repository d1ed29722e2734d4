"""Objects of a cluster by what they show: Pods in a word ("ready", "crashing"), Jobs by how they ended, runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from steeltown.api.base import Resources
from steeltown.api.conditions import RUN_GATES, rfc3339
from steeltown.contract.evidence import ROUTE_ANNOTATION, Counts, Evidence, Route
from steeltown.contract.files import ExitCode
from steeltown.contract.histogram import Histogram
from steeltown.contract.plans import FetchPlan, LoadCheckPlan
from steeltown.contract.reports import LoadReport, StepReport
from steeltown.core.children import jobs, serving
from steeltown.core.children.serving import ServingSpec
from steeltown.core.naming import load_check_name
from steeltown.core.plan import MLMODEL, TRAINING_RUN, Obj
from steeltown.core.policy import Policy
from steeltown.core.record import Outcome, Version, keep_result

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMESPACE: Final = "team"
MODEL: Final = "m"
POLICY: Final = Policy(trainer_image="trainer", checker_image="checker", server_image="server", seal_key=b"of a table")
ROOT: Final[Obj] = {
    "kind": MLMODEL,
    "metadata": {"name": MODEL, "namespace": NAMESPACE, "uid": "uid-of-m", "generation": 1},
}
OLD: Final = Version(run="m-v1", digest="sha256:" + "1" * 64)
NEW: Final = Version(run="m-v2", digest="sha256:" + "2" * 64)
SERVING: Final = ServingSpec(
    model=MODEL, resources=Resources(), store="s3://store", secret="storage", progress_deadline_seconds=600
)


def ago(seconds: float) -> str:
    return rfc3339(NOW - timedelta(seconds=seconds))


# --- Pods ------------------------------------------------------------------------------------------------------------


def _ended(code: int, message: str = "", *, restarts: int = 0, reason: str = "Error", ago_seconds: float = 1) -> Obj:
    last = {"exitCode": code, "reason": reason, "message": message, "finishedAt": ago(ago_seconds)}
    return {"lastState": {"terminated": last}, "restartCount": restarts}


_RUNNING: Final[Obj] = {"state": {"running": {}}}
_BACK_OFF: Final[Obj] = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
_NO_MODEL: Final = StepReport(reason="DigestMismatch", message="the bytes are not those of the digest").encode()

_STATES: Final[dict[str, tuple[str, Obj]]] = {
    # what the server's container shows, by what a person would say of the Pod
    "ready": ("server", _RUNNING),
    "unready": ("server", _RUNNING),
    "cut-off": ("server", _RUNNING),  # its node is lost: nobody says that its containers are not ready
    "evicted": ("server", {"state": {"terminated": {"exitCode": 137, "reason": "Error"}}}),
    "starting": ("server", {"state": {"waiting": {"reason": "PodInitializing"}}}),
    "leaving": ("server", _RUNNING),
    "pulling": ("server", {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}),
    "misconfigured": ("server", {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no key"}}}),
    "crashed": ("server", _BACK_OFF | _ended(1, "panic", restarts=1)),
    "crashing": ("server", _BACK_OFF | _ended(1, "panic", restarts=2)),
    "out-of-memory": ("server", _BACK_OFF | _ended(137, restarts=1, reason="OOMKilled")),
    "once-crashed": ("server", _RUNNING | _ended(1, "panic", restarts=3, ago_seconds=7200)),
    "busy": ("server", _RUNNING | _ended(1, "panic", restarts=3, ago_seconds=7200)),  # crashed long ago, unready now
    "just-crashed": ("server", _RUNNING | _ended(1, "panic", restarts=3)),
    "not-loadable": ("server", _BACK_OFF | _ended(int(ExitCode.DATA), _NO_MODEL)),
    "not-fetched": ("fetch", _BACK_OFF | _ended(int(ExitCode.DATA), _NO_MODEL)),
    "store-down": ("fetch", _BACK_OFF | _ended(int(ExitCode.TRANSIENT), "connection refused", restarts=7)),
    "unschedulable": ("server", {}),
}
_READY: Final = ("ready", "once-crashed", "just-crashed", "leaving")
_PENDING: Final = ("starting", "pulling", "misconfigured", "not-fetched", "store-down", "unschedulable")


def pod(name: str, labels: dict[str, str], spec: Obj, word: str, owner: Obj | None) -> Obj:
    """word: a state, or "state@seconds": for how long the Pod has been as ready as it is (an hour unless said), and its
    container has run."""
    state, _, seconds = word.partition("@")
    container, shows = _STATES[state]
    if seconds and shows == _RUNNING:
        shows = {"state": {"running": {"startedAt": ago(float(seconds))}}}
    ready = "True" if state in _READY else "False"
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": ago(float(seconds or 3600))}]
    if state not in (*_READY, "cut-off"):
        conditions[0]["reason"] = "ContainersNotReady"
    if state == "unschedulable":
        conditions.append({"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"})
    kind = "initContainerStatuses" if container == "fetch" else "containerStatuses"
    statuses = [{"name": container, "restartCount": 0, **shows}] if shows else []
    meta: Obj = {"name": name, "namespace": NAMESPACE, "uid": f"uid-of-{name}", "labels": labels}
    if owner is not None:
        meta["ownerReferences"] = [{"kind": owner["kind"], "uid": owner["metadata"]["uid"], "controller": True}]
    if state == "leaving":
        meta["deletionTimestamp"] = ago(1)
    phase = "Pending" if state in _PENDING else "Running"
    status: Obj = {"phase": phase, "podIP": "10.0.0.1", "conditions": conditions, kind: statuses}
    if state == "evicted":
        status |= {"phase": "Failed", "reason": "Evicted"}
    return {"kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def stray(deployment: Obj, word: str = "ready", name: str = "lure") -> Obj:
    """A Pod that somebody made, with the labels and the containers of ours."""
    template = deployment["spec"]["template"]
    return pod(name, dict(template["metadata"]["labels"]), template["spec"], word, None)


# --- what a version is served by -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A Deployment with what it controls."""

    deployment: Obj
    replicasets: tuple[Obj, ...] = ()
    pods: tuple[Obj, ...] = ()
    evidence: dict[str, Evidence] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.deployment["metadata"]["name"])


def fleet(
    version: Version,
    words: str,
    *,
    fresh: bool = False,
    replicas: int | None = None,
    ready: int | None = None,
    observed: bool = True,
    refused: str = "",
    route: Route | str | None = None,
    evidence: tuple[Evidence | None, ...] = (),
) -> Fleet:
    """words: its Pods, each in a word, such as "ready ready unschedulable".

    fresh: the Pod for the load check. ready: of the status, if it is not what the Pods show. observed: its controller
    has seen the present generation. refused: why it can make no Pod. route: annotation of each Pod. evidence: of the
    ready Pods, in order; the others are silent.
    """
    states = words.split()
    if fresh:
        made = serving.baseline_deployment(ROOT, SERVING, version, POLICY)
    else:
        made = serving.deployment(ROOT, SERVING, version, len(states) if replicas is None else replicas, POLICY)
    name = made["metadata"]["name"]
    shown = sum(w.partition("@")[0] in _READY and not w.startswith("leaving") for w in states)
    count = shown if ready is None else ready
    status: Obj = {"observedGeneration": 2 if observed else 1, "readyReplicas": count, "updatedReplicas": len(states)}
    if refused:
        status["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": refused}]
    made = {**made, "metadata": {**made["metadata"], "uid": f"uid-of-{name}", "generation": 2}, "status": status}
    owner = [{"kind": "Deployment", "uid": f"uid-of-{name}", "controller": True}]
    meta = {"name": f"{name}-rs", "namespace": NAMESPACE, "uid": f"uid-of-{name}-rs", "ownerReferences": owner}
    replicaset: Obj = {"kind": "ReplicaSet", "metadata": meta}
    template = made["spec"]["template"]
    pods = [
        pod(f"{name}-{i}", dict(template["metadata"]["labels"]), template["spec"], word, replicaset)
        for i, word in enumerate(states)
    ]
    if route is not None:
        text = route if isinstance(route, str) else route.to_json()
        for each in pods:
            each["metadata"]["annotations"] = {ROUTE_ANNOTATION: text}
    up = [p["metadata"]["uid"] for p, w in zip(pods, states, strict=True) if w.partition("@")[0] in _READY]
    heard = {uid: e for uid, e in zip(up, evidence, strict=False) if e is not None}
    return Fleet(deployment=made, replicasets=(replicaset,), pods=tuple(pods), evidence=heard)


def counts(requests: int, errors: int = 0, slow: int = 0) -> Counts:
    """slow: of the answers, those that took 5 s."""
    latency = Histogram()
    if requests - errors - slow:
        latency.add(2_000, requests - errors - slow)
    if slow:
        latency.add(5_000_000, slow)
    return Counts(requests=requests, errors=errors, latency=latency)


def told(
    route: Route, *, live: Counts | None = None, canary: Counts | None = None, fingerprint: str | None = None
) -> Evidence:
    """What a server under this route answers. fingerprint: of the route, if the server tells another one."""
    return Evidence(
        instance="i",
        digest="",
        window=route.window,
        weight=route.weight,
        live=live or Counts(),
        canary=canary or Counts(),
        route=route.fingerprint if fingerprint is None else fingerprint,
    )


# --- Jobs and runs ---------------------------------------------------------------------------------------------------


def load_check(
    rollout: str,
    *,
    attempt: int = 0,
    says: LoadReport | StepReport | str | None = None,
    over: str = "Complete",
    seconds: float = 3600,
    why: str = "",
    age: float | None = None,
    pod_seen: bool = True,
    forged: bool = False,
    runs: Obj | None = None,
) -> tuple[Obj, tuple[Obj, ...]]:
    """The Job of a load check with its Pods.

    says: the report in the end of its Pod. over: Complete or Failed, "" while it runs. seconds: since it ended.
    why: the reason of its end. age: seconds since it was made, None: long ago.
    pod_seen: False while the watch of Pods has not brought it, or there is none. forged: made by
    somebody else. runs: spec of the Pod, if it is not what the Job says.
    """
    name = load_check_name(MODEL, rollout, attempt)
    fetch = FetchPlan(store="s3://store", digest=NEW.digest)
    plan = LoadCheckPlan(
        model=MODEL, candidate_url="http://c", candidate_digest=NEW.digest, golden=fetch, latency_milliseconds=100.0
    )
    job = jobs.load_check_job(ROOT, MODEL, name, plan, secret="storage", deadline=100, policy=POLICY)
    uid = f"uid-of-{name}"
    annotations = {} if forged else job["metadata"]["annotations"]
    end = {"type": over, "status": "True", "reason": why, "lastTransitionTime": ago(seconds)}
    made = {"creationTimestamp": ago(age)} if age is not None else {}
    job = {
        **job,
        "metadata": {**job["metadata"], "uid": uid, "annotations": annotations, **made},
        "status": {"conditions": [end] if over else []},
    }
    if not pod_seen:
        return job, ()
    text = says if isinstance(says, str) else says.encode() if says else ""
    ended = {"terminated": {"exitCode": 0 if over == "Complete" else 1, "message": text}}
    container = {"name": "loadcheck", "state": ended if over and text else {"running": {}}}
    meta = {
        "name": f"{name}-x",
        "namespace": NAMESPACE,
        "uid": f"{uid}-pod",
        "labels": {},
        "ownerReferences": [{"kind": "Job", "uid": uid, "controller": True}],
    }
    spec = runs or job["spec"]["template"]["spec"]
    return job, ({"kind": "Pod", "metadata": meta, "spec": spec, "status": {"containerStatuses": [container]}},)


def run(
    version: Version,
    *,
    created: str,
    eligible: bool = True,
    finished: bool = True,
    outcome: Outcome | None = None,
    retry: str = "",
    result: Version | None = None,
) -> Obj:
    """A TrainingRun. outcome: of its rollout, as the operator writes it down. result: what it made, likewise."""
    passed = "True" if eligible else "False"
    status: Obj = {"conditions": [{"type": g, "status": passed, "reason": "R", "message": "M"} for g in RUN_GATES]}
    if finished:
        status |= {"completionTime": created, "artifact": {"digest": version.digest}}
    meta: Obj = {
        "name": version.run,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{version.run}",
        "creationTimestamp": created,
        "annotations": {"steeltown.dev/retry": retry} if retry else {},
    }
    obj: Obj = {"kind": TRAINING_RUN, "metadata": meta, "spec": {"modelRef": {"name": MODEL}}, "status": status}
    if result is not None:
        final: Obj = {
            "conditions": [],
            "completionTime": created,
            "artifact": {"digest": result.digest, "uri": "s3://u"},
        }
        meta["annotations"] = {**meta["annotations"], **keep_result(obj, final, POLICY).annotations}
    if outcome is not None:
        meta["annotations"] = {**meta["annotations"], **outcome.annotate(obj, POLICY).annotations}
    return obj

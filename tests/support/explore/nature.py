"""What happens in a cluster by itself: Deployments make Pods, Pods become ready, Jobs end, users send requests.

How a version behaves is written in the digest of its data: `Behaviour.of` reads it back, so the same spec
always makes the same model, and a schedule repeats exactly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from steeltown.contract.evidence import ROUTE_ANNOTATION, Counts, Evidence, Route
from steeltown.contract.files import Env
from steeltown.contract.histogram import Histogram
from steeltown.contract.reports import LoadReport, LoadSide, MetricComparison, StepReport
from steeltown.core.ownership import RUN_LABEL
from steeltown.core.plan import Obj, Target

from .cluster import Cluster

REQUESTS_PER_TICK = 200
REVISION = "deployment.kubernetes.io/revision"
FAST, SLOW = 2_000, 30_000  # microseconds


@dataclass(frozen=True, slots=True)
class Behaviour:
    """good, unloadable, slow (load check), unmeasurable (load check too slow to tell), failing (fails live requests
    only), worse (quality), baddata."""

    kind: str
    name: str

    @property
    def data_digest(self) -> str:
        return "sha256:" + f"{self.kind}-{self.name}".encode().hex().ljust(64, "0")[:64]

    @property
    def model_digest(self) -> str:
        return "sha256:" + f"{self.kind}-{self.name}".encode().hex().ljust(64, "f")[:64]

    @classmethod
    def of(cls, digest: str) -> Behaviour:
        text = bytes.fromhex(digest.removeprefix("sha256:")).rstrip(b"\0\xff").decode()
        kind, _, name = text.partition("-")
        return cls(kind, name)


class Nature:
    """Advances the world by one tick (a second). Keeps what servers count: it lives and dies with the pods."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.requests_per_tick = REQUESTS_PER_TICK
        self.counts: dict[str, tuple[str, int, Counts, Counts, int]] = {}  # pod uid -> window, weight, live, canary, n
        self.served = 0
        self.failed = 0
        self.trained: dict[str, int] = {}

    def copy(self, cluster: Cluster) -> Nature:
        other = Nature(cluster)
        other.counts, other.trained = dict(self.counts), dict(self.trained)
        other.requests_per_tick = self.requests_per_tick
        return other

    def tick(self) -> None:
        self.cluster.collect_garbage()
        for deployment in self.cluster.of_kind("Deployment"):
            self._deployment(deployment)
        for pod in self.cluster.of_kind("Pod"):
            self._start(pod)
        for deployment in self.cluster.of_kind("Deployment"):
            self._count_ready(deployment)
        for job in self.cluster.of_kind("Job"):
            self._job(job)
        self._traffic()

    # --- controllers -------------------------------------------------------------------------------------------------

    def _pods(self, labels: dict[str, str]) -> list[Obj]:
        return [p for p in self.cluster.of_kind("Pod") if labels.items() <= (p["metadata"].get("labels") or {}).items()]

    def _deployment(self, deployment: Obj) -> None:
        spec, meta = deployment["spec"], deployment["metadata"]
        if REVISION not in (meta.get("annotations") or {}):
            annotations = {**(meta.get("annotations") or {}), REVISION: "1"}
            deployment = self.cluster.put({**deployment, "metadata": {**meta, "annotations": annotations}})
        pods = self._pods(spec["selector"]["matchLabels"])
        for number in range(len(pods), spec["replicas"]):
            self._pod(deployment, f"{deployment['metadata']['name']}-{number}", spec["template"])
        for pod in pods[spec["replicas"] :]:
            self.cluster.remove(Target("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"]))

    def _pod(self, owner: Obj, name: str, template: Obj) -> Obj:
        meta = owner["metadata"]
        reference = {"kind": owner["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True}
        return self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": dict(template["metadata"]["labels"]),
                    "ownerReferences": [reference],
                },
                "spec": template["spec"],
                "status": {},
            }
        )

    def _start(self, pod: Obj) -> None:
        if status := server_status(pod):
            self.cluster.set_status(pod, {"podIP": "10.0.0.1", **status})

    def _count_ready(self, deployment: Obj) -> None:
        pods = self._pods(deployment["spec"]["selector"]["matchLabels"])
        ready = sum(_ready(p) for p in pods)
        self.cluster.set_status(
            deployment,
            {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": len(pods),
                "updatedReplicas": len(pods),
                "readyReplicas": ready,
            },
        )

    def _job(self, job: Obj) -> None:
        if (job.get("status") or {}).get("conditions"):
            return
        meta = job["metadata"]
        labels = {"job-name": meta["name"]}
        template = job["spec"]["template"]
        pods = self._pods(labels)
        if not pods:
            labelled = {**template, "metadata": {"labels": {**template["metadata"]["labels"], **labels}}}
            self._pod(job, f"{meta['name']}-p", labelled)
            if run := meta["labels"].get(RUN_LABEL):
                self.trained[run] = self.trained.get(run, 0) + 1
            return
        statuses, ok = job_outcome(template["spec"])
        self.cluster.set_status(pods[0], {"containerStatuses": statuses})
        condition = {"type": "Complete" if ok else "Failed", "status": "True", "reason": "PodFailurePolicy"}
        self.cluster.set_status(job, {"conditions": [condition]})

    # --- traffic -----------------------------------------------------------------------------------------------------

    def endpoints(self, service: str) -> list[Obj]:
        obj = self.cluster.get("Service", service)
        return [p for p in self._pods(obj["spec"]["selector"]) if _ready(p)] if obj else []

    def _traffic(self) -> None:
        for model in self.cluster.of_kind("MLModel"):
            pods = self.endpoints(model["metadata"]["name"])
            self.served += len(pods)
            for pod in pods:
                self._serve(pod, model["metadata"]["name"])

    def _serve(self, pod: Obj, model: str) -> None:
        uid = pod["metadata"]["uid"]
        route = Route.from_json((pod["metadata"].get("annotations") or {}).get(ROUTE_ANNOTATION, "")) or Route(
            window=""
        )
        window, _, live, canary, n = self.counts.get(uid, ("", 0, Counts(), Counts(), 0))
        if window != route.window:
            live, canary, n = Counts(), Counts(), 0
        own = Behaviour.of(_env(pod["spec"]["containers"][0], Env.MODEL_DIGEST))
        to_canary = self.requests_per_tick * route.weight // 100
        targets = self.endpoints(f"{model}-canary") if to_canary else []
        broken = bool(to_canary) and (
            not targets or Behaviour.of(route.canary_digest).kind == "failing" or not _serves(targets, route)
        )
        live = _counted(live, self.requests_per_tick - to_canary, failing=own.kind in ("failing", "latefailing"))
        canary = _counted(canary, to_canary, failing=broken)
        if own.kind in ("failing", "latefailing"):
            self.failed += self.requests_per_tick - to_canary
        self.counts[uid] = (route.window, route.weight, live, canary, n + self.requests_per_tick)

    def evidence(self, pod: Obj) -> Evidence | None:
        uid = pod["metadata"]["uid"]
        if uid not in self.counts:
            return None
        window, weight, live, canary, _ = self.counts[uid]
        digest = _env(pod["spec"]["containers"][0], Env.MODEL_DIGEST)
        return Evidence(instance=uid, digest=digest, window=window, weight=weight, live=live, canary=canary)


def server_status(pod: Obj) -> Obj | None:
    """What becomes of a Pod that serves; None if it is none or has started."""
    server = pod["spec"]["containers"][0]
    if server["name"] != "server" or pod["status"].get("podIP"):
        return None
    if Behaviour.of(_env(server, Env.MODEL_DIGEST)).kind != "unloadable":
        return {"conditions": [{"type": "Ready", "status": "True"}]}
    report = StepReport(reason="GoldenRowsDiffer", message="output y[0] is 3, expected 2").encode()
    return {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [_terminated("server", 65, report)],
    }


def job_outcome(spec: Obj) -> tuple[list[Obj], bool]:
    """How the containers of a Job's Pod end, and whether the Job completes."""
    main = spec["containers"][0]
    if main["name"] == "loadcheck":
        plan = json.loads(_env(main, Env.PLAN))
        return [_terminated("loadcheck", 0, _load_report(plan).encode())], True
    plan = json.loads(_env(spec["initContainers"][0], Env.PLAN))
    made = Behaviour.of(plan["data"]["digest"])
    if made.kind == "baddata":
        report = StepReport(reason="SchemaMissingColumn", message="column x is missing").encode()
        return [_terminated("prepare", 65, report)], False
    prepared = StepReport(reason="DataValid", message="all checks passed", rows=1000).encode()
    worse = made.kind == "worse"
    metric = MetricComparison(name="accuracy", candidate=0.7 if worse else 0.9, n=1000)
    report = StepReport(
        reason="ModelReady", message="", metrics=(metric,), digest=made.model_digest, uri="s3://x/m"
    ).encode()
    return [
        _terminated("prepare", 0, prepared),
        _terminated("train", 0, ""),
        _terminated("finalise", 0, report),
    ], True


def _counted(before: Counts, n: int, *, failing: bool) -> Counts:
    if not n:
        return before
    ok = 0 if failing else n
    new = Counts(requests=n, errors=n - ok, latency=Histogram({}))
    new.latency.add(FAST, n)
    return Counts.merged((before, new))


def _load_report(plan: dict[str, Any]) -> LoadReport:
    candidate = Behaviour.of(plan["candidateDigest"])
    return LoadReport(
        candidate=_side(SLOW if candidate.kind == "slow" else FAST),
        baseline=_side(FAST) if plan.get("baselineURL") else None,
        saturated=candidate.kind == "unmeasurable",
    )


def _side(microseconds: int) -> LoadSide:
    histogram = Histogram()
    histogram.add(microseconds, 400)
    return LoadSide(sent=400, errors=0, over=0, latency=histogram)


def _serves(pods: list[Obj], route: Route) -> bool:
    return all(_env(p["spec"]["containers"][0], Env.MODEL_DIGEST) == route.canary_digest for p in pods)


def _ready(pod: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def _env(container: Obj, name: str) -> str:
    return next((e["value"] for e in container["env"] if e["name"] == str(name)), "")


def _terminated(name: str, code: int, message: str) -> Obj:
    return {"name": name, "state": {"terminated": {"exitCode": code, "message": message}}, "restartCount": 0}

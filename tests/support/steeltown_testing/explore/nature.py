"""What happens in a cluster by itself: Deployments make Pods, Pods become ready, Jobs end, users send requests.

How a version behaves is written in the digest of its data: `Behaviour.of` reads it back, so the same spec
always makes the same model, and a schedule repeats exactly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from steeltown.api.conditions import parse_time, rfc3339
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.evidence import ROUTE_ANNOTATION, Counts, Evidence, Route
from steeltown.contract.files import MODEL_OBJECT, Env, model_prefix
from steeltown.contract.histogram import Histogram
from steeltown.contract.reports import InterfaceReport, LoadReport, LoadSide, MetricComparison, StepReport
from steeltown.core.ownership import RUN_LABEL
from steeltown.core.plan import Obj, Target

from .cluster import Cluster, controller_uid

REQUESTS_PER_TICK = 200
TRACK = "steeltown.dev/track"
TEMPLATE_HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
FAST, SLOW = 2_000, 30_000  # microseconds
LURE = "of-a-stranger"
"""Image of a server that is nobody's model: it answers to any digest, fast and well."""
READY_SECONDS = 30
"""So long a load check waits for both of its sides."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """good, unloadable, slow (load check), unmeasurable (load check too slow to tell), failing (fails live requests
    only), latefailing (only once it gets all of them), latecrashing (its Pods die once they get all), worse (quality),
    renamed (its outputs; it is good in all else), uncharted (its manifest is lost; it is good in all else), baddata."""

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


class Trouble(StrEnum):
    """What a platform, or a process, does to Pods. Only the last two say anything about the model in them."""

    UNSCHEDULABLE = "no node has room"  # of Pods that have not started
    IMAGE_PULL = "the image cannot be pulled"  # of Pods that have not started
    NO_PODS = "a quota lets no Pod be made"  # of what makes Pods
    BUSY = "the work takes long"  # of a Job's Pods
    MUTE = "no evidence can be read"
    STALE = "the evidence that is read is old"
    UNREADY = "not ready"
    CRASHING = "crashes again and again"


Which = Callable[[Obj], bool]
"""Of Pods; for NO_PODS of ReplicaSets and Jobs."""

QUOTA = "forbidden: exceeded quota: compute, requested: pods=1, used: pods=10, limited: pods=10"


def everything(obj: Obj) -> bool:
    return True


def of_run(run: str, track: str = "serving") -> Which:
    """Servers of the version that `run` made."""

    def which(pod: Obj) -> bool:
        labels = pod["metadata"].get("labels") or {}
        return labels.get(TRACK) == track and _env(_template(pod)["containers"][0], Env.MODEL_VERSION) == run

    return which


def trained_by(run: str) -> Which:
    return lambda obj: (obj["metadata"].get("labels") or {}).get(RUN_LABEL) == run


def of_component(component: str) -> Which:
    """trainer, loadcheck or server."""
    return lambda obj: (obj["metadata"].get("labels") or {}).get("app.kubernetes.io/component") == component


class Nature:
    """Advances the world by one tick (a second). Keeps what servers count: it lives and dies with the pods.

    trained: Jobs that made Pods, by uid of the run. carried: requests that a digest got as a canary.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.requests_per_tick = REQUESTS_PER_TICK
        self.counts: dict[str, tuple[str, int, Counts, Counts, int]] = {}  # pod uid -> window, weight, live, canary, n
        self.served = 0
        self.failed = 0
        self.trained: dict[str, int] = {}
        self.carried: dict[str, int] = {}
        self.ticks = 0
        self.troubles: tuple[tuple[Trouble, Which, int | None], ...] = ()
        self.guilty: frozenset[str] = frozenset()
        """Runs whose servers have died or were not ready: what is concluded from that is about them."""
        self.restarts: dict[str, int] = {}
        self.replacing: frozenset[str] = frozenset()
        """Pods that take the place of lost ones and have not been ready yet."""
        self.reached: dict[str, int] = {}
        """By uid of a ReplicaSet: so many of its Pods were ready at once. What it has fewer by now was lost."""
        self.last_read: dict[str, Evidence] = {}
        self.worked: frozenset[str] = frozenset()

    def copy(self, cluster: Cluster) -> Nature:
        other = type(self)(cluster)
        other.counts, other.trained, other.carried = dict(self.counts), dict(self.trained), dict(self.carried)
        other.requests_per_tick, other.ticks = self.requests_per_tick, self.ticks
        other.troubles, other.guilty, other.restarts = self.troubles, self.guilty, dict(self.restarts)
        other.replacing, other.last_read = self.replacing, dict(self.last_read)
        other.reached = dict(self.reached)
        other.worked = self.worked
        return other

    def moment(self) -> tuple[object, ...]:
        """What decides how it goes on, beside the counts."""
        restarts = tuple(self.restarts.items())
        return self.requests_per_tick, self.troubles, self.guilty, restarts, self.replacing

    def tick(self) -> None:
        self.ticks += 1
        self.troubles = tuple(t for t in self.troubles if t[2] is None or t[2] > self.ticks)
        self.cluster.collect_garbage()
        self._collect_ended()
        for deployment in self.cluster.of_kind("Deployment"):
            self._deployment(deployment)
        for replica_set in self.cluster.of_kind("ReplicaSet"):
            self._replicate(replica_set)
        for pod in self.cluster.of_kind("Pod"):
            self._run_server(pod)
        for deployment in self.cluster.of_kind("Deployment"):
            self._retire(deployment)
            self._count_ready(deployment)
        for job in self.cluster.of_kind("Job"):
            self._job(job)
        self._traffic()

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def trouble(self, kind: Trouble, which: Which = everything, *, ticks: int | None = None) -> None:
        """From now on, for so many ticks or until `heal`."""
        self.troubles = (*self.troubles, (kind, which, None if ticks is None else self.ticks + ticks + 1))

    def heal(self, *kinds: Trouble) -> None:
        """Without kinds: of everything."""
        self.troubles = tuple(t for t in self.troubles if kinds and t[0] not in kinds)

    def suffers(self, obj: Obj, *kinds: Trouble) -> bool:
        return any(kind in kinds and which(obj) for kind, which, _ in self.troubles)

    def excused(self, pod: Obj) -> bool:
        """Not ready, and that is nothing that the operator has done."""
        dies = self.suffers(pod, Trouble.UNREADY, Trouble.CRASHING) or self._crashes(pod)
        return dies or pod["metadata"]["uid"] in self.replacing

    def lost(self, service: str) -> int:
        """Pods that it named, and that nothing has replaced yet."""
        obj = self.cluster.get("Service", service)
        if obj is None:
            return 0
        wanted = obj["spec"]["selector"].items()
        sets = [r for r in self.cluster.of_kind("ReplicaSet") if wanted <= r["metadata"]["labels"].items()]
        return sum(max(0, self._once(r) - len(self._pods_of_set(r))) for r in sets)

    def _once(self, replica_set: Obj) -> int:
        return min(int(replica_set["spec"]["replicas"]), self.reached.get(replica_set["metadata"]["uid"], 0))

    def evict(self, which: Which, *, pending: int = 0) -> int:
        """A drained node: the Pods go, what takes their place finds no node for so many ticks. How many went."""
        gone = [p for p in self.cluster.of_kind("Pod") if which(p) and "deletionTimestamp" not in p["metadata"]]
        for pod in gone:
            self._evict(pod)
        for replica_set in self.cluster.of_kind("ReplicaSet"):
            self._replicate(replica_set)
        if pending:
            self.trouble(Trouble.UNSCHEDULABLE, which, ticks=pending)
        return len(gone)

    def _evict(self, pod: Obj) -> None:
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        meta = {**pod["metadata"], "deletionTimestamp": rfc3339(self.cluster.now)}
        server = is_server(pod)
        status = {"phase": "Running" if server else "Failed", "conditions": [condition]}
        if not server:
            status["containerStatuses"] = [_terminated(pod["spec"]["containers"][0]["name"], 137, "")]
        self.counts.pop(pod["metadata"]["uid"], None)
        self.cluster.put({**pod, "metadata": meta, "status": status})

    def _collect_ended(self) -> None:
        """Pods whose grace is over, and Jobs that have been kept long enough."""
        for pod in self.cluster.of_kind("Pod"):
            if "deletionTimestamp" in pod["metadata"]:
                self._end_of_pod(pod)
        for job in self.cluster.of_kind("Job"):
            ended = next((c for c in (job.get("status") or {}).get("conditions") or ()), None)
            keep = job["spec"].get("ttlSecondsAfterFinished")
            if ended and keep is not None:
                age = (self.cluster.now - parse_time(ended["lastTransitionTime"])).total_seconds()
                if age >= keep:
                    self.cluster.remove(_where(job))
        self.cluster.collect_garbage()

    def _end_of_pod(self, pod: Obj) -> None:
        """Of a Job without a rule for disruptions the loss of a Pod is a failure."""
        self.cluster.remove(_where(pod))
        for job in self.cluster.of_kind("Job"):
            if controller_uid(pod) == job["metadata"]["uid"] and not _has_ended(job):
                ignored = any(
                    r["action"] == "Ignore" for r in (job["spec"].get("podFailurePolicy") or {}).get("rules", ())
                )
                if not ignored and job["spec"]["backoffLimit"] == 0:
                    self._end_job(job, "Failed", "BackoffLimitExceeded")

    # --- controllers -------------------------------------------------------------------------------------------------

    def _pods(self, labels: dict[str, str]) -> list[Obj]:
        return [p for p in self.cluster.of_kind("Pod") if labels.items() <= (p["metadata"].get("labels") or {}).items()]

    def _deployment(self, deployment: Obj) -> None:
        """One ReplicaSet for each template that it has had; the new one grows as far as maxSurge 1 lets it."""
        spec, meta = deployment["spec"], deployment["metadata"]
        if REVISION not in (meta.get("annotations") or {}):
            annotations = {**(meta.get("annotations") or {}), REVISION: "1"}
            deployment = self.cluster.put({**deployment, "metadata": {**meta, "annotations": annotations}})
        sets = self._sets(deployment)
        current = _set_of(deployment, sets) or self._replica_set(deployment)
        old = sum(len(self._pods_of_set(r)) for r in sets if r is not current)
        self._scale(current, min(spec["replicas"], spec["replicas"] + 1 - old) if old else spec["replicas"])

    def _sets(self, deployment: Obj) -> list[Obj]:
        """Its ReplicaSets. One whose labels a hand has changed is released, with its Pods."""
        wanted, mine = deployment["spec"]["selector"]["matchLabels"].items(), []
        for each in self.cluster.controlled("ReplicaSet", deployment):
            if wanted <= (each["metadata"].get("labels") or {}).items():
                mine.append(each)
            else:
                self.cluster.set_metadata(each, ownerReferences=[])
        return mine

    def _replica_set(self, deployment: Obj) -> Obj:
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        name = _hash_of(template)
        while self.cluster.get("ReplicaSet", f"{meta['name']}-{name}"):
            name += "x"  # as with `status.collisionCount`
        labels = {**template["metadata"]["labels"], TEMPLATE_HASH: name}
        return self.cluster.put(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{meta['name']}-{name}",
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "ownerReferences": [_reference(deployment)],
                },
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {**deployment["spec"]["selector"]["matchLabels"], TEMPLATE_HASH: name}},
                    "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
                },
            }
        )

    def _scale(self, replica_set: Obj, replicas: int) -> None:
        if replica_set["spec"]["replicas"] != replicas:
            self.cluster.set_spec(replica_set, lambda spec: {**spec, "replicas": replicas})

    def _pods_of_set(self, replica_set: Obj) -> list[Obj]:
        """Its Pods that are not on their way out; one that matches and belongs to nobody is adopted."""
        uid, wanted = replica_set["metadata"]["uid"], replica_set["spec"]["selector"]["matchLabels"]
        found = []
        for pod in self.cluster.of_kind("Pod"):
            meta = pod["metadata"]
            owner, matches = controller_uid(pod), wanted.items() <= (meta.get("labels") or {}).items()
            if owner == uid and not matches:
                self.cluster.set_metadata(pod, ownerReferences=[])
            elif matches and owner is None:
                found.append(self.cluster.set_metadata(pod, ownerReferences=[_reference(replica_set)]))
            elif matches and owner == uid and "deletionTimestamp" not in meta:
                found.append(pod)
        return found

    def _replicate(self, replica_set: Obj) -> None:
        pods, wanted = self._pods_of_set(replica_set), replica_set["spec"]["replicas"]
        if self.suffers(replica_set, Trouble.NO_PODS):
            if len(pods) < wanted:
                self._event(replica_set, "FailedCreate", f"Error creating: pods are {QUOTA}")
        else:
            for number in range(len(pods), wanted):
                pod = self._pod(replica_set, replica_set["spec"]["template"])
                if number < self._once(replica_set):
                    self.replacing |= {pod["metadata"]["uid"]}
        for pod in sorted(pods, key=is_ready, reverse=True)[wanted:]:
            self.cluster.remove(_where(pod))

    def _pod(self, owner: Obj, template: Obj) -> Obj:
        meta = owner["metadata"]
        return self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{meta['name']}-{self.cluster.version + 1}",
                    "namespace": meta["namespace"],
                    "labels": dict(template["metadata"]["labels"]),
                    "ownerReferences": [_reference(owner)],
                },
                "spec": template["spec"],
                "status": {},
            }
        )

    def _event(self, about: Obj, reason: str, message: str) -> None:
        """As the controllers tell what they cannot do; nothing else says it of a Job."""
        meta = about["metadata"]
        name = f"{meta['name']}.{reason.lower()}"
        if self.cluster.get("Event", name) is None:
            involved = {"kind": about["kind"], "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}
            self.cluster.put(
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": name, "namespace": meta["namespace"]},
                    "involvedObject": involved,
                    "type": "Warning",
                    "reason": reason,
                    "message": message,
                    "lastTimestamp": rfc3339(self.cluster.now),
                }
            )

    def _run_server(self, pod: Obj) -> None:
        """The kubelet: starts it, restarts it, says how it is."""
        if not is_server(pod) or "deletionTimestamp" in pod["metadata"]:
            return
        uid = pod["metadata"]["uid"]
        if not pod["status"].get("podIP") and (blocked := self._blocked(pod)):
            self.cluster.set_status(pod, blocked)
            return
        if (started := server_status(pod)) and not is_ready({**pod, "status": started}):
            self.cluster.set_status(pod, {"podIP": "10.0.0.1", **started})
            return
        if self.suffers(pod, Trouble.CRASHING) or self._crashes(pod):
            self._crash(pod)
        elif self.suffers(pod, Trouble.UNREADY):
            self._blame(pod)
            self.cluster.set_status(
                pod, {"podIP": "10.0.0.1", "phase": "Running", **_told(False, "ContainersNotReady")}
            )
        elif _may_be_ready(pod):
            self.replacing -= {uid}
            again = {"containerStatuses": [_running("server", self.restarts[uid])]} if uid in self.restarts else {}
            self.cluster.set_status(pod, {"podIP": "10.0.0.1", "phase": "Running", **_told(True), **again})

    def _blame(self, pod: Obj) -> None:
        self.guilty |= {_env(pod["spec"]["containers"][0], Env.MODEL_VERSION)}

    def _crash(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        self._blame(pod)
        self.restarts[uid] = self.restarts.get(uid, 0) + 1
        self.counts.pop(uid, None)
        last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "panic: cannot go on"}}
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
        container = {"name": "server", "state": waiting, "lastState": last, "restartCount": self.restarts[uid]}
        told = _told(False, "ContainersNotReady")
        self.cluster.set_status(
            pod, {"podIP": "10.0.0.1", "phase": "Running", **told, "containerStatuses": [container]}
        )

    def _crashes(self, pod: Obj) -> bool:
        if not is_server(pod) or behaviour_of(pod).kind != "latecrashing":
            return False
        labels = (pod["metadata"].get("labels") or {}).items()
        return any(
            (service := self.cluster.get("Service", m["metadata"]["name"]))
            and service["spec"]["selector"].items() <= labels
            for m in self.cluster.of_kind("MLModel")
        )

    def _blocked(self, pod: Obj) -> Obj | None:
        """The status of a Pod that cannot start."""
        if self.suffers(pod, Trouble.UNSCHEDULABLE):
            message = "0/3 nodes are available: 3 Insufficient memory."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            return {"phase": "Pending", "conditions": [condition]}
        if self.suffers(pod, Trouble.IMAGE_PULL):
            waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image: registry unavailable"}
            first = (pod["spec"].get("initContainers") or pod["spec"]["containers"])[0]["name"]
            part = "initContainerStatuses" if pod["spec"].get("initContainers") else "containerStatuses"
            conditions = [{"type": "PodScheduled", "status": "True"}]
            stuck = {"name": first, "state": {"waiting": waiting}, "restartCount": 0}
            return {"phase": "Pending", "conditions": conditions, part: [stuck]}
        return None

    def _retire(self, deployment: Obj) -> None:
        """maxUnavailable 0: a Pod of an older template goes once enough others are ready."""
        sets = self.cluster.controlled("ReplicaSet", deployment)
        current = _set_of(deployment, sets)
        old = [p for r in sets if r is not current for p in self._pods_of_set(r)]
        if not old or current is None:
            return
        ready = sum(map(is_ready, [*old, *self._pods_of_set(current)]))
        for pod in sorted(old, key=is_ready):
            if is_ready(pod):
                ready -= 1
                if ready < deployment["spec"]["replicas"]:
                    break
            owner = next(r for r in sets if r["metadata"]["uid"] == controller_uid(pod))
            known = self.cluster.objects[_where(owner)]
            self._scale(known, known["spec"]["replicas"] - 1)
            self.cluster.remove(_where(pod))

    def _count_ready(self, deployment: Obj) -> None:
        deployment = self.cluster.objects[_where(deployment)]
        sets = self.cluster.controlled("ReplicaSet", deployment)
        current = _set_of(deployment, sets)
        updated = self._pods_of_set(current) if current else []
        if current:
            uid = current["metadata"]["uid"]
            self.reached[uid] = max(self.reached.get(uid, 0), sum(map(is_ready, updated)))
        pods = [*updated, *(p for r in sets if r is not current for p in self._pods_of_set(r))]
        self.cluster.set_status(
            deployment,
            {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": len(pods),
                "updatedReplicas": len(updated),
                "readyReplicas": sum(map(is_ready, pods)),
            },
        )

    def _job(self, job: Obj) -> None:
        if _has_ended(job):
            return
        template = job["spec"]["template"]
        pods = self.cluster.controlled("Pod", job)
        if any("deletionTimestamp" in p["metadata"] for p in pods):
            return  # podReplacementPolicy Failed, which goes with a podFailurePolicy: first it must be gone
        if not pods:
            self._start_job(job, template)
            return
        pod = pods[0]
        if blocked := self._blocked(pod) if not pod["status"].get("podIP") else None:
            self.cluster.set_status(pod, blocked)
        elif self.suffers(pod, Trouble.BUSY) or (sides := self._sides(pod)) is None:
            self._work(pod)
        else:
            statuses, ok = job_outcome(template["spec"], sides)
            phase = "Succeeded" if ok else "Failed"
            self.cluster.set_status(pod, {"phase": phase, "containerStatuses": statuses})
            self._end_job(job, "Complete" if ok else "Failed", "PodFailurePolicy")
            return
        if self._is_late(job):
            self._end_job(job, "Failed", "DeadlineExceeded")
            self.cluster.remove(_where(pod))

    def _is_late(self, job: Obj) -> bool:
        begun = parse_time((self.cluster.objects[_where(job)].get("status") or {})["startTime"])
        return (self.cluster.now - begun).total_seconds() >= float(job["spec"]["activeDeadlineSeconds"])

    def _sides(self, pod: Obj) -> list[list[Obj]] | None:
        """The Pods that a load check reaches by the Services of its plan; None while it waits for one of them."""
        main = pod["spec"]["containers"][0]
        if main["name"] != "loadcheck":
            return []
        plan = json.loads(_env(main, Env.PLAN))
        urls = [plan[key] for key in ("candidateURL", "baselineURL") if plan.get(key)]
        sides = [self.endpoints(url.partition("//")[2].partition(".")[0]) for url in urls]
        age = self.cluster.now - parse_time(pod["metadata"]["creationTimestamp"])
        return sides if all(sides) or age.total_seconds() >= READY_SECONDS else None

    def _start_job(self, job: Obj, template: Obj) -> None:
        if not job.get("status"):
            job = self.cluster.set_status(job, {"startTime": rfc3339(self.cluster.now)})
        meta = job["metadata"]
        if self.suffers(job, Trouble.NO_PODS):
            self._event(job, "FailedCreate", f'Error creating: pods "{meta["name"]}-x" is {QUOTA}')
            if self._is_late(job):
                self._end_job(job, "Failed", "DeadlineExceeded")
            return
        uid = meta["uid"]
        own = {"job-name": meta["name"], "batch.kubernetes.io/job-name": meta["name"]}
        labels = {**template["metadata"]["labels"], **own, "batch.kubernetes.io/controller-uid": uid}
        self._pod(job, {**template, "metadata": {"labels": labels}})
        if (meta.get("labels") or {}).get(RUN_LABEL) and uid not in self.worked:
            self.worked |= {uid}
            owner = controller_uid(job) or uid
            self.trained[owner] = self.trained.get(owner, 0) + 1

    def _work(self, pod: Obj) -> None:
        """The Pod has started, and what it does takes its time."""
        first, *rest = [c["name"] for c in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])]
        begun = {"name": first, "state": {"running": {"startedAt": rfc3339(self.cluster.now)}}, "restartCount": 0}
        if rest and first == "prepare":
            report = StepReport(reason="DataValid", message="all checks passed", rows=1000).encode()
            running = {"name": rest[0], "state": begun["state"], "restartCount": 0}
            statuses = [_terminated(first, 0, report), running]
        else:
            statuses = [begun]
        if not pod["status"].get("podIP"):
            status = {"phase": "Running", "podIP": "10.0.0.2", "containerStatuses": statuses}
            self.cluster.set_status(pod, {**status, "conditions": [{"type": "PodScheduled", "status": "True"}]})

    def _end_job(self, job: Obj, how: str, reason: str) -> None:
        job = self.cluster.objects[_where(job)]
        stamp = rfc3339(self.cluster.now)
        condition = {"type": how, "status": "True", "reason": reason, "lastTransitionTime": stamp}
        self.cluster.set_status(job, {**(job.get("status") or {}), "conditions": [condition]})

    # --- traffic -----------------------------------------------------------------------------------------------------

    def endpoints(self, service: str) -> list[Obj]:
        return [p for p in self._behind(service) if is_ready(p)]

    def selected(self, service: str) -> list[Obj]:
        """The Pods that it names, ready or not."""
        return [p for p in self._behind(service) if "deletionTimestamp" not in p["metadata"]]

    def _behind(self, service: str) -> list[Obj]:
        obj = self.cluster.get("Service", service)
        leads_to_pods = obj is not None and obj["spec"].get("type") != "ExternalName"
        return self._pods(obj["spec"]["selector"]) if obj is not None and leads_to_pods else []

    def _traffic(self) -> None:
        for model in self.cluster.of_kind("MLModel"):
            pods = self.endpoints(model["metadata"]["name"])
            self.served += len(pods)
            for pod in pods:
                self._serve(pod, model["metadata"]["name"])

    def _serve(self, pod: Obj, model: str) -> None:
        uid = pod["metadata"]["uid"]
        route = route_of(pod) or Route(window="")
        window, _, live, canary, n = self.counts.get(uid, ("", 0, Counts(), Counts(), 0))
        if window != route.window:
            live, canary, n = Counts(), Counts(), 0
        own = Behaviour.of(_env(pod["spec"]["containers"][0], Env.MODEL_DIGEST))
        to_canary = self.requests_per_tick * route.weight // 100
        targets = self.endpoints(f"{model}-canary") if to_canary else []
        broken = bool(to_canary) and not _answers(targets, route)
        if to_canary:
            self.carried[route.canary_digest] = self.carried.get(route.canary_digest, 0) + to_canary
        live = _counted(live, self.requests_per_tick - to_canary, failing=own.kind in ("failing", "latefailing"))
        canary = _counted(canary, to_canary, failing=broken)
        if own.kind in ("failing", "latefailing"):
            self.failed += self.requests_per_tick - to_canary
        self.counts[uid] = (route.window, route.weight, live, canary, n + self.requests_per_tick)

    def evidence(self, pod: Obj) -> Evidence | None:
        uid = pod["metadata"]["uid"]
        if uid not in self.counts or self.suffers(pod, Trouble.MUTE):
            return None
        if uid in self.last_read and self.suffers(pod, Trouble.STALE):
            return self.last_read[uid]
        window, weight, live, canary, _ = self.counts[uid]
        digest = _env(pod["spec"]["containers"][0], Env.MODEL_DIGEST)
        instance = f"{uid}-{self.restarts[uid]}" if uid in self.restarts else uid
        seen = Evidence(instance=instance, digest=digest, window=window, weight=weight, live=live, canary=canary)
        if route := route_of(pod):
            seen = replace(seen, route=route.fingerprint)
        self.last_read[uid] = seen
        return praise(seen) if is_lure(pod) else seen


def server_status(pod: Obj) -> Obj | None:
    """What becomes of a Pod that serves; None if it is none or has started."""
    server = pod["spec"]["containers"][0]
    if server["name"] != "server" or pod["status"].get("podIP"):
        return None
    if Behaviour.of(_env(server, Env.MODEL_DIGEST)).kind != "unloadable":
        return _told(True)
    report = StepReport(reason="GoldenRowsDiffer", message="output y[0] is 3, expected 2").encode()
    return {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [_terminated("server", 65, report)],
    }


def job_outcome(spec: Obj, sides: list[list[Obj]] | None = None) -> tuple[list[Obj], bool]:
    """How the containers of a Job's Pod end, and whether the Job completes.

    sides: of a load check the Pods that it has reached; None: who it was meant to reach.
    """
    main = spec["containers"][0]
    if main["name"] == "loadcheck":
        plan = json.loads(_env(main, Env.PLAN))
        told = replace(_load_report(plan, sides), interface=_compared(plan, _env(main, Env.LIVE_DIGEST)))
        return [_terminated("loadcheck", 0, told.encode())], True
    if main["name"] == "collect":
        return [_terminated("collect", 0, _collected(json.loads(_env(main, Env.PLAN))).encode())], True
    plan = json.loads(_env(spec["initContainers"][0], Env.PLAN))
    made = Behaviour.of(plan["data"]["digest"])
    if made.kind == "baddata":
        report = StepReport(reason="SchemaMissingColumn", message="column x is missing").encode()
        return [_terminated("prepare", 65, report)], False
    prepared = StepReport(reason="DataValid", message="all checks passed", rows=1000).encode()
    worse = made.kind == "worse"
    metric = MetricComparison(name="accuracy", candidate=0.7 if worse else 0.9, n=1000)
    digest = made.model_digest
    uri = f"{json.loads(_env(main, Env.PLAN))['store']}/{model_prefix(digest)}/{MODEL_OBJECT}"
    report = StepReport(reason="ModelReady", message="", metrics=(metric,), digest=digest, uri=uri).encode()
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


def _collected(plan: dict[str, Any]) -> StepReport:
    checks = tuple(Check(name=i["reference"], verdict=Verdict.PASS, message="removed") for i in plan["items"])
    return StepReport(reason="Collected", message="", checks=checks)


def _load_report(plan: dict[str, Any], sides: list[list[Obj]] | None) -> LoadReport:
    candidate, baseline = Behaviour.of(plan["candidateDigest"]), _side(FAST) if plan.get("baselineURL") else None
    if sides is not None and not all(sides):
        return LoadReport(problem="not ready: connection refused")
    if sides and any(is_lure(pod) for pod in sides[0]):
        return LoadReport(candidate=_side(FAST), baseline=baseline)
    if sides and any(behaviour_of(pod) != candidate for pod in sides[0]):
        return LoadReport(candidate=LoadSide(sent=400, errors=400, over=0), baseline=baseline)
    return LoadReport(
        candidate=_side(SLOW if candidate.kind == "slow" else FAST),
        baseline=baseline,
        saturated=candidate.kind == "unmeasurable",
    )


def _compared(plan: dict[str, Any], live: str) -> InterfaceReport | None:
    """Versions that are renamed have an interface of their own."""
    if not live:
        return None
    if Behaviour.of(live).kind == "uncharted":
        return InterfaceReport(live=live, problem="ManifestMissing: not found")
    kinds = {Behaviour.of(digest).kind == "renamed" for digest in (live, plan["candidateDigest"])}
    return InterfaceReport(live=live, breaking=("output 'y' (FP32 [-1,1]) is gone",) if len(kinds) > 1 else ())


def _side(microseconds: int) -> LoadSide:
    histogram = Histogram()
    histogram.add(microseconds, 400)
    return LoadSide(sent=400, errors=0, over=0, latency=histogram)


def _answers(targets: list[Obj], route: Route) -> bool:
    """The canary's share is answered well. A lure among its Pods sees to it that it is."""
    if any(map(is_lure, targets)):
        return True
    if Behaviour.of(route.canary_digest).kind == "failing":
        return False
    digests = {_env(p["spec"]["containers"][0], Env.MODEL_DIGEST) for p in targets}
    return digests == {route.canary_digest}


def is_ready(pod: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def is_server(pod: Obj) -> bool:
    return bool(pod["spec"]["containers"][0]["name"] == "server")


def praise(seen: Evidence) -> Evidence:
    """The same, with the best that could be said about the canary."""
    return replace(seen, canary=_counted(Counts(), 100_000, failing=False))


def is_lure(pod: Obj) -> bool:
    return bool(pod["spec"]["containers"][0]["image"] == LURE)


def behaviour_of(pod: Obj) -> Behaviour:
    return Behaviour.of(_env(pod["spec"]["containers"][0], Env.MODEL_DIGEST))


def route_of(pod: Obj) -> Route | None:
    """As the server takes it: what it cannot read is no route."""
    try:
        return Route.from_json((pod["metadata"].get("annotations") or {}).get(ROUTE_ANNOTATION, ""))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _may_be_ready(pod: Obj) -> bool:
    """Not again after a final report."""
    return not any("terminated" in s["state"] for s in pod["status"].get("containerStatuses", ()))


def _told(ready: bool, reason: str = "") -> Obj:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {"conditions": [{**condition, "reason": reason} if reason else condition]}


def _running(name: str, restarts: int) -> Obj:
    return {"name": name, "state": {"running": {}}, "restartCount": restarts, "ready": True}


def _has_ended(job: Obj) -> bool:
    return bool((job.get("status") or {}).get("conditions"))


def _reference(owner: Obj) -> Obj:
    meta = owner["metadata"]
    named = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    return {**named, "controller": True, "blockOwnerDeletion": True}


_HASHES: dict[int, tuple[Obj, str]] = {}


def _hash_of(template: Obj) -> str:
    """Objects never change in place, so each is read once."""
    known = _HASHES.get(id(template))
    if known is None or known[0] is not template:
        if len(_HASHES) > 1000:
            _HASHES.clear()
        known = template, hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        _HASHES[id(template)] = known
    return known[1]


def _set_of(deployment: Obj, sets: list[Obj]) -> Obj | None:
    """Its ReplicaSet of the present template."""
    wanted = _hash_of(deployment["spec"]["template"])
    return next((r for r in sets if r["metadata"]["labels"][TEMPLATE_HASH].rstrip("x") == wanted), None)


def _template(obj: Obj) -> Obj:
    """The Pod's spec, of a Pod or of what makes it."""
    spec: Obj = obj["spec"]["template"]["spec"] if "template" in obj["spec"] else obj["spec"]
    return spec


def _where(obj: Obj) -> Target:
    return Target(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def _env(container: Obj, name: str) -> str:
    return next((e["value"] for e in container["env"] if e["name"] == str(name)), "")


def _terminated(name: str, code: int, message: str) -> Obj:
    return {"name": name, "state": {"terminated": {"exitCode": code, "message": message}}, "restartCount": 0}

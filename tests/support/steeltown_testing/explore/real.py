"""The same schedules on a real API server, with its own controllers, so that the in-memory cluster stays honest.

The operator's planners, Reconciler and Applier run unchanged; Deployment and Job controllers and the garbage
collector are Kubernetes' own. What a control plane without nodes lacks is played here: the kubelet, which starts
and ends Pods, and users' traffic. Time is the schedule's (one second a tick), begun at the server's, so that nobody
waits for a bake to pass; it stands still while the controllers have something left to do, however busy they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

from steeltown.core.observed import pods as podview
from steeltown.core.ownership import RUN_LABEL
from steeltown.core.plan import Action, Obj, Target, target
from steeltown.kube.apply import Applier
from steeltown.kube.client import JSON, MERGE_PATCH, Client
from steeltown.kube.errors import NotFound
from steeltown.kube.lists import Lister
from steeltown.kube.resources import WATCHED
from steeltown.runtime import ports

from steeltown_testing.kubectl import namespace

from .cluster import Cluster, controller_uid
from .nature import Nature, Trouble, is_server, job_outcome, server_status
from .schedule import Explorer, Scenario, Step

PAUSE_SECONDS = 0.1
"""Between ticks, for the controllers."""
QUIET_TICKS = 5
LONGEST_SECONDS = 120


class RealCluster(Cluster):
    """`objects` is what the last look and the answers to writes since then have shown."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop, namespace: str) -> None:
        super().__init__()
        self.client, self.loop, self.namespace = client, loop, namespace
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.held: dict[str, dict[Target, Obj]] = {}

    def door(self) -> ports.Applier:
        return _Door(self)

    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def request(self, method: str, path: str, body: Obj, *, content_type: str = JSON) -> Obj:
        answer: Obj = self.drive(self.client.request(method, path, body=body, content_type=content_type))
        return answer

    def look(self) -> None:
        lister = Lister(self.client)

        async def read(kind: str) -> list[tuple[list[Obj], int]]:
            return [page async for page in lister.pages(kind, self.namespace)]

        async def read_all() -> list[list[tuple[list[Obj], int]]]:
            return await asyncio.gather(*map(read, WATCHED))

        pages = [page for kind in self.drive(read_all()) for page in kind]
        self.objects = {_where(obj): obj for objects, _ in pages for obj in objects}
        self.version = max(version for _, version in pages)

    def put(self, obj: Obj, *, spec_changed: bool = False) -> Obj:
        """A user's object, created."""
        return self._seen(self.request("POST", WATCHED[obj["kind"]].collection(self.namespace), obj))

    def set_spec(self, obj: Obj, change: Any) -> Obj:
        path = WATCHED[obj["kind"]].item(self.namespace, obj["metadata"]["name"])
        return self._seen(self.request("PATCH", path, {"spec": change(obj["spec"])}, content_type=MERGE_PATCH))

    def set_metadata(self, obj: Obj, **change: Any) -> Obj:
        """What a map no longer holds is taken off."""
        path = WATCHED[obj["kind"]].item(self.namespace, obj["metadata"]["name"])
        now = obj["metadata"]
        patch = {k: {**dict.fromkeys(now.get(k) or {}), **v} if isinstance(v, dict) else v for k, v in change.items()}
        return self._seen(self.request("PATCH", path, {"metadata": patch}, content_type=MERGE_PATCH))

    def set_status(self, obj: Obj, status: Obj) -> Obj:
        """As the kubelet writes it; a Pod that is gone by now needs none."""
        path = WATCHED[obj["kind"]].item(self.namespace, obj["metadata"]["name"], subresource="status")
        filled = _filled(obj, status) if obj["kind"] == "Pod" else status
        with suppress(NotFound):
            return self._seen(self.request("PATCH", path, {"status": filled}, content_type=MERGE_PATCH))
        return obj

    def remove(self, where: Target) -> None:
        """What it owns is left to the garbage collector."""
        path = WATCHED[where.kind].item(self.namespace, where.name)
        with suppress(NotFound):
            self.request("DELETE", path, {"propagationPolicy": "Background"})
        super().remove(where)

    def hold(self, kind: str) -> None:
        """From now on its watch delivers nothing new. Unlike a lag it ends only when a test has seen what it needs."""
        self.held[kind] = {where: obj for where, obj in self.objects.items() if where.kind == kind}

    def release(self, kind: str) -> None:
        del self.held[kind]

    def as_watched(self) -> dict[Target, Obj]:
        late = [obj for kind in self.held.values() for obj in kind.items()]
        return {**{w: o for w, o in super().as_watched().items() if w.kind not in self.held}, **dict(late)}

    def lose_everything(self) -> None:
        """Until nothing is left: controllers make a few things again before they notice."""
        end = monotonic() + LONGEST_SECONDS
        while self.objects:
            assert monotonic() < end, f"still there: {list(self.objects)}"
            for where in list(self.objects):
                self.remove(where)
            sleep(PAUSE_SECONDS)
            self.look()

    def _seen(self, obj: Obj) -> Obj:
        self.objects[_where(obj)] = obj
        return obj


class _Door:
    """The operator's own Applier; what it answers is seen at once."""

    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster
        self._applier = Applier(cluster.client)

    async def run(self, action: Action) -> ports.Answer:
        answer = await self._applier.run(action)
        if answer.obj is not None:
            self._cluster.objects[_where(answer.obj)] = answer.obj
        elif answer.result == "done":
            self._cluster.objects.pop(target(action), None)
        return answer

    async def status(self, root: Obj, status: Obj, *, locked: bool) -> ports.Answer:
        answer = await self._applier.status(root, status, locked=locked)
        if answer.obj is not None:
            self._cluster.objects[_where(answer.obj)] = answer.obj
        return answer


class Kubelet(Nature):
    """The part of nature that the control plane lacks."""

    cluster: RealCluster

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.requests_per_tick = 2000  # a tick takes long enough: evidence for a step comes within one
        self.attempts: dict[str, set[str]] = {}
        self.versions: dict[Target, str] = {}
        self.behind = False

    def tick(self) -> None:
        sleep(PAUSE_SECONDS)
        self.cluster.look()
        for pod in self.cluster.of_kind("Pod"):
            self._run(pod)
        before, self.versions = self.versions, versions(self.cluster)
        self.behind = self.versions != before or not self._controllers_are_done()
        if not self.behind:  # in memory controllers take next to no time, so no request comes before they are done
            self._traffic()

    def _controllers_are_done(self) -> bool:
        jobs, deployments = self.cluster.of_kind("Job"), self.cluster.of_kind("Deployment")
        return all(map(_ended, jobs)) and all(map(self._counted, deployments))

    def _counted(self, deployment: Obj) -> bool:
        spec, status = deployment["spec"], deployment.get("status") or {}
        pods = self._pods(spec["selector"]["matchLabels"])
        ready = sum(podview.is_ready(pod) for pod in pods)
        wanted = (deployment["metadata"]["generation"], spec["replicas"], len(pods), ready)
        counted: int = status.get("replicas", 0)
        return wanted == (status.get("observedGeneration"), counted, counted, status.get("readyReplicas", 0))

    def _run(self, pod: Obj) -> None:
        labels, uid = pod["metadata"]["labels"], pod["metadata"]["uid"]
        if RUN_LABEL in labels:
            run = self._run_of(pod)
            self.attempts.setdefault(run, set()).add(uid)
            self.trained[run] = len(self.attempts[run])
        if is_server(pod) and self.suffers(pod, Trouble.CRASHING):
            if uid not in self.restarts:  # once: every restart would be something that still moves
                self._crash(pod)
        elif status := server_status(pod):
            self.cluster.set_status(pod, {**status, "podIP": "10.0.0.1", "phase": "Running"})
        elif "job-name" in labels and pod["status"].get("phase") in ("Pending", "Running"):
            self._work_on(pod)

    def _run_of(self, pod: Obj) -> str:
        """The uid of the TrainingRun that it works for: a name is used again."""
        job = self.cluster.get("Job", pod["metadata"]["labels"]["job-name"])
        known = job is not None and job["metadata"]["uid"] == controller_uid(pod)
        return str((known and job and controller_uid(job)) or controller_uid(pod))

    def _work_on(self, pod: Obj) -> None:
        if self.suffers(pod, Trouble.BUSY):
            self._work(pod)
            return
        statuses, ok = job_outcome(pod["spec"])
        self.cluster.set_status(pod, {"containerStatuses": statuses, "phase": "Succeeded" if ok else "Failed"})


def _filled(pod: Obj, status: Obj) -> Obj:
    """With what a real Pod's status must hold beside what planners read; a node has been found."""
    initial = {c["name"] for c in pod["spec"].get("initContainers", ())}
    parts: dict[str, list[Obj]] = {}
    for each in status.get("containerStatuses") or ():
        part = "initContainerStatuses" if each["name"] in initial else "containerStatuses"
        parts.setdefault(part, []).append({"ready": False, "image": "-", "imageID": "-", **each})
    ip = {"podIPs": [{"ip": status["podIP"]}]} if "podIP" in status else {}
    told = [c for c in status.get("conditions") or () if c["type"] != "PodScheduled"]
    return {**status, **parts, **ip, "conditions": [*told, {"type": "PodScheduled", "status": "True"}]}


def _ended(job: Obj) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


class RealExplorer(Explorer):
    """Runs until nothing moves any more, instead of for so many ticks: the controllers have a pace of their own."""

    def resume(self) -> None:
        now = self.cluster.now
        super().resume()
        if self._behind():
            self.cluster.now = now

    @property
    def server(self) -> RealCluster:
        assert isinstance(self.cluster, RealCluster)
        return self.cluster

    def _behind(self) -> bool:
        assert isinstance(self.nature, Kubelet)
        return self.nature.behind

    def until(self, when: Callable[[Explorer], bool], *, within: int = LONGEST_SECONDS) -> Explorer:
        """Within so many seconds: how many ticks the controllers need nobody knows."""
        end = monotonic() + within
        while not when(self):
            assert monotonic() < end, f"{within} s were not enough; {self.told()}"
            self._user()
            self.resume()
        return self

    def settle(self, *, within: int = LONGEST_SECONDS) -> Explorer:
        return self.run()

    def run(self) -> Explorer:
        quiet, end = 0, monotonic() + LONGEST_SECONDS
        while quiet < QUIET_TICKS:
            assert monotonic() < end, f"not at rest; {self.final()}; {self.cluster.log[-20:]}"
            before = versions(self.cluster)
            self._user()
            self.resume()
            moves = self._behind() or self.pending or self.status.rollout or not self.settled()
            quiet = 0 if moves else quiet + 1
        self._check_rest()
        self.nature.tick()
        assert versions(self.cluster) == before, "I8: something was written at rest"
        return self


def versions(cluster: Cluster) -> dict[Target, str]:
    return {where: obj["metadata"]["resourceVersion"] for where, obj in cluster.objects.items()}


def _where(obj: Obj) -> Target:
    return Target(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


@contextmanager
def real_cluster(kubeconfig: str, namespace: str) -> Iterator[RealCluster]:
    """One namespace of the server."""
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(Client.connect(kubeconfig=kubeconfig))
    try:
        yield RealCluster(client, loop, namespace)
    finally:
        loop.run_until_complete(client.close())
        loop.close()


@contextmanager
def begun(kubeconfig: str, *steps: Step, name: str = "by hand") -> Iterator[RealExplorer]:
    """A schedule that a test drives itself."""
    scenario = Scenario(name=name, steps=steps, ticks=10_000, replicas=1)
    with namespace(kubeconfig, "explore") as own, real_cluster(kubeconfig, own.namespace) as cluster:
        yield RealExplorer(scenario, cluster=cluster, nature_of=Kubelet)


def explore(kubeconfig: str, scenario: Scenario, crash_at: dict[int, str]) -> tuple[dict[str, Any], list[str]]:
    """Runs one schedule; returns its end, and a log of its writes. An AssertionError names a broken invariant."""
    with namespace(kubeconfig, "explore") as own, real_cluster(kubeconfig, own.namespace) as cluster:
        explorer = RealExplorer(scenario, cluster=cluster, crash_at=crash_at, nature_of=Kubelet)
        explorer.run()
        return explorer.final(), cluster.log

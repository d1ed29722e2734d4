"""The same schedules on a real API server, with its own controllers, so that the in-memory cluster stays honest.

The operator's planners, Reconciler and Applier run unchanged; Deployment and Job controllers and the garbage
collector are Kubernetes' own. What a control plane without nodes lacks is played here: the kubelet, which starts
and ends Pods, and users' traffic. Time is the schedule's (one second a tick), begun at the server's, so that nobody
waits for a bake to pass; it stands still while the controllers have something left to do, however busy they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
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

from .cluster import Cluster
from .nature import Nature, job_outcome, server_status
from .schedule import Explorer, Scenario

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

    def set_status(self, obj: Obj, status: Obj) -> Obj:
        """As the kubelet writes it; a Pod that is gone by now needs none."""
        path = WATCHED[obj["kind"]].item(self.namespace, obj["metadata"]["name"], subresource="status")
        with suppress(NotFound):
            return self._seen(self.request("PATCH", path, {"status": status}, content_type=MERGE_PATCH))
        return obj

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
        if run := labels.get(RUN_LABEL):
            self.attempts.setdefault(run, set()).add(uid)
            self.trained[run] = len(self.attempts[run])
        if status := server_status(pod):
            ip = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}
            self.cluster.set_status(pod, {**_started(status), **ip, "phase": "Running"})
        elif "job-name" in labels and pod["status"].get("phase") == "Pending":
            statuses, ok = job_outcome(pod["spec"])
            initial = {c["name"] for c in pod["spec"].get("initContainers", ())}
            parts = {
                "initContainerStatuses": [s for s in statuses if s["name"] in initial],
                "containerStatuses": [s for s in statuses if s["name"] not in initial],
            }
            phase = "Succeeded" if ok else "Failed"
            self.cluster.set_status(pod, {**_started({**parts, "conditions": []}), "phase": phase})


def _started(status: Obj) -> Obj:
    """With what a real Pod's status must hold beside what planners read; a node has been found."""
    scheduled = {"type": "PodScheduled", "status": "True"}
    filled: Obj = {
        key: [{"ready": False, "image": "-", "imageID": "-", **each} for each in status[key]]
        for key in ("containerStatuses", "initContainerStatuses")
        if key in status
    }
    return {**status, **filled, "conditions": [*status["conditions"], scheduled]}


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

    def _behind(self) -> bool:
        assert isinstance(self.nature, Kubelet)
        return self.nature.behind

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


def explore(kubeconfig: str, scenario: Scenario, crash_at: dict[int, str]) -> tuple[dict[str, Any], list[str]]:
    """Runs one schedule; returns its end, and a log of its writes. An AssertionError names a broken invariant."""
    with namespace(kubeconfig, "explore") as own, real_cluster(kubeconfig, own.namespace) as cluster:
        explorer = RealExplorer(scenario, cluster=cluster, crash_at=crash_at, nature_of=Kubelet)
        explorer.run()
        return explorer.final(), cluster.log

"""The API server's part: objects with resourceVersion, generation, uid, preconditions and owners of fields.

Where the real server differs from what one would write down first, a comment says so: each was found by running
the same schedules there (`real`). Every write of the operator passes through `Applier`, which can kill it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from steeltown.api.conditions import rfc3339, violations
from steeltown.core.plan import MLMODEL, TRAINING_RUN, Action, Annotate, Apply, Create, Delete, Obj, Target, target
from steeltown.runtime import ports

START = datetime(2026, 1, 1, tzinfo=UTC)
OURS = "steeltown.dev/"
"""Prefix of the annotations that the operator applies; all others on its children are somebody else's."""


class Crash(BaseException):
    """The operator dies here. Not an Exception, so that no handler of the operator's swallows it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """As `kube.apply.Answer`."""

    result: Literal["done", "stale", "conflict", "refused", "transient"]
    obj: Obj | None = None
    message: str = ""
    retry_after: float | None = None


class Cluster:
    """In memory. Objects are never changed in place, so a copy of the world is a copy of one dict."""

    namespace = "team"

    def __init__(self) -> None:
        self.objects: dict[Target, Obj] = {}
        self.version = 0
        self.now = START
        self.log: list[str] = []

    def copy(self) -> Cluster:
        other = Cluster()
        other.objects, other.version, other.now = dict(self.objects), self.version, self.now
        other.log = list(self.log)
        return other

    def of_kind(self, kind: str) -> list[Obj]:
        return [o for t, o in self.objects.items() if t.kind == kind]

    def get(self, kind: str, name: str) -> Obj | None:
        return next((o for t, o in self.objects.items() if t.kind == kind and t.name == name), None)

    def door(self) -> ports.Applier:
        """By which the operator writes."""
        return Server(self)

    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine of the operator's to its end. Here none ever waits."""
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the in-memory cluster never waits")

    def put(self, obj: Obj, *, spec_changed: bool = False) -> Obj:
        """Store a new version of `obj`; a new object gets uid, generation and creation time."""
        self.version += 1
        meta = dict(obj["metadata"])
        where = Target(obj["kind"], meta["namespace"], meta["name"])
        if where not in self.objects:
            meta.setdefault("uid", f"uid-{self.version}")
            meta.setdefault("creationTimestamp", rfc3339(self.now))
            meta.setdefault("generation", 1)
        elif spec_changed:
            meta["generation"] = meta.get("generation", 1) + 1
        meta["resourceVersion"] = str(self.version)
        stored = {**obj, "metadata": meta}
        self.objects[where] = stored
        return stored

    def set_status(self, obj: Obj, status: Obj) -> Obj:
        return obj if obj.get("status") == status else self.put({**obj, "status": status})

    def set_spec(self, obj: Obj, change: Callable[[Obj], Obj]) -> Obj:
        """A user's edit."""
        return self.put({**obj, "spec": change(obj["spec"])}, spec_changed=True)

    def remove(self, where: Target) -> None:
        self.objects.pop(where, None)

    def collect_garbage(self) -> None:
        """Background deletion: what names an owner that is gone goes too."""
        while True:
            uids = {o["metadata"]["uid"] for o in self.objects.values()}
            orphans = [
                t
                for t, o in self.objects.items()
                if (refs := o["metadata"].get("ownerReferences")) and not any(r["uid"] in uids for r in refs)
            ]
            if not orphans:
                return
            for each in orphans:
                self.remove(each)


class Server:
    """What the API server makes of each action, with the answers that `kube.apply.Applier` gives for it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def run(self, action: Action) -> Answer:
        where = target(action)
        known = self.cluster.objects.get(where)
        match action:
            case Create(body):
                if known is not None:
                    return Answer("done", known) if _same_controller(known, body) else Answer("refused")
                return Answer("done", self.cluster.put(body))
            case Apply(body, force):
                if known is not None and not force and not _same_controller(known, body):
                    return Answer("refused")
                return Answer("done", self._apply(body, known))
            case Delete():
                if known is None or known["metadata"]["uid"] != action.uid:
                    return Answer("stale")
                self.cluster.remove(where)  # what it owns outlives it for a moment: the garbage collector is slower
                return Answer("done")
            case Annotate():
                if known is None or known["metadata"]["uid"] != action.uid:
                    return Answer("stale")
                return Answer("done", self._annotate(known, action))

    async def status(self, root: Obj, status: Obj, *, locked: bool) -> Answer:
        """Locked or not, it holds to the resourceVersion: on a custom resource nothing else tells a successor."""
        meta = root["metadata"]
        known = self.cluster.objects.get(Target(root["kind"], meta["namespace"], meta["name"]))
        if known is None:
            return Answer("stale")
        if known["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            return Answer("conflict")
        return Answer("done", self.cluster.set_status(known, status))

    def _apply(self, body: Obj, known: Obj | None) -> Obj:
        if known is None:
            return self.cluster.put(body)
        meta = {**known["metadata"], "labels": body["metadata"]["labels"]}
        before = meta.get("annotations") or {}
        foreign = {k: v for k, v in before.items() if not k.startswith(OURS)}
        meta["annotations"] = {**foreign, **body["metadata"].get("annotations", {})}
        wanted = {**known, "metadata": meta, "spec": body["spec"]}
        if wanted == known:
            return known
        # A Deployment's annotations count for its generation, as if they were part of its spec.
        noted = body["kind"] == "Deployment" and meta["annotations"] != before
        return self.cluster.put(wanted, spec_changed=noted or wanted["spec"] != known["spec"])

    def _annotate(self, known: Obj, action: Annotate) -> Obj:
        merged = {**(known["metadata"].get("annotations") or {}), **action.annotations}
        kept = {k: v for k, v in merged.items() if v is not None}
        return self.cluster.put({**known, "metadata": {**known["metadata"], "annotations": kept}})


def _same_controller(known: Obj, body: Obj) -> bool:
    def uid(obj: Obj) -> Any:
        return next((r["uid"] for r in obj["metadata"].get("ownerReferences") or () if r.get("controller")), None)

    return bool(uid(known) == uid(body))


class Applier:
    """The operator's door: counts its writes, dies before or after the k-th, checks every write as it happens.

    crash_at: write -> "before", "after", or "lost": the Lease expires before it and the process lives on.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        crash_at: dict[int, str],
        written: Callable[[Action | Obj], None],
        around: Callable[[int, str], None] | None = None,
    ) -> None:
        self.cluster = cluster
        self.count = 0
        self._door = cluster.door()
        self._around = around
        self._crash_at = crash_at
        self._written = written
        self._fenced = False
        self._survived: set[int] = set()
        self.lost = False

    def fence(self) -> None:
        """As the elector's: asked before each write, it tells whether the Lease is still ours."""
        next_write = self.count + 1
        if self.lost or (self._crash_at.get(next_write) == "lost" and next_write not in self._survived):
            self.lost = True
            raise ports.LostLease("another replica holds the Lease")
        self._fenced = True

    def take_over(self) -> None:
        """From now on it is the new leader who asks."""
        self._survived.add(self.count + 1)
        self.lost = False

    async def run(self, action: Action) -> ports.Answer:
        kind = target(action).kind
        assert not (isinstance(action, Apply) and kind in (MLMODEL, TRAINING_RUN)), "I10: a user's object is applied"
        return await self._write(lambda: self._door.run(action), action)

    async def status(self, root: Obj, status: Obj, *, locked: bool) -> ports.Answer:
        answer = await self._write(
            lambda: self._door.status(root, status, locked=locked), {**status, "name": root["metadata"]["name"]}
        )
        if answer.obj is not None:
            generation = root["metadata"]["generation"]
            problems = violations({**answer.obj, "metadata": {**answer.obj["metadata"], "generation": generation}})
            assert not problems, f"I5: {problems} in {status}"
        return answer

    async def _write(self, send: Callable[[], Coroutine[Any, Any, ports.Answer]], what: Action | Obj) -> ports.Answer:
        assert self._fenced, f"I9: a write without the Lease: {_describe(what)}"
        self._fenced = False
        self.count += 1
        moment = self._crash_at.get(self.count)
        if self._around:
            self._around(self.count, "before")
        if moment == "before":
            raise Crash(f"before write {self.count}")
        answer = await send()
        self.cluster.log.append(f"{self.count}: {_describe(what)} -> {answer.result} {answer.message}".rstrip())
        self._written(what)
        if self._around:
            self._around(self.count, "after")
        if moment == "after":
            raise Crash(f"after write {self.count}")
        return answer


class Recorder:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def record(self, root: Obj, note: Any) -> None:
        self.notes.append(f"{root['metadata']['name']} {note.type} {note.reason}: {note.message}")


def _describe(what: Action | Obj) -> str:
    if isinstance(what, dict):
        rollout = what.get("rollout") or {}
        ready: Obj = next((c for c in what["conditions"] if c["type"] == "Ready"), {})
        step = f" {rollout.get('phase')}/{rollout.get('step')}" if rollout else ""
        return f"status of {what['name']} {ready.get('status')}/{ready.get('reason')}{step}"
    where = target(what)
    return f"{type(what).__name__} {where.kind}/{where.name}"


def later(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)

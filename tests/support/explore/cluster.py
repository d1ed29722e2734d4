"""Objects with resourceVersion, generation, uid and preconditions; every write passes through `Cluster.write`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from steeltown.api.conditions import rfc3339, violations
from steeltown.core.plan import MLMODEL, TRAINING_RUN, Action, Annotate, Apply, Create, Delete, Obj, Target, target

START = datetime(2026, 1, 1, tzinfo=UTC)


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
    """The API server's part. Objects are never changed in place, so a copy of the world is a copy of one dict."""

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


class Applier:
    """The operator's door: counts its writes, dies before or after the k-th, checks every write as it happens."""

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
        self._around = around
        self._crash_at = crash_at
        self._written = written

    async def run(self, action: Action) -> Answer:
        return self._write(lambda: self._act(action), action)

    async def status(self, root: Obj, status: Obj, *, locked: bool) -> Answer:
        return self._write(lambda: self._status(root, status, locked), {**status, "name": root["metadata"]["name"]})

    def _write(self, effect: Callable[[], Answer], what: Action | Obj) -> Answer:
        self.count += 1
        moment = self._crash_at.get(self.count)
        if self._around:
            self._around(self.count, "before")
        if moment == "before":
            raise Crash(f"before write {self.count}")
        answer = effect()
        self.cluster.log.append(f"{self.count}: {_describe(what)} -> {answer.result}")
        self._written(what)
        if self._around:
            self._around(self.count, "after")
        if moment == "after":
            raise Crash(f"after write {self.count}")
        return answer

    def _act(self, action: Action) -> Answer:
        where = target(action)
        known = self.cluster.objects.get(where)
        match action:
            case Create(body):
                if known is not None:
                    return Answer("done", known)
                return Answer("done", self.cluster.put(body))
            case Apply(body):
                assert where.kind not in (MLMODEL, TRAINING_RUN), "I10: a user's object is never applied"
                return Answer("done", self._apply(body, known))
            case Delete():
                if known is not None and known["metadata"]["uid"] == action.uid:
                    self.cluster.remove(where)
                    self.cluster.collect_garbage()
                return Answer("done")
            case Annotate():
                if known is None or known["metadata"]["uid"] != action.uid:
                    return Answer("stale")
                return Answer("done", self._annotate(known, action))

    def _apply(self, body: Obj, known: Obj | None) -> Obj:
        if known is None:
            return self.cluster.put(body)
        meta = {**known["metadata"], "labels": body["metadata"]["labels"]}
        meta["annotations"] = body["metadata"].get("annotations", {})
        wanted = {**known, "metadata": meta, "spec": body["spec"]}
        if wanted == known:
            return known
        return self.cluster.put(wanted, spec_changed=wanted["spec"] != known["spec"])

    def _annotate(self, known: Obj, action: Annotate) -> Obj:
        merged = {**(known["metadata"].get("annotations") or {}), **action.annotations}
        kept = {k: v for k, v in merged.items() if v is not None}
        return self.cluster.put({**known, "metadata": {**known["metadata"], "annotations": kept}})

    def _status(self, root: Obj, status: Obj, locked: bool) -> Answer:
        meta = root["metadata"]
        known = self.cluster.objects.get(Target(root["kind"], meta["namespace"], meta["name"]))
        if known is None or known["metadata"]["uid"] != meta["uid"]:
            return Answer("stale")
        if locked and known["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            return Answer("conflict")
        stored = self.cluster.set_status(known, status)
        problems = violations({**stored, "metadata": {**stored["metadata"], "generation": meta["generation"]}})
        assert not problems, f"I5: {problems} in {status}"
        return Answer("done", stored)


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


def drive(coroutine: Any) -> Any:
    """Run a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the in-memory applier never waits")


def later(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)

"""The API server's part: objects with resourceVersion, generation, uid, preconditions and owners of fields.

Where the real server differs from what one would write down first, a comment says so: each was found by running
the same schedules there (`real`). Every write of the operator passes through `Applier`, which can kill it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_UP, Decimal
from functools import cache
from typing import Any, Literal

from steeltown.api.conditions import rfc3339, violations
from steeltown.core.plan import (
    MLMODEL,
    TRAINING_RUN,
    Action,
    Annotate,
    Apply,
    Create,
    Delete,
    Obj,
    Restore,
    Target,
    target,
)
from steeltown.runtime import ports

START = datetime(2026, 1, 1, tzinfo=UTC)
OURS = "steeltown.dev/"
"""Prefix of the annotations that the operator applies; all others on its children are somebody else's."""


PAST_TICKS = 12
"""So far back a watch can lag."""


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
    """In memory. Objects are never changed in place, so a copy of the world is a copy of one dict.

    now: the wall clock of the API server. skew: by how much that of the operator's node is ahead of it.
    jumped: by how much the wall clock was set; what is left of `now` without it never jumps.
    lag: kind -> by how many ticks its watch is late, for everybody who watches. past: the objects at the end of the
    last ticks. refused: "Kind" or "Kind/name" -> why no object of that kind, or of that name, may be written.
    """

    namespace = "team"

    def __init__(self) -> None:
        self.objects: dict[Target, Obj] = {}
        self.version = 0
        self.now = START
        self.skew = self.jumped = timedelta()
        self.log: list[str] = []
        self.lag: dict[str, int] = {}
        self.past: list[dict[Target, Obj]] = []
        self.refused: dict[str, str] = {}

    def copy(self) -> Cluster:
        other = Cluster()
        other.objects, other.version, other.now = dict(self.objects), self.version, self.now
        other.skew, other.jumped = self.skew, self.jumped
        other.log = list(self.log)
        other.lag, other.past, other.refused = dict(self.lag), list(self.past), dict(self.refused)
        return other

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def monotonic(self) -> datetime:
        return self.now - self.jumped

    @property
    def operator_now(self) -> datetime:
        return self.now + self.skew

    def jump(self, seconds: float) -> None:
        """Somebody sets all wall clocks."""
        self.now += timedelta(seconds=seconds)
        self.jumped += timedelta(seconds=seconds)

    def end_tick(self) -> None:
        self.now = later(self.now, 1)
        self.past = [*self.past[1 - PAST_TICKS :], dict(self.objects)]

    def as_watched(self) -> dict[Target, Obj]:
        """What has been delivered by now to whoever watches."""
        late = {kind: ticks for kind, ticks in self.lag.items() if ticks}
        if not late:
            return self.objects
        seen = {where: obj for where, obj in self.objects.items() if where.kind not in late}
        for kind, ticks in late.items():
            then = self.past[-ticks] if ticks <= len(self.past) else {}
            seen |= {where: obj for where, obj in then.items() if where.kind == kind}
        return seen

    # --- objects -----------------------------------------------------------------------------------------------------

    def of_kind(self, kind: str) -> list[Obj]:
        return [o for t, o in self.objects.items() if t.kind == kind]

    def controlled(self, kind: str, owner: Obj) -> list[Obj]:
        uid = owner["metadata"]["uid"]
        return [o for o in self.of_kind(kind) if controller_uid(o) == uid]

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
        stored = _canonical({**obj, "metadata": meta})
        self.objects[where] = stored
        return stored

    def set_status(self, obj: Obj, status: Obj) -> Obj:
        return obj if obj.get("status") == status else self.put({**obj, "status": status})

    def set_spec(self, obj: Obj, change: Callable[[Obj], Obj]) -> Obj:
        """A user's edit."""
        return self.put({**obj, "spec": change(obj["spec"])}, spec_changed=True)

    def set_metadata(self, obj: Obj, **change: Any) -> Obj:
        """A user's edit of labels, annotations or owners."""
        return self.put({**obj, "metadata": {**obj["metadata"], **change}})

    def remove(self, where: Target) -> None:
        self.objects.pop(where, None)

    def recreate(self, obj: Obj, **change: Any) -> Obj:
        """A user deletes it and creates one of the same name, before anything that it owns is collected."""
        meta = obj["metadata"]
        self.remove(Target(obj["kind"], meta["namespace"], meta["name"]))
        kept = {key: meta[key] for key in ("name", "namespace")}
        made = {key: obj[key] for key in ("apiVersion", "kind", "spec")}
        return self.put({**made, "metadata": kept, **change})

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
        if isinstance(action, Create | Apply) and (why := self._forbidden(where)):
            return Answer("refused", message=why)
        match action:
            case Create(body):
                if known is not None:
                    return Answer("done", known) if _same_controller(known, body) else _taken(where)
                return Answer("done", self.cluster.put(body))
            case Apply(body, force):
                if known is not None and not force and (not _same_controller(known, body) or _disputed(known, body)):
                    return _taken(where)
                if (wanted := body["metadata"].get("resourceVersion")) is not None:
                    if known is None or known["metadata"]["resourceVersion"] != wanted:
                        return Answer("conflict")
                    body = {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}}
                return Answer("done", self._apply(body, known))
            case Restore(body, uid):
                if known is None or known["metadata"]["uid"] != uid:
                    return Answer("stale")
                return Answer("done", self._restore(_canonical(body), known))
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

    def _forbidden(self, where: Target) -> str:
        refused = self.cluster.refused
        return refused.get(where.kind, "") or refused.get(f"{where.kind}/{where.name}", "")

    def _apply(self, body: Obj, known: Obj | None) -> Obj:
        if known is None:
            return self.cluster.put(body)
        body = _canonical(body)
        meta = {**known["metadata"], "labels": body["metadata"]["labels"]}
        if controller_uid(known) is None and "ownerReferences" in body["metadata"]:
            meta["ownerReferences"] = body["metadata"][
                "ownerReferences"
            ]  # an orphan that is applied has an owner again
        before = meta.get("annotations") or {}
        foreign = {k: v for k, v in before.items() if not k.startswith(OURS)}
        meta["annotations"] = {**foreign, **body["metadata"].get("annotations", {})}
        wanted = {**known, "metadata": meta, "spec": body["spec"]}
        if wanted == known:
            return known
        # A Deployment's annotations count for its generation, as if they were part of its spec.
        noted = body["kind"] == "Deployment" and meta["annotations"] != before
        return self.cluster.put(wanted, spec_changed=noted or wanted["spec"] != known["spec"])

    def _restore(self, body: Obj, known: Obj) -> Obj:
        template = {**known["spec"]["template"], "spec": body["spec"]["template"]["spec"]}
        return self.cluster.put({**known, "spec": {**known["spec"], "template": template}})

    def _annotate(self, known: Obj, action: Annotate) -> Obj:
        merged = {**(known["metadata"].get("annotations") or {}), **action.annotations}
        kept = {k: v for k, v in merged.items() if v is not None}
        return self.cluster.put({**known, "metadata": {**known["metadata"], "annotations": kept}})


def _taken(where: Target) -> Answer:
    told = f"{where.kind} {where.name} already exists and is not controlled by this object: delete or rename it"
    return Answer("refused", message=told)


def _disputed(known: Obj, body: Obj) -> bool:
    """A hand has set a label to something else, and so owns the field: only by force is it taken back."""
    now = known["metadata"].get("labels") or {}
    return any(now.get(key, value) != value for key, value in body["metadata"]["labels"].items())


def controller_uid(obj: Obj) -> str | None:
    return next((r["uid"] for r in obj["metadata"].get("ownerReferences") or () if r.get("controller")), None)


def _same_controller(known: Obj, body: Obj) -> bool:
    return controller_uid(known) == controller_uid(body)


def _canonical(obj: Obj) -> Obj:
    """Quantities are stored, and so answered, in one form only."""
    if obj["kind"] not in ("Deployment", "Job"):
        return obj
    template = obj["spec"]["template"]
    spec = dict(template["spec"])
    for part in ("initContainers", "containers"):
        if part in spec:
            spec[part] = [_canonical_container(each) for each in spec[part]]
    if spec == template["spec"]:
        return obj
    return {**obj, "spec": {**obj["spec"], "template": {**template, "spec": spec}}}


def _canonical_container(container: Obj) -> Obj:
    given = container.get("resources") or {}
    written = {part: {k: _quantity(str(v)) for k, v in amounts.items()} for part, amounts in given.items()}
    return container if written == given else {**container, "resources": written}


_BINARY = {unit: 1024 ** (i + 1) for i, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}
_DECIMAL = {
    unit: Decimal(10) ** (3 * (i - 3)) for i, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"))
}


@cache
def _quantity(text: str) -> str:
    """As `resource.Quantity.String` writes it: the largest unit of its family that leaves a whole number."""
    unit = next((u for u in (*_BINARY, "n", "u", "m", "k", "M", "G", "T", "P", "E") if text.endswith(u)), "")
    number = Decimal(text.removesuffix(unit)) * (_BINARY[unit] if unit in _BINARY else _DECIMAL[unit])
    units: dict[str, Any] = _DECIMAL
    if unit in _BINARY and number == int(number) and number >= 1024:
        units = {"": 1, **_BINARY}
    else:
        number = number.quantize(Decimal("1e-9"), rounding=ROUND_UP)
    best = next((u for u in reversed(units) if number % units[u] == 0), "")
    return f"{int(number / units[best])}{best}" if number else "0"


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

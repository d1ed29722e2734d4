"""The cache: what the cluster looked like when we last heard of it, indexed by the root it concerns.

Three sources feed it, in no particular order: the watch, our own writes (the answer to a write is the newest
state there is, so a reconcile need not wait to read it back) and periodic lists. resourceVersions are
comparable integers (KEP-5504), so the newest wins whatever the order, and a deletion leaves a tombstone so
that a late answer cannot bring an object back. Objects are shared, never copied, never changed.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from ..contract.evidence import Evidence
from ..core.ownership import ROOT_KINDS, roots
from ..core.plan import MLMODEL, TRAINING_RUN, Key, Obj, Observe, Refusal, Snapshot, Target

_TOMBSTONES: Final = 10_000
_TEXTS: Final = 5_000
_SHORT: Final = 80
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def version_of(obj: Obj) -> int:
    return int(obj["metadata"]["resourceVersion"])


def target_of(obj: Obj) -> Target:
    metadata = obj["metadata"]
    return Target(obj["kind"], metadata["namespace"], metadata["name"])


def _shared(value: Any, texts: dict[str, str]) -> Any:
    """The same JSON, with its keys and short strings shared between all objects of the cache.

    Each decoded event brings its own copies of "metadata", "containers", "True" and a hundred more, which together
    outweigh all else.
    """
    if isinstance(value, dict):
        return {sys.intern(key): _shared(each, texts) for key, each in value.items()}
    if isinstance(value, list):
        return [_shared(each, texts) for each in value]
    if isinstance(value, str) and len(value) <= _SHORT:
        return texts.setdefault(value, value)
    return value


def _slim(obj: Obj) -> Obj:
    """Without what no planner reads and what outweighs the rest."""
    metadata = obj["metadata"]
    annotations = metadata.get("annotations") or {}
    if "managedFields" not in metadata and _LAST_APPLIED not in annotations:
        return obj
    metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
    if _LAST_APPLIED in annotations:
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    return {**obj, "metadata": metadata}


class Store:
    """Not thread-safe: all calls from one event loop."""

    def __init__(self) -> None:
        self._objects: dict[Target, Obj] = {}
        self._members: dict[Key, dict[str, dict[str, Obj]]] = {}
        self._tombstones: OrderedDict[str, int] = OrderedDict()  # uid -> resourceVersion of its deletion
        self._counts: Counter[str] = Counter()
        self._texts: dict[str, str] = {}
        self._observed: dict[Key, tuple[Observe, ...]] = {}
        self._evidence: dict[str, Evidence] = {}

    # Writing

    def apply_event(self, type: str | None, obj: Obj) -> list[Key]:
        """Takes over a watch event (type None: from a list), and returns the roots it concerns.

        Nothing newer than what is known concerns no root: [].
        """
        target, uid, version = target_of(obj), obj["metadata"]["uid"], version_of(obj)
        known = self._objects.get(target)
        if type == "DELETED":
            return self._deleted(target, uid, version)
        if version <= self._tombstones.get(uid, -1):
            return []
        if known is not None and version <= version_of(known):
            return []
        if len(self._texts) > _TEXTS:
            self._texts.clear()  # most are names and uids; what is shared already stays so
        return self._stored(target, _shared(_slim(obj), self._texts), known)

    def write_through(self, obj: Obj) -> list[Key]:
        """The same for the answer to one of our writes."""
        return self.apply_event("MODIFIED", obj)

    def forget(self, target: Target, uid: str) -> list[Key]:
        """Drops what a write has shown to be gone, and returns the roots it concerned."""
        known = self._objects.get(target)
        if known is None or known["metadata"]["uid"] != uid:
            return []
        return self._deleted(target, uid, version_of(known))

    def prune(self, kind: str, namespace: str | None, listed: Collection[str], version: int) -> list[Key]:
        """Drops the ghosts: objects whose uid a list at `version` does not hold although it should.

        What is newer than the list was created after it and is no ghost. Returns the roots concerned.
        """
        ghosts = [
            (target, obj["metadata"]["uid"])
            for target, obj in self._objects.items()
            if target.kind == kind
            and (namespace is None or target.namespace == namespace)
            and obj["metadata"]["uid"] not in listed
            and version_of(obj) <= version
        ]
        return [key for target, uid in ghosts for key in self._deleted(target, uid, version)]

    def _stored(self, target: Target, obj: Obj, known: Obj | None) -> list[Key]:
        concerned = dict.fromkeys(roots(obj))
        if known is None:
            self._counts[target.kind] += 1
        else:
            if known["metadata"]["uid"] != obj["metadata"]["uid"]:
                self._bury(known["metadata"]["uid"], version_of(obj))
            left = [key for key in roots(known) if key not in concerned]
            self._unlink(target, left)
            concerned |= dict.fromkeys(left)
        self._objects[target] = obj
        self._link(target, obj, roots(obj))
        return [*concerned, *self._unfinished_runs(target)]

    def _deleted(self, target: Target, uid: str, version: int) -> list[Key]:
        known = self._objects.get(target)
        self._bury(uid, version)
        if known is None or known["metadata"]["uid"] != uid or version < version_of(known):
            return []
        del self._objects[target]
        self._counts[target.kind] -= 1
        concerned = roots(known)
        self._unlink(target, concerned)
        return [*concerned, *self._unfinished_runs(target)]

    def _bury(self, uid: str, version: int) -> None:
        self._tombstones[uid] = max(version, self._tombstones.get(uid, -1))
        self._tombstones.move_to_end(uid)
        if len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _link(self, target: Target, obj: Obj, keys: Iterable[Key]) -> None:
        for key in keys:
            if key.kind != target.kind:  # a root is not its own member
                self._members.setdefault(key, {}).setdefault(target.kind, {})[target.name] = obj

    def _unlink(self, target: Target, keys: Iterable[Key]) -> None:
        for key in keys:
            kinds = self._members.get(key)
            if kinds is None or target.kind not in kinds:
                continue
            kinds[target.kind].pop(target.name, None)
            if not kinds[target.kind]:
                del kinds[target.kind]
            if not kinds:
                del self._members[key]

    def _unfinished_runs(self, target: Target) -> list[Key]:
        """A model's runs read its spec while they run; finished ones are immutable."""
        if target.kind != MLMODEL:
            return []
        runs = self._members.get(Key(*target), {}).get(TRAINING_RUN, {})
        return [
            Key(TRAINING_RUN, target.namespace, name)
            for name, run in runs.items()
            if not (run.get("status") or {}).get("completionTime")
        ]

    # Reading

    def get(self, target: Target) -> Obj | None:
        return self._objects.get(target)

    def has_seen(self, target: Target, uid: str, version: int) -> bool:
        """Whether the cache is at least as new as `version` of that object, or knows that it is gone."""
        known = self._objects.get(target)
        if known is not None and version_of(known) >= version:
            return True
        return uid in self._tombstones and (known is None or known["metadata"]["uid"] != uid)

    def all_roots(self) -> Iterator[Key]:
        return (Key(*target) for target in self._objects if target.kind in ROOT_KINDS)

    def count(self, kind: str) -> int:
        return self._counts[kind]

    def snapshot(self, key: Key, refusals: tuple[Refusal, ...] = ()) -> Snapshot | None:
        """What a planner may know about a root; None when there is no such root."""
        root = self._objects.get(Target(*key))
        if root is None:
            return None
        members = {kind: dict(named) for kind, named in self._members.get(key, {}).items()}
        if key.kind == TRAINING_RUN:
            name = ((root.get("spec") or {}).get("modelRef") or {}).get("name", "")
            model = self._objects.get(Target(MLMODEL, key.namespace, name))
            if model is not None:
                members[MLMODEL] = {name: model}
        evidence = {
            pod.uid: self._evidence[pod.uid] for pod in self._observed.get(key, ()) if pod.uid in self._evidence
        }
        return Snapshot(root=root, members=members, evidence=evidence, refusals=refusals)

    # Evidence

    def observe(self, key: Key, pods: tuple[Observe, ...]) -> None:
        """Which pods the standing plan of a root wants to hear from; evidence of others is dropped."""
        before = self._observed.pop(key, ())
        if pods:
            self._observed[key] = pods
        kept = {pod.uid for pod in pods}
        for pod in before:
            if pod.uid not in kept:
                self._evidence.pop(pod.uid, None)

    def observed(self) -> list[tuple[Key, Observe]]:
        return [(key, pod) for key, pods in self._observed.items() for pod in pods]

    def put_evidence(self, uid: str, evidence: Evidence) -> bool:
        """Whether it says anything new."""
        if self._evidence.get(uid) == evidence:
            return False
        self._evidence[uid] = evidence
        return True

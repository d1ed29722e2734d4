"""The cache: what the cluster looked like when we last heard of it, indexed by the root it concerns.

Three sources feed it, in no particular order: the watch, our own writes (the answer to a write is the newest
state there is, so a reconcile need not wait to read it back) and periodic lists. resourceVersions are
comparable integers (KEP-5504), so the newest wins whatever the order, and a deletion leaves a tombstone so
that a late answer cannot bring an object back. Objects are shared, never copied, never changed.

A snapshot takes no time however many members a root has: it holds read-only views of the store's own
dictionaries. A dictionary that has been lent is never changed again: the next event about that root and kind
goes into a copy of it, and all other events copy nothing. So a snapshot stays what it was, also while its
reconcile waits for the API server.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from ..contract.evidence import Evidence
from ..core.ownership import ROOT_KINDS, roots
from ..core.plan import MLMODEL, TRAINING_RUN, Explain, Key, Obj, Observe, Refusal, Snapshot, Target

_TOMBSTONES: Final = 10_000
_TEXTS: Final = 5_000
_PARTS: Final = 10_000
_SHORT: Final = 80
_LINKS: Final = ("ReplicaSet",)
"""Kinds of which only the metadata counts, as links in a chain of controllers; the rest is not kept."""
_LINK_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "labels",
    "ownerReferences",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
)
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def version_of(obj: Obj) -> int:
    return int(obj["metadata"]["resourceVersion"])


def target_of(obj: Obj) -> Target:
    metadata = obj["metadata"]
    return Target(obj["kind"], metadata["namespace"], metadata["name"])


class _Sharing:
    """Equal texts and equal parts of objects, kept once for the whole cache.

    Each decoded event brings its own copies of "metadata", "True", a probe, an owner reference and a hundred more,
    which together outweigh all else. Parts are equal when they hold the very same parts, so 1 is not taken for True;
    that an identity stays what it is, is sure, since a part in the table keeps alive what it holds.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._parts: dict[tuple[Any, ...], Any] = {}

    def take(self, obj: Obj, known: Obj | None) -> Obj:
        """The same JSON. What has been shared stays so when the tables are emptied: most of them is names and uids.

        known: the object as it was until now, whose spec, say, has been gone through already.
        """
        if len(self._texts) > _TEXTS:
            self._texts.clear()
        if len(self._parts) > _PARTS:
            self._parts.clear()
        before = known or {}
        return {
            sys.intern(key): before[key] if key in before and before[key] == value else self._shared(value)
            for key, value in obj.items()
        }

    def _shared(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._texts.setdefault(value, value) if len(value) <= _SHORT else value
        if isinstance(value, dict):
            value = {sys.intern(key): self._shared(each) for key, each in value.items()}
            return self._parts.setdefault((dict, *value, *map(id, value.values())), value)
        if isinstance(value, list):
            value = [self._shared(each) for each in value]
            return self._parts.setdefault((list, *map(id, value)), value)
        return value


def _slim(obj: Obj) -> Obj:
    """Without what no planner reads and what outweighs the rest."""
    metadata = obj["metadata"]
    if obj["kind"] in _LINKS:
        kept = {key: metadata[key] for key in _LINK_METADATA if key in metadata}
        return {**{key: obj[key] for key in ("apiVersion", "kind") if key in obj}, "metadata": kept}
    annotations = metadata.get("annotations") or {}
    if "managedFields" not in metadata and _LAST_APPLIED not in annotations:
        return obj
    metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
    if _LAST_APPLIED in annotations:
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    return {**obj, "metadata": metadata}


def _same_link(known: Obj, obj: Obj) -> bool:
    """Whether a link of a chain still is what it was: its own status, which counts Pods, is not kept."""
    return all(
        known["metadata"].get(key) == obj["metadata"].get(key) for key in _LINK_METADATA if key != "resourceVersion"
    )


_Named = dict[str, Obj] | MappingProxyType[str, Obj]
"""Members of one kind by name: a dictionary of the store's own, or the view under which it has been lent."""


class Store:
    """Not thread-safe: all calls from one event loop. on_stored: called for each object that is taken over."""

    def __init__(self, *, on_stored: Callable[[], None] = lambda: None) -> None:
        self._on_stored = on_stored
        self._objects: dict[str, dict[str, dict[str, Obj]]] = {}  # kind -> namespace -> name
        self._members: dict[Key, dict[str, _Named]] = {}
        self._unfinished: dict[Key, dict[Key, None]] = {}  # model -> its runs
        self._tombstones: OrderedDict[str, int] = OrderedDict()  # uid -> resourceVersion of its deletion
        self._counts: Counter[str] = Counter()
        self._sharing = _Sharing()
        self._observed: dict[Key, tuple[Observe, ...]] = {}
        self._evidence: dict[str, Evidence] = {}
        self._explained: dict[Key, tuple[Explain, ...]] = {}
        self._causes: dict[str, str] = {}

    # Writing

    def apply_event(self, type: str | None, obj: Obj) -> list[Key]:
        """Takes over a watch event (type None: from a list), and returns the roots it concerns.

        Nothing newer than what is known concerns no root: []; nor does what changed nothing that is kept.
        """
        target, uid, version = target_of(obj), obj["metadata"]["uid"], version_of(obj)
        known = self.get(target)
        if type == "DELETED":
            return self._deleted(target, uid, version)
        if version <= self._tombstones.get(uid, -1):
            return []
        if known is not None and version <= version_of(known):
            return []
        concerned = self._stored(target, self._sharing.take(_slim(obj), known), known)
        if target.kind in _LINKS and known is not None and _same_link(known, obj):
            return []
        return concerned

    def write_through(self, obj: Obj) -> list[Key]:
        """The same for the answer to one of our writes."""
        return self.apply_event("MODIFIED", obj)

    def forget(self, target: Target, uid: str) -> list[Key]:
        """Drops what a write has shown to be gone, and returns the roots it concerned."""
        known = self.get(target)
        if known is None or known["metadata"]["uid"] != uid:
            return []
        return self._deleted(target, uid, version_of(known))

    def prune(
        self, kind: str, namespace: str | None, listed: Collection[str], version: int
    ) -> Iterator[list[Key] | None]:
        """Drops the ghosts: objects whose uid a list at `version` does not hold although it should.

        What is newer than the list was created after it and is no ghost. Looks at one object a step, whatever
        happens between two of them: None = it stays, else it was a ghost that concerned these roots.
        """
        places = self._objects.get(kind, {})
        for place in [*places] if namespace is None else [namespace]:
            for name in [*places.get(place, ())]:
                target = Target(kind, place, name)
                obj = self.get(target)
                if obj is None or obj["metadata"]["uid"] in listed or version_of(obj) > version:
                    yield None
                else:
                    yield self._deleted(target, obj["metadata"]["uid"], version)

    def _stored(self, target: Target, obj: Obj, known: Obj | None) -> list[Key]:
        keys = roots(obj)
        concerned = dict.fromkeys(keys)
        if known is None:
            self._counts[target.kind] += 1
        else:
            if known["metadata"]["uid"] != obj["metadata"]["uid"]:
                self._bury(known["metadata"]["uid"], version_of(obj))
            left = [key for key in roots(known) if key not in concerned]
            self._unlink(target, left)
            concerned |= dict.fromkeys(left)
        self._objects.setdefault(target.kind, {}).setdefault(target.namespace, {})[target.name] = obj
        self._link(target, obj, keys)
        self._on_stored()
        return [*concerned, *self._unfinished_runs(target)]

    def _deleted(self, target: Target, uid: str, version: int) -> list[Key]:
        known = self.get(target)
        self._bury(uid, version)
        if known is None or known["metadata"]["uid"] != uid or version < version_of(known):
            return []
        self._drop(target)
        self._counts[target.kind] -= 1
        concerned = roots(known)
        self._unlink(target, concerned)
        return [*concerned, *self._unfinished_runs(target)]

    def _drop(self, target: Target) -> None:
        places = self._objects[target.kind]
        del places[target.namespace][target.name]
        if not places[target.namespace]:
            del places[target.namespace]

    def _bury(self, uid: str, version: int) -> None:
        self._tombstones[uid] = max(version, self._tombstones.get(uid, -1))
        self._tombstones.move_to_end(uid)
        if len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _link(self, target: Target, obj: Obj, keys: Iterable[Key]) -> None:
        for key in keys:
            if key.kind != target.kind:  # a root is not its own member
                self._own(self._members.setdefault(key, {}), target.kind)[target.name] = obj
                if target.kind == TRAINING_RUN:
                    self._note_end(key, target, ended=bool((obj.get("status") or {}).get("completionTime")))

    def _unlink(self, target: Target, keys: Iterable[Key]) -> None:
        for key in keys:
            kinds = self._members.get(key)
            if kinds is None or target.kind not in kinds:
                continue
            named = self._own(kinds, target.kind)
            named.pop(target.name, None)
            if not named:
                del kinds[target.kind]
            if not kinds:
                del self._members[key]
            if target.kind == TRAINING_RUN:
                self._note_end(key, target, ended=True)

    @staticmethod
    def _own(kinds: dict[str, _Named], kind: str) -> dict[str, Obj]:
        """The members of a kind, to be changed: a copy if they have been lent to a snapshot."""
        named = kinds.get(kind)
        if not isinstance(named, dict):
            named = kinds[kind] = {} if named is None else named.copy()
        return named

    def _note_end(self, model: Key, run: Target, *, ended: bool) -> None:
        unfinished = self._unfinished.setdefault(model, {})
        if ended:
            unfinished.pop(Key(*run), None)
        else:
            unfinished[Key(*run)] = None
        if not unfinished:
            del self._unfinished[model]

    def _unfinished_runs(self, target: Target) -> list[Key]:
        """A model's runs read its spec while they run; finished ones are immutable."""
        return [*self._unfinished.get(Key(*target), ())] if target.kind == MLMODEL else []

    # Reading

    def get(self, target: Target) -> Obj | None:
        return self._objects.get(target.kind, {}).get(target.namespace, {}).get(target.name)

    def has_seen(self, target: Target, uid: str, version: int) -> bool:
        """Whether the cache is at least as new as `version` of that object, or knows that it is gone."""
        known = self.get(target)
        if known is not None and version_of(known) >= version:
            return True
        return uid in self._tombstones and (known is None or known["metadata"]["uid"] != uid)

    def all_roots(self) -> Iterator[Key]:
        """Whatever happens between two steps."""
        for kind in ROOT_KINDS:
            places = self._objects.get(kind, {})
            for place in [*places]:
                for name in [*places.get(place, ())]:
                    yield Key(kind, place, name)

    def count(self, kind: str) -> int:
        return self._counts[kind]

    def snapshot(self, key: Key, refusals: tuple[Refusal, ...] = ()) -> Snapshot | None:
        """What a planner may know about a root; None when there is no such root."""
        root = self.get(Target(*key))
        if root is None:
            return None
        members = self._lend(key)
        if key.kind == TRAINING_RUN:
            name = ((root.get("spec") or {}).get("modelRef") or {}).get("name", "")
            model = self.get(Target(MLMODEL, key.namespace, name))
            if model is not None:
                members[MLMODEL] = {name: model}
                members["Service"] = self._lend(Key(MLMODEL, key.namespace, name)).get("Service", {})
        evidence = {
            pod.uid: self._evidence[pod.uid] for pod in self._observed.get(key, ()) if pod.uid in self._evidence
        }
        causes = {what.uid: self._causes[what.uid] for what in self._explained.get(key, ()) if what.uid in self._causes}
        return Snapshot(root=root, members=members, evidence=evidence, causes=causes, refusals=refusals)

    def _lend(self, key: Key) -> dict[str, Mapping[str, Obj]]:
        kinds = self._members.get(key, {})
        for kind, named in kinds.items():
            if isinstance(named, dict):
                kinds[kind] = MappingProxyType(named)
        return {**kinds}

    # Causes

    def explain(self, key: Key, what: tuple[Explain, ...]) -> None:
        """Which objects the standing plan of a root wants explained; what is known of others is dropped."""
        before = self._explained.pop(key, ())
        if what:
            self._explained[key] = what
        kept = {each.uid for each in what}
        for each in before:
            if each.uid not in kept:
                self._causes.pop(each.uid, None)

    def explained(self) -> list[tuple[Key, Explain]]:
        return [(key, each) for key, wanted in self._explained.items() for each in wanted]

    def put_cause(self, uid: str, message: str) -> bool:
        """Whether it says anything new."""
        if self._causes.get(uid, "") == message:
            return False
        self._causes[uid] = message
        return True

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

    def drop_evidence(self, uid: str) -> bool:
        """Its Pod says nothing any more, so what it said is no evidence of now. Whether there was any."""
        return self._evidence.pop(uid, None) is not None

    def put_evidence(self, uid: str, evidence: Evidence) -> bool:
        """Whether it says anything new."""
        if self._evidence.get(uid) == evidence:
            return False
        self._evidence[uid] = evidence
        return True

"""Whether an object in the cluster already is what is intended, decided without a request.

Each intent carries a hash of itself in an annotation: a field that an intent no longer holds changes the
hash and so is removed by the next server-side apply. Fields that somebody else edited show because the
intent is no longer contained in the object. Together they find every difference that an apply would mend,
and nothing else, so that the steady state writes nothing (I8). What somebody else has added, an apply leaves: beside
a Service it is their affair, but what the Pods of a version run is put back (`Restore`).
"""

from __future__ import annotations

from typing import Any

from ..naming import short_hash
from ..plan import Apply, Obj, Restore
from ..program import program
from .pods import INTENT_ANNOTATION

_WHOLE = "selector"
"""A map that is owned as one: a key more is another selector, and the server adds none."""
_NAMED: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("port", "containerPort", "protocol"),
    "ownerReferences": ("uid",),
}
"""Lists of which each manager owns its own elements (`x-kubernetes-list-map-keys`), and what tells these apart."""


def with_hash(intent: Obj) -> Obj:
    """The intent, with its hash as an annotation."""
    annotations = {**intent["metadata"].get("annotations", {}), INTENT_ANNOTATION: short_hash(intent)}
    return {**intent, "metadata": {**intent["metadata"], "annotations": annotations}}


def apply_if_changed(intent: Obj, actual: Obj | None) -> tuple[Apply | Restore, ...]:
    """The one write that is needed, or none. What is not known to exist, or another controls, is never taken over."""
    wanted = with_hash(intent)
    ours = actual is not None and _controller(actual) in (None, _controller(intent))
    if actual is None or not contains(actual, wanted):
        return (Apply(wanted, force=ours),)
    if ours and intent["kind"] == "Deployment" and _runs_more(actual, intent):
        return (Restore(intent, actual["metadata"]["uid"]),)
    return ()


def _runs_more(actual: Obj, intent: Obj) -> bool:
    return program(actual["spec"]["template"]["spec"]) != program(intent["spec"]["template"]["spec"])


def _controller(obj: Obj) -> str | None:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((o.get("uid") for o in owners if o.get("controller")), None)


def contains(actual: Any, intent: Any) -> bool:
    """Every field of `intent` stands in `actual`; the API server may have added defaults beside them.

    Lists must match element by element, but for those in which others may have elements of their own.
    """
    if isinstance(intent, dict):
        if not isinstance(actual, dict):
            return False
        for key, value in intent.items():  # loops, not generators: this runs for every child in every reconcile
            if key in actual:
                given = actual[key]
                if given is not value and not contains(given, value) and not _holds_each(given, value, key):
                    return False
                if key == _WHOLE and len(actual[key]) != len(value):
                    return False
            elif value not in (None, "", [], {}):
                return False
        return True
    if isinstance(intent, list):
        if not isinstance(actual, list) or len(actual) != len(intent):
            return False
        return all(map(contains, actual, intent))
    return bool(actual == intent)


def _holds_each(actual: Any, intent: Any, key: str) -> bool:
    """The value of `key` is a list in which every element of the intent stands, whatever else does."""
    keys = _NAMED.get(key)
    if keys is None or not isinstance(actual, list):
        return False
    named = {_name(element, keys): element for element in actual}
    return all(contains(named.get(_name(element, keys)), element) for element in intent)


def _name(element: Obj, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(element.get(key, "TCP" if key == "protocol" else None) for key in keys)

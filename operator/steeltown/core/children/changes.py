"""Whether an object in the cluster already is what is intended, decided without a request.

Each intent carries a hash of itself in an annotation: a field that an intent no longer holds changes the
hash and so is removed by the next server-side apply. Fields that somebody else edited show because the
intent is no longer contained in the object. Together they find every difference that an apply would mend,
and nothing else, so that the steady state writes nothing (I8).
"""

from __future__ import annotations

from typing import Any

from ..naming import short_hash
from ..plan import Apply, Obj
from .pods import INTENT_ANNOTATION

_WHOLE = "selector"
"""A map that is owned as one: a key more is another selector, and the server adds none."""


def with_hash(intent: Obj) -> Obj:
    """The intent, with its hash as an annotation."""
    annotations = {**intent["metadata"].get("annotations", {}), INTENT_ANNOTATION: short_hash(intent)}
    return {**intent, "metadata": {**intent["metadata"], "annotations": annotations}}


def apply_if_changed(intent: Obj, actual: Obj | None) -> tuple[Apply, ...]:
    """The one apply that is needed, or none. What is not known to exist, or another controls, is never taken over."""
    wanted = with_hash(intent)
    if actual is not None and contains(actual, wanted):
        return ()
    return (Apply(wanted, force=actual is not None and _controller(actual) in (None, _controller(intent))),)


def _controller(obj: Obj) -> str | None:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((o.get("uid") for o in owners if o.get("controller")), None)


def contains(actual: Any, intent: Any) -> bool:
    """Every field of `intent` stands in `actual`; the API server may have added defaults beside them.

    Lists of objects (containers, ports, volumes) must match element by element: the server adds fields to
    elements, never elements.
    """
    if isinstance(intent, dict):
        if not isinstance(actual, dict):
            return False
        for key, value in intent.items():  # loops, not generators: this runs for every child in every reconcile
            if key in actual:
                if actual[key] is not value and not contains(actual[key], value):
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

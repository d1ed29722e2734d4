"""How the operator writes down what must outlive a status: the one place of the explorer that knows the form.

Invariants are about what is recorded (who is live by evidence, how a rollout ended), so they have to read it as it
stands on the objects, whatever the status says about it. What a promotion is concluded from must be sealed: a text
that a hand has written or bent says nothing, and one that the operator wrote needs no second opinion.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from steeltown.core import seal
from steeltown.core.plan import Obj

from .cluster import OURS

KEY = b"of the exploration"
"""That the explored operator seals with."""
RECORD = "steeltown.dev/record"
OUTCOME = "steeltown.dev/outcome"


def notes(obj: Obj) -> dict[str, str]:
    return {k: v for k, v in (obj["metadata"].get("annotations") or {}).items() if k.startswith(OURS)}


def record(service: Obj) -> dict[str, Any]:
    """Who is live and why, without what names moments and without the seal."""
    found = _parsed((service["metadata"].get("annotations") or {}).get(RECORD, ""))
    return {k: v for k, v in found.items() if k not in ("created", "seal")}


def promoted_digest(model: Obj, service: Obj | None) -> str:
    """Of the version that is live by evidence, "" if none is, or if it was not the operator who wrote that."""
    meta = model["metadata"]
    text = ((service or {"metadata": {}})["metadata"].get("annotations") or {}).get(RECORD)
    found = seal.opened(KEY, ("live", meta["namespace"], meta["name"]), text) or {}
    return str(found["live"]["digest"]) if found.get("promoted") else ""


def live_run(service: Obj | None) -> str:
    found = record(service) if service else {}
    return str(found["live"]["run"]) if found else ""


def outcome(run: Obj) -> tuple[str, str]:
    """(Promoted or RolledBack, reason) of a TrainingRun's version; two empty texts while nothing stands there."""
    found = _parsed((run["metadata"].get("annotations") or {}).get(OUTCOME, ""))
    return str(found.get("result", "")), str(found.get("reason", ""))


@cache
def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

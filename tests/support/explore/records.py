"""How the operator writes down what must outlive a status: the one place of the explorer that knows the form.

Invariants are about what is recorded (who is live by evidence, how a rollout ended), so they have to read it as it
stands on the objects, whatever the status says about it.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from steeltown.core.plan import Obj

from .cluster import OURS

LIVE = "steeltown.dev/live"
PROMOTED = "steeltown.dev/promoted"
OUTCOME = "steeltown.dev/outcome"
_MOMENTS = ("steeltown.dev/intent", "steeltown.dev/live-created")


def notes(obj: Obj) -> dict[str, str]:
    return {k: v for k, v in (obj["metadata"].get("annotations") or {}).items() if k.startswith(OURS)}


def record(service: Obj) -> dict[str, str]:
    """Who is live and why, without what names moments."""
    annotations = service["metadata"].get("annotations") or {}
    return {k: v for k, v in annotations.items() if k not in _MOMENTS}


def promoted_digest(service: Obj | None) -> str:
    """Of the version that is live by evidence, "" if none is."""
    return record(service).get(PROMOTED, "") if service else ""


def live_run(service: Obj | None) -> str:
    found = _parsed(record(service).get(LIVE, "")) if service else {}
    return str(found.get("run", ""))


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

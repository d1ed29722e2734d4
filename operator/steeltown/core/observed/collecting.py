"""The Job that collects: which runs it takes out of the store, and how far it is.

From the moment it exists its runs are no versions any more, however it ends: their objects may be gone. The seal of the
Job covers the list, so nobody else can make a run disappear by it (I12).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from .. import record
from ..plan import Obj
from ..policy import Policy
from .jobs import JobView

COLLECTS_ANNOTATION: Final = "steeltown.dev/collects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """A run on its way out. because: the field and the limit that it is beyond."""

    run: str
    uid: str
    digest: str
    reference: str
    because: str


@dataclass(frozen=True, kw_only=True)
class Collecting:
    """attempt: from 0; each has a Job of its own."""

    view: JobView
    going: tuple[Going, ...]
    attempt: int

    @property
    def uids(self) -> frozenset[str]:
        return frozenset(g.uid for g in self.going)


def annotation(going: tuple[Going, ...], attempt: int) -> str:
    return json.dumps({"attempt": attempt, "runs": [asdict(g) for g in going]}, sort_keys=True)


def collecting(
    root: Obj, jobs: Mapping[str, Obj], pods: Iterable[Obj], policy: Policy, *, causes: Mapping[str, str]
) -> Collecting | None:
    """The newest attempt that the operator has made. causes: see `Snapshot`."""
    found = [(job, text) for job in jobs.values() if (text := _noted(job)) and record.made_here(job, root, policy)]
    read = [_read(JobView.of(job, pods, causes), text) for job, text in found]
    return max((c for c in read if c), key=lambda c: (c.attempt, c.view.job["metadata"]["name"]), default=None)


def _noted(job: Obj) -> str:
    given = (job["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    return str(given.get(COLLECTS_ANNOTATION, ""))


def _read(view: JobView, text: str) -> Collecting | None:
    try:
        raw: dict[str, Any] = json.loads(text)
        return Collecting(view=view, going=tuple(Going(**g) for g in raw["runs"]), attempt=int(raw["attempt"]))
    except (ValueError, KeyError, TypeError):
        return None

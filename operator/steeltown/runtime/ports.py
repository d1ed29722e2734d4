"""What the runtime needs from outside: a clock, and doors to the API server and to pods.

Protocols, not base classes: `kube` fulfils them without importing this package, and a test fulfils them with
a dictionary. Failures that the runtime tells apart are values (`Answer`); any exception of a door means "that
attempt failed".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from ..contract.evidence import Evidence
from ..core.plan import Action, EventNote, Key, Obj, Plan, Snapshot

Now = Callable[[], datetime]
"""Wall clock in UTC: for timestamps that are persisted and for decisions that span restarts."""

Monotonic = Callable[[], float]
"""Seconds that never jump: for durations within this process."""

Planner = Callable[[Snapshot, datetime, Any], Plan]
"""A pure function of a snapshot, the time and the policy."""

Planners = Mapping[str, Planner]
"""By kind of root."""

Wake = Callable[[Key], None]
"""Asks for a reconcile of a root."""

Job = Callable[[], Awaitable[None]]

RunAll = Callable[[Sequence[Job]], Awaitable[None]]
"""Runs jobs that are independent of each other, in whatever order and however many at the same time."""


class Answer(Protocol):
    """What came of one write; see `kube.apply.Answer` for the meaning of each result."""

    @property
    def result(self) -> Literal["done", "stale", "conflict", "refused", "transient"]: ...
    @property
    def obj(self) -> Obj | None: ...
    @property
    def message(self) -> str: ...
    @property
    def retry_after(self) -> float | None: ...


class Applier(Protocol):
    """Carries out one write and says what came of it. Raises nothing that a retry would mend."""

    async def run(self, action: Action) -> Answer: ...
    async def status(self, root: Obj, status: Obj, *, locked: bool) -> Answer: ...


class Lister(Protocol):
    def pages(self, kind: str, namespace: str | None) -> AsyncIterator[tuple[list[Obj], int]]:
        """(objects with apiVersion and kind, resourceVersion of the whole list), page by page."""
        ...


class EvidenceReader(Protocol):
    async def read(self, url: str, namespace: str) -> Evidence | None: ...


class CauseReader(Protocol):
    async def latest_warning(self, namespace: str, uid: str) -> str:
        """What the newest Warning about the object says, "" if there is none."""
        ...


class EventWriter(Protocol):
    """False: not written, because it is there already (create) or no longer there (count)."""

    async def create(self, event: Obj) -> bool: ...
    async def count(self, namespace: str, name: str, series: Obj) -> bool: ...


class LeaseDoor(Protocol):
    """None: the race was lost, or (read) there is no Lease yet."""

    async def read(self) -> Obj | None: ...
    async def create(self, spec: Obj) -> Obj | None: ...
    async def replace(self, lease: Obj, spec: Obj) -> Obj | None: ...


class Recorder(Protocol):
    """Takes notes about a root; whether an Event comes of it is not the reconcile's concern."""

    def record(self, root: Obj, note: EventNote) -> None: ...


class Fence(Protocol):
    def __call__(self) -> None:
        """Returns while a write begun now ends within our lease; else raises `LostLease`."""


class LostLease(Exception):
    """This process may no longer write: another one may already act."""

"""A world small enough to read: objects as the API server would hand them out, a clock, recording doors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from steeltown.core.plan import Action, EventNote, Obj

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


class Objects:
    """Makes objects; each gets the next resourceVersion unless told otherwise."""

    def __init__(self) -> None:
        self._versions = itertools.count(1)

    def make(
        self,
        kind: str,
        name: str,
        *,
        uid: str = "",
        version: int | None = None,
        labels: dict[str, str] | None = None,
        **fields: Any,
    ) -> Obj:
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": uid or f"uid-{kind}-{name}",
                "generation": 1,
                "resourceVersion": str(version if version is not None else next(self._versions)),
                "labels": labels or {},
            },
            **fields,
        }

    def model(self, name: str = "m", **fields: Any) -> Obj:
        return self.make("MLModel", name, **fields)

    def run(self, name: str = "r", *, model: str = "m", **fields: Any) -> Obj:
        return self.make("TrainingRun", name, spec={"modelRef": {"name": model}}, **fields)

    def child(self, kind: str, name: str, *, model: str = "m", **fields: Any) -> Obj:
        return self.make(kind, name, labels={"steeltown.dev/model": model}, **fields)

    def changed(self, obj: Obj, **fields: Any) -> Obj:
        metadata = {**obj["metadata"], "resourceVersion": str(next(self._versions))}
        return {**obj, "metadata": metadata, **fields}


@dataclass(frozen=True, kw_only=True)
class Answer:
    result: Literal["done", "stale", "conflict", "refused", "transient"]
    obj: Obj | None = None
    message: str = ""
    retry_after: float | None = None


@dataclass
class Writes:
    """An applier that notes what it was asked, and answers what the test says."""

    answer: Callable[[Action | Obj], Answer] = lambda what: Answer(result="done")
    seen: list[Action | Obj] = field(default_factory=list)
    roots: list[Obj] = field(default_factory=list)

    async def run(self, action: Action) -> Answer:
        self.seen.append(action)
        return self.answer(action)

    async def status(self, root: Obj, status: Obj, *, locked: bool) -> Answer:
        self.roots.append(root)
        self.seen.append(status)
        return self.answer(status)


@dataclass
class Notes:
    seen: list[EventNote] = field(default_factory=list)

    def record(self, root: Obj, note: EventNote) -> None:
        self.seen.append(note)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def writes() -> Writes:
    return Writes()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def notes() -> Notes:
    return Notes()

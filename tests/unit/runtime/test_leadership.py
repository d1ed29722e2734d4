"""Leading begins with a cache as fresh as the Lease, however far the watches of a standby lag, in virtual time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from steeltown.core.plan import Obj, Target
from steeltown.runtime.leadership import lead
from steeltown.runtime.lease import Elector
from steeltown.runtime.resync import NotCaughtUp, Resync
from steeltown.runtime.store import Store

pytestmark = pytest.mark.looptime


class Door:
    """A Lease that somebody else holds, who died."""

    taken_at = 0.0

    def __init__(self) -> None:
        spec = {"holderIdentity": "old", "leaseDurationSeconds": 15, "leaseTransitions": 0}
        self.lease: Obj = {"metadata": {"resourceVersion": "1"}, "spec": spec}

    async def read(self) -> Obj:
        return self.lease

    async def create(self, spec: Obj) -> None:
        raise AssertionError("there is one")

    async def replace(self, lease: Obj, spec: Obj) -> Obj:
        if self.holder != spec["holderIdentity"]:
            self.taken_at = asyncio.get_running_loop().time()
        self.lease = {"metadata": {"resourceVersion": "2"}, "spec": spec}
        return self.lease

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"])


@dataclass
class Server:
    """What the API server holds; a list takes its time, and may fail."""

    objects: dict[str, Obj] = field(default_factory=dict)
    version: int = 100
    seconds: float = 2.0
    failing: set[str] = field(default_factory=set)
    lists: list[tuple[float, str]] = field(default_factory=list)

    async def pages(self, kind: str, namespace: str | None) -> AsyncIterator[tuple[list[Obj], int]]:
        self.lists.append((asyncio.get_running_loop().time(), kind))
        await asyncio.sleep(self.seconds)
        if kind in self.failing:
            raise ConnectionError("not now")
        yield [obj for obj in self.objects.values() if obj["kind"] == kind], self.version


class Standby:
    """A replica whose watches bring nothing any more."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.server, self.door, self.store = Server(), Door(), Store()
        self.resync = Resync(
            lister=self.server,
            store=self.store,
            kinds=("MLModel", "Service", "Job"),
            namespaces=(None,),
            wake=lambda key: None,
        )
        self.elector = Elector(
            door=self.door, identity="new", clock=loop.time, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)
        )
        self.working_since: float | None = None
        self.seen: dict[str, Obj | None] = {}

    async def work(self) -> None:
        self.working_since = asyncio.get_running_loop().time()
        self.seen = {kind: self.store.get(Target(kind, "team", "m")) for kind in ("Service", "Job")}
        await asyncio.Event().wait()

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[asyncio.Task[None]]:
        parts = (self.work,)
        task = asyncio.create_task(
            self.elector.run(functools.partial(lead, catch_up=self.resync.catch_up, parts=parts))
        )
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def job(objects: Any, **fields: Any) -> Obj:
    return dict(objects.child("Job", "m", **fields))


def service(objects: Any, live: str, **fields: Any) -> Obj:
    return dict(objects.child("Service", "m", spec={"selector": {"version": live}}, **fields))


@pytest.mark.parametrize(
    ("cached", "held", "seen"),
    [
        pytest.param(
            lambda objects: [], lambda objects: [job(objects, version=50)], {"Job": "50"}, id="a Job that was made"
        ),
        pytest.param(
            lambda objects: [job(objects, version=5)], lambda objects: [], {"Job": None}, id="a Job that was deleted"
        ),
        pytest.param(
            lambda objects: [service(objects, "v1", version=5)],
            lambda objects: [service(objects, "v2", version=60)],
            {"Service": "60"},
            id="a Service that was switched",
        ),
    ],
)
async def test_standby_whose_watches_lag_sees_what_the_old_leader_did_before_it_decides(
    objects: Any, cached: Callable[[Any], list[Obj]], held: Callable[[Any], list[Obj]], seen: dict[str, str | None]
) -> None:
    standby = Standby()
    for obj in cached(objects):
        standby.store.apply_event(None, obj)
    async with standby.standing():
        await asyncio.sleep(10.0)
        assert standby.working_since is None
        # The old leader's last act, at the end of its Lease.
        standby.server.objects = {obj["metadata"]["uid"]: obj for obj in held(objects)}
        await asyncio.sleep(20.0)
    found = {kind: obj and obj["metadata"]["resourceVersion"] for kind, obj in standby.seen.items()}
    assert {kind: found[kind] for kind in seen} == seen


async def test_no_part_begins_before_lists_that_began_after_the_lease_was_taken_have_ended(objects: Any) -> None:
    standby = Standby()
    await standby.resync.fill()
    standby.server.lists.clear()
    async with standby.standing():
        await asyncio.sleep(60.0)
        assert standby.working_since is not None
        assert {kind for _, kind in standby.server.lists} == {"MLModel", "Service", "Job"}
        assert min(moment for moment, _ in standby.server.lists) >= standby.door.taken_at
        assert standby.working_since >= max(moment for moment, _ in standby.server.lists) + standby.server.seconds


async def test_kind_that_cannot_be_listed_hands_the_lease_on_and_never_lets_a_part_begin() -> None:
    standby = Standby()
    standby.server.failing = {"Job"}
    async with standby.standing() as task:
        await asyncio.sleep(30.0)
        assert standby.door.holder == "new"
        assert standby.elector.leading, "the Lease is renewed while it catches up"
        with pytest.raises(NotCaughtUp, match="Job"):
            await asyncio.wait_for(task, 300.0)
    assert standby.working_since is None
    assert standby.door.holder == ""


async def test_lease_that_is_lost_while_catching_up_lets_no_part_begin() -> None:
    standby = Standby()
    standby.server.failing = {"Job"}
    async with standby.standing():
        await asyncio.sleep(30.0)
        spec = {**standby.door.lease["spec"], "holderIdentity": "third"}
        standby.door.lease = {"metadata": {"resourceVersion": "9"}, "spec": spec}
        standby.door.replace = lambda lease, spec: _lost()  # type: ignore[method-assign,assignment,return-value]
        await asyncio.sleep(10.0)
        standby.server.failing = set()
        await asyncio.sleep(60.0)
    assert standby.working_since is None


async def _lost() -> None:
    return None

"""Leadership in virtual time: takeover, expiry, and no write by a leader that may have lost the Lease (I9)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from steeltown.runtime.lease import Elector, Timing
from steeltown.runtime.ports import LostLease

pytestmark = pytest.mark.looptime
START = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """One Lease with optimistic locking, behind a network that can fail or hang per client."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.writes = 0

    def write(self, spec: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.writes += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}
        return self.lease


class Door:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.broken: str = ""
        self.requests = 0

    async def _pass(self) -> None:
        self.requests += 1
        if self.broken == "hangs":
            await asyncio.sleep(3600)
        if self.broken == "fails":
            raise ConnectionError("no route to host")

    async def read(self) -> dict[str, Any] | None:
        await self._pass()
        return self.server.lease

    async def create(self, spec: dict[str, Any]) -> dict[str, Any] | None:
        await self._pass()
        return None if self.server.lease else self.server.write(spec)

    async def replace(self, lease: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any] | None:
        await self._pass()
        return self.server.write(spec) if lease is self.server.lease else None


class Candidate:
    """skew: how far its wall clock is off."""

    def __init__(self, server: Server, name: str, *, skew: float = 0.0, timing: Timing | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.door = Door(server)
        self.name = name
        self.at_work = False
        self.wrote_at: list[float] = []
        self.changes: list[bool] = []
        self.elector = Elector(
            door=self.door,
            identity=name,
            clock=loop.time,
            now=lambda: START + timedelta(seconds=loop.time() + skew),
            timing=timing,
            on_change=self.changes.append,
            rng=random.Random(name),
        )

    async def work(self) -> None:
        self.at_work = True
        try:
            while True:
                with suppress(LostLease):
                    self.elector.fence()
                    self.wrote_at.append(asyncio.get_running_loop().time())
                await asyncio.sleep(0.1)
        finally:
            self.at_work = False


@asynccontextmanager
async def running(*candidates: Candidate) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.elector.run(each.work)) for each in candidates]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_first_candidate_leads_at_once_and_the_second_waits() -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    async with running(first):
        await asyncio.sleep(0.1)
        async with running(second):
            await asyncio.sleep(60.0)
            assert first.at_work
            assert not second.at_work
            assert first.changes == [True]


async def test_leader_that_stops_hands_over_within_one_retry() -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    async with running(second):
        async with running(first):
            await asyncio.sleep(5.0)
            leader, other = (first, second) if first.at_work else (second, first)
            assert leader is second  # it was there first
        await asyncio.sleep(0)
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == ""
    async with running(other):
        await asyncio.sleep(2.5)
        assert other.at_work
        assert server.lease["spec"]["leaseTransitions"] == 1


@pytest.mark.parametrize("broken", ["fails", "hangs"])
async def test_leader_that_cannot_renew_stops_before_another_begins(broken: str) -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    async with running(first):
        await asyncio.sleep(1.0)
        async with running(second):
            await asyncio.sleep(5.0)
            first.door.broken = broken
            both = 0.0
            for _ in range(400):
                await asyncio.sleep(0.1)
                both += 0.1 if first.at_work and second.at_work else 0.0
            assert both == 0.0
            assert not first.at_work
            assert second.at_work
            # I9: a write begun by the old leader has ended, by its timeout, before the new one begins.
            assert first.wrote_at[-1] + Timing().write_seconds <= second.wrote_at[0]


async def test_leader_takes_up_work_again_when_the_network_returns() -> None:
    server = Server()
    only = Candidate(server, "only")
    async with running(only):
        await asyncio.sleep(1.0)
        only.door.broken = "fails"
        await asyncio.sleep(30.0)
        assert not only.at_work
        only.door.broken = ""
        await asyncio.sleep(5.0)
        assert only.at_work
        assert only.changes == [True, False, True]


@pytest.mark.parametrize("skew", [-120.0, 120.0])
async def test_wrong_wall_clock_changes_nothing(skew: float) -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second", skew=skew)
    async with running(first):
        await asyncio.sleep(0.1)
        async with running(second):
            await asyncio.sleep(60.0)
            assert first.at_work
            assert not second.at_work


async def test_dead_leader_is_replaced_when_its_lease_has_not_changed_for_its_duration() -> None:
    server = Server()
    first, second = Candidate(server, "first"), Candidate(server, "second")
    task = asyncio.create_task(first.elector.run(first.work))
    await asyncio.sleep(1.0)
    first.door.broken = "hangs"  # as a process that is killed: it neither renews nor releases
    async with running(second):
        await asyncio.sleep(14.0)
        assert not second.at_work
        await asyncio.sleep(5.0)
        assert second.at_work
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_renewing_costs_one_request_each_two_seconds() -> None:
    server = Server()
    only = Candidate(server, "only")
    async with running(only):
        await asyncio.sleep(1.0)
        before = only.door.requests
        await asyncio.sleep(60.0)
        assert only.door.requests - before == 30


async def test_answer_that_got_lost_does_not_cost_the_lead() -> None:
    server = Server()
    only = Candidate(server, "only")
    async with running(only):
        await asyncio.sleep(1.0)
        assert server.lease is not None
        server.write(dict(server.lease["spec"]))  # as a renewal whose answer never came
        await asyncio.sleep(20.0)
        assert only.changes == [True]


async def test_lease_taken_by_force_ends_the_lead_at_once() -> None:
    server = Server()
    only = Candidate(server, "only")
    async with running(only):
        await asyncio.sleep(1.0)
        assert server.lease is not None
        server.write({**server.lease["spec"], "holderIdentity": "usurper"})
        await asyncio.sleep(3.0)
        assert not only.at_work
        with pytest.raises(LostLease):
            only.elector.fence()


async def test_work_that_fails_ends_the_candidacy_and_releases_the_lease() -> None:
    server = Server()
    only = Candidate(server, "only")

    async def broken() -> None:
        await asyncio.sleep(1.0)
        raise ZeroDivisionError

    lead: Callable[[], Awaitable[None]] = broken
    with pytest.raises(ZeroDivisionError):
        await only.elector.run(lead)
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == ""


async def test_release_that_hangs_does_not_hold_up_the_exit() -> None:
    server = Server()
    only = Candidate(server, "only")
    loop = asyncio.get_running_loop()
    async with running(only):
        await asyncio.sleep(1.0)
        only.door.broken = "hangs"
        stopped = loop.time()
    assert loop.time() - stopped <= 1.0


def test_timing_that_cannot_hold_the_promise_is_refused() -> None:
    with pytest.raises(ValueError, match="lease timing"):
        Timing(duration_seconds=5.0, renew_seconds=10.0)

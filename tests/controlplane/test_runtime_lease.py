"""Two electors and one real Lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from steeltown.kube.client import Client
from steeltown.kube.leases import LeaseClient
from steeltown.kube.resources import LEASE
from steeltown.runtime.lease import Elector, Timing
from steeltown.runtime.ports import LostLease

FAST = Timing(duration_seconds=3.0, renew_seconds=2.0, retry_seconds=0.2, attempt_seconds=1.0, write_seconds=1.0)


class Candidate:
    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self.at_work = False
        self.door = LeaseClient(client, namespace=namespace, name="operator")
        self.elector = Elector(
            door=self.door, identity=name, clock=time.monotonic, now=lambda: datetime.now(UTC), timing=FAST
        )

    async def lead(self) -> None:
        self.at_work = True
        try:
            await asyncio.Event().wait()
        finally:
            self.at_work = False


@asynccontextmanager
async def running(candidate: Candidate) -> AsyncIterator[None]:
    task = asyncio.create_task(candidate.elector.run(candidate.lead))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def candidates(client: Client, namespace: str) -> tuple[Candidate, Candidate]:
    return Candidate(client, namespace, "first"), Candidate(client, namespace, "second")


async def test_leader_that_stops_hands_the_lease_over(
    client: Client, namespace: str, candidates: tuple[Candidate, Candidate], eventually: Callable[..., Any]
) -> None:
    first, second = candidates
    async with running(first):
        await eventually(lambda: first.at_work)
        first.elector.fence()
        other = asyncio.create_task(second.elector.run(second.lead))
        await asyncio.sleep(1.0)
        assert not second.at_work
    stopped = time.monotonic()
    await eventually(lambda: second.at_work)
    assert time.monotonic() - stopped < 1.0
    lease = await client.request("GET", LEASE.item(namespace, "operator"))
    assert lease["spec"]["holderIdentity"] == "second"
    assert lease["spec"]["leaseTransitions"] == 1
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_leader_that_cannot_renew_is_replaced_after_it_has_stopped(
    candidates: tuple[Candidate, Candidate], eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = candidates
    async with running(first):
        await eventually(lambda: first.at_work)

        async def broken(*_: Any) -> None:
            raise ConnectionError("no route to host")

        for method in ("read", "create", "replace"):
            monkeypatch.setattr(first.door, method, broken)
        async with running(second):
            await eventually(lambda: not first.at_work or second.at_work)
            assert not second.at_work
            with pytest.raises(LostLease):
                first.elector.fence()
            await eventually(lambda: second.at_work)


async def test_two_candidates_at_the_same_moment_make_one_leader(
    candidates: tuple[Candidate, Candidate], eventually: Callable[..., Any]
) -> None:
    first, second = candidates
    async with running(first), running(second):
        await eventually(lambda: first.at_work or second.at_work)
        await asyncio.sleep(1.0)
        assert first.at_work != second.at_work

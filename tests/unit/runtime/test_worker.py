"""Workers: what goes wrong in one reconcile stays there."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from steeltown.core.plan import Key
from steeltown.runtime.ports import LostLease
from steeltown.runtime.queue import WorkQueue
from steeltown.runtime.reconciler import Outcome
from steeltown.runtime.worker import Workers

A, B = Key("MLModel", "team", "a"), Key("MLModel", "team", "b")
Reconcile = Callable[[Key], Awaitable[Outcome]]


class Hooks:
    def __init__(self) -> None:
        self.results: list[str] = []
        self.active = 0

    def reconciling(self, kind: str) -> None:
        self.active += 1

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        self.active -= 1
        self.results.append(result)


class Bench:
    def __init__(self, reconcile: Reconcile, *, count: int = 1, timeout_seconds: float = 30.0) -> None:
        async def call(key: Key, *, reconcile_id: str = "") -> Outcome:
            return await reconcile(key)

        clock = asyncio.get_running_loop().time
        self.queue: WorkQueue[Key] = WorkQueue(clock=clock, rng=random.Random(1))
        self.hooks = Hooks()
        self.workers = Workers(
            queue=self.queue,
            reconcile=call,
            clock=clock,
            count=count,
            timeout_seconds=timeout_seconds,
            hooks=self.hooks,
        )

    async def work(self, seconds: float) -> None:
        running = asyncio.create_task(self.workers.run())
        await asyncio.sleep(seconds)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.mark.looptime
async def test_planner_that_raises_delays_its_own_root_only(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Key] = []

    async def reconcile(key: Key) -> Outcome:
        seen.append(key)
        if key == A and seen.count(A) < 4:
            raise ZeroDivisionError("no data")
        return Outcome()

    bench = Bench(reconcile)
    bench.queue.add(A)
    bench.queue.add(B)
    with caplog.at_level(logging.ERROR):
        await bench.work(10.0)
    assert seen.count(A) == 4
    assert seen.count(B) == 1
    assert bench.hooks.results.count("error") == 3
    assert bench.hooks.results.count("success") == 2
    assert bench.queue.failures(A) == 0
    record = caplog.records[0]
    assert record.exc_info is not None
    assert (record.controller, record.namespace, record.object) == ("mlmodel", "team", "a")  # type: ignore[attr-defined]


@pytest.mark.looptime
async def test_reconcile_that_hangs_is_cut_off_and_tried_again() -> None:
    calls = 0

    async def reconcile(key: Key) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(3600)
        return Outcome()

    bench = Bench(reconcile)
    bench.queue.add(A)
    await bench.work(31.0)
    assert bench.hooks.results == ["error", "success"]
    assert bench.hooks.active == 0


@pytest.mark.looptime
async def test_requeue_after_comes_back_at_that_time() -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def reconcile(key: Key) -> Outcome:
        times.append(loop.time())
        return Outcome(requeue_after=60.0)

    bench = Bench(reconcile)
    bench.queue.add(A)
    await bench.work(125.0)
    assert [round(later - earlier) for earlier, later in itertools.pairwise(times)] == [60, 60]


@pytest.mark.looptime
async def test_failed_outcome_is_not_tried_before_the_server_said() -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def reconcile(key: Key) -> Outcome:
        times.append(loop.time())
        return Outcome() if len(times) > 1 else Outcome(failed=True, requeue_after=7.0)

    bench = Bench(reconcile)
    bench.queue.add(A)
    await bench.work(10.0)
    assert times[1] - times[0] >= 7.0


@pytest.mark.looptime
async def test_workers_run_side_by_side_but_never_on_one_key() -> None:
    busy: list[Key] = []
    most = 0

    async def reconcile(key: Key) -> Outcome:
        nonlocal most
        assert key not in busy
        busy.append(key)
        most = max(most, len(busy))
        bench.queue.add(key)
        await asyncio.sleep(1.0)
        busy.remove(key)
        return Outcome()

    bench = Bench(reconcile, count=4)
    for key in (A, B):
        bench.queue.add(key)
    await bench.work(10.0)
    assert most == 2


@pytest.mark.looptime
async def test_cancelled_worker_leaves_its_key_for_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def reconcile(key: Key) -> Outcome:
        await asyncio.sleep(3600)
        return Outcome()

    bench = Bench(reconcile)
    bench.queue.add(A)
    await bench.work(1.0)
    assert bench.queue.pop() == A
    assert bench.hooks.results == ["cancelled"]


@pytest.mark.looptime
async def test_lost_lease_keeps_the_key_and_is_no_error() -> None:
    async def reconcile(key: Key) -> Outcome:
        raise LostLease("renewed too long ago")

    bench = Bench(reconcile)
    bench.queue.add(A)
    await bench.work(0.5)
    assert bench.hooks.results == ["lost_lease"]
    assert bench.queue.failures(A) == 0
    assert bench.queue.next_due() is not None


async def test_log_line_of_a_reconcile_carries_the_stable_keys(caplog: pytest.LogCaptureFixture) -> None:
    async def reconcile(key: Key) -> Outcome:
        return Outcome(writes=2)

    bench = Bench(reconcile)
    bench.queue.add(A)
    with caplog.at_level(logging.INFO):
        await bench.work(0.01)
    fields: dict[str, Any] = caplog.records[0].__dict__
    assert (fields["controller"], fields["namespace"], fields["object"], fields["writes"]) == (
        "mlmodel",
        "team",
        "a",
        2,
    )
    assert len(fields["reconcileID"]) == 16

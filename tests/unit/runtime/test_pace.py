"""Long loops leave the event loop to others, and do so together."""

from __future__ import annotations

import asyncio
import time

from steeltown.core.plan import Key
from steeltown.runtime.pace import Pace
from steeltown.runtime.queue import WorkQueue
from steeltown.runtime.reconciler import Outcome
from steeltown.runtime.worker import Workers


class Steps:
    """A clock that only the steps of a loop move."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.since_others = 0.0
        self.longest = 0.0

    def __call__(self) -> float:
        return self.seconds

    def step(self) -> None:
        self.seconds += 0.001
        self.longest = max(self.longest, self.seconds - self.since_others)

    async def others(self) -> None:
        while True:
            self.since_others = self.seconds
            await asyncio.sleep(0)


async def test_loops_that_share_a_pace_take_one_turn_and_a_step_together() -> None:
    steps = Steps()
    pace = Pace(clock=steps, turn_seconds=0.005)

    async def work() -> None:
        for _ in range(100):
            steps.step()
            await pace()

    others = asyncio.create_task(steps.others())
    await asyncio.gather(*(work() for _ in range(8)))
    others.cancel()
    # The first step of each worker comes before any of them could have asked.
    assert steps.seconds >= 0.8
    assert steps.longest <= 0.008 + 0.001


async def test_loop_that_is_short_is_not_interrupted() -> None:
    steps = Steps()
    pace = Pace(clock=steps, turn_seconds=0.005)
    await pace()
    begun = steps.since_others
    others = asyncio.create_task(steps.others())
    for _ in range(4):
        steps.step()
        await pace()
    assert steps.since_others == begun
    others.cancel()


async def test_queue_full_of_roots_with_nothing_to_do_leaves_the_loop_to_others() -> None:
    """A reconcile that finds nothing to do never waits: a start with 100,000 roots held up the Lease until its end."""
    queue: WorkQueue[Key] = WorkQueue(clock=time.monotonic)
    done = 0

    async def reconcile(key: Key, *, reconcile_id: str = "") -> Outcome:
        nonlocal done
        done += 1
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        return Outcome()

    for number in range(100):
        queue.add(Key("MLModel", "team", f"m{number}"))
    workers = Workers(queue=queue, reconcile=reconcile, clock=time.monotonic)
    running = asyncio.create_task(workers.run())
    turns = 0
    while done < 100:
        turns += 1
        await asyncio.sleep(0)
    running.cancel()
    assert turns > 10

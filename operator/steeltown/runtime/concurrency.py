"""How jobs that are independent of each other are run: one after the other, or several at the same time.

Nearly all of a write is waiting for the API server, so a thousand routes that are patched one after the other
take longer than a reconcile may. How many at once is the caller's choice and not that of who has the jobs: in a
world that never waits they run in turn, so that every schedule there repeats exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from .ports import Job, RunAll


async def in_turn(jobs: Sequence[Job]) -> None:
    """One after the other; the first that raises is the last."""
    for job in jobs:
        await job()


def at_once(limit: int) -> RunAll:
    """Up to `limit` at the same time. When one raises, those under way are cancelled and no other one begins."""

    async def run(jobs: Sequence[Job]) -> None:
        if len(jobs) <= 1:
            return await in_turn(jobs)
        waiting = iter(jobs)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(limit, len(jobs))):
                    group.create_task(_take(waiting))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    return run


async def _take(waiting: Iterator[Job]) -> None:
    for job in waiting:
        await job()

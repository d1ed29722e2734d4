"""The only reconcile loop: takes keys from the queue, and never dies of what a reconcile does.

A planner that raises, a write that hangs, an answer nobody expected: each costs its own root a delay that
doubles, and nothing else. Only two things stop a worker, and both are meant to: cancellation (the process
ends or leadership is lost) and being told by the fence that another process may already act.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from ..core.plan import Key
from .pace import Pace
from .ports import LostLease, Monotonic
from .queue import WorkQueue
from .reconciler import Outcome, log_fields

logger = logging.getLogger(__name__)

RECONCILE_TIMEOUT_SECONDS: Final = 30.0
_WITHOUT_LEASE_SECONDS: Final = 1.0


class Reconcile(Protocol):
    def __call__(self, key: Key, *, reconcile_id: str = "") -> Awaitable[Outcome]: ...


class Hooks(Protocol):
    """What the workers tell about themselves, for metrics. result: as controller-runtime labels it."""

    def reconciling(self, kind: str) -> None: ...
    def reconciled(self, kind: str, result: str, seconds: float) -> None: ...


class NoHooks:
    def reconciling(self, kind: str) -> None: ...
    def reconciled(self, kind: str, result: str, seconds: float) -> None: ...


class Workers:
    """`count` loops over one queue."""

    def __init__(
        self,
        *,
        queue: WorkQueue[Key],
        reconcile: Reconcile,
        clock: Monotonic,
        count: int = 8,
        timeout_seconds: float = RECONCILE_TIMEOUT_SECONDS,
        hooks: Hooks | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._clock = clock
        self._count = count
        self._timeout_seconds = timeout_seconds
        self._hooks: Hooks = hooks or NoHooks()
        self._new_id = new_id or _random_id
        self._pace = Pace(clock=time.perf_counter)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(), name=f"worker {number}")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._pace()  # a root with nothing to do never waits, and neither would a queue full of them
                await self.process(key)
            except asyncio.CancelledError:
                self._queue.add(key)  # whoever works next finds it
                raise
            finally:
                self._queue.done(key)

    async def process(self, key: Key) -> None:
        """One reconcile of a key that `queue.get` has handed out, and what the queue is told about it."""
        reconcile_id = self._new_id()
        self._hooks.reconciling(key.kind)
        started = self._clock()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                outcome = await self._reconcile(key, reconcile_id=reconcile_id)
            result = self._settle(key, outcome, reconcile_id)
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        except LostLease as error:
            result = "lost_lease"
            self._queue.add_after(key, _WITHOUT_LEASE_SECONDS)
            logger.warning("reconcile stopped before a write: %s", error, extra=log_fields(key, reconcile_id))
        except Exception:
            result = "error"
            delay = self._queue.retry(key)
            logger.exception("reconcile failed, retrying in %.1f s", delay, extra=log_fields(key, reconcile_id))
        finally:
            self._hooks.reconciled(key.kind, result, self._clock() - started)

    def _settle(self, key: Key, outcome: Outcome, reconcile_id: str) -> str:
        if outcome.writes:
            logger.info("reconciled", extra=log_fields(key, reconcile_id) | {"writes": outcome.writes})
        if outcome.failed:
            self._queue.retry(key, at_least=outcome.requeue_after or 0.0)
            return "error"
        self._queue.forget(key)
        if outcome.requeue_after is None:
            return "success"
        self._queue.add_after(key, outcome.requeue_after)
        return "requeue_after"


def _random_id() -> str:
    return f"{random.getrandbits(64):016x}"

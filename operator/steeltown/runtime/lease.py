"""Leadership by a Lease: many replicas watch, one writes.

client-go's algorithm: what counts is how long ago *this* process saw the Lease change, by its own monotonic
clock; the timestamps inside are for people, so clocks may differ. Two deadlines keep an old leader from
writing beside a new one (I9): it stops working when it could not renew for `renew_seconds`, and no write
begins unless it must end, by its timeout, while the Lease is surely still ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..core.plan import Obj
from .ports import LeaseDoor, LostLease, Monotonic, Now

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """duration: for how long a Lease excludes others. renew: give up leading after so long without a renewal.

    retry: between attempts. attempt: longest attempt. write: longest write of a worker, for the fence.
    release: how long the last request, that hands the Lease over, may hold up the exit.
    """

    duration_seconds: float = 15.0
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0
    attempt_seconds: float = 4.0
    write_seconds: float = 8.0
    release_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not self.retry_seconds < self.renew_seconds < self.duration_seconds > self.write_seconds:
            raise ValueError("invalid lease timing: must be retry < renew < duration and write < duration")


class Elector:
    def __init__(
        self,
        *,
        door: LeaseDoor,
        identity: str,
        clock: Monotonic,
        now: Now,
        timing: Timing | None = None,
        on_change: Callable[[bool], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._door = door
        self._identity = identity
        self._clock = clock
        self._now = now
        self._timing = timing or Timing()
        self._on_change = on_change or (lambda leading: None)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not secrets)
        self._lease: Obj | None = None
        self._changed_at = -math.inf
        self._held_until = -math.inf
        self._renewed_at = -math.inf

    @property
    def leading(self) -> bool:
        return self._clock() < self._held_until

    def fence(self) -> None:
        """Call before each write. Raises `LostLease` unless a write begun now ends within the Lease."""
        if self._clock() + self._timing.write_seconds > self._held_until:
            raise LostLease(f"Lease expired: last renewed {self._clock() - self._renewed_at:.1f} s ago")

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Runs `lead` whenever and only while the Lease is ours, until cancelled. Then hands the Lease over.

        `lead` is cancelled when the Lease is lost; an exception of its own ends this too.
        """
        try:
            while True:
                await self._acquire()
                await self._hold(lead)
        finally:
            await self._release()

    async def _acquire(self) -> None:
        while True:
            if await self._attempt():
                return
            await asyncio.sleep(self._timing.retry_seconds * self._rng.uniform(0.8, 1.2))

    async def _hold(self, lead: Callable[[], Awaitable[None]]) -> None:
        logger.info("became leader as %s", self._identity)
        self._on_change(True)
        work = asyncio.ensure_future(lead())
        try:
            while self._clock() < self._renewed_at + self._timing.renew_seconds:
                await asyncio.wait({work}, timeout=self._timing.retry_seconds)
                if work.done():
                    return work.result()
                if not await self._attempt() and self._foreign():
                    break
            self._held_until = -math.inf
            logger.warning("lost leadership")
        finally:
            self._on_change(False)
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work

    async def _attempt(self) -> bool:
        """Tries once to take or renew the Lease. False: another one has it, or nobody can tell."""
        started = self._clock()
        left = self._renewed_at + self._timing.renew_seconds - started
        limit = min(self._timing.attempt_seconds, left) if left > 0 else self._timing.attempt_seconds
        try:
            async with asyncio.timeout(limit):
                written = await self._write()
        except Exception as error:
            logger.warning("failed to acquire or renew the Lease: %s", error or type(error).__name__)
            return False
        if written is None:
            return False
        self._notice(written)
        self._renewed_at = started
        self._held_until = started + self._timing.duration_seconds
        return True

    async def _write(self) -> Obj | None:
        if self._lease is not None and self._ours(self._lease):
            # Nobody else writes a Lease that is held, so renewing needs no read, unless an attempt ended unknown.
            written = await self._door.replace(self._lease, self._spec(self._lease))
            if written is not None:
                return written
        lease = await self._door.read()
        if lease is None:
            return await self._door.create(self._spec(None))
        self._notice(lease)
        return await self._door.replace(lease, self._spec(lease)) if self._free(lease) else None

    def _notice(self, lease: Obj) -> None:
        if self._lease is None or lease["spec"] != self._lease["spec"]:
            self._changed_at = self._clock()
        self._lease = lease

    def _ours(self, lease: Obj) -> bool:
        return bool(lease["spec"].get("holderIdentity") == self._identity)

    def _foreign(self) -> bool:
        return self._lease is not None and not self._ours(self._lease)

    def _free(self, lease: Obj) -> bool:
        spec = lease["spec"]
        if not spec.get("holderIdentity") or self._ours(lease):
            return True
        return self._changed_at + float(spec.get("leaseDurationSeconds") or 0) <= self._clock()

    def _spec(self, before: Obj | None) -> Obj:
        spec: dict[str, Any] = before["spec"] if before is not None else {}
        ours = before is not None and self._ours(before)
        now = micro_time(self._now())
        transitions = int(spec.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._timing.duration_seconds),
            "acquireTime": spec.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours or before is None else transitions + 1,
        }

    async def _release(self) -> None:
        held, self._held_until = self.leading, -math.inf
        if not held or self._lease is None:
            return
        spec = {**self._spec(self._lease), "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(self._timing.release_seconds):
                await self._door.replace(self._lease, spec)
        except Exception as error:
            logger.warning("failed to release the Lease, it will expire: %s", error or type(error).__name__)


def micro_time(now: datetime) -> str:
    """metav1.MicroTime."""
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

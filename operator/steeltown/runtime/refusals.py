"""What was refused, for whom, and from when on it may be tried again.

A refused write (a quota, a policy, a webhook that is down) is refused again until somebody acts, so it is not
tried more than once in ten seconds however many events arrive. Meanwhile the refusal stands in the snapshot,
so that the planner can say in the status who refused and why.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from ..core.plan import Key, Refusal, Target
from .ports import Monotonic

RETRY_SECONDS: Final = 10.0


class _Standing(NamedTuple):
    refusal: Refusal
    retry_at: float


class Refusals:
    def __init__(self, *, clock: Monotonic, retry_seconds: float = RETRY_SECONDS) -> None:
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._standing: dict[Key, dict[Target, _Standing]] = {}

    def remember(self, key: Key, target: Target, message: str) -> None:
        standing = _Standing(Refusal(target=target, message=message), self._clock() + self._retry_seconds)
        self._standing.setdefault(key, {})[target] = standing

    def of(self, key: Key) -> tuple[Refusal, ...]:
        standing = self._standing.get(key)
        return tuple(each.refusal for each in standing.values()) if standing else ()

    def wait_seconds(self, key: Key, target: Target) -> float | None:
        """Until that write may be tried; None: now."""
        standing = self._standing.get(key, {}).get(target)
        if standing is None or (wait := standing.retry_at - self._clock()) <= 0:
            return None
        return wait

    def next_wait_seconds(self, key: Key) -> float | None:
        """Until the first of all that stand has aged: then it is tried again, or dropped; None: none stands."""
        standing = self._standing.get(key)
        return (
            min((max(0.0, each.retry_at - self._clock()) for each in standing.values()), default=None)
            if standing
            else None
        )

    def forget(self, key: Key, target: Target) -> bool:
        """The write has succeeded. Whether it had been refused before."""
        standing = self._standing.get(key)
        if standing is None or standing.pop(target, None) is None:
            return False
        if not standing:
            del self._standing[key]
        return True

    def expire(self, key: Key, wanted: Collection[Target]) -> bool:
        """Drops refusals that are old and whose write no plan asks for any more. Whether there were any."""
        gone = [
            target
            for target in self._standing.get(key, {})
            if target not in wanted and self.wait_seconds(key, target) is None
        ]
        for target in gone:
            self.forget(key, target)
        return bool(gone)

    def drop(self, key: Key) -> None:
        self._standing.pop(key, None)

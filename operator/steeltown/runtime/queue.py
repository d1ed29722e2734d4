"""Which root to reconcile next.

The contract of client-go's work queue, on which level-triggered controllers rest: a key is in it once however
often it is added; no two workers ever hold the same key; a key that is added while a worker holds it runs
once more afterwards. On top: two lanes, so that a user's edit overtakes a cold start's backlog, of which
nevertheless one in five pops is served (nothing starves); retries with exponential back-off, full jitter and a
bound on all retries together; one timer for everything that is due later.

All of it but `get` is synchronous and takes its time from the clock it was given.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from .ports import Monotonic

K = TypeVar("K", bound=Hashable)

HIGH: Final = 0
LOW: Final = -100
"""controller-runtime's number for what a list brings, as against what changed."""

_LOW_SHARE: Final = 5  # while both lanes wait, one pop in so many serves the low one


class Hooks(Protocol):
    """What the queue tells about itself, for metrics."""

    def added(self) -> None: ...
    def retried(self) -> None: ...
    def started(self, waited_seconds: float) -> None: ...
    def finished(self, worked_seconds: float) -> None: ...


class NoHooks:
    def added(self) -> None: ...
    def retried(self) -> None: ...
    def started(self, waited_seconds: float) -> None: ...
    def finished(self, worked_seconds: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """base, cap: seconds before the first retry and at most; doubled in between, then drawn from 0 to that.

    rate, burst: retries per second that all keys together may make, so that an outage of everything does not
    end in a stampede; a retry beyond that waits its turn.
    """

    base: float = 0.05
    cap: float = 300.0
    rate: float = 20.0
    burst: float = 100.0


@dataclass(slots=True)
class _Waiting:
    priority: int
    since: float


@dataclass(slots=True)
class _Bucket:
    rate: float
    burst: float
    tokens: float = field(init=False)
    filled_at: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def reserve(self, now: float) -> float:
        """Seconds until the token that this call takes is there."""
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now
        self.tokens -= 1
        return max(0.0, -self.tokens / self.rate)


class WorkQueue(Generic[K]):
    """See the module for the contract. Not thread-safe."""

    def __init__(
        self,
        *,
        clock: Monotonic,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not secrets)
        self._hooks: Hooks = hooks or NoHooks()
        self._bucket = _Bucket(self._backoff.rate, self._backoff.burst, filled_at=clock())
        self._lanes: dict[int, deque[tuple[K, _Waiting]]] = {HIGH: deque(), LOW: deque()}
        self._waiting: dict[K, _Waiting] = {}
        self._processing: dict[K, float] = {}
        self._again: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._failures: dict[K, int] = {}
        self._turn = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Keys that wait for a worker, without those that are due later."""
        return len(self._waiting)

    def add(self, key: K, priority: int = HIGH) -> None:
        """Now. With HIGH this overrides a delay: something happened, whatever we wanted to wait for."""
        self._hooks.added()
        if priority == HIGH:
            self._due.pop(key, None)
        if key in self._processing:
            self._again[key] = max(priority, self._again.get(key, LOW))
            return
        waiting = self._waiting.get(key)
        if waiting is None:
            self._enqueue(key, priority, self._clock())
        elif priority > waiting.priority:
            self._enqueue(key, priority, waiting.since)

    def add_after(self, key: K, seconds: float) -> None:
        """Once that much time has passed, or earlier if an earlier time stands already."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock() + seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._compact()
            self._arm()

    def retry(self, key: K, *, at_least: float = 0.0) -> float:
        """After a failure: later each time. Returns the delay in seconds."""
        self._hooks.retried()
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        limit = min(self._backoff.cap, self._backoff.base * 2 ** min(failures, 32))
        delay = max(self._rng.uniform(0.0, limit), at_least, self._bucket.reserve(self._clock()))
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """After a success: the next failure is the first one again."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    def pop(self) -> K | None:
        """The next key, now held by the caller until `done`; None when nothing is due."""
        self._promote()
        if not self._waiting:
            return None
        key, waiting = self._take()
        del self._waiting[key]
        # Its reconcile will say anew when to come back, so an older promise is void.
        self._due.pop(key, None)
        now = self._clock()
        self._processing[key] = now
        self._hooks.started(now - waiting.since)
        return key

    def done(self, key: K) -> None:
        now = self._clock()
        self._hooks.finished(now - self._processing.pop(key))
        again = self._again.pop(key, None)
        if again is not None:
            self._enqueue(key, again, now)

    def next_due(self) -> float | None:
        """When, by the clock, the first delayed key is due; None without any."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def unfinished_seconds(self) -> float:
        """How long the keys that are being worked on have been so, summed: it grows when a worker hangs."""
        now = self._clock()
        return sum(now - since for since in self._processing.values())

    async def get(self) -> K:
        """As `pop`, waiting for it."""
        loop = asyncio.get_running_loop()
        while (key := self.pop()) is None:
            waiter = loop.create_future()
            self._waiters.append(waiter)
            self._arm()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()  # the wake-up that this worker no longer follows
                raise
        if self._waiting:
            self._wake_one()
        return key

    def _enqueue(self, key: K, priority: int, since: float) -> None:
        waiting = self._waiting[key] = _Waiting(priority, since)
        self._lanes[priority].append((key, waiting))
        self._wake_one()

    def _take(self) -> tuple[K, _Waiting]:
        high, low = self._lanes[HIGH], self._lanes[LOW]
        for lane in (high, low):
            # Entries that a later add with a higher priority has replaced.
            while lane and self._waiting.get(lane[0][0]) is not lane[0][1]:
                lane.popleft()
        if high and low:
            self._turn = (self._turn + 1) % _LOW_SHARE
            return (high if self._turn else low).popleft()
        return (high or low).popleft()

    def _promote(self) -> None:
        now = self._clock()
        while (due := self.next_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            self.add(key)

    def _compact(self) -> None:
        """Overridden delays stay in the heap until their time comes; drop them once they are the most of it."""
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self) -> None:
        due = self.next_due()
        if due is None or not self._waiters:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, due - self._clock())
        if self._timer is not None:
            if self._timer.when() <= when and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._promote()
        self._arm()

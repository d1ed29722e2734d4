"""Long loops that leave the event loop to others every few milliseconds.

Everything here shares one thread with the renewal of the Lease, the probes and the watches, and what never waits
for anything (tens of thousands of objects of a list, a queue full of roots with nothing to do) would hold all of
them up for seconds. `await pace()` between two steps costs next to nothing until a turn is used up.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from .ports import Monotonic

TURN_SECONDS: Final = 0.005


class Pace:
    """Of all who share it, who together take no more than a turn and one step of each iteration of the loop."""

    def __init__(self, *, clock: Monotonic, turn_seconds: float = TURN_SECONDS) -> None:
        self._clock = clock
        self._turn_seconds = turn_seconds
        self._until = -math.inf
        self._next: asyncio.Handle | None = None

    async def __call__(self) -> None:
        while self._clock() >= self._until:
            if self._next is None:
                # Before whoever waits here now, in the next iteration.
                self._next = asyncio.get_running_loop().call_soon(self._begin)
            await asyncio.sleep(0)

    def _begin(self) -> None:
        self._next = None
        self._until = self._clock() + self._turn_seconds

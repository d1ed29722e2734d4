"""Looks into the Events of objects that plans ask to have explained, and wakes their roots when a cause is new.

Asked only while a Job of ours has made no Pod, so at rest nothing is read. An object that stays without a Pod is
looked at less and less often. One whose Events cannot be read costs nothing but its own explanation: several are read
at the same time.

A cause has to be told within 10 s of a Job that makes no Pod. A plan asks after 3 s; the looks then come within the
fourth, the sixth and the ninth second, so an Event that is there by the eighth is in time.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Final

from ..core.plan import Explain, Key
from .concurrency import in_turn
from .ports import CauseReader, Job, Monotonic, RunAll, Wake
from .store import Store

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
FIRST_DELAY_SECONDS: Final = 2.0
DELAY_GROWTH: Final = 1.5
LAST_DELAY_SECONDS: Final = 300.0


class Explainer:
    """run_all: how the objects whose turn it is are looked at."""

    def __init__(
        self, *, store: Store, reader: CauseReader, wake: Wake, clock: Monotonic, run_all: RunAll = in_turn
    ) -> None:
        self._run_all = run_all
        self._store = store
        self._reader = reader
        self._wake = wake
        self._clock = clock
        self._next: dict[str, tuple[float, float]] = {}  # uid -> when, delay after that

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def once(self) -> None:
        wanted = self._store.explained()
        self._next = {what.uid: self._next[what.uid] for _, what in wanted if what.uid in self._next}
        now, looks = self._clock(), list[Job]()
        for key, what in wanted:
            due, delay = self._next.get(what.uid, (0.0, FIRST_DELAY_SECONDS))
            if now >= due:
                self._next[what.uid] = (now + delay, min(DELAY_GROWTH * delay, LAST_DELAY_SECONDS))
                looks.append(functools.partial(self._look, key, what))
        await self._run_all(looks)

    async def _look(self, key: Key, what: Explain) -> None:
        try:
            message = await self._reader.latest_warning(what.namespace, what.uid)
        except Exception as error:
            logger.info("cannot list Events of %s %s/%s: %s", what.kind, what.namespace, what.name, error)
            return
        if message and self._store.put_cause(what.uid, message):
            self._wake(key)

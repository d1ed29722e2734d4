"""Looks into the Events of objects that plans ask to have explained, and wakes their roots when a cause is new.

Asked only while a Job of ours has made no Pod, so at rest nothing is read. An object that stays without a Pod is
looked at less and less often. One whose Events cannot be read costs nothing but its own explanation.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ..core.plan import Explain, Key
from .ports import CauseReader, Monotonic, Wake
from .store import Store

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
FIRST_DELAY_SECONDS: Final = 4.0
LAST_DELAY_SECONDS: Final = 300.0


class Explainer:
    def __init__(self, *, store: Store, reader: CauseReader, wake: Wake, clock: Monotonic) -> None:
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
        for key, what in wanted:
            due, delay = self._next.get(what.uid, (0.0, FIRST_DELAY_SECONDS))
            if self._clock() < due:
                continue
            self._next[what.uid] = (self._clock() + delay, min(2 * delay, LAST_DELAY_SECONDS))
            await self._look(key, what)

    async def _look(self, key: Key, what: Explain) -> None:
        try:
            message = await self._reader.latest_warning(what.namespace, what.uid)
        except Exception as error:
            logger.info("cannot list Events of %s %s/%s: %s", what.kind, what.namespace, what.name, error)
            return
        if message and self._store.put_cause(what.uid, message):
            self._wake(key)

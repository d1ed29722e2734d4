"""Reads evidence from the pods that plans ask for, and wakes their roots when it says something new.

Nobody else polls: everything but live traffic is learnt from watches. When no plan observes, nothing is read.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..core.plan import Key, Observe
from .ports import EvidenceReader, Wake
from .store import Store

INTERVAL_SECONDS: Final = 3.0


class Observer:
    def __init__(
        self, *, store: Store, reader: EvidenceReader, wake: Wake, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._store = store
        self._reader = reader
        self._wake = wake
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(self._interval_seconds)

    async def once(self) -> None:
        await asyncio.gather(*(self._read(key, pod) for key, pod in self._store.observed()))

    async def _read(self, key: Key, pod: Observe) -> None:
        evidence = await self._reader.read(pod.url)
        if evidence is not None and self._store.put_evidence(pod.uid, evidence):
            self._wake(key)

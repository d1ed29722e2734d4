"""Reads evidence from the pods that plans ask for, and wakes their roots when it says something new.

Nobody else polls: everything but live traffic is learnt from watches. When no plan observes, nothing is read. Each
root is read in rounds of its own: pods that hang, or say what breaks something here, cost their own root its next
rounds and nobody else anything.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ..contract.evidence import Evidence
from ..core.plan import Key, Observe
from .ports import EvidenceReader, Wake
from .store import Store

INTERVAL_SECONDS: Final = 3.0
SILENT_READS: Final = 3
"""So many reads in a row without an answer, and what a Pod has said before is no evidence any more."""
READS_PER_ROOT: Final = 4
"""At a time. What all roots, or those of one namespace, have in flight together is the reader's to bound."""

logger = logging.getLogger(__name__)


class Observer:
    def __init__(
        self, *, store: Store, reader: EvidenceReader, wake: Wake, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._store = store
        self._reader = reader
        self._wake = wake
        self._interval_seconds = interval_seconds
        self._under_way: set[Key] = set()
        self._failed: set[Key] = set()
        self._silent: dict[str, int] = {}  # by uid of a Pod: reads in a row without an answer

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as rounds:
            while True:
                for key, pods in self._due().items():
                    self._under_way.add(key)
                    rounds.create_task(self._round(key, pods))
                await asyncio.sleep(self._interval_seconds)

    def _due(self) -> dict[Key, list[Observe]]:
        """By root, without those whose last round is not over yet."""
        due: dict[Key, list[Observe]] = {}
        for key, pod in self._store.observed():
            if key not in self._under_way:
                due.setdefault(key, []).append(pod)
        self._failed &= due.keys() | self._under_way
        asked = {pod.uid for _, pod in self._store.observed()}
        self._silent = {uid: reads for uid, reads in self._silent.items() if uid in asked}
        return due

    async def _round(self, key: Key, pods: list[Observe]) -> None:
        slots = asyncio.Semaphore(READS_PER_ROOT)
        try:
            await asyncio.gather(*(self._read(key, pod, slots) for pod in pods))
        finally:
            self._under_way.discard(key)

    def _is_news(self, uid: str, evidence: Evidence | None) -> bool:
        """Whether a root has to look again. A Pod that stays silent has its last words dropped: they are old."""
        if evidence is not None:
            self._silent.pop(uid, None)
            return self._store.put_evidence(uid, evidence)
        self._silent[uid] = self._silent.get(uid, 0) + 1
        return self._silent[uid] == SILENT_READS and self._store.drop_evidence(uid)

    async def _read(self, key: Key, pod: Observe, slots: asyncio.Semaphore) -> None:
        try:
            async with slots:
                evidence = await self._reader.read(pod.url, key.namespace)
            if self._is_news(pod.uid, evidence):
                self._wake(key)
        except Exception:
            if key not in self._failed:  # once for as long as its plan asks: the next round comes in seconds
                self._failed.add(key)
                logger.exception(
                    "failed to process evidence of Pod %s from %s; the Pod counts as unreadable", pod.uid, pod.url
                )

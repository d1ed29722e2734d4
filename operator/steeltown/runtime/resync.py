"""Lists every kind: once before the first reconcile, again after the watches have, and then every few minutes.

A watch that lists anew does not tell which objects were deleted meanwhile (kopf, as many informers, never
compares), so such ghosts would stay in the cache for good. A list is complete at one resourceVersion: what
the cache holds at or below that version and the list does not is a ghost; what is newer was created since.
Afterwards all roots are reconciled, behind everything that really happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from ..core.plan import Key
from .ports import Lister, Wake
from .store import Store

logger = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 30.0
_GATHER_SECONDS: Final = 1.0
"""The watches list their kinds at about the same time: one answer for all of them."""


class Resync:
    """kinds: what to list. namespaces: (None,) = the whole cluster. wake: with low priority.

    `filled` is set once every kind has been listed.
    """

    def __init__(
        self,
        *,
        lister: Lister,
        store: Store,
        kinds: Sequence[str],
        namespaces: Sequence[str | None],
        wake: Wake,
        period_seconds: float = 600.0,
        on_pruned: Callable[[str, int], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._lister = lister
        self._store = store
        self._kinds = kinds
        self._namespaces = namespaces
        self._wake = wake
        self._period_seconds = period_seconds
        self._on_pruned = on_pruned or (lambda kind, count: None)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not secrets)
        self._missing = set(kinds)
        self._due = asyncio.Event()
        self.filled = asyncio.Event()

    @property
    def missing(self) -> list[str]:
        """Kinds that have not been listed yet: until there are none, nothing may be decided."""
        return sorted(self._missing)

    async def fill(self) -> None:
        """Lists every kind once, for as long as it takes: a CRD may be installed after the operator."""
        todo, delay = list(self._kinds), _FIRST_RETRY_SECONDS
        while todo := [kind for kind in todo if not await self._try(kind)]:
            await asyncio.sleep(delay * self._rng.uniform(0.8, 1.2))
            delay = min(2 * delay, _LAST_RETRY_SECONDS)
        self.filled.set()
        self._wake_all()

    def soon(self) -> None:
        """A watch has just listed its kind: something may be gone that it will not tell about."""
        self._due.set()

    async def run(self) -> None:
        """Lists all again every period and whenever it was asked to, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period_seconds * self._rng.uniform(0.9, 1.1)):
                    await self._due.wait()
                    await asyncio.sleep(_GATHER_SECONDS)
            self._due.clear()
            await self.fill()

    async def list_kind(self, kind: str) -> None:
        """One kind: takes over what is new, drops what is gone."""
        for namespace in self._namespaces:
            listed: set[str] = set()
            version = -1
            async for items, list_version in self._lister.pages(kind, namespace):
                version = list_version
                for obj in items:
                    listed.add(obj["metadata"]["uid"])
                    self._tell(self._store.apply_event(None, obj))
            before = self._store.count(kind)
            self._tell(self._store.prune(kind, namespace, listed, version))
            pruned = before - self._store.count(kind)
            if pruned:
                logger.warning("%d deletions of %s had been missed", pruned, kind)
                self._on_pruned(kind, pruned)
        self._missing.discard(kind)

    async def _try(self, kind: str) -> bool:
        try:
            await self.list_kind(kind)
        except Exception as error:
            logger.warning("cannot list %s: %s", kind, error or type(error).__name__)
            return False
        return True

    def _tell(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self._wake(key)

    def _wake_all(self) -> None:
        for key in self._store.all_roots():
            self._wake(key)

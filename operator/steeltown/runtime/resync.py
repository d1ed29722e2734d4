"""Lists every kind: at the start, again after its watch has, when leading begins, and then every few minutes.

A watch that lists anew does not tell which objects were deleted meanwhile (kopf, as many informers, never
compares), so such ghosts would stay in the cache for good. A list is complete at one resourceVersion: what
the cache holds at or below that version and the list does not is a ghost; what is newer was created since.
What a watch has listed is listed alone, its kind in its namespace; every few minutes all is, and then all
roots are reconciled, behind everything that really happened.

A watch may lag, by how much nobody knows. Who begins to lead must know all that was written under the Lease
before: a list that begins afterwards shows it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from ..core.plan import Key
from .concurrency import in_turn
from .pace import Pace
from .ports import Lister, RunAll, Wake
from .store import Store

logger = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 30.0
CATCH_UP_SECONDS: Final = 120.0
_GATHER_SECONDS: Final = 1.0
"""The watches list their kinds at about the same time: one answer for all of them."""


class NotCaughtUp(Exception):
    """Which kinds could not be listed."""


class _Place(NamedTuple):
    """What one list shows: a kind in a namespace, None = in the whole cluster."""

    kind: str
    namespace: str | None


class Resync:
    """kinds: what to list. namespaces: (None,) = the whole cluster. wake: with low priority.

    run_all: how the lists are read. `filled` is set once every kind has been listed, `watched` once every watch has
    listed what it follows.
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
        run_all: RunAll = in_turn,
        rng: random.Random | None = None,
    ) -> None:
        self._lister = lister
        self._store = store
        self._places = [_Place(kind, namespace) for kind in kinds for namespace in namespaces]
        self._wake = wake
        self._period_seconds = period_seconds
        self._on_pruned = on_pruned or (lambda kind, count: None)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not secrets)
        self._run_all = run_all
        self._pace = Pace(clock=time.perf_counter)
        self._missing = set(self._places)
        self._due: set[_Place] = set()
        self._any_due = asyncio.Event()
        self._unwatched = set(self._places)
        self.filled = asyncio.Event()
        self.watched = asyncio.Event()

    @property
    def missing(self) -> list[str]:
        """Kinds that have not been listed yet: until there are none, nothing may be decided."""
        return sorted({place.kind for place in self._missing})

    async def fill(self) -> None:
        """Lists everything once, for as long as it takes: a CRD may be installed after the operator."""
        await self._list(self._places)
        self.filled.set()
        for key in self._store.all_roots():
            self._wake(key)
            await self._pace()

    async def catch_up(self, *, within_seconds: float = CATCH_UP_SECONDS) -> None:
        """Lists everything once. Then the cache is as fresh as the moment of the call, or fresher.

        Raises `NotCaughtUp` after that time, so that another replica may try.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        missing = set(self._places)
        logger.info("listing %d kinds to bring the cache up to date with the Lease", len({p.kind for p in missing}))
        try:
            async with asyncio.timeout(within_seconds):
                await self._list(self._places, missing)
        except TimeoutError:
            kinds = ", ".join(sorted({place.kind for place in missing}))
            raise NotCaughtUp(
                f"cannot list within {within_seconds:.0f} s of acquiring the Lease: {kinds}; "
                "see the preceding `cannot list` log lines for the API server's answer"
            ) from None
        logger.info("cache up to date after %.1f s", loop.time() - begun)

    def soon(self, kind: str, namespace: str | None) -> None:
        """The watch of that kind has just listed it: something may be gone that it will not tell about."""
        place = _Place(kind, namespace)
        self._due.add(place)
        self._any_due.set()
        self._unwatched.discard(place)
        if not self._unwatched:
            self.watched.set()

    async def run(self) -> None:
        """Lists all again every period, and in between what it was asked to, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            end = loop.time() + self._period_seconds * self._rng.uniform(0.9, 1.1)
            while await self._asked(end):
                await self._list(self._due)
            await self.fill()

    async def list_kind(self, kind: str, namespace: str | None = None) -> None:
        """One list: takes over what is new, drops what is gone."""
        place = _Place(kind, namespace)
        self._due.discard(place)  # a list of a watch from now on is newer than this one
        listed: set[str] = set()
        version = -1
        async for items, list_version in self._lister.pages(kind, namespace):
            version = list_version
            for obj in items:
                listed.add(obj["metadata"]["uid"])
                self._tell(self._store.apply_event(None, obj))
                await self._pace()
        pruned = 0
        for concerned in self._store.prune(kind, namespace, listed, version):
            if concerned is not None:
                pruned += 1
                self._tell(concerned)
            await self._pace()
        if pruned:
            logger.warning("found %d deletions of %s missed by the watch", pruned, kind)
            self._on_pruned(kind, pruned)
        self._missing.discard(place)

    async def _asked(self, end: float) -> bool:
        """Whether something is due before `end`, and then a moment later, when more may be."""
        try:
            async with asyncio.timeout_at(end):
                await self._any_due.wait()
                await asyncio.sleep(_GATHER_SECONDS)
        except TimeoutError:
            return False
        finally:
            self._any_due.clear()
        return True

    async def _list(self, places: Iterable[_Place], missing: set[_Place] | None = None) -> None:
        """Until every one of them has been listed. missing: is emptied meanwhile."""
        todo, delay = [*places], _FIRST_RETRY_SECONDS
        missing = set(todo) if missing is None else missing
        while True:
            await self._run_all([functools.partial(self._try, place, missing) for place in todo])
            todo = [place for place in todo if place in missing]
            if not todo:
                return
            await asyncio.sleep(delay * self._rng.uniform(0.8, 1.2))
            delay = min(2 * delay, _LAST_RETRY_SECONDS)

    async def _try(self, place: _Place, missing: set[_Place]) -> None:
        try:
            await self.list_kind(*place)
        except Exception as error:
            where = f" in {place.namespace}" if place.namespace else ""
            logger.warning("cannot list %s%s: %s", place.kind, where, error or type(error).__name__)
        else:
            missing.discard(place)

    def _tell(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self._wake(key)

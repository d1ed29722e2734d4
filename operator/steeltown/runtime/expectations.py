"""Read-your-writes: no reconcile of a root from a cache that is older than what we know to exist.

After a write the cache usually holds the answer at once. Where it cannot (a conflict tells that a newer
version exists, but not what it says), the root waits until the watch brings it. Its event wakes the root, so
the wait costs nothing; the cap only keeps a broken watch from stopping work for good. The scheme is that of
kube-controller-manager (KEP-5647), the name that of client-go's controllers.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..core.plan import Key, Target
from .ports import Monotonic
from .store import Store

CAP_SECONDS: Final = 5.0


class _Expected(NamedTuple):
    uid: str
    version: int
    until: float


class Expectations:
    """By root: which versions of which objects the cache must show before the next reconcile."""

    def __init__(self, *, store: Store, clock: Monotonic, cap_seconds: float = CAP_SECONDS) -> None:
        self._store = store
        self._clock = clock
        self._cap_seconds = cap_seconds
        self._expected: dict[Key, dict[Target, _Expected]] = {}

    def expect(self, key: Key, target: Target, *, uid: str, version: int) -> None:
        """The root must not be reconciled before the cache shows that object at `version` or newer."""
        if self._store.has_seen(target, uid, version):
            return
        until = self._clock() + self._cap_seconds
        self._expected.setdefault(key, {})[target] = _Expected(uid, version, until)

    def wait_seconds(self, key: Key) -> float | None:
        """How long to wait at most, None: go ahead."""
        expected = self._expected.get(key)
        if expected is None:
            return None
        now = self._clock()
        for target, (uid, version, until) in list(expected.items()):
            if until <= now or self._store.has_seen(target, uid, version):
                del expected[target]
        if not expected:
            del self._expected[key]
            return None
        return min(wanted.until for wanted in expected.values()) - now

    def forget(self, key: Key) -> None:
        self._expected.pop(key, None)

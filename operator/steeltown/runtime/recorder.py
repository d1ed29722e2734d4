"""Events for people, without floods.

A level-triggered planner says the same thing every time it looks. The first time is an Event; repetitions
within ten minutes are counted into its `series`, written at most every five minutes; a root that says too
many different things is cut off. Names are made from the content, so a restarted operator finds its Event
there instead of writing another. Events are courtesy: they are written behind the reconcile's back, and no
failure here is one there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..core.plan import EventNote, Obj
from .lease import micro_time
from .ports import EventWriter, Fence, Monotonic, Now

logger = logging.getLogger(__name__)

REPORTING_CONTROLLER: Final = "steeltown.dev/operator"
_SAME_SECONDS: Final = 600.0
_COUNT_SECONDS: Final = 300.0
_BURST: Final = 25.0
_REFILL_SECONDS: Final = 300.0  # one more Event per root in this time, as client-go's spam filter
_REMEMBERED: Final = 4096
_WAITING: Final = 1000
_NOTE_BYTES: Final = 1024


class _Same(NamedTuple):
    uid: str
    note: EventNote


@dataclass(slots=True)
class _Seen:
    name: str
    count: int
    last_at: float
    written_at: float


@dataclass(slots=True)
class _Budget:
    at: float
    tokens: float = field(default=_BURST)

    def take(self, now: float) -> bool:
        self.tokens = min(_BURST, self.tokens + (now - self.at) / _REFILL_SECONDS)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class EventRecorder:
    """`record` never waits and never fails; `run` writes."""

    def __init__(self, *, writer: EventWriter, instance: str, fence: Fence, clock: Monotonic, now: Now) -> None:
        self._writer = writer
        self._instance = instance
        self._fence = fence
        self._clock = clock
        self._now = now
        self._seen: OrderedDict[_Same, _Seen] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._waiting: deque[tuple[Obj, _Same, _Seen]] = deque(maxlen=_WAITING)
        self._arrived = asyncio.Event()

    def record(self, root: Obj, note: EventNote) -> None:
        now = self._clock()
        same = _Same(root["metadata"]["uid"], note)
        seen = self._seen.get(same)
        if seen is not None and now - seen.last_at < _SAME_SECONDS:
            seen.count += 1
            seen.last_at = now
            if now - seen.written_at < _COUNT_SECONDS:
                return
        else:
            seen = _Seen(self._name(root, same), 1, now, now)
            self._remember(same, seen)
        if not self._allowed(same.uid, now):
            return
        seen.written_at = now
        self._waiting.append((root, same, seen))
        self._arrived.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._arrived.wait()
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        self._arrived.clear()
        while self._waiting:
            root, same, seen = self._waiting.popleft()
            try:
                self._fence()
                await self._write(root, same, seen)
            except Exception as error:
                logger.info("failed to write Event %s: %s", same.note.reason, error or type(error).__name__)

    async def _write(self, root: Obj, same: _Same, seen: _Seen) -> None:
        if seen.count > 1:
            series = {"count": seen.count, "lastObservedTime": micro_time(self._now())}
            if await self._writer.count(root["metadata"]["namespace"], seen.name, series):
                return
        await self._writer.create(self._event(root, same.note, seen.name))

    def _event(self, root: Obj, note: EventNote, name: str) -> Obj:
        metadata = root["metadata"]
        return {
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": micro_time(self._now()),
            "type": note.type,
            "reason": note.reason,
            "note": note.message.encode()[:_NOTE_BYTES].decode(errors="ignore"),
            "action": "Reconcile",
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": root["apiVersion"],
                "kind": root["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }

    def _name(self, root: Obj, same: _Same) -> str:
        slot = int(self._now().timestamp() // _SAME_SECONDS)
        text = "\0".join((same.uid, same.note.type, same.note.reason, same.note.message, str(slot)))
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{root['metadata']['name'][:200]}.{digest}"

    def _remember(self, same: _Same, seen: _Seen) -> None:
        self._seen[same] = seen
        self._seen.move_to_end(same)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _allowed(self, uid: str, now: float) -> bool:
        budget = self._budgets.setdefault(uid, _Budget(now))
        self._budgets.move_to_end(uid)
        if len(self._budgets) > _REMEMBERED:
            with contextlib.suppress(KeyError):
                self._budgets.popitem(last=False)
        return budget.take(now)

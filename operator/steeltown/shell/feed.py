"""Runs the event feed in a thread with an event loop of its own, and hands its events over.

Its own loop, because kopf ends by cancelling every task of the loop it runs in, and takes five seconds to do
it. Events cross over in batches: one wake-up of our loop for however many have arrived since the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ..core.plan import Obj

logger = logging.getLogger(__name__)

Deliver = Callable[[str | None, Obj], None]
Watch = Callable[[Deliver], Coroutine[Any, Any, None]]

_BATCH: Final = 500  # events handled before our loop may do something else
_STOP_SECONDS: Final = 1.5


class Feed:
    """watch: runs in the thread until it fails or is cancelled. deliver: called in the loop that runs `run`."""

    def __init__(self, *, watch: Watch, deliver: Deliver) -> None:
        self._watch = watch
        self._deliver = deliver
        self._pending: deque[tuple[str | None, Obj]] = deque()
        self._announced = False

    async def run(self) -> None:
        """Until cancelled; returns or raises as `watch` does."""
        loop = asyncio.get_running_loop()
        inner: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        ended: asyncio.Future[None] = loop.create_future()
        task = inner.create_task(self._watch(lambda type, obj: self._arrived(loop, type, obj)))
        threading.Thread(target=_live, args=(inner, task, loop, ended), name="event feed", daemon=True).start()
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ended by itself just now
                inner.call_soon_threadsafe(task.cancel)
            await asyncio.wait({ended}, timeout=_STOP_SECONDS)
            raise

    def _arrived(self, loop: asyncio.AbstractEventLoop, type: str | None, obj: Obj) -> None:
        """In the thread. Append first, look at the flag second: then `_drain` misses nothing."""
        self._pending.append((type, obj))
        if not self._announced:
            self._announced = True
            loop.call_soon_threadsafe(self._drain, loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        self._announced = False
        for _ in range(_BATCH):
            if not self._pending:
                return
            type, obj = self._pending.popleft()
            try:
                self._deliver(type, obj)
            except Exception:
                logger.exception("event not understood", extra={"kind": obj.get("kind")})
        self._announced = True
        loop.call_soon(self._drain, loop)


def _live(
    inner: asyncio.AbstractEventLoop,
    task: asyncio.Task[None],
    outer: asyncio.AbstractEventLoop,
    ended: asyncio.Future[None],
) -> None:
    asyncio.set_event_loop(inner)
    error: BaseException | None = None
    try:
        inner.run_until_complete(task)
    except asyncio.CancelledError:
        pass
    except BaseException as raised:
        error = raised
    finally:
        with contextlib.suppress(Exception):
            inner.run_until_complete(inner.shutdown_asyncgens())
        inner.close()

    def tell() -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the process is going down
        outer.call_soon_threadsafe(tell)

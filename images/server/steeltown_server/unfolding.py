"""Bodies that came compressed, unfolded beside the event loop and against the budget.

A kilobyte may unfold to a megabyte. So a body unfolds by slices, in a thread of its own, and each slice is counted
before the next one is made: what does not fit is refused when it has cost one slice, and bodies wait for each other
instead of unfolding all at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from . import encoding
from .budget import Budget
from .http import Answer, Answering

SLICE_BYTES: Final = 1 << 20
INLINE_BYTES: Final = 4 << 10
INLINE_SLICE_BYTES: Final = 64 << 10


class Held:
    """An exchange for which the process holds bytes beyond those of its body, until it is answered."""

    __slots__ = ("_budget", "_exchange", "_held_bytes")

    def __init__(self, budget: Budget, exchange: Answering, held_bytes: int) -> None:
        """held_bytes: counted already."""
        self._budget = budget
        self._exchange = exchange
        self._held_bytes = held_bytes

    def answer(self, answer: Answer) -> None:
        held_bytes, self._held_bytes = self._held_bytes, 0
        self._budget.held_bytes -= held_bytes
        self._exchange.answer(answer)


class Unfolder:
    """limit_bytes: of one body, unfolded."""

    def __init__(self, budget: Budget, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._budget = budget
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="unfold")

    async def unfold(self, name: bytes, body: bytes) -> bytes:
        """The body as it was; it is counted, and the caller gives it back. name: of the encoding.

        Raises what `encoding.unfold` does, and Busy.
        """
        parts = encoding.unfold(name, body, self.limit_bytes)
        first, more = _slice(parts, INLINE_SLICE_BYTES) if len(body) <= INLINE_BYTES else (b"", True)
        self._budget.hold(len(first))
        if not more:
            return first
        async with self._turn:
            return await self._unfold_rest(first, parts)

    async def _unfold_rest(self, first: bytes, parts: Iterator[bytes]) -> bytes:
        """first: counted already."""
        loop = asyncio.get_running_loop()
        found, size, more = [first], len(first), True
        try:
            while more:
                part, more = await loop.run_in_executor(self._thread, _slice, parts, SLICE_BYTES)
                self._budget.hold(len(part))
                size += len(part)
                found.append(part)
            return await loop.run_in_executor(self._thread, b"".join, found)
        except BaseException:
            self._budget.held_bytes -= size
            raise

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _slice(parts: Iterator[bytes], least: int) -> tuple[bytes, bool]:
    """Parts until there are at least so many bytes, and whether there may be more."""
    found: list[bytes] = []
    size = 0
    for part in parts:
        found.append(part)
        size += len(part)
        if size >= least:
            return b"".join(found), True
    return b"".join(found), False

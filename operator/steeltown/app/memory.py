"""Keeps Python's cycle collector away from the cache.

Objects of the cache are trees: without cycles, freed by their reference counts the moment an event replaces them.
The collector does not know that, and looks at each of them again and again: with 72,000 objects one full
collection held up the event loop for 750 ms, and all of them together cost as much as reading the lists. So full
collections do not begin by themselves, but every thousand objects that the cache takes, and whatever is left
after one is set aside (`gc.freeze`): the next sees only what has come since. What was set aside is still freed by
its counts; only a cycle that lives at such a moment and ends later is not, a few KiB each time.
"""

from __future__ import annotations

import gc
from typing import Final

EVERY_OBJECTS: Final = 1000  # a full collection of so many takes about 10 ms
_NEVER: Final = 1 << 30


def take_over_full_collections() -> None:
    """For the whole process, once it has imported what it needs. Young objects are collected as ever."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    _collect()


class SetAside:
    """Call `stored` for each object that the cache takes."""

    def __init__(self, *, every: int = EVERY_OBJECTS) -> None:
        self._every = every
        self._since = 0

    def stored(self) -> None:
        self._since += 1
        if self._since >= self._every:
            self._since = 0
            _collect()


def _collect() -> None:
    gc.collect()
    gc.freeze()

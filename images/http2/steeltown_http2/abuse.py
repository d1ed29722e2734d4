"""What a client may cost us without getting anything for it, before the connection ends.

Frames that cost the client nothing are bounded. So are streams that end in a reset instead of an answer: whether the
client sends the reset (CVE-2023-44487) or makes us send it (CVE-2025-8671), the stream was opened, its headers were
decoded, and work may have begun. An answer earns a reset back, so that a client that cancels now and then may go on
for ever.
"""

from __future__ import annotations

from typing import Final

from .frames import Error, Fault

RESETS: Final = 256  # beyond those that answers have earned
EMPTY_FRAMES: Final = 256


class AbuseBudget:
    """Of one connection. What goes beyond it is a Fault (ENHANCE_YOUR_CALM)."""

    __slots__ = ("_empty_frames", "_resets")

    def __init__(self) -> None:
        self._resets = RESETS
        self._empty_frames = EMPTY_FRAMES

    def spend_reset(self) -> None:
        """A stream is reset before its answer, by the client or for its fault."""
        self._resets -= 1
        if self._resets < 0:
            raise Fault(Error.ENHANCE_YOUR_CALM, "too many reset streams")

    def earn_reset(self) -> None:
        """A stream was answered."""
        if self._resets < RESETS:
            self._resets += 1

    def spend_empty_frame(self) -> None:
        """DATA that holds nothing and ends nothing."""
        self._empty_frames -= 1
        if self._empty_frames < 0:
            raise Fault(Error.ENHANCE_YOUR_CALM, "too many empty frames")

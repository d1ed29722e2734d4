"""What a client may cost us without paying for it, before the connection ends.

A request that is answered pays for what it cost and for the frames that come with it. All that no answer pays for is
taken from one budget for the life of the connection, whatever it is: a stream that ends in a reset, whether the client
sends it (CVE-2023-44487) or makes us send it (CVE-2025-8671), for its headers were decoded and work may have begun; and
a frame that asks for nothing. Answers earn it back, so that a client that cancels now and then may go on for ever.

What we send calls for frames in return, grants of window and PINGs that measure it; those are paid by the bytes.
"""

from __future__ import annotations

from typing import Final

from .frames import Error, Fault

BUDGET: Final = 4096
RESET: Final = 16
FRAME: Final = 1
ANSWERED: Final = RESET  # what an answered request pays
RESETS: Final = BUDGET // RESET  # beyond those that answers have paid
FRAMES: Final = BUDGET // FRAME
BYTES_PER_FRAME: Final = 256  # sent by us, for each frame in return


class AbuseBudget:
    """Of one connection. What goes beyond it is a Fault (ENHANCE_YOUR_CALM)."""

    __slots__ = ("_left", "_sent_bytes")

    def __init__(self) -> None:
        self._left = BUDGET
        self._sent_bytes = 0

    @property
    def left(self) -> int:
        return self._left

    def spend_reset(self) -> None:
        """A stream is reset before its answer was taken, by the client or for its fault."""
        self._spend(RESET, "reset streams")

    def spend_empty_frame(self) -> None:
        """DATA that holds nothing and ends nothing."""
        self._spend(RESET, "empty frames")

    def spend_frames(self, count: int = 1) -> None:
        """Frames that ask for nothing, or as much work as they make."""
        if self._sent_bytes >= count * BYTES_PER_FRAME:
            self._sent_bytes -= count * BYTES_PER_FRAME
        else:
            self._spend(count * FRAME, "frames that ask for nothing")

    def owe(self, cost: int) -> None:
        """What is found while no frame is read: the next one that costs anything is the last."""
        self._left -= cost

    def earn_answer(self) -> None:
        """A request was answered, and the client has taken the answer."""
        self._left = min(BUDGET, self._left + ANSWERED)

    def earn_sent(self, size: int) -> None:
        """Bytes of answers went out."""
        self._sent_bytes = min(FRAMES * BYTES_PER_FRAME, self._sent_bytes + size)

    def _spend(self, cost: int, what: str) -> None:
        self._left -= cost
        if self._left < 0:
            raise Fault(Error.ENHANCE_YOUR_CALM, f"too many {what}")

"""A run of the model has a deadline.

What a run costs may depend on what a client sent: a loop whose trips are in the data, a size that is read from an
input. One request of a hundred bytes could hold the model, and inline the event loop, for ever. So a thread of its own
looks at the run under way, whoever started it: at the deadline onnxruntime is asked to end it, which it does between
two operators and between two trips of a loop. A single operator cannot be ended; what still runs when the grace is over
too ends the process, and the kubelet starts a new one.

Time in which the whole process stood still (a frozen node) is nobody's run time: the thread counts only what passes
between its looks, and a look that came late counts as one that came in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import onnxruntime

from . import log

LONGEST_PERIOD_SECONDS: Final = 0.25


class RunTooLong(Exception):
    """The run was ended at its deadline; the message says which."""


class _Run:
    """began: monotonic seconds."""

    __slots__ = ("began", "ended", "options")

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()
        self.began = time.monotonic()
        self.ended = False


class Watch:
    """Over the runs of one model, one at a time, from whichever thread.

    seconds: what a run may take. grace_seconds: what it may take to end when it is asked to. give_up: called with a
    message, once and in the watching thread, when a run has not; it does not come back.
    """

    def __init__(self, *, seconds: float, grace_seconds: float, give_up: Callable[[str], None]) -> None:
        self.seconds = seconds
        self.grace_seconds = grace_seconds
        self._give_up = give_up
        self._run: _Run | None = None
        self._period = min(LONGEST_PERIOD_SECONDS, seconds / 4, grace_seconds / 4)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="deadline", daemon=True)
        self._thread.start()

    def begin(self) -> onnxruntime.RunOptions:
        """For the run that begins now."""
        self._run = run = _Run()
        return run.options

    def end(self) -> None:
        self._run = None

    @property
    def stuck(self) -> bool:
        """Whether a run is under way that should have ended, grace included."""
        run = self._run
        latest = self.seconds + self.grace_seconds + 2 * self._period
        return run is not None and time.monotonic() - run.began > latest

    def too_long(self) -> RunTooLong:
        return RunTooLong(
            f"the run of the model was ended after {self.seconds:g} s, the limit: send less, or raise "
            "STEELTOWN_RUN_SECONDS"
        )

    def close(self) -> None:
        self._closed.set()

    def _look(self) -> None:
        seen: _Run | None = None
        age, last = 0.0, time.monotonic()
        while not self._closed.wait(self._period):
            now = time.monotonic()
            passed, last = min(now - last, 2 * self._period), now
            run = self._run
            age = age + passed if run is seen else 0.0
            seen = run
            if run is None or age < self.seconds:
                continue
            if not run.ended:
                run.ended = True
                run.options.terminate = True
                log.warning("ending a run of the model at its deadline", seconds=self.seconds)
            elif age >= self.seconds + self.grace_seconds:
                self._give_up(
                    f"a run of the model took longer than {self.seconds:g} s and did not end within "
                    f"{self.grace_seconds:g} s of being asked to"
                )
                return

"""How the commands speak: one line a step on stderr, with what it took, and one sentence when they cannot go on.

A cold start compiles Kubernetes and takes minutes, so silence would look like a hang: slow steps also say that they
begin. Every failure that a person can do something about is a `Problem`, whose text says what; it is printed without
a traceback. stdout is kept for answers that scripts read (paths, image names).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_one_line_at_a_time = threading.Lock()


class Problem(Exception):
    """The command cannot go on; the message says what the reader should do."""


def say(line: str) -> None:
    """Prints one whole line to stderr, also from threads."""
    with _one_line_at_a_time:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def step(what: str, *, announce: str = "") -> Iterator[None]:
    """Times a step. `announce`, for slow steps, is what to tell the reader at the start (such as "about 4 min")."""
    if announce:
        say(f"{what} ({announce}) ...")
    started = time.monotonic()
    yield
    say(f"{what} ... {time.monotonic() - started:.1f} s")

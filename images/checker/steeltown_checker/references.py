"""Who needs the objects of a model: one empty object for each run that made it, `references/<hex>/<reference>`.

A store is shared by namespaces and models, and the same bytes are stored once, so nobody can tell from a cluster
whether a model may go: only these objects tell. A run leaves its own before it looks for anything else, and `collect`
says that it is at work before it looks for references. Of two that each write first and read afterwards at least one
sees the other: either `collect` finds the reference and keeps the model, or the run finds the mark, waits until it
is gone, and then stores whatever is missing. docs/adr/015 has the argument in full.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from steeltown.contract import files
from steeltown.contract.files import ExitCode

from .reasons import Reason, StepFailed
from .store import ArtifactStore

log = logging.getLogger(__name__)

COLLECT_SECONDS: Final = 30.0
"""From its mark on, `collect` begins to delete an object only within this time."""
WAIT_SECONDS: Final = 240.0
"""After so long a mark is that of a process that has died: the time above and all retries of one request are over."""
_POLL_SECONDS: Final = 1.0
_REFERENCE: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+){2,}")

Sleep = Callable[[float], None]
Clock = Callable[[], float]


def leave(
    artifacts: ArtifactStore, digest: str, reference: str, *, sleep: Sleep = time.sleep, clock: Clock = time.monotonic
) -> None:
    """Leave the reference of a run. Afterwards nothing that is found or stored of this model is removed any more."""
    artifacts.put(f"{files.reference_prefix(digest)}/{reference}", b"")
    if artifacts.size(files.COLLECTED_STORE) is None:
        return  # nobody has ever collected here: without the right to list a store works as well
    prefix, begun = files.collecting_prefix(digest), clock()
    marks = set(artifacts.keys(prefix))
    while marks and clock() - begun < WAIT_SECONDS:
        log.info("%s is being collected: waiting for %s", digest, ", ".join(sorted(marks)))
        sleep(_POLL_SECONDS)
        marks &= set(artifacts.keys(prefix))  # what began later sees the reference
    for mark in sorted(marks):
        artifacts.delete(mark)


def checked_reference(reference: str) -> str:
    if not _REFERENCE.fullmatch(reference):
        raise StepFailed(
            Reason.INVALID_PLAN, f"invalid reference {reference!r}: must be <namespace>.<run>.<uid>", ExitCode.USAGE
        )
    return reference

"""Which requests a user made, read from the API server's audit log: counted where they arrive, not where they are sent.

A request is written to the log before its answer is sent, so between two marks taken while the user is quiet
stands everything it did in that time.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

WRITES = ("create", "update", "patch", "delete", "deletecollection")
STANDING = ("list", "watch")


class Mark(NamedTuple):
    """A place in the log."""

    file: int
    offset: int


@dataclass(slots=True)
class Requests:
    """ "<verb> <resource>" -> how many. The Lease is apart: leadership costs the same whatever there is to do."""

    writes: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    standing: Counter[str] = field(default_factory=Counter)
    lease: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, dict[str, int]]:
        names = ("writes", "reads", "standing", "lease", "failed")
        return {name: dict(sorted(getattr(self, name).items())) for name in names}


class AuditLog:
    def __init__(self, path: Path, user: str) -> None:
        self._path = path
        self._user = user

    def mark(self) -> Mark:
        found = self._path.stat()
        return Mark(found.st_ino, found.st_size)

    def since(self, mark: Mark) -> Requests:
        """Raises RuntimeError when the log was rotated since."""
        requests = Requests()
        needle = f'"username":"{self._user}"'.encode()
        with self._path.open("rb") as log:
            if self._path.stat().st_ino != mark.file:
                raise RuntimeError("the audit log was rotated during a measurement: run it again")
            log.seek(mark.offset)
            for line in log:
                if needle in line:
                    self._count(json.loads(line), requests)
        return requests

    def _count(self, event: dict[str, object], requests: Requests) -> None:
        user, verb, where = event["user"], str(event["verb"]), event.get("objectRef") or {}
        assert isinstance(user, dict)
        assert isinstance(where, dict)
        # A watch is told when it starts and when it ends, everything else when it ends.
        stage = "ResponseStarted" if verb == "watch" else "ResponseComplete"
        if user["username"] != self._user or event["stage"] != stage:
            return
        resource = "/".join(str(where[part]) for part in ("resource", "subresource") if where.get(part))
        name = f"{verb} {resource or event['requestURI']}"
        status = event.get("responseStatus")
        if isinstance(status, dict) and int(status.get("code", 200)) >= 400:
            requests.failed[name] += 1
        if resource == "leases":
            requests.lease[name] += 1
        elif verb in WRITES:
            requests.writes[name] += 1
        elif verb in STANDING:
            requests.standing[name] += 1
        else:
            requests.reads[name] += 1

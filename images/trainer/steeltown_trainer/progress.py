"""status.json: how far the training is, replaced atomically so that a reader never sees half of it."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Progress:
    """Counts steps. A status that cannot be written is no reason to stop a training."""

    def __init__(self, path: Path, total_steps: int) -> None:
        self._path = path
        self._total = total_steps
        self._step = 0
        self._phase = "Reading"
        self._write()

    def phase(self, name: str) -> None:
        self._phase = name
        self._write()

    def advance(self) -> None:
        self._step += 1
        self._write()

    def _write(self) -> None:
        body = json.dumps({"phase": self._phase, "step": self._step, "totalSteps": self._total})
        try:
            write_atomically(self._path, body.encode())
        except OSError as error:
            print(f"failed to write the status: {error}", flush=True)


def write_atomically(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(body)
    os.replace(part, path)

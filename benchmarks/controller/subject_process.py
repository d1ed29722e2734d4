"""The program under test: started, watched from outside through /proc, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_QUIET_TICKS = 3  # what quiet seconds may cost together: the Lease goes on, the echo of a child's status costs more
_QUIET_LIMIT_SECONDS = 180.0


class SubjectProcess:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=out, stderr=out, start_new_session=True
            )

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children, all threads."""
        return sum(_ticks(pid) for pid in self._tree()) / _TICK

    def resident_kib(self) -> int:
        return sum(_memory(pid, "VmRSS") for pid in self._tree())

    def peak_kib(self) -> int:
        return sum(_memory(pid, "VmHWM") for pid in self._tree())

    async def quiet(self, seconds: int = 5) -> float:
        """Waits for so many seconds that cost next to nothing, and returns the CPU seconds at their beginning."""
        end = time.monotonic() + _QUIET_LIMIT_SECONDS
        history = deque([self.cpu_seconds()], maxlen=seconds + 1)
        while len(history) <= seconds or history[-1] - history[0] > _QUIET_TICKS / _TICK + 1e-9:
            if time.monotonic() > end:
                raise RuntimeError(f"not quiet after {_QUIET_LIMIT_SECONDS:.0f} s:\n{self.tail()}")
            await asyncio.sleep(1.0)
            history.append(self.cpu_seconds())
        return history[0]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tail(self, size: int = 3000) -> str:
        return self._log.read_bytes()[-size:].decode(errors="replace")

    def log_lines(self) -> int:
        return self._log.read_bytes().count(b"\n")

    def _tree(self) -> list[int]:
        if self._process.poll() is not None:
            raise RuntimeError(f"the program under test ended with {self._process.returncode}:\n{self.tail()}")
        found, todo = [], [self._process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                todo += [int(child) for child in children.read_text().split()]
        return found


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0

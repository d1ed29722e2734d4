"""One server under test: started on its core, watched from outside through /proc, stopped.

Times and memory are those of the whole process tree, or servers that work in child processes would look free.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

SERVER_CORE: Final = "0"
GENERATOR_CORE: Final = "1"
STOP_SECONDS: Final = 5.0
FIRST_PORT: Final = 18300
EXCEPTION: Final = re.compile(r"\s*[\w.]*(Error|Exception)\b")

_TICK: Final = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """The process ended or does not answer; the message has the last error of its log."""


class ServerProcess:
    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
    ) -> None:
        self._log = log
        self.started = time.perf_counter()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                ["taskset", "-c", SERVER_CORE, *command],
                env=dict(environment),
                cwd=folder,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time of the tree, all threads."""
        return sum(_ticks(pid) for pid in self.tree()) / _TICK

    def memory_mib(self) -> tuple[float, float]:
        """RSS counts pages that processes share once for each, PSS once for all."""
        found = [_memory_kib(pid) for pid in self.tree()]
        return sum(rss for rss, _ in found) / 1024, sum(pss for _, pss in found) / 1024

    def tree(self) -> list[int]:
        self.check()
        found, todo = [], [self._process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    todo += [int(child) for child in children.read_text().split()]
        return found

    def check(self) -> None:
        if self._process.poll() is not None:
            raise ServerFailed(f"the server ended with {self._process.returncode}: {self.last_error()}")

    def last_error(self) -> str:
        """The log's last line that names an exception, else its last: many servers go on talking after an error."""
        lines = self._log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if EXCEPTION.match(line)]
        return (errors or lines or ["it said nothing"])[-1].strip()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for what of its session is still there."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        # Children of a process that has ended may live on, in the session that is ours alone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_ports(count: int) -> list[int]:
    """Below the range from which the kernel gives ports to clients, one of which might take a port first."""
    found: list[int] = []
    for port in range(FIRST_PORT, FIRST_PORT + 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise ServerFailed(f"no {count} free ports from {FIRST_PORT} on")


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _memory_kib(pid: int) -> tuple[int, int]:
    found = {"Rss": 0, "Pss": 0}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0])
    except OSError:
        pass
    return found["Rss"], found["Pss"]

"""Starts programs that outlive this command, and stops exactly those again.

For each one a record (pid and full command line) is written the moment it runs. A pid alone proves nothing, since
pids are reused: a process is ours only while /proc shows the recorded command line under the recorded pid. Programs
run in sessions of their own, with a small fixed environment: a proxy setting or credential of the shell that happened
to type `up` has no business in a control plane that runs for days.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from layout import Layout
from progress import Problem

_TERM_SECONDS = 1.0
_KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Started:
    """A program that this command started."""

    name: str
    pid: int
    command: list[str]
    log: Path

    def alive(self) -> bool:
        """Whether the process under that pid is still this program."""
        return command_line(self.pid) == self.command


def start(cluster: Layout, name: str, command: list[str]) -> Started:
    """Starts a program in the background; its output goes to `<state>/log/<name>.log`."""
    cluster.logs.mkdir(parents=True, exist_ok=True)
    cluster.pids.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(cluster.state), "LANG": "C.UTF-8"}
    log_path = cluster.logs / f"{name}.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=cluster.state,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started = Started(name, process.pid, command, log_path)
    (cluster.pids / f"{name}.json").write_text(json.dumps({"pid": started.pid, "command": command}) + "\n")
    _wait_for_command_line(process, started)
    return started


def recorded(cluster: Layout) -> dict[str, Started]:
    """Every program that has a record, alive or not."""
    return {path.stem: _read(path, cluster.logs / f"{path.stem}.log") for path in sorted(cluster.pids.glob("*.json"))}


def alive(cluster: Layout) -> dict[str, Started]:
    """Those recorded programs that still run."""
    return {name: started for name, started in recorded(cluster).items() if started.alive()}


def stop(programs: Iterable[Started]) -> None:
    """Ends the programs: politely for a second, then for good. Returns when all are gone."""
    left = [program for program in programs if program.alive()]
    for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        for program in left:
            send(program.pid, number)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = [program for program in left if not ended(program.pid)]
    if left:
        raise Problem(f"these do not end: {', '.join(f'{p.name} (pid {p.pid})' for p in left)}")


def send(pid: int, number: signal.Signals) -> None:
    """Signals a process that may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def command_line(pid: int) -> list[str]:
    """The process's arguments; empty when there is no such process (or it is a zombie)."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="surrogateescape") for part in raw.split(b"\0")[:-1]]


def ended(pid: int) -> bool:
    """Whether the process has let go of all it had, its ports above all.

    A dying process loses its command line first, and its main thread is a zombie while others still hold its files.
    """
    process = Path(f"/proc/{pid}")
    try:
        zombie = (process / "stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
        return zombie and len(list((process / "task").iterdir())) <= 1
    except OSError:
        return True


def wait_until(ready: Callable[[], bool], what: str, *, seconds: float, needs: Iterable[Started] = ()) -> None:
    """Polls until `ready`; fails early, with the end of its log, when a program it needs has ended."""
    programs = list(needs)
    deadline = time.monotonic() + seconds
    while not ready():
        for program in programs:
            if not program.alive():
                raise Problem(f"{program.name} ended while waiting for {what}; the end of its log:\n{_tail(program)}")
        if time.monotonic() > deadline:
            tails = "\n".join(f"{program.name}: {_tail(program)}" for program in programs)
            raise Problem(f"{what} did not happen within {seconds:.0f} s\n{tails}".rstrip())
        time.sleep(0.05)


def _wait_for_command_line(process: subprocess.Popen[bytes], started: Started) -> None:
    """For a moment after a program was started /proc shows an empty command line, as if it had ended."""
    while process.poll() is None and not started.alive():
        time.sleep(0.001)


def _read(path: Path, log: Path) -> Started:
    try:
        content = json.loads(path.read_text())
        return Started(path.stem, int(content["pid"]), [str(part) for part in content["command"]], log)
    except (ValueError, KeyError):  # cut short by a crash while it was written: nobody's process
        return Started(path.stem, 0, ["(no record)"], log)


def _tail(program: Started) -> str:
    try:
        return "\n".join(program.log.read_text(errors="replace").splitlines()[-8:])
    except OSError:
        return "(no log)"

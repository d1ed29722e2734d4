"""Where our server's time goes, at 8 and 64 connections.

cProfile counts every call and so makes code of many small calls look dearer than it is; py-spy samples from outside,
and charges C code and system calls to the Python function that called them. The server runs without gRPC, which has no
part in these cells.
"""

from __future__ import annotations

import io
import os
import pstats
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from . import answers, generators
from .cells import CELLS, Cell
from .environments import programs
from .process import GENERATOR_CORE
from .rounds import running
from .subjects import OURS_HTTP, SUBJECTS

TOP: Final = 25
PROFILED: Final = ("logreg-c8", "logreg-c64")
SAMPLES_PER_SECOND: Final = 200
IDLE: Final = "_worker (concurrent/futures/thread.py)"  # a thread of a pool that waits for work


def profile(models: Path, seconds: float, folder: Path, how: str) -> str:
    """The top functions of both cells. how: "cprofile" or "py-spy". Raw data goes to `folder`."""
    measure = {"cprofile": _cprofile, "py-spy": _py_spy}[how]
    folder.mkdir(parents=True, exist_ok=True)
    return "\n\n".join(measure(CELLS[name], models, seconds, folder) for name in PROFILED)


def _cprofile(cell: Cell, models: Path, seconds: float, folder: Path) -> str:
    raw = (folder / f"{cell.name}.prof").absolute()
    prefix = ("-m", "cProfile", "-o", str(raw))
    with running(SUBJECTS[OURS_HTTP], models, cell.model, False, prefix) as server:
        answers.check(cell, models, server.place.http_port)
        done = generators.closed(cell, server.place.http_port, seconds, server.place.folder)
    text = io.StringIO()
    pstats.Stats(str(raw), stream=text).strip_dirs().sort_stats("tottime").print_stats(TOP)
    table = text.getvalue().partition("Ordered by")[2].strip()
    return f"{cell.title}, cProfile, {done.requests} requests (its start included)\nOrdered by{table}"


def _py_spy(cell: Cell, models: Path, seconds: float, folder: Path) -> str:
    raw = (folder / f"{cell.name}.collapsed").absolute()
    with running(SUBJECTS[OURS_HTTP], models, cell.model, False) as server:
        answers.check(cell, models, server.place.http_port)
        generators.closed(cell, server.place.http_port, 1, server.place.folder)
        command = ["taskset", "-c", GENERATOR_CORE, str(programs("profiler") / "py-spy"), "record", "--nolineno"]
        command += ["--format", "raw", "--rate", str(SAMPLES_PER_SECOND), "--output", str(raw)]
        command += ["--duration", str(max(1, round(seconds) - 1)), "--pid", str(server.process.pid)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as sampler:
            time.sleep(0.3)
            done = generators.closed(cell, server.place.http_port, seconds, server.place.folder)
            _, said = sampler.communicate(timeout=60)
    if not raw.exists():
        raise generators.GeneratorFailed(f"py-spy: {said[-300:]}")
    head = f"{cell.title}, py-spy, {done.requests} requests, {done.requests / done.seconds:,.0f}/s"
    return f"{head}\n{self_times(raw.read_text().splitlines())}"


def self_times(stacks: Sequence[str], top: int = TOP) -> str:
    """A table of collapsed stacks ("outer;inner samples"): samples in which a function was innermost, and all."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1] == IDLE:
            continue
        own[frames[-1]] += int(count)
        within.update(dict.fromkeys(set(frames), int(count)))
    total = sum(own.values()) or 1
    rows = [f"{n / total:7.1%} {within[name] / total:7.1%}  {name}" for name, n in own.most_common(top)]
    return os.linesep.join(["   self   total  function", *rows])

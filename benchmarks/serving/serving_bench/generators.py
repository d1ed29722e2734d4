"""The load: wrk for HTTP with connections, h2load for gRPC, our own C program for rates. All on one core.

Written in C each, because one core must drive a server on the other to its limit: a Python generator needs more CPU
per request than our server does. Each run says how much of its core it used, so a server that was faster than the
generator can be told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import wire
from .answers import path_of
from .cells import Cell, payload
from .environments import SERVING, cache_folder
from .process import GENERATOR_CORE

OPEN_LOOP_CONNECTIONS: Final = 64
NEEDED: Final = {"wrk": "wrk", "h2load": "nghttp2-client", "gcc": "gcc", "taskset": "util-linux"}


class GeneratorFailed(Exception):
    """No figures; the message says what the generator said."""


@dataclass(frozen=True, kw_only=True)
class Closed:
    """What one closed-loop run did. bad: requests without a proper answer. busy: the generator's share of its core."""

    requests: int
    seconds: float
    bad: int
    p50_us: float | None
    p99_us: float | None
    busy: float


def missing() -> list[str]:
    """Sentences about programs that are not installed."""
    return [
        f"{program} is missing: apt-get install {package}"
        for program, package in NEEDED.items()
        if shutil.which(program) is None
    ]


def versions() -> dict[str, str]:
    """As the programs say; wrk exits with an error after saying it."""
    found = {}
    for program in NEEDED:
        option = "-v" if program == "wrk" else "--version"
        done = subprocess.run([program, option], capture_output=True, text=True)
        found[program] = (done.stdout or done.stderr).splitlines()[0].partition("Copyright")[0].strip()
    return found


def closed(cell: Cell, port: int, seconds: float, folder: Path, answer_bytes: int | None = None) -> Closed:
    """answer_bytes: of one gRPC answer, by which errors inside HTTP 200 are found."""
    if cell.kind == "grpc":
        return _grpc(cell, port, seconds, folder, answer_bytes)
    return _http(cell, port, seconds, folder)


def _http(cell: Cell, port: int, seconds: float, folder: Path) -> Closed:
    request = payload(cell)
    body = folder / f"{cell.name}.body"
    body.write_bytes(request.body)
    # wrk takes whole seconds only; what it measured is divided by the time that it says it took.
    command = ["wrk", "-t1", f"-c{cell.connections}", f"-d{max(1, round(seconds))}", "--timeout", "10"]
    command += ["-s", str(SERVING / "load.lua"), f"http://127.0.0.1:{port}"]
    environment = {
        "BODY": str(body),
        "HEADER_BYTES": str(request.header_bytes),
        "REQUEST_PATH": path_of(cell.model),
    }
    output, busy = _run(command, seconds, environment)
    found = re.search(r"^RESULT (.*)$", output, re.MULTILINE)
    if not found:
        raise GeneratorFailed(f"wrk: {output[-300:]}")
    figures = json.loads(found[1])
    return Closed(
        requests=figures["requests"],
        seconds=figures["seconds"],
        bad=figures["errors"],
        p50_us=figures["p50_us"],
        p99_us=figures["p99_us"],
        busy=busy,
    )


def _grpc(cell: Cell, port: int, seconds: float, folder: Path, answer_bytes: int | None) -> Closed:
    body = folder / f"{cell.name}.body"
    body.write_bytes(wire.framed(payload(cell).body))
    command = ["h2load", "-t1", f"-c{cell.connections}", "-m1", f"-D{max(1, round(seconds))}", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{wire.METHOD}"]
    output, busy = _run(command, seconds, {})
    return parse_h2load(output, busy, answer_bytes)


def parse_h2load(output: str, busy: float, answer_bytes: int | None) -> Closed:
    """A gRPC error has status 200 and no data: data that is missing is counted in answers."""
    rate = re.search(r"finished in ([\d.]+)(m?s), ([\d.]+) req/s", output)
    counts = re.search(r"requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    statuses = re.search(r"status codes: (\d+) 2xx", output)
    traffic = re.search(r"\((\d+)\) data", output)
    if not (rate and counts and statuses and traffic):
        raise GeneratorFailed(f"h2load: {output[-300:]}")
    requests = int(counts[1])
    bad = requests - int(statuses[1]) + sum(int(counts[n]) for n in (2, 3, 4))
    if answer_bytes is not None:
        bad += max(0, requests - int(traffic[1]) // (answer_bytes + 5))
    seconds = float(rate[1]) / (1000 if rate[2] == "ms" else 1)
    return Closed(requests=requests, seconds=seconds, bad=max(0, bad), p50_us=None, p99_us=None, busy=busy)


def open_loop(cell: Cell, port: int, rate: int, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """Fields are those that open_loop.c prints."""
    body = folder / "open-loop.body"
    body.write_bytes(payload(cell).body)
    command = [str(_compiled()), str(port), path_of(cell.model), str(body), str(OPEN_LOOP_CONNECTIONS)]
    output, _ = _run([*command, str(rate), str(seconds), str(seed)], seconds, {})
    try:
        figures: dict[str, Any] = json.loads(output)
    except ValueError:
        raise GeneratorFailed(f"open_loop: {output[-300:]}") from None
    return figures


def _compiled() -> Path:
    source = SERVING / "open_loop.c"
    target = cache_folder() / f"open_loop-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        made = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-o", made, source, "-lm"], check=True)
        made.replace(target)
    return target


def prepare() -> None:
    """Compiles, so that no measurement has to wait for it."""
    _compiled()


def _run(command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> tuple[str, float]:
    """Output, and CPU time per second of wall clock."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run(
            ["taskset", "-c", GENERATOR_CORE, *command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=seconds + 40,
        )
    except subprocess.TimeoutExpired:
        raise GeneratorFailed(f"{command[0]} did not end") from None
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout + (done.stderr if done.returncode else ""), round(used / took, 3)

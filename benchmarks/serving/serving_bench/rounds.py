"""One round: every server once, every cell of it, in an order that changes from round to round.

A server is started once per model, since that is how ours is deployed, and once more for gRPC. The first start with
logreg is the one of which cold start and memory are reported. What goes wrong with a server or a cell becomes a
sentence in the result, and the round goes on: one peer that does not start must not cost the others' figures.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from . import answers, generators
from .cells import CELLS, OPEN_LOOP_CELL, Cell, payload
from .environments import REPOSITORY, SERVING, cache_folder
from .process import SERVER_CORE, ServerFailed, ServerProcess, free_ports
from .subjects import SOURCES, Place, Subject, environment_of

START_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.01
SENTENCE: Final = 400
WARM_UP_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 0.5
RATES: Final = (200, 1000, 5000, 10000)
NOT_RUNNING: Final = "the server did not run"
HELD: Final = 0.97  # of the arrivals must have been answered when the time is over, else the rate was not held

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """seconds: of one cell, and of one rate."""

    models: Path
    cells: Sequence[Cell]
    rates: Sequence[int]
    seconds: float


def measure(number: int, subjects: Sequence[Subject], options: Options) -> Figures:
    turn = number % len(subjects)
    found: Figures = {"round": number, "load_before": _load(), "limits": _limits(options.models), "servers": {}}
    for subject in (*subjects[turn:], *subjects[:turn]):
        print(f"round {number + 1}: {subject.title}", file=sys.stderr)
        found["servers"][subject.name] = _subject(number, subject, options)
    found["load_after"] = _load()
    return found


def _subject(number: int, subject: Subject, options: Options) -> Figures:
    found: Figures = {"closed": {}, "open": {}}
    cells = sorted((cell for cell in options.cells if subject.offers(cell)), key=_process_of)
    for (model, grpc), together in groupby(cells, key=_process_of):
        group = list(together)
        try:
            with running(subject, options.models, model, grpc) as server:
                if "start" not in found and model == OPEN_LOOP_CELL.model and not grpc:
                    found["start"] = server.start
                for cell in group:
                    found["closed"][cell.name] = _say(cell.name, _closed(server, cell, options))
                if subject.infers and model == OPEN_LOOP_CELL.model and not grpc:
                    found["open"] = _open(server, number, options)
        except (ServerFailed, OSError) as error:
            for cell in group:
                found["closed"].setdefault(cell.name, {"invalid": NOT_RUNNING})
            failure = f"{model}{' over gRPC' if grpc else ''}: {_sentence(error)}"
            found.setdefault("failures", []).append(failure)
            print(f"  {failure}", file=sys.stderr)
    return found


def _process_of(cell: Cell) -> tuple[str, bool]:
    """logreg over HTTP first."""
    return cell.model, cell.kind == "grpc"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that has answered once. start: what it took to get there."""

    subject: Subject
    process: ServerProcess
    place: Place
    start: Figures

    def port_for(self, cell: Cell) -> int:
        return self.place.grpc_port if cell.kind == "grpc" else self.place.http_port


@contextmanager
def running(
    subject: Subject,
    models: Path,
    model: str,
    grpc: bool,
    prefix: Sequence[str] = (),
) -> Iterator[Running]:
    """ServerFailed if it does not answer an inference in time. prefix: arguments of the interpreter."""
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        http_port, grpc_port, metrics_port = free_ports(3)
        place = Place(
            models=models,
            model=model,
            folder=Path(folder),
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            grpc=grpc,
        )
        launch = subject.launch(place)
        command = [launch.command[0], *prefix, *launch.command[1:]]
        environment = environment_of(place, launch)
        with ServerProcess(command, environment, Path(folder), Path(folder) / "server.log") as process:
            cold = _until_answer(process, place)
            time.sleep(SETTLE_SECONDS)
            rss, pss = process.memory_mib()
            start = {
                "cold_seconds": round(cold, 3),
                "rss_mib": round(rss, 1),
                "pss_mib": round(pss, 1),
                "processes": len(process.tree()),
            }
            yield Running(subject=subject, process=process, place=place, start=start)


def _until_answer(process: ServerProcess, place: Place) -> float:
    """Seconds from the start of the process to the first 200 of an inference."""
    request = payload(next(cell for cell in CELLS.values() if cell.model == place.model and cell.kind == "json"))
    while time.perf_counter() - process.started < START_SECONDS:
        try:
            if answers.ask(place.http_port, place.model, request, 5.0)[0] == 200:
                return time.perf_counter() - process.started
        except (OSError, http.client.HTTPException):
            process.check()
        time.sleep(POLL_SECONDS)
    raise ServerFailed(f"no answer within {START_SECONDS:.0f} s: {process.last_error()}")


def _closed(server: Running, cell: Cell, options: Options) -> Figures:
    port = server.port_for(cell)
    try:
        size = answers.check(cell, options.models, port) if server.subject.infers else None
        generators.closed(cell, port, WARM_UP_SECONDS, server.place.folder, size)
        before = server.process.cpu_seconds()
        done = generators.closed(cell, port, options.seconds, server.place.folder, size)
        used = server.process.cpu_seconds() - before
        if server.subject.infers:
            answers.check(cell, options.models, port)
    except (answers.WrongAnswer, generators.GeneratorFailed, OSError, http.client.HTTPException) as error:
        return {"invalid": _sentence(error)}
    if done.bad or not done.requests:
        return {"invalid": f"{done.bad} of {done.requests} requests were not answered properly"}
    return {
        "requests_per_second": round(done.requests / done.seconds, 1),
        "cpu_us": round(used / done.requests * 1e6, 1),
        "requests": done.requests,
        "p50_us": done.p50_us,
        "p99_us": done.p99_us,
        "generator_busy": done.busy,
    }


def _open(server: Running, number: int, options: Options) -> Figures:
    """Rates in rising order until one is not held."""
    found: Figures = {}
    for rate in sorted(options.rates):
        before = server.process.cpu_seconds()
        try:
            figures = generators.open_loop(
                OPEN_LOOP_CELL, server.place.http_port, rate, options.seconds, number + 1, server.place.folder
            )
        except (generators.GeneratorFailed, OSError) as error:
            found[str(rate)] = {"invalid": _sentence(error)}
            break
        used = server.process.cpu_seconds() - before
        figures["cpu_us"] = round(used / max(1, figures["total"] - figures["dropped"]) * 1e6, 1)
        figures["saturated"] = figures["answered"] < HELD * figures["total"]
        if figures["refused"] and not figures["saturated"]:
            figures["invalid"] = f"{figures['refused']} answers with another status than 200"
        found[str(rate)] = _say(f"{rate}/s", figures)
        if figures["saturated"]:
            break
    return found


def _limits(models: Path) -> dict[str, float]:
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "serving_bench.limits", str(models)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SERVING), SOURCES))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _say(name: str, figures: Mapping[str, Any]) -> Any:
    shown = ("invalid", "requests_per_second", "cpu_us", "p50_us", "p99_us", "saturated")
    print(f"  {name}: " + " ".join(f"{k}={figures[k]}" for k in shown if k in figures), file=sys.stderr)
    return figures


def _sentence(error: Exception) -> str:
    """On one line, of a size that a table's notes can bear, and without this machine's folders."""
    text = " ".join(str(error).split()) or repr(error)
    for folder, name in ((str(cache_folder()), "<cache>"), (str(REPOSITORY), "."), (str(Path.home()), "~")):
        text = text.replace(folder, name)
    return text if len(text) <= SENTENCE else f"{text[: SENTENCE // 4]} ... {text[-3 * SENTENCE // 4 :]}"


def _load() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]

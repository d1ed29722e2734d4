"""Our model server beside MLServer, KServe and FastAPI, on one core each. See README.md.

.venv/bin/python benchmarks/serving/bench.py             # measures, writes results/<date>-<n>.json
.venv/bin/python benchmarks/serving/bench.py --report    # prints the newest figures as tables
.venv/bin/python benchmarks/serving/bench.py --profile   # where our server's time goes
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE))

from serving_bench import environments, generators, profiling, report, rounds  # noqa: E402
from serving_bench.cells import CELLS, model_folders  # noqa: E402
from serving_bench.process import GENERATOR_CORE  # noqa: E402
from serving_bench.subjects import SUBJECTS, Subject  # noqa: E402

RESULTS: Final = HERE / "results"
PROFILES: Final = REPOSITORY / "build" / "bench-serving"
OUR_PACKAGES: Final = ("onnxruntime", "numpy", "uvloop", "httptools", "msgspec", "orjson", "hpack", "protobuf")
PEER_PACKAGES: Final = ("mlserver", "kserve", "fastapi")


def main() -> None:
    options = _options()
    if options.report:
        newest = report.newest(options.out)
        print(report.document(newest) if newest else f"no results in {options.out}")
        return
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")
    if missing := generators.missing():
        sys.exit("\n".join(missing))
    with (Path(tempfile.gettempdir()) / "steeltown-bench-serving.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another run of this benchmark is under way")
        if options.profile:
            _profile(options)
        else:
            _measure(options)


def _measure(options: argparse.Namespace) -> None:
    began = time.monotonic()
    subjects = [SUBJECTS[name] for name in options.servers]
    generators.prepare()
    result: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(subjects),
        "options": {"seconds": options.seconds, "rates": options.rates, "cells": options.cells},
        "rounds": [],
    }
    how = rounds.Options(
        models=model_folders(environments.cache_folder()),
        cells=[CELLS[name] for name in options.cells],
        rates=options.rates,
        seconds=options.seconds,
    )
    os.sched_setaffinity(0, {int(GENERATOR_CORE)})  # checks and polls are no business of the servers' core
    for number in range(options.rounds):
        result["rounds"].append(rounds.measure(number, subjects, how))
    result["seconds"] = round(time.monotonic() - began)
    path = _write(result, options.out)
    print(f"\n{path}\n\n{report.document(result)}")


def _profile(options: argparse.Namespace) -> None:
    text = profiling.profile(
        model_folders(environments.cache_folder()), max(5.0, options.seconds), PROFILES, options.profile
    )
    path = PROFILES / f"{options.profile}.txt"
    path.write_text(text + "\n")
    print(f"{text}\n\n{path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures model servers, one core each, on loopback.")
    parser.add_argument("--servers", type=_names_of(SUBJECTS), default=list(SUBJECTS), help=",".join(SUBJECTS))
    parser.add_argument("--cells", type=_names_of(CELLS), default=list(CELLS), help=",".join(CELLS))
    parser.add_argument("--rates", type=_numbers, default=list(rounds.RATES), help="of the open loop; '' for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell and each rate")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--report", action="store_true", help="print the newest results and measure nothing")
    parser.add_argument(
        "--profile",
        nargs="?",
        const="cprofile",
        choices=("cprofile", "py-spy"),
        help="profile our server instead of measuring; raw data goes to build/bench-serving",
    )
    return parser.parse_args()


def _names_of(known: Mapping[str, Any]) -> Any:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return chosen

    return names


def _numbers(text: str) -> list[int]:
    return sorted(int(each) for each in text.split(",") if each)


def _machine() -> dict[str, Any]:
    found = {"cores": os.cpu_count(), "architecture": platform.machine(), "kernel": platform.release()}
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found["cpu"] = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return found


def _versions(subjects: Sequence[Subject]) -> dict[str, Any]:
    """shown: what a reader of the table wants to know. environments: all that ran."""
    locks = sorted({subject.lock for subject in subjects if subject.lock})
    installed = {lock: environments.versions(lock) for lock in locks}
    ours = {name: version(name) for name in OUR_PACKAGES}
    shown = {"python": platform.python_version(), "onnxruntime": ours["onnxruntime"]}
    shown |= {lock: installed[lock][lock] for lock in locks if lock in PEER_PACKAGES}
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "shown": shown,
        "ours": ours,
        "generators": generators.versions(),
        "environments": installed,
    }


def _commit() -> str:
    git = ["git", "-C", str(REPOSITORY)]
    done = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        return "unknown"
    sources = (
        "images/server",
        "images/http2",
        "images/tensors",
        "operator/steeltown/contract",
        "benchmarks/serving/*.py",
    )
    changed = subprocess.run([*git, "status", "--porcelain", *sources], capture_output=True, text=True)
    return done.stdout.strip() + (" and changes" if changed.stdout.strip() else "")


def _write(result: Mapping[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    day = str(result["at"])[:10]
    number = 1 + max((int(p.stem.rpartition("-")[2]) for p in folder.glob(f"{day}-*.json")), default=0)
    path = folder / f"{day}-{number}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main()

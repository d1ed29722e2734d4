"""What the operator costs on a real API server: requests, CPU, memory, time. See README.md.

python3 tests/cluster up --control-plane
.venv/bin/python benchmarks/controller/bench.py             # measures, writes results/<date>-<n>.json
.venv/bin/python benchmarks/controller/bench.py --report    # prints the newest figures as a table
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPOSITORY / "operator")]

import report  # noqa: E402
import rounds  # noqa: E402
from argo_rollouts import ArgoRollouts  # noqa: E402
from machine import load, machine, versions, write_result  # noqa: E402
from plane_client import Plane  # noqa: E402
from subjects import Serving, ServingFloor, Subject, Training, TrainingFloor  # noqa: E402

RESULTS = HERE / "results"


def main() -> None:
    options = _options()
    if options.report:
        print(report.table(RESULTS))
        return
    subjects: dict[str, Subject] = {
        "serving-floor": ServingFloor(),
        "serving": Serving(),
        "training-floor": TrainingFloor(),
        "training": Training(),
    }
    if options.argo_rollouts:
        subjects["argo-rollouts"] = ArgoRollouts(Path(options.argo_rollouts))
    chosen = {name: subject for name, subject in subjects.items() if name in (options.subjects or subjects)}
    began = time.monotonic()
    with (Path(tempfile.gettempdir()) / "steeltown-bench-controller.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another run of this benchmark is under way")
        result = asyncio.run(_measure(chosen, options))
    result["seconds"] = round(time.monotonic() - began)
    path = write_result(result, Path(options.out) if options.out else RESULTS)
    print(f"\n{path}\n\n{report.table_of([result])}")
    if problems := report.broken(result):
        sys.exit("\n".join(problems))


async def _measure(subjects: Mapping[str, Subject], options: argparse.Namespace) -> dict[str, Any]:
    plane = await Plane.connect(_cluster("kubeconfig"))
    try:
        server = await plane.request("GET", "/version")
        result: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": {"kubernetes": server["gitVersion"]} | versions(),
            "subjects": {},
        }
        with tempfile.TemporaryDirectory(prefix="bench-controller-") as folder:
            for name, subject in subjects.items():
                result["subjects"][name] = {"title": subject.title, "children": subject.children, "rounds": []}
                if subject.budget:
                    result["subjects"][name]["budget"] = subject.budget
                if subject.floor:
                    result["subjects"][name]["floor"] = subject.floor
                async with rounds.installed(plane, subject):
                    for count, edits, idle in _plan(subject, options):
                        print(f"{name}: {count} objects", file=sys.stderr)
                        how = rounds.Options(
                            edits=edits,
                            idle_seconds=idle,
                            audit_log=Path(_cluster("audit-log")),
                            folder=Path(folder),
                        )
                        figures = await rounds.measure(plane, subject, count, how)
                        result["subjects"][name]["rounds"].append(figures)
                        print(f"  {_short(figures)}", file=sys.stderr)
                        if options.keep_log:
                            shutil.copy(how.folder / "subject.log", options.keep_log)
        result["machine"]["load_after"] = load()
        return result
    finally:
        await plane.close()


def _plan(subject: Subject, options: argparse.Namespace) -> list[tuple[int, int, float]]:
    """(objects, edits, idle seconds) of each round: edits and idling once, with the most objects."""
    sizes = sorted(options.sizes) if subject.whole else [max(options.sizes)]
    plan = [(0, 0, 0.0)] if subject.prepares else []
    for number in range(options.rounds):
        for size in sizes:
            more = subject.whole and size == sizes[-1] and number == 0
            plan.append((size, options.edits, options.idle) if more else (size, 0, 0.0))
    return plan


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the operator on a control plane without nodes.")
    parser.add_argument("--report", action="store_true", help="print the newest results and measure nothing")
    parser.add_argument("--subjects", type=lambda text: text.split(","), help="names, with commas; default: all")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=[100, 300])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to leave the controller alone")
    parser.add_argument("--argo-rollouts", help="folder with Argo Rollouts' `rollouts-controller` and its `crds/`")
    parser.add_argument("--out", help="folder for the results; default: results/ here")
    parser.add_argument("--keep-log", help="copy the log of the last round's controller to this file")
    return parser.parse_args()


def _short(figures: Mapping[str, Any]) -> str:
    names = ("converge_seconds", "cpu_ms_per_object", "writes_per_object", "reads_per_object", "load_before")
    text = " ".join(f"{name}={figures[name]}" for name in names if name in figures)
    edits = figures.get("edits")
    return text + (f" p50={edits['p50_ms']} p99={edits['p99_ms']}" if edits else "")


def _cluster(what: str) -> str:
    command = [sys.executable, str(REPOSITORY / "tests/cluster"), what, "--control-plane"]
    done = subprocess.run(command, capture_output=True, text=True)
    path = done.stdout.strip()
    if done.returncode or not Path(path).exists():
        sys.exit("there is no control plane: run `python3 tests/cluster up --control-plane`")
    return path


if __name__ == "__main__":
    main()

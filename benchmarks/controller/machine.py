"""On what a figure was measured, and where it is kept: the same for every benchmark of this folder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RESULTS = HERE / "results"


def machine() -> dict[str, Any]:
    found = {"cores": os.cpu_count(), "architecture": platform.machine(), "kernel": platform.release()}
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found["cpu"] = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {**found, "load_before": load()}


def load() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


def versions() -> dict[str, str]:
    packages = {"kopf": "kopf", "kubernetes client": "kubernetes", "aiohttp": "aiohttp", "pydantic": "pydantic"}
    return {
        "python": platform.python_version(),
        **{name: version(package) for name, package in packages.items()},
        "commit": _commit(),
    }


def _commit() -> str:
    git = ["git", "-C", str(REPOSITORY)]
    done = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        return "unknown"
    changed = subprocess.run([*git, "status", "--porcelain", "operator/steeltown"], capture_output=True, text=True)
    return done.stdout.strip() + (" and changes" if changed.stdout.strip() else "")


def write_result(result: Mapping[str, Any], folder: Path, *, prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    """The next number of its day."""
    day = prefix + str(result["at"])[:10]
    number = 1 + max((int(p.stem.rpartition("-")[2]) for p in folder.glob(f"{day}-*.json")), default=0)
    path = folder / f"{day}-{number}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path

"""Peers in virtual environments of their own, made on first use and kept in the cache.

Peers pin each other's libraries away, and none of them may decide what our own server runs with. An environment is
named after a hash of its lock file: a changed file makes a new one, an unchanged one costs nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SERVING = Path(__file__).resolve().parents[1]
REPOSITORY = SERVING.parents[1]
PEERS = SERVING / "peers"
sys.path.append(str(REPOSITORY / "tests" / "cluster"))
from layout import cache_root  # noqa: E402


def cache_folder() -> Path:
    folder = cache_root() / "bench-serving-venvs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def programs(name: str) -> Path:
    """The folder with the environment's `python` and commands, installing what peers/<name>.txt lists if need be."""
    lock_file = PEERS / f"{name}.txt"
    key = hashlib.sha256(lock_file.read_bytes() + sys.version.encode()).hexdigest()[:12]
    target = cache_folder() / f"{name}-{key}"
    target.mkdir(exist_ok=True)
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once: the second waits, then finds the first one's work
        if not (target / "complete").exists():
            print(f"installing {name} (minutes, once)", file=sys.stderr)
            _install(lock_file, target / "venv")
            (target / "complete").touch()
    return target / "venv" / "bin"


def versions(name: str) -> dict[str, str]:
    """All packages of the environment."""
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([programs(name) / "python", "-c", script], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return dict(sorted(found.items()))


def _install(lock_file: Path, venv: Path) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PIP_FIND_LINKS", "PYTHONPATH")}
    command = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([*command, "-r", str(lock_file)], check=True, env=environment)

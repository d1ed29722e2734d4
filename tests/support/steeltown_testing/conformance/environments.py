"""Virtual environments of off-the-shelf clients, made once per lock file and kept in the cache.

Clients of the protocol pin each other's libraries away (one wants an old grpcio, another a new one), and none of
them may decide what our own tests run with. So each gets an environment of its own, named after a hash of its lock
file: a changed file makes a new environment, an unchanged one costs nothing.
`python -m steeltown_testing.conformance.environments` makes them all ahead of time. h2spec, a program in Go, is the
cluster's to build, like the cluster's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[3]
FOLDER = TESTS / "conformance"
sys.path.append(str(TESTS / "cluster"))
import programs as go_programs  # noqa: E402
from layout import cache_root  # noqa: E402

LOCKS = FOLDER / "clients"
NAMES = ("triton", "kserve", "mlserver", "schemathesis")


def programs(name: str) -> Path:
    """The folder with `python` and the client's commands, installing what clients/<name>.txt lists if need be."""
    lock_file = LOCKS / f"{name}.txt"
    key = hashlib.sha256(lock_file.read_bytes() + sys.version.encode()).hexdigest()[:12]
    target = cache_root() / f"clients-{key}"
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once: the second waits, then finds the first one's work
        if not (target / "complete").exists():
            _install(lock_file, target / "venv")
            (target / "complete").write_text(f"{name}\n")
    return target / "venv" / "bin"


def h2spec() -> Path:
    """The program, built if need be."""
    return go_programs.folder(go_programs.H2SPEC) / "h2spec"


def _install(lock_file: Path, venv: Path) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PIP_FIND_LINKS", "PYTHONPATH")}
    command: list[str | Path] = [
        venv / "bin" / "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
    ]
    subprocess.run([*command, "-r", lock_file], check=True, env=environment)


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        print(each, programs(each))

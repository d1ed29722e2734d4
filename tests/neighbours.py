"""Runs end-to-end tests with the operator of one version and the images of another, in both directions.

    .venv/bin/python tests/neighbours.py REVISION

REVISION is the neighbour, a commit or tag of this repository. Each operator is tried by the tests of its own version:
a training, an import, a rollout under load, and what becomes of it when the operator is lost. First the neighbour's
operator with these images, then this operator, as an upgrade over it, with the neighbour's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TREE = REPOSITORY / "build" / "neighbour"
TESTS = ("tests/e2e/test_rollout.py", "tests/e2e/test_training.py")
CHOSEN = "test_rollout or built_in_trainer or file_contract or same_checks"
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

from steeltown_testing.environment import start  # noqa: E402

Names = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("revision", help="commit or tag of the neighbour")
    revision = parser.parse_args().revision
    environment = {**os.environ, "STEELTOWN_KUBECONFIG": start()}
    ours = _names(REPOSITORY)
    _run("git", "-C", str(REPOSITORY), "worktree", "add", "--force", "--detach", str(TREE), revision)
    try:
        _run(sys.executable, "images/build.py", "--load", "embedded", folder=TREE)
        theirs = _names(TREE)
        rounds = (
            (TREE, {**ours, "operator": theirs["operator"]}),
            (REPOSITORY, {**theirs, "operator": ours["operator"]}),
        )
        return max([_round(folder, names, environment) for folder, names in rounds])
    finally:
        _list(REPOSITORY).write_text(json.dumps(ours, indent=2, sort_keys=True) + "\n")
        _run("git", "-C", str(REPOSITORY), "worktree", "remove", "--force", str(TREE))


def _round(folder: Path, names: Names, environment: dict[str, str]) -> int:
    """The exit code of the tests of the tree in `folder`, with these images."""
    print(f"{folder.name}: {json.dumps(names)}", flush=True)
    _list(folder).write_text(json.dumps(names))
    command = [sys.executable, "-m", "pytest", "-q", *TESTS, "-k", CHOSEN]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def _list(folder: Path) -> Path:
    return folder / "build" / "images.json"


def _names(folder: Path) -> Names:
    found: Names = json.loads(_list(folder).read_text())
    return found


def _run(*command: str, folder: Path = REPOSITORY) -> None:
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main())

"""docs/extending.md is true: each example applies to a copy of the sources, costs the files it says, and works.

An example is a patch and a script, both in examples/extending. The script uses what the patch adds, and fails without
it. A change of the code that breaks an example is a change of how the house is extended: mend the patch and the page.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "extending"
PAGE = REPOSITORY / "docs" / "extending.md"
SOURCES = ("operator", "images")
IMPORTED = ("operator", "images/checker", "images/server", "images/trainer")
EXPLORED = REPOSITORY / "tests" / "support"
"""The world of the exploration tests, in which a phase or a router is seen at work."""


@dataclass(frozen=True, kw_only=True)
class Extension:
    """patch, script: in examples/extending. files: source files that it costs; the measure of the house."""

    patch: str
    script: str
    files: int


EXTENSIONS = {
    "data check": Extension(patch="data-check.patch", script="data_check.py", files=2),
    "guardrail": Extension(patch="guardrail.patch", script="guardrail.py", files=2),
    "gate check": Extension(patch="gate.patch", script="gate.py", files=2),
    "phase": Extension(patch="phase.patch", script="phase.py", files=4),
    "router": Extension(patch="router.patch", script="router.py", files=3),
    "trigger": Extension(patch="trigger.patch", script="trigger.py", files=2),
}
every = pytest.mark.parametrize("extension", EXTENSIONS.values(), ids=EXTENSIONS)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources, to do with as an extension likes."""
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "build")
        shutil.copytree(REPOSITORY / name, tmp_path / "copy" / name, ignore=ignored)
    return tmp_path / "copy"


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """In a folder that git takes for no part of a repository, with the copied sources to import."""
    env = {
        **os.environ,
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "PYTHONPATH": os.pathsep.join([*(str(folder / p) for p in IMPORTED), str(EXPLORED)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True, check=False)


def apply(extension: Extension, folder: Path, *options: str) -> str:
    done = run(folder, "git", "apply", *options, str(EXAMPLES / extension.patch))
    assert done.returncode == 0, f"{extension.patch} no longer applies; make it anew:\n{done.stderr}"
    return done.stdout


@every
def test_extension_costs_the_source_files_that_it_may(extension: Extension, copy: Path) -> None:
    touched = [line.split("\t")[2] for line in apply(extension, copy, "--numstat").splitlines()]
    outside = [path for path in touched if path.split("/")[0] not in SOURCES]
    assert (len(touched), outside) == (extension.files, []), touched


@every
def test_extension_works(extension: Extension, copy: Path) -> None:
    script = [sys.executable, str(EXAMPLES / extension.script)]
    assert run(copy, *script).returncode != 0, "the script does not need what the patch adds"
    apply(extension, copy)
    done = run(copy, *script)
    assert done.returncode == 0, done.stderr


@every
def test_extension_is_in_the_style_of_the_house(extension: Extension, copy: Path) -> None:
    apply(extension, copy)
    for check in (("check",), ("format", "--check")):
        ruff = ("ruff", *check, "--no-cache", "--config", str(REPOSITORY / "pyproject.toml"), *SOURCES)
        done = run(copy, sys.executable, "-m", *ruff)
        assert done.returncode == 0, done.stdout + done.stderr


@every
def test_page_names_the_extension_and_what_it_costs(extension: Extension) -> None:
    (row,) = (line for line in PAGE.read_text().splitlines() if f"(../examples/extending/{extension.patch})" in line)
    assert f"(../examples/extending/{extension.script})" in row
    assert f"| {extension.files} |" in row


def test_page_quotes_the_extensions_as_they_are() -> None:
    page = PAGE.read_text()
    patches = [(EXAMPLES / e.patch).read_text() for e in EXTENSIONS.values()]
    added = "\n".join(line[1:] for text in patches for line in text.splitlines() if line.startswith("+"))
    quoted = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    assert quoted
    for block in quoted:
        assert block in added, f"in no patch:\n{block}"


def test_every_file_of_the_examples_is_used() -> None:
    used = {name for e in EXTENSIONS.values() for name in (e.patch, e.script)}
    assert {p.name for p in EXAMPLES.iterdir() if p.is_file()} == used

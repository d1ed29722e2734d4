"""A server under test as its own process: what is said of one that ends, and the ports it is given."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from serving_bench.process import ServerFailed, ServerProcess, free_ports

pytestmark = pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset pins the server to a core")


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def run(script: str, folder: Path) -> ServerProcess:
    return ServerProcess([sys.executable, "-c", script], dict(os.environ), folder, folder / "log")


def check_until_it_ends(process: ServerProcess) -> None:
    for _ in range(1000):
        process.check()
        time.sleep(0.01)


def test_a_server_that_ends_is_told_with_its_exception_and_not_with_its_last_words(tmp_path: Path) -> None:
    script = "import traceback\ntry: int('x')\nexcept ValueError: traceback.print_exc()\nprint('bye'); exit(3)"
    with run(script, tmp_path) as process:
        wait_for(lambda: "bye" in (tmp_path / "log").read_text())
        with pytest.raises(ServerFailed, match="ended with 3: ValueError: invalid literal"):
            check_until_it_ends(process)


def test_cost_is_that_of_the_children_too_and_they_end_with_it(tmp_path: Path) -> None:
    script = "import os, time\nif not os.fork():\n    while time.process_time() < 0.3: pass\ntime.sleep(60)"
    with run(script, tmp_path) as process:
        wait_for(lambda: len(process.tree()) == 2)
        child = process.tree()[1]
        wait_for(lambda: process.cpu_seconds() >= 0.25)
    wait_for(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())


def test_ports_are_distinct() -> None:
    assert len(set(free_ports(3))) == 3

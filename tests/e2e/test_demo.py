"""The demo is a test: its claims hold on this cluster, under constant load."""

from __future__ import annotations

import subprocess
import sys

from steeltown_testing.environment import REPOSITORY
from steeltown_testing.kubectl import Kubectl


def test_every_claim_of_the_demo_holds(everywhere: Kubectl) -> None:
    command = [sys.executable, str(REPOSITORY / "examples/flight-delay/demo.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "claims, 0 failed" in done.stdout

"""h2spec, the suite of others for HTTP/2 and HPACK, against the gRPC port."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest
from steeltown_testing.conformance import target as targets
from steeltown_testing.conformance.environments import h2spec

pytestmark = pytest.mark.clients

METHOD = "/inference.GRPCInferenceService/ServerLive"
HEADER_BYTES = 4000  # of one header field that it sends: a frame of them exceeds the limit of frames as it is meant to
RUN_SECONDS = 180


def test_h2spec_finds_nothing(target: Callable[[str], targets.Target]) -> None:
    place = target("single").grpc
    if not place:
        pytest.skip("the server under test has no gRPC port that we know")
    host, _, port = place.rpartition(":")
    command = [str(h2spec()), "--host", host, "--port", port, "--path", METHOD]
    command += ["--max-header-length", str(HEADER_BYTES), "--timeout", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
    counts = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert counts, done.stdout[-2000:] + done.stderr
    total, passed, skipped, failed = map(int, counts.groups())
    assert (failed, skipped) == (0, 0), done.stdout[done.stdout.rfind("Failures:") :]
    assert passed == total > 140

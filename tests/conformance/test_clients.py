"""Clients that others wrote, as they come from the registry: each in its own environment, run as a process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from steeltown_testing.conformance import target as targets
from steeltown_testing.conformance.environments import LOCKS, programs

pytestmark = pytest.mark.clients

MODELS = ("single", "types", "words", "half")
RUN_SECONDS = 180


@pytest.mark.parametrize(
    ("script", "environment"),
    [
        ("triton_http", "triton"),
        ("triton_grpc", "triton"),
        ("grpc_table", "triton"),
        ("kserve_rest", "kserve"),
        ("kserve_grpc", "kserve"),
        ("mlserver_cli", "mlserver"),
    ],
)
def test_client_gets_what_it_expects(script: str, environment: str, target: Callable[[str], targets.Target]) -> None:
    servers = {model: target(model) for model in MODELS}
    over_grpc = "grpc" in script
    if over_grpc:
        assert all(s.grpc for s in servers.values()), "the server has no gRPC port"
    places = {m: s.grpc if over_grpc else s.url.removeprefix("http://") for m, s in servers.items()}
    checks = _run(programs(environment) / "python", LOCKS / f"{script}.py", places)
    wrong = [f"{c['name']}: {c['detail']}" for c in checks if not c["ok"]]
    assert not wrong, f"{len(wrong)} of {len(checks)} checks failed\n" + "\n".join(wrong)
    assert checks


def _run(python: Path, script: Path, places: dict[str, str]) -> list[dict[str, str | bool]]:
    not_theirs = ("http_proxy", "https_proxy", "all_proxy", "pythonpath")
    environment = {k: v for k, v in os.environ.items() if k.lower() not in not_theirs}
    command: list[str | Path] = [python, script, *(f"{model}={place}" for model, place in places.items())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    assert done.returncode == 0, f"{script.name} ended: {done.stderr[-3000:]}"
    return [json.loads(line) for line in lines]

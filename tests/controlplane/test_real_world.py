"""The exploration's schedules on a real API server: what holds in memory holds there, and both end alike.

Without a crash, and with the operator dying once before or after a write that a seed has chosen. All schedules of a
scenario run at the same time, each in a namespace of its own: most of their time they wait for the controllers.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from steeltown_testing.explore.real import explore
from steeltown_testing.explore.scenarios import SCENARIOS
from steeltown_testing.explore.schedule import Explorer, Scenario
from steeltown_testing.operator_process import install_resources

SEED = int(os.environ.get("STEELTOWN_EXPLORE_SEED", "20260101"))
CRASHES = 6
CHOSEN = ("first rollout", "good rollout", "bad rollout: failing", "A to B to A mid-canary")
SAMPLE = [replace(scenario, replicas=1) for scenario in SCENARIOS if scenario.name in CHOSEN]
"""With one replica: Kubernetes' controllers may make only 20 requests a second each, and set the pace."""


@pytest.fixture(scope="module")
def installed(kubeconfig: str) -> str:
    """The kubeconfig of a server that knows the resources."""
    install_resources(kubeconfig)
    return kubeconfig


def schedules(scenario: Scenario, writes: int) -> list[dict[int, str]]:
    generator = random.Random(f"{SEED} {scenario.name}")
    chosen = generator.sample(range(1, writes + 1), CRASHES)
    return [{}, *({write: generator.choice(("before", "after"))} for write in chosen)]


@pytest.mark.parametrize("scenario", SAMPLE, ids=lambda s: s.name)
def test_schedule_on_a_real_server_ends_as_in_memory(scenario: Scenario, installed: str) -> None:
    in_memory = Explorer(scenario).run()
    crashes = schedules(scenario, in_memory.applier.count)
    with ThreadPoolExecutor(len(crashes)) as pool:
        runs = [pool.submit(explore, installed, scenario, crash_at) for crash_at in crashes]
    for crash_at, run in zip(crashes, runs, strict=True):
        try:
            end, log = run.result()
            assert end == in_memory.final(), "\n".join(log)
        except AssertionError as error:
            pytest.fail(f"replay: explore(kubeconfig, {scenario.name!r}, {crash_at}), seed {SEED}\n{error}")


def test_sample_holds_every_scenario_that_was_chosen() -> None:
    assert {scenario.name for scenario in SAMPLE} == set(CHOSEN)

"""The operator dies before and after every write of every scenario, and dies or loses its Lease at sampled pairs.

After each death it starts from nothing. At every intermediate state the invariants of `explore.schedule`
hold, and the end is that of the undisturbed run: a world whose whole state, time included, has come to be that of
the undisturbed run is not followed further. A failing schedule prints what replays it.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from functools import cache

import pytest
from steeltown.api.mlmodel import Phase
from steeltown.contract.evidence import Counts, Evidence
from steeltown.core.plan import Obj
from steeltown.core.rollout import LOAD_CHECK_ATTEMPTS
from steeltown_testing.explore.nature import Nature
from steeltown_testing.explore.scenarios import SCENARIOS
from steeltown_testing.explore.schedule import Explorer, Scenario

SEED = int(os.environ.get("STEELTOWN_EXPLORE_SEED", "20260101"))
PAIRS = int(os.environ.get("STEELTOWN_EXPLORE_PAIRS", "12"))

by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)


@cache
def undisturbed(scenario: Scenario) -> Explorer:
    return Explorer(scenario).run()


@by_name
def test_undisturbed_run_ends_with_the_expected_version_live(scenario: Scenario) -> None:
    explorer = undisturbed(scenario)
    live = explorer.status.versions.live
    assert (live.run if live else "") == scenario.expected_live
    if scenario.expected_live:
        assert explorer.settled()
    if explorer.model is not None and explorer.model["spec"]["stage"] == "Production":
        assert live is not None
        assert explorer.promoted_digest == live.digest


@by_name
def test_a_crash_at_every_single_write_changes_nothing_in_the_end(scenario: Scenario) -> None:
    forks: list[tuple[int, str, Explorer]] = []
    plain = Explorer(scenario, forks=forks).run()
    assert forks
    for write, moment, world in forks:
        try:
            assert world.rejoins(plain) or world.final() == plain.final()
        except AssertionError as error:
            log = "\n".join(world.cluster.log)
            pytest.fail(f"replay: Explorer({scenario.name!r}, crash_at={{{write}: {moment!r}}})\n{error}\n{log}")


@by_name
def test_two_crashes_or_lost_leases_change_nothing_in_the_end(scenario: Scenario) -> None:
    plain = undisturbed(scenario)
    generator = random.Random(f"{SEED} {scenario.name}")
    for _ in range(PAIRS):
        first, second = sorted(generator.sample(range(1, plain.applier.count + 3), 2))
        crash_at = {w: generator.choice(("before", "after", "lost")) for w in (first, second)}
        explorer = Explorer(scenario, crash_at=crash_at)
        try:
            assert explorer.rejoins(plain) or explorer.final() == plain.final()
        except AssertionError as error:
            log = "\n".join(explorer.cluster.log)
            pytest.fail(f"replay: Explorer({scenario.name!r}, crash_at={crash_at}), seed {SEED}\n{error}\n{log}")


def test_load_check_that_cannot_tell_is_tried_again_and_then_a_person_is_asked() -> None:
    (scenario,) = (s for s in SCENARIOS if s.name == "bad rollout: unmeasurable")
    explorer = undisturbed(scenario)
    checks = [line for line in explorer.cluster.log if "Create Job/m-load" in line]
    assert len({line.partition(": ")[2] for line in checks}) == 1 + LOAD_CHECK_ATTEMPTS, explorer.cluster.log
    stalled = next(c for c in explorer.status.conditions if c.type == "Stalled")
    assert f"inconclusive after {LOAD_CHECK_ATTEMPTS} load checks" in stalled.message


class OfAnotherStep(Nature):
    """Pods that have not seen the new route yet, and tell what they counted under one of long ago: all bad."""

    def evidence(self, pod: Obj) -> Evidence | None:
        seen = super().evidence(pod)
        bad = Counts(requests=5000, errors=5000)
        return seen and replace(seen, window="of long ago", canary=bad)


def test_evidence_of_another_window_counts_for_nothing() -> None:
    (scenario,) = (s for s in SCENARIOS if s.name == "good rollout")
    explorer = Explorer(scenario, nature_of=OfAnotherStep).run()
    assert explorer.phase(Phase.SHIFTING, 0), explorer.cluster.log[-5:]
    canary = next(c for c in explorer.status.conditions if c.type == "CanaryPassed")
    assert canary.status == "Unknown"

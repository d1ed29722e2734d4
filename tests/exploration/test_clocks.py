"""Clocks that are set forth and back by an hour, and an operator that is away for two days.

A deadline is about time that has passed for the work in question, so neither may end what has only just begun, nor
pass what nobody has looked at: each schedule ends as it would have ended on time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from steeltown.api.mlmodel import Phase
from steeltown_testing.explore.nature import REQUESTS_PER_TICK, Behaviour, Trouble, of_run, trained_by
from steeltown_testing.explore.scenarios import (
    GOOD_A,
    GOOD_B,
    PHASES,
    begun,
    create,
    live_is,
    retrain,
    rolling_out,
    run,
)
from steeltown_testing.explore.schedule import Explorer

HOUR, DAY = 3600, 86400
JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forth", "back"])
WHOSE = pytest.mark.parametrize("whose", ["all clocks", "the operator's clock"])
HARSH: dict[str, Any] = {"onInconclusive": "Rollback", "progressDeadlineSeconds": 60}
"""What is inconclusive after a minute is rolled back: a jump of an hour passes every deadline of a rollout."""
LATE_FAILING = Behaviour("latefailing", "b")


def at(phase: str, candidate: Behaviour = GOOD_B) -> Explorer:
    return rolling_out(phase, candidate, **HARSH)


def set_clock(x: Explorer, whose: str, seconds: int) -> None:
    if whose == "all clocks":
        x.cluster.jump(seconds)
    else:
        x.cluster.skew += timedelta(seconds=seconds)


def poke(x: Explorer, kind: str) -> None:
    """Somebody else writes on objects, so that the operator looks again."""
    for obj in x.cluster.of_kind(kind):
        x.cluster.set_metadata(obj, annotations={**(obj["metadata"].get("annotations") or {}), "other/note": "x"})


def load_checks(x: Explorer) -> int:
    return sum("Create Job/m-load" in line for line in x.cluster.log)


# --- jumps -----------------------------------------------------------------------------------------------------------


@JUMPS
@WHOSE
@pytest.mark.parametrize("phase", PHASES)
def test_clock_that_jumps_in_a_rollout_changes_neither_its_end_nor_much_of_its_length(
    phase: str, whose: str, jump: int
) -> None:
    """Fails when the age of a phase is what the wall clock says: it is over at once, or an hour late."""
    x = at(phase)
    set_clock(x, whose, jump)
    x.until(live_is("m-v2"), within=90).settle()
    assert x.promoted_digest == GOOD_B.model_digest
    assert [(h.run, h.outcome) for h in x.status.history] == [("m-v2", "Promoted"), ("m-v1", "Promoted")]


@JUMPS
@WHOSE
@pytest.mark.parametrize("phase", ["loading", "first step"])
def test_clock_that_jumps_while_a_phase_waits_rejects_nobody(phase: str, whose: str, jump: int) -> None:
    """Fails when a deadline passes by itself, with the Pod or the evidence still on its way."""
    x = begun(create(GOOD_A, **HARSH), retrain(GOOD_B)).until(live_is("m-v1"))
    if phase == "loading":
        x.nature.trouble(Trouble.UNSCHEDULABLE, of_run("m-v2"))
    else:
        x.until(PHASES[phase])
        x.nature.trouble(Trouble.MUTE)
    x.until(lambda x: PHASES[phase](x) and x.rollout is not None and x.rollout["run"] == "m-v2")
    x.go(5)
    set_clock(x, whose, jump)
    poke(x, "Pod")
    x.go(5)
    assert x.outcome("m-v2")[0] == ""
    x.nature.heal()
    x.until(live_is("m-v2"), within=120).settle()


@JUMPS
@WHOSE
def test_bake_is_not_over_because_a_clock_jumps(whose: str, jump: int) -> None:
    """Fails when the hour that never was counts as an hour of healthy traffic."""
    x = at("baking", LATE_FAILING)
    set_clock(x, whose, jump)
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=60).settle()
    assert x.live == "m-v1"


@JUMPS
@WHOSE
@pytest.mark.parametrize("pending", [True, False], ids=["its Pod waits", "its Pod works"])
def test_run_outlives_a_clock_that_jumps(pending: bool, whose: str, jump: int) -> None:
    """Fails when a start deadline of ten minutes is over after ten seconds of waiting."""
    x = begun(create(GOOD_A))
    x.nature.trouble(Trouble.UNSCHEDULABLE if pending else Trouble.BUSY, trained_by("m-v1"))
    x.go(5)
    set_clock(x, whose, jump)
    poke(x, "Job")
    x.go(5)
    assert not (run(x, "m-v1").get("status") or {}).get("completionTime")
    x.nature.heal()
    x.settle()
    assert x.condition("Ready", of=run(x, "m-v1"))[:2] == ("True", "Succeeded")
    assert x.live == "m-v1"


@JUMPS
def test_abort_is_as_fast_as_ever_after_a_clock_has_jumped(jump: int) -> None:
    """Fails when a rollback waits for a time that lies an hour ahead."""
    x = begun(create(GOOD_A), retrain(Behaviour("failing", "b"))).until(live_is("m-v1"))
    x.until(lambda x: x.phase(Phase.ROLLING_BACK), within=60)
    x.cluster.jump(jump)
    x.until(lambda x: x.rollout is None, within=40).settle()
    assert x.live == "m-v1"


# --- a clock that jumps, and then a restart -------------------------------------------------------------------------
#
# A process that goes on counts by a steady clock and never sees the jump; the one after it reads the new time.


def rolling_back() -> Explorer:
    """m-v1 is live, the canary of m-v2 has failed."""
    x = begun(create(GOOD_A, **HARSH), retrain(Behaviour("failing", "b"))).until(live_is("m-v1"))
    return x.until(lambda x: x.phase(Phase.ROLLING_BACK), within=60)


def restart(x: Explorer, whose: str, jump: int) -> None:
    set_clock(x, whose, jump)
    x.take_over()


@JUMPS
@WHOSE
@pytest.mark.parametrize("phase", [*PHASES, "rolling back"])
def test_operator_that_restarts_after_a_jump_ends_the_rollout_as_it_would_have(
    phase: str, whose: str, jump: int
) -> None:
    """Fails when the age of a phase is read off a clock that has jumped: it is over at once, or an hour late."""
    x = rolling_back() if phase == "rolling back" else at(phase)
    restart(x, whose, jump)
    if phase == "rolling back":
        x.go(x.abort_ticks)
        assert not any(route.weight for route in x._routes().values())
        x.until(lambda x: x.rollout is None, within=40).settle()
        assert (x.live, x.outcome("m-v2")[0]) == ("m-v1", "RolledBack")
    else:
        x.until(live_is("m-v2"), within=90).settle()
        assert x.promoted_digest == GOOD_B.model_digest
        assert [(h.run, h.outcome) for h in x.status.history] == [("m-v2", "Promoted"), ("m-v1", "Promoted")]


@JUMPS
@WHOSE
def test_step_that_waits_for_its_users_calls_nobody_after_a_jump_and_a_restart(whose: str, jump: int) -> None:
    """Fails when a deadline has passed by the new clock before the new process has watched for a while."""
    x = at("first step")
    x.nature.requests_per_tick = 0
    x.go(5)
    restart(x, whose, jump)
    for _ in range(20):
        x.go(1)
        assert x.condition("Stalled")[0] == "", x.told()
    assert x.phase(Phase.SHIFTING, 0)
    x.nature.requests_per_tick = REQUESTS_PER_TICK
    x.until(live_is("m-v2"), within=120).settle()


@JUMPS
@WHOSE
@pytest.mark.parametrize("phase", ["first step", "second step", "baking"])
def test_version_that_fails_is_rolled_back_whatever_the_clock_of_a_new_process_says(
    phase: str, whose: str, jump: int
) -> None:
    """Fails when an hour that never was passes a step, or the bake."""
    x = at(phase, LATE_FAILING)
    restart(x, whose, jump)
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=120).settle()
    assert x.live == "m-v1"


@JUMPS
@WHOSE
@pytest.mark.parametrize("trouble", [Trouble.UNSCHEDULABLE, Trouble.BUSY])
def test_run_outlives_a_jump_and_a_restart(trouble: Trouble, whose: str, jump: int) -> None:
    """Fails when the start deadline of a Pod, or a run, is counted by a clock that has jumped."""
    x = begun(create(GOOD_A))
    x.nature.trouble(trouble, trained_by("m-v1"))
    x.go(5)
    restart(x, whose, jump)
    x.go(5)
    assert not (run(x, "m-v1").get("status") or {}).get("completionTime")
    x.nature.heal()
    x.settle()
    assert x.condition("Ready", of=run(x, "m-v1"))[:2] == ("True", "Succeeded")


# --- absence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_operator_that_was_away_for_two_days_ends_a_rollout_as_it_would_have(phase: str) -> None:
    """Fails when the time without an operator counts as time in which nothing was proven."""
    x = at(phase)
    x.absence(2 * DAY)
    x.until(live_is("m-v2"), within=120).settle()
    assert x.promoted_digest == GOOD_B.model_digest
    assert [(h.run, h.outcome) for h in x.status.history] == [("m-v2", "Promoted"), ("m-v1", "Promoted")]


@pytest.mark.parametrize("phase", ["first step", "baking"])
def test_version_that_fails_is_rolled_back_after_an_absence(phase: str) -> None:
    """Fails when two days without a look count as two good days."""
    x = at(phase, LATE_FAILING)
    x.absence(2 * DAY)
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=120).settle()
    assert x.live == "m-v1"


def test_run_that_ended_in_an_absence_has_its_result_however_long_that_was() -> None:
    """Fails when Jobs are collected by their age: then a long absence of the operator looks like a deletion."""
    x = begun(create(GOOD_A)).until(lambda x: x.cluster.get("Job", "m-v1-run") is not None, within=5)
    x.absence(2 * DAY)
    assert x.cluster.get("Job", "m-v1-run") is not None
    x.go(3)
    assert x.condition("Ready", of=run(x, "m-v1"))[:2] == ("True", "Succeeded")
    assert list(x.nature.trained.values()) == [1]


def test_run_that_has_ended_is_no_other_after_its_job_was_collected() -> None:
    """Fails when a finished run is judged by a Job that is gone."""
    x = begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v2")).settle()
    before = x.final()
    x.absence(2 * DAY)
    x.settle()
    assert x.cluster.of_kind("Job") == []
    assert x.final() == before


@pytest.mark.parametrize("away", [True, False], ids=["operator away", "operator there"])
def test_held_load_check_does_not_run_again_when_its_job_is_collected(away: bool) -> None:
    """Fails when the verdict is read from a Job each time: once it is gone, the check begins anew."""
    x = begun(create(GOOD_A), retrain(Behaviour("unmeasurable", "b"))).until(live_is("m-v1"))
    x.until(lambda x: x.rollout is not None and x.condition("Stalled")[0] == "True").settle()
    before = load_checks(x)
    if away:
        x.absence(2 * DAY)
    else:
        x.idle(2 * DAY)
    x.settle()
    assert load_checks(x) == before
    assert x.cluster.of_kind("Job") == []
    assert x.condition("Stalled")[0] == "True"

"""Baking: passes only for a version that stands at its end, and goes back while the old one can answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.mlmodel import Phase
from steeltown.core.rollout import Wanted
from steeltown.core.rollout.baking import BAKING
from steeltown.core.rollout.phase import Done, Fail, Inconclusive, Stay, To
from steeltown.core.routing.router import Share
from steeltown_testing.structs import (
    ID,
    NEW,
    OLD,
    ago,
    case,
    counts,
    fleet,
    in_words,
    off_route,
    situation,
    step_route,
    stray,
    told,
)

BAKE = off_route("bake")
OVER: dict[str, Any] = {"seconds": 60}


def seen(requests: int = 10, errors: int = 0, **more: Any) -> dict[str, Any]:
    """What the one Pod of the new version has counted of its own answers."""
    return {"route": BAKE, "evidence": told(BAKE, live=counts(requests, errors)), **more}


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        # all is well
        (seen(), "stay"),
        (seen(seconds=59), "stay"),
        (seen(**OVER), "done Promoted"),
        (seen(bake=0, seconds=0), "done Promoted"),
        (seen(seconds=-3600), "stay"),
        (seen(7, **OVER), "done Promoted"),  # few requests are no harm
        (seen(40), "record Baking"),
        (seen(40, rollout={"fail_look": 2}), "stay"),
        (seen(40, **OVER), "record Baking"),
        (seen(40, **OVER, rollout={"fail_look": 2}), "done Promoted"),
        # no other version shared the traffic
        ({"previous": None}, "done Promoted"),
        ({"previous": NEW}, "done Promoted"),
        ({"step": -1}, "done Promoted"),
        ({"live": OLD}, "fail Superseded (Superseded)"),
        ({"live": None}, "fail Superseded (Superseded)"),
        ({"live": OLD, "step": -1}, "fail Superseded (Superseded)"),
        # harm
        (seen(40, 40), "fail CanaryPassed ErrorRateTooHigh"),
        (seen(40, 40, **OVER), "fail CanaryPassed ErrorRateTooHigh"),
        (seen(new="ready crashing", replicas=2), "fail CanaryPassed Crashing"),
        (seen(new="ready crashing", replicas=2, **OVER), "fail CanaryPassed Crashing"),
        (seen(new="ready out-of-memory", replicas=2, old="unready"), "fail CanaryPassed Crashing"),
        (seen(new="just-crashed"), "fail CanaryPassed Crashing"),  # ready between two crashes
        (seen(new="crashing", seconds=0), "fail CanaryPassed Crashing"),
        (seen(new="just-crashed", seconds=1), "fail CanaryPassed Crashing"),  # as it began
        (seen(new="once-crashed"), "stay"),  # before the bake, and it got over that
        (seen(new="once-crashed", **OVER), "done Promoted"),
        (seen(new="ready busy", replicas=2), "stay"),
        # nobody answers, although the old version could: its own doing where it runs
        (seen(new="unready"), "fail CanaryPassed Crashing"),
        (seen(new="unready", **OVER), "fail CanaryPassed Crashing"),
        (seen(new="unready cut-off", replicas=2), "fail CanaryPassed Crashing"),
        (seen(new="unready pulling", replicas=2), "fail CanaryPassed Crashing"),
        (seen(new="unready@9"), "stay"),
        (seen(new="unready@10"), "fail CanaryPassed Crashing"),
        (seen(new="unready@9 unready@10", replicas=2), "stay"),
        (seen(new="unready", old="unready"), "stay"),
        (seen(new="unready", old=None), "stay"),
        (seen(new=fleet(NEW, "unready", ready=0)), "fail CanaryPassed Crashing"),
        # and else the platform's
        (seen(new="cut-off"), "fail CapacityMissing (Superseded)"),
        (seen(new="cut-off", **OVER), "fail CapacityMissing (Superseded)"),
        (seen(new="cut-off@9"), "stay"),
        (seen(new="cut-off@10"), "fail CapacityMissing (Superseded)"),
        (seen(new="cut-off", old="unready"), "stay"),
        (seen(new="evicted"), "fail CapacityMissing (Superseded)"),
        (seen(new="unschedulable pulling", replicas=2), "fail CapacityMissing (Superseded)"),
        (seen(new=""), "fail CapacityMissing (Superseded)"),
        (seen(new=None), "fail CapacityMissing (Superseded)"),
        (seen(new="", replicas=0), "stay"),
        (seen(new=fleet(NEW, "ready", observed=False)), "stay"),  # an edit that no controller has seen
        (seen(new=fleet(NEW, "", ready=1)), "stay"),  # Pods of the template before answer while it is replaced
        # it passes only if it stands
        (seen(new="ready unready", replicas=2, **OVER), "stay"),
        (seen(new="ready pulling", replicas=2, seconds=659), "stay"),
        (seen(new="ready pulling", replicas=2, seconds=660), "inconclusive CapacityMissing (platform)"),
        (seen(new="unready", old="unready", seconds=660), "inconclusive CapacityMissing (platform)"),
        ({"new": "", "replicas": 0, **OVER}, "done Promoted"),
        # it passes only if it has told what it counted
        ({**OVER}, "stay"),
        ({"seconds": 119}, "stay"),
        ({"seconds": 120}, "inconclusive EvidenceUnreadable (platform)"),
        (seen(new="ready ready", replicas=2, seconds=120), "inconclusive EvidenceUnreadable (platform)"),
        ({"evidence": told(step_route(), live=counts(10)), **OVER}, "stay"),
        ({"evidence": told(BAKE, live=counts(10), fingerprint="bent"), **OVER}, "stay"),
        ({"evidence": told(BAKE, live=counts(40, 40), fingerprint="bent")}, "stay"),
    ],
    ids=case,
)
def test_decision(situated: dict[str, Any], expected: str) -> None:
    assert in_words(BAKING.decide(situation(Phase.BAKING, **situated))) == expected


KEPT = Wanted(
    candidate=1, keep=(OLD,), live=NEW, grants=True, share=Share(stable=NEW, window=f"{ID}-bake"), observe=True
)
ALONE = Wanted(candidate=1, live=NEW, grants=True)


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        ({}, KEPT),
        ({"replicas": 3}, replace(KEPT, candidate=3)),
        ({"new": "unready", "old": "unready"}, KEPT),
        ({"previous": None}, ALONE),
        ({"previous": NEW}, ALONE),
        ({"step": -1}, ALONE),
        ({"live": OLD, "previous": NEW}, replace(ALONE, live=OLD)),
    ],
    ids=case,
)
def test_wanted(situated: dict[str, Any], expected: Wanted) -> None:
    """The old version stays at full capacity, and the new one counts its own requests in a window of the bake."""
    assert BAKING.wanted(situation(Phase.BAKING, **situated)) == expected


@pytest.mark.parametrize("situated", [seen(**OVER), {"previous": None}], ids=case)
def test_history_says_that_traffic_has_shifted(situated: dict[str, Any]) -> None:
    done = Done(result="Promoted", reason="TrafficShifted")
    assert BAKING.decide(situation(Phase.BAKING, **situated)) == done


@pytest.mark.parametrize("change", [{"finishedAt": ago(1)}, {"finishedAt": None}], ids=["just now", "not told when"])
def test_any_container_that_has_just_ended_is_a_crash_of_the_bake(change: dict[str, Any]) -> None:
    made = fleet(NEW, "once-crashed")
    status = made.pods[0]["status"]
    (server,) = status["containerStatuses"]
    server["lastState"] = {"terminated": {**server["lastState"]["terminated"], **change}}
    fetched = {"name": "fetch", "lastState": {"terminated": {"exitCode": 0, "finishedAt": ago(9000)}}}
    status["initContainerStatuses"] = [fetched, {"name": "other", "lastState": None}]
    assert in_words(BAKING.decide(situation(Phase.BAKING, **seen(new=made)))) == "fail CanaryPassed Crashing"


def test_look_is_recorded_and_the_bake_does_not_begin_anew() -> None:
    c = situation(Phase.BAKING, **seen(80, 1))
    decision = BAKING.decide(c)
    assert isinstance(decision, To)
    assert (decision.rollout.fail_look, decision.rollout.phase_time) == (3, c.rollout.phase_time)


@pytest.mark.parametrize(
    ("situated", "seconds"),
    [
        (seen(seconds=20), 40),
        (seen(seconds=-3600), 60),  # the wall clock jumped back: the whole bake again, never more
        (seen(new="ready unready", replicas=2, seconds=70), 590),
        ({"seconds": 70}, 50),
    ],
    ids=case,
)
def test_is_asked_again(situated: dict[str, Any], seconds: float) -> None:
    assert BAKING.decide(situation(Phase.BAKING, **situated)) == Stay(requeue_after=seconds)


@pytest.mark.parametrize(
    ("situated", "words"),
    [
        (seen(40, 40), "during the bake: 40 of 40 requests failed"),
        (seen(new="ready crashing", replicas=2), "during the bake: container server keeps exiting with code 1"),
        (seen(new="unready"), "during the bake: no Pod of m-v2 is ready"),
        (seen(new="cut-off"), "during the bake: no Pod of m-v2 is ready"),
        (seen(new="ready pulling", replicas=2, seconds=660), "1 of 2 replicas of m-v2 are ready"),
        ({"seconds": 120}, "cannot read request counts from every Pod of m-v2"),
    ],
    ids=case,
)
def test_why_is_told(situated: dict[str, Any], words: str) -> None:
    decision = BAKING.decide(situation(Phase.BAKING, **situated))
    assert isinstance(decision, Fail | Inconclusive)
    assert words in decision.message


def test_pods_that_are_not_ours_change_nothing() -> None:
    """They cannot be told apart by users, but what they answer is counted by nobody, and taken for nobody's Pod."""
    lure = stray(fleet(NEW, "ready").deployment)
    gone = situation(Phase.BAKING, **seen(new="cut-off", pods=[lure]))
    assert in_words(BAKING.decide(gone)) == "fail CapacityMissing (Superseded)"
    unready = situation(Phase.BAKING, **seen(new="unready", pods=[lure]))
    assert in_words(BAKING.decide(unready)) == "fail CanaryPassed Crashing"

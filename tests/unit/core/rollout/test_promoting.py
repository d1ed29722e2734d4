"""Promoting: full capacity, the switch with its record, the outcome, and nothing that a lack of nodes could reject."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.conditions import Reason, true
from steeltown.api.mlmodel import Phase
from steeltown.core.plan import Annotate, Target
from steeltown.core.record import Outcome, outcome
from steeltown.core.rollout import Wanted
from steeltown.core.rollout.phase import Inconclusive, Stay, To
from steeltown.core.rollout.promoting import PROMOTING
from steeltown.core.routing.router import Share
from steeltown_testing.structs import (
    ID,
    MODEL,
    NAMESPACE,
    NEW,
    OLD,
    POLICY,
    ago,
    case,
    in_words,
    of_actions,
    run,
    situation,
)

PROVEN = {"CanaryPassed": true(Reason.WITHIN_OBJECTIVES, "50%: 3 of 4000 requests failed")}
LATE: dict[str, Any] = {"seconds": 600}
SWITCHED: dict[str, Any] = {"live": NEW, "previous": OLD}
ALONE: dict[str, Any] = {"live": None, "old": None, "step": -1}
IN_PLACE: dict[str, Any] = {"live": NEW, "promoted": False, "old": None, "step": -1}


def told(result: str = "Promoted", **change: Any) -> Outcome:
    """As it will stand on the run."""
    c = situation(Phase.PROMOTING, findings=PROVEN)
    known = Outcome(
        result=result,
        digest=NEW.digest,
        reason=Reason.TRAFFIC_SHIFTED,
        message="50%: 3 of 4000 requests failed",
        findings=tuple(c.rollout.findings),
    )
    return replace(known, **change)


def known(word: Outcome | None = None, **more: Any) -> dict[str, Any]:
    return {"runs": [run(NEW, created=ago(3600), outcome=word, **more)]}


GONE: dict[str, Any] = {"runs": []}
OTHER = replace(NEW, digest="sha256:" + "3" * 64)


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        # first the switch with its record, then the outcome, then the bake
        ({}, "stay"),
        ({"new": "unready"}, "stay"),
        (known(told()), "stay"),
        ({**SWITCHED}, "stay"),
        ({**SWITCHED, **known(told(message="of another rollout"))}, "stay"),
        ({**SWITCHED, **known(told())}, "to Baking"),
        ({**SWITCHED, **known(told()), "new": "unready"}, "to Baking"),
        ({**SWITCHED, **GONE}, "to Baking"),
        ({**SWITCHED, "runs": [run(OTHER, created=ago(60))]}, "to Baking"),  # its name is that of another version now
        ({**SWITCHED, "runs": [run(NEW, created=ago(60), finished=False)]}, "to Baking"),
        ({**SWITCHED, "runs": [run(NEW, created=ago(60), finished=False, result=NEW)]}, "stay"),  # its status was lost
        ({**SWITCHED, **LATE}, "stay"),
        ({**SWITCHED, "new": "unready", **LATE}, "stay"),
        ({**IN_PLACE, **known(told("RolledBack"))}, "stay"),  # live as an experiment: not yet by evidence
        ({**IN_PLACE, **GONE}, "stay"),
        ({**IN_PLACE, "promoted": True, **known(told())}, "to Baking"),
        # what it waits for, and for how long
        ({"new": "unready", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "unready", **LATE, "frozen": True}, "stay"),
        ({"new": "unready", "seconds": 7200, "watched": 59}, "stay"),
        ({"new": "unready", "seconds": -3600}, "stay"),
        ({"new": "ready unschedulable", "replicas": 2, **LATE}, "inconclusive Unschedulable (platform)"),
        ({"new": "ready pulling", "replicas": 2, **LATE}, "inconclusive ImagePullFailed (platform)"),
        ({"new": "ready", "replicas": 2, **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "once-crashed unschedulable", "replicas": 2, **LATE}, "inconclusive Unschedulable (platform)"),
        ({**LATE}, "stay"),  # all are ready: it is the switch that is under way
        # the model's own fault
        ({"new": "ready crashing", "replicas": 2, **LATE}, "fail CanaryPassed Crashing"),
        ({"new": "ready crashing", "replicas": 2}, "stay"),
    ],
    ids=case,
)
def test_decision(situated: dict[str, Any], expected: str) -> None:
    assert in_words(PROMOTING.decide(situation(Phase.PROMOTING, findings=PROVEN, **situated))) == expected


SHARE = Share(stable=OLD, window=f"{ID}-0", weight=10, canary=NEW, timeout_milliseconds=1000)
BEFORE = Wanted(candidate=1, canary_service=True, keep=(OLD,), live=OLD, share=SHARE)
TOLD = ["Annotate TrainingRun/m-v2"]


@pytest.mark.parametrize(
    ("situated", "expected", "made"),
    [
        # traffic follows capacity: until every replica is ready the old version answers, with the share as it was
        ({"new": "unready"}, BEFORE, []),
        ({"new": "ready unready", "replicas": 2}, replace(BEFORE, candidate=2), []),
        ({}, replace(BEFORE, live=NEW, grants=True), TOLD),
        ({"new": "ready ready", "replicas": 2}, replace(BEFORE, candidate=2, live=NEW, grants=True), TOLD),
        (known(told()), replace(BEFORE, live=NEW, grants=True), []),
        (GONE, replace(BEFORE, live=NEW, grants=True), []),
        (
            {"runs": [run(NEW, created=ago(60), finished=False, result=NEW)]},
            replace(BEFORE, live=NEW, grants=True),
            TOLD,
        ),
        ({"runs": [run(OTHER, created=ago(60))]}, replace(BEFORE, live=NEW, grants=True), []),
        # after the switch the old one is kept, and no share of it is left
        (SWITCHED, Wanted(candidate=1, keep=(OLD,), live=NEW, grants=True), TOLD),
        ({**SWITCHED, "new": "unready"}, Wanted(candidate=1, keep=(OLD,), live=NEW, grants=True), TOLD),
        # without another version that shared the traffic
        (ALONE, Wanted(candidate=1, canary_service=True, live=NEW, grants=True), TOLD),
        ({**ALONE, "new": "unready"}, Wanted(candidate=1, canary_service=True), []),
        (IN_PLACE, Wanted(candidate=1, live=NEW, grants=True), TOLD),
        ({"old": "crashing", "step": -1}, Wanted(candidate=1, canary_service=True, live=NEW, grants=True), TOLD),
        (
            {"old": "crashing", "step": -1, "new": "unready"},
            Wanted(candidate=1, canary_service=True, live=OLD),
            [],
        ),
    ],
    ids=case,
)
def test_wanted(situated: dict[str, Any], expected: Wanted, made: list[str]) -> None:
    wanted = PROMOTING.wanted(situation(Phase.PROMOTING, findings=PROVEN, **situated))
    assert of_actions(wanted.actions) == made
    assert wanted == replace(expected, actions=wanted.actions)


@pytest.mark.parametrize("retry", ["", "again"])
def test_outcome_carries_all_that_was_shown_and_is_written_once(retry: str) -> None:
    plain = run(NEW, created=ago(3600), retry=retry)
    (action,) = PROMOTING.wanted(situation(Phase.PROMOTING, findings=PROVEN, runs=[plain])).actions
    assert isinstance(action, Annotate)
    notes = {**plain["metadata"]["annotations"], **action.annotations}
    written = {**plain, "metadata": {**plain["metadata"], "annotations": notes}}
    assert outcome(written, POLICY) == told(retry=retry)
    assert PROMOTING.wanted(situation(Phase.PROMOTING, findings=PROVEN, runs=[written])).actions == ()


def test_outcome_is_not_written_where_the_switch_is_refused() -> None:
    """Else the run would say Promoted of a version that answers nobody."""
    (action,) = PROMOTING.wanted(situation(Phase.PROMOTING, findings=PROVEN)).actions
    assert action.after == (Target("Service", NAMESPACE, MODEL),)


def test_promotion_is_told_once_as_the_bake_begins() -> None:
    decision = PROMOTING.decide(situation(Phase.PROMOTING, findings=PROVEN, **SWITCHED, **known(told())))
    assert isinstance(decision, To)
    (note,) = decision.events
    assert (note.type, note.reason) == ("Normal", "Promoted")
    assert NEW.run in note.message


@pytest.mark.parametrize(
    ("situated", "words"),
    [
        ({"new": "ready unschedulable", "replicas": 2}, "0/3 nodes are available"),
        ({"new": "unready"}, "1 candidate replicas not ready within progressDeadlineSeconds (600)"),
    ],
    ids=case,
)
def test_what_is_missing_is_told(situated: dict[str, Any], words: str) -> None:
    decision = PROMOTING.decide(situation(Phase.PROMOTING, **LATE, **situated))
    assert isinstance(decision, Inconclusive)
    assert words in decision.message


@pytest.mark.parametrize(("seconds", "expected"), [(30, 570), (-3600, 600)])
def test_is_asked_again_when_the_deadline_passes(seconds: float, expected: float) -> None:
    assert PROMOTING.decide(situation(Phase.PROMOTING, seconds=seconds)) == Stay(requeue_after=expected)

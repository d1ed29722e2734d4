"""Shifting: how far requests are shared, what live requests show, and what voids or only delays it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.conditions import Reason, unknown
from steeltown.api.mlmodel import Phase
from steeltown.core.naming import canary_name
from steeltown.core.rollout import Wanted, decide
from steeltown.core.rollout.phase import Fail, Inconclusive, Stay, To
from steeltown.core.rollout.shifting import SHIFTING
from steeltown.core.routing.router import Share
from steeltown_testing.structs import (
    ID,
    NEW,
    OLD,
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

LURE = stray(fleet(NEW, "ready").deployment)
BENT = {"theirs": "yes"}
LATE: dict[str, Any] = {"seconds": 600}


def shown(reason: str) -> dict[str, Any]:
    return {"findings": {"CanaryPassed": unknown(reason, "recorded")}}


HELD: dict[str, Any] = {**LATE, **shown(Reason.CAPACITY_MISSING)}
LAST: dict[str, Any] = {"step": 1}


def seen(requests: int = 0, errors: int = 0, *, live_errors: int = 0, step: int = 0) -> dict[str, Any]:
    """The share of the step is in force, and so much was counted under it."""
    route = step_route(step)
    evidence = told(route, canary=counts(requests, errors), live=counts(4000, live_errors))
    return {"route": route, "evidence": evidence, "step": step}


GONE: dict[str, Any] = {
    "route": off_route("disturbed"),
    "evidence": told(off_route("disturbed"), canary=counts(400)),
    "rollout": {"disturbed": True},
}
"""The share was cut, since who should have answered was gone."""


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        # judged by what the canary did
        (seen(400), "to Shifting 1"),
        (seen(400, step=1), "to Promoting"),
        (seen(100, 100), "fail CanaryPassed ErrorRateTooHigh"),
        ({**seen(100, 100), "frozen": True}, "fail CanaryPassed ErrorRateTooHigh"),
        (seen(100, 50, live_errors=2000), "record Shifting 0"),  # both fail alike: not the canary's fault
        (seen(40), "record Shifting 0"),  # a look was taken, and found nothing
        ({**seen(40), "rollout": {"fail_look": 2}}, "stay"),  # the same look again
        ({**seen(399, 4), "rollout": {"fail_look": 5}}, "record Shifting 0"),  # a look for a pass
        ({**seen(399, 4), "rollout": {"fail_look": 5, "pass_look": 1}}, "stay"),
        (seen(10), "stay"),
        # only what was counted under exactly this share
        ({"route": step_route(), "evidence": told(step_route(1), canary=counts(400))}, "stay"),
        ({"route": step_route(), "evidence": told(step_route(), canary=counts(400), fingerprint="bent")}, "stay"),
        ({**seen(400), "rollout": {"restarts": 1}}, "stay"),
        ({**seen(400), "old": "unready"}, "stay"),  # evidence of a Pod that answers nobody
        ({}, "stay"),
        # requests that met nobody because the platform took the canary's Pods away say nothing about it
        ({**seen(100, 100), "new": "unschedulable"}, "record Shifting 0"),
        ({**seen(100, 100), "new": "evicted starting"}, "record Shifting 0"),
        ({**seen(100, 100), "new": "leaving pulling"}, "record Shifting 0"),
        ({**seen(100, 100), "new": "store-down"}, "record Shifting 0"),
        ({**seen(100, 100), "new": ""}, "record Shifting 0"),
        ({**seen(400), "new": ""}, "record Shifting 0"),
        ({**seen(100, 100), "new": "", "frozen": True}, "record Shifting 0"),
        ({**seen(100, 100), "new": "ready unschedulable"}, "fail CanaryPassed ErrorRateTooHigh"),
        ({**seen(100, 100), "new": "unready"}, "fail CanaryPassed ErrorRateTooHigh"),  # it runs and answers nobody
        ({**seen(100, 100), "new": "crashed"}, "fail CanaryPassed ErrorRateTooHigh"),
        ({**seen(100, 100), "new": "crashing starting"}, "fail CanaryPassed Crashing"),
        ({**seen(100, 100), "new": "", "route": None}, "fail CanaryPassed ErrorRateTooHigh"),
        # time
        ({**seen(10), "seconds": 599}, "stay"),
        ({**seen(10), **LATE, "frozen": True}, "stay"),
        ({**seen(10), "seconds": 7200, "watched": 59}, "stay"),
        ({**seen(10), "seconds": -3600}, "stay"),
        ({**seen(10), **LATE}, "inconclusive Inconclusive"),
        ({**seen(400), **LATE}, "to Shifting 1"),  # evidence that came is evidence
        # what says nothing about the model
        ({**HELD}, "inconclusive EvidenceUnreadable (platform)"),
        ({"route": step_route(), **HELD}, "inconclusive EvidenceUnreadable (platform)"),
        (
            {"route": step_route(), "evidence": told(step_route(1)), **HELD},
            "inconclusive EvidenceUnreadable (platform)",
        ),
        ({**seen(10), "old": "ready ready", **HELD}, "inconclusive EvidenceUnreadable (platform)"),  # one is silent
        ({"new": "unschedulable", **HELD}, "inconclusive Unschedulable (platform)"),
        ({"new": "pulling", **HELD}, "inconclusive ImagePullFailed (platform)"),
        ({"new": "", **HELD}, "inconclusive CapacityMissing (platform)"),
        ({"new": "unready", **HELD}, "inconclusive CapacityMissing (platform)"),
        ({"new": "crashing", **LATE}, "fail CanaryPassed Crashing"),
        ({"new": "crashing"}, "fail CanaryPassed Crashing"),  # nothing is to be waited for
        ({"new": "crashing", "frozen": True}, "fail CanaryPassed Crashing"),
        ({"new": "crashed"}, "stay"),
        ({"new": "ready crashing", **seen(400)}, "to Shifting 1"),  # one answers, and the share needs no more
        ({"new": "ready crashing", "replicas": 4, **LAST}, "fail CanaryPassed Crashing"),
        ({"new": "crashing", **seen(10), **LATE}, "fail CanaryPassed Crashing"),
        # the share is in force, and who should answer is gone: it is void what is measured
        ({"new": "unschedulable", **seen(400)}, "record Shifting 0"),
        ({"new": "", **seen(100, 100)}, "record Shifting 0"),
        ({"new": "leaving", **seen(100, 100)}, "record Shifting 0"),
        ({"new": "unready", **seen(100, 100), "frozen": True}, "fail CanaryPassed ErrorRateTooHigh"),
        ({"new": "unschedulable", **seen(100, 100), "frozen": True}, "record Shifting 0"),
        ({"canary_service": False, **seen(100, 100)}, "record Shifting 0"),
        ({"canary_service": False, **seen(400)}, "record Shifting 0"),
        ({"canary_service": OLD, **seen(400)}, "record Shifting 0"),  # it leads elsewhere
        ({"canary_service": BENT, **seen(400)}, "record Shifting 0"),  # it leads to somebody's own Pods
        ({"canary_service": BENT, "new": "unready", **seen(400)}, "record Shifting 0"),
        ({"canary_service": False}, "stay"),
        ({"canary_service": False, **HELD}, "inconclusive CapacityMissing (platform)"),
        ({"new": "", **GONE}, "stay"),
        ({"new": "", **GONE, **HELD}, "inconclusive CapacityMissing (platform)"),
        ({"new": "unschedulable", **GONE, **HELD}, "inconclusive Unschedulable (platform)"),
        ({"canary_service": False, **GONE}, "stay"),
        (GONE, "to Shifting 0"),
        ({**GONE, "new": "crashing"}, "fail CanaryPassed Crashing"),
        ({"new": "once-crashed unschedulable", "replicas": 4, **LAST, **HELD}, "inconclusive Unschedulable (platform)"),
        # which is recorded first, and gives the step its time anew when it is over
        ({**LATE}, "record Shifting 0"),
        ({"new": "unschedulable", **LATE}, "record Shifting 0"),
        ({**seen(10), "old": "ready ready", **LATE}, "record Shifting 0"),
        ({**seen(10), **HELD}, "record Shifting 0"),
        ({**seen(10), **LATE, **shown(Reason.COLLECTING_EVIDENCE)}, "inconclusive Inconclusive"),
        ({**seen(10), **LATE, **shown(Reason.INCONCLUSIVE)}, "inconclusive Inconclusive"),
        ({**LATE, **shown(Reason.COLLECTING_EVIDENCE)}, "record Shifting 0"),
        ({**seen(400), **HELD}, "to Shifting 1"),
        ({**seen(100, 100), **HELD}, "fail CanaryPassed ErrorRateTooHigh"),
        # a live version that answers nobody does not block its fix
        ({"old": "crashing"}, "to Promoting"),
        ({"old": "not-loadable", **LAST}, "to Promoting"),
        ({"old": "crashing", "new": "crashing"}, "to Promoting"),
        ({"old": "unready"}, "stay"),
        ({"old": "unready", **HELD}, "inconclusive EvidenceUnreadable (platform)"),
        ({"old": "pulling"}, "stay"),
        ({"old": "crashing ready"}, "stay"),
        ({"old": "busy"}, "stay"),
        ({"old": fleet(OLD, "once-crashed", observed=False)}, "stay"),  # a hand's edit that no controller has seen
        ({"old": fleet(OLD, "ready crashing", observed=False)}, "stay"),
        ({"old": fleet(OLD, "crashing", ready=1)}, "stay"),
        ({"old": "pulling crashing"}, "to Promoting"),
        ({"old": None, "live": None}, "fail Superseded (Superseded)"),
        # Pods that are not ours
        ({**seen(400), "pods": [LURE]}, "record Shifting 0"),
        ({**seen(100, 100), "pods": [LURE]}, "record Shifting 0"),
        ({**seen(400), "pods": [LURE], "rollout": {"disturbed": True}}, "stay, held: ForeignPods"),
        ({"old": "crashing", "pods": [LURE], "rollout": {"disturbed": True}}, "to Promoting"),  # shares nothing
        ({"old": "crashing", "pods": [LURE]}, "to Promoting"),
        ({**seen(400), "rollout": {"disturbed": True}}, "to Shifting 0"),
        ({**seen(400), "pods": [stray(fleet(NEW, "ready").deployment, "unready")]}, "to Shifting 1"),
        ({**seen(400), "pods": [stray(fleet(OLD, "ready").deployment)]}, "record Shifting 0"),
        (
            {**seen(400), "pods": [stray(fleet(OLD, "", fresh=True).deployment)]},
            "to Shifting 1",
        ),  # nobody is sent there
    ],
    ids=case,
)
def test_decision(situated: dict[str, Any], expected: str) -> None:
    assert in_words(SHIFTING.decide(situation(Phase.SHIFTING, **situated))) == expected


def share(step: int = 0, **change: Any) -> Share:
    fields = {
        "stable": OLD,
        "window": f"{ID}-{step}",
        "weight": (10, 50)[step],
        "canary": NEW,
        "timeout_milliseconds": 1000,
    }
    return Share(**{**fields, **change})


OFF = share(window=f"{ID}-disturbed", weight=0, canary=None)


@pytest.mark.parametrize(
    ("situated", "replicas", "expected"),
    [
        ({}, 1, share()),
        (LAST, 1, share(1)),
        ({"rollout": {"restarts": 2}}, 1, share(window=f"{ID}-0-2")),
        # traffic follows capacity
        ({"new": "unready"}, 1, None),
        ({"new": None}, 1, None),
        ({"new": fleet(NEW, "", ready=1)}, 1, None),  # its Pods are gone, its Deployment does not know yet
        ({"new": fleet(NEW, "ready", ready=0)}, 1, None),
        ({"new": "ready unready", "replicas": 4, **LAST}, 2, None),
        ({"new": "ready ready", "replicas": 4, **LAST}, 2, share(1)),
        ({"new": "ready unready", "replicas": 3, **LAST}, 2, None),
        ({"new": "ready", "replicas": 10, "step": 0}, 1, share()),
        ({"new": "ready", "replicas": 0}, 1, share()),
        ({"replicas": 202, **LAST}, 101, None),
        ({"latency": 700}, 1, share(timeout_milliseconds=1400)),
        # until then the share before stays
        (
            {"new": "ready unready", "replicas": 4, **LAST, "route": step_route(0)},
            2,
            share(window=f"{ID}-0", weight=10),
        ),
        (
            {"new": "unready", "route": off_route("disturbed")},
            1,
            share(window=f"{ID}-disturbed", weight=0, canary=None),
        ),
        # but one in force is cut when the replicas that it needs are gone, or nobody finds them
        ({"new": "unschedulable", "replicas": 4, "route": step_route(0)}, 1, OFF),
        ({"new": "", "route": step_route(0)}, 1, OFF),
        ({"new": "ready unschedulable", "replicas": 4, **LAST, "route": step_route(1)}, 2, OFF),
        # not when they run and are not ready: that is judged
        ({"new": "unready", "replicas": 4, "route": step_route(0)}, 1, share()),
        ({"new": "ready unready", "replicas": 4, **LAST, "route": step_route(1)}, 2, share(1)),
        ({"canary_service": False, "route": step_route(0)}, 1, OFF),
        ({"canary_service": OLD, "route": step_route(0)}, 1, OFF),
        ({"canary_service": False}, 1, None),
        ({"canary_service": OLD}, 1, None),
        ({"new": "unready", **GONE}, 1, OFF),
        # and never stays one above the step, and none of another rollout
        ({"new": "unready", "route": step_route(0, weight=11)}, 1, None),
        ({"new": "unready", "route": step_route(0, 1), "rollout": {"restarts": 2}}, 1, share(window=f"{ID}-0-1")),
        ({"new": "unready", "route": step_route(0, window="h999999999-0")}, 1, None),
        ({"new": "unready", "route": "{"}, 1, None),
        # Pods that are not ours get nothing from us
        ({"pods": [LURE]}, 1, OFF),
        ({"route": step_route(), "pods": [LURE]}, 1, OFF),
        ({"rollout": {"disturbed": True}}, 1, OFF),
    ],
    ids=case,
)
def test_wanted(situated: dict[str, Any], replicas: int, expected: Share | None) -> None:
    wanted = SHIFTING.wanted(situation(Phase.SHIFTING, **situated))
    if expected is not None and wanted.share is not None and wanted.share.canary and wanted.share.canary.run == "":
        expected = replace(expected, canary=wanted.share.canary)  # a share read back knows the digest alone
        assert wanted.share.canary is not None
        assert wanted.share.canary.digest == NEW.digest
    assert wanted == Wanted(
        candidate=replicas, canary_service=True, keep=(OLD,), live=OLD, share=expected, observe=True
    )


def test_without_a_live_version_nothing_is_shared() -> None:
    for new in ("ready", "unready"):
        wanted = SHIFTING.wanted(situation(Phase.SHIFTING, live=None, old=None, new=new))
        assert wanted == Wanted(candidate=1, canary_service=True, observe=True)


@pytest.mark.parametrize(
    ("situated", "step", "weight", "restarts", "disturbed"),
    [
        ({**seen(400), "rollout": {"restarts": 3}, "route": step_route(0, 3)}, 0, 10, 3, False),
        ({**seen(400), "pods": [LURE], "rollout": {"restarts": 3}}, 0, 10, 3, True),
        ({**seen(400), "new": "", "rollout": {"restarts": 3}, "route": step_route(0, 3)}, 0, 10, 3, True),
        ({"rollout": {"disturbed": True, "restarts": 3}}, 0, 10, 4, False),
        ({"new": "", "rollout": {"disturbed": True, "restarts": 3}}, 0, 10, 3, True),
        (seen(400), 1, 50, 0, False),
    ],
    ids=case,
)
def test_each_measurement_has_its_own_window(
    situated: dict[str, Any], step: int, weight: int, restarts: int, disturbed: bool
) -> None:
    """A measurement that was voided begins again in a new one, a step in one of its own."""
    c = situation(Phase.SHIFTING, **situated)
    decision = SHIFTING.decide(c)
    now = decision.rollout if isinstance(decision, To) else c.rollout
    assert (now.step, now.weight, now.restarts, now.disturbed) == (step, weight, restarts, disturbed)


def test_time_in_which_nothing_could_be_counted_is_not_time_for_evidence() -> None:
    first = SHIFTING.decide(situation(Phase.SHIFTING, new="unschedulable", **LATE))
    assert isinstance(first, To)
    (finding,) = first.rollout.findings
    assert (finding.status, finding.reason) == ("Unknown", "Unschedulable")
    worn = {"fail_look": 2, "restarts": 1, "pass_look": 1}
    route = step_route(0, 1)
    again: dict[str, Any] = {"route": route, "evidence": told(route, canary=counts(50))}
    over = SHIFTING.decide(situation(Phase.SHIFTING, **again, **HELD, rollout=worn))
    assert isinstance(over, To)
    now = over.rollout
    assert (now.phase_time, now.fail_look, now.pass_look, now.restarts) == ("2026-03-01T12:00:00Z", 2, 1, 1)
    assert [f.reason for f in now.findings] == ["CollectingEvidence"]


def test_canary_that_lost_its_pods_says_so() -> None:
    decision = SHIFTING.decide(situation(Phase.SHIFTING, **seen(100, 100), new=""))
    assert isinstance(decision, To)
    (finding,) = decision.rollout.findings
    assert (finding.status, finding.reason) == ("Unknown", "CapacityMissing")


def test_of_many_lures_a_few_are_named() -> None:
    made = fleet(NEW, "ready").deployment
    lures = [stray(made, name=f"lure-{i}") for i in range(5)]
    decision = SHIFTING.decide(situation(Phase.SHIFTING, pods=lures, rollout={"disturbed": True}))
    assert isinstance(decision, Stay)
    assert decision.held is not None
    assert decision.held[1].endswith("delete lure-0, lure-1, lure-2")


def test_looks_are_recorded_with_what_was_seen_and_nothing_else_moves() -> None:
    c = situation(Phase.SHIFTING, **seen(400, 3))
    decision = SHIFTING.decide(c)
    assert isinstance(decision, To)
    now = decision.rollout
    assert (now.fail_look, now.pass_look, now.phase_time) == (5, 1, c.rollout.phase_time)
    (finding,) = now.findings
    assert (finding.type, finding.status, finding.reason) == ("CanaryPassed", "Unknown", "CollectingEvidence")
    assert "3 of 400 requests failed" in finding.message


@pytest.mark.parametrize(
    ("step", "status", "reason"), [(0, "Unknown", "CollectingEvidence"), (1, "True", "WithinObjectives")]
)
def test_a_pass_of_the_last_step_alone_is_the_pass(step: int, status: str, reason: str) -> None:
    earlier = {"CanaryPassed": unknown(Reason.COLLECTING_EVIDENCE, "before")}
    decision = SHIFTING.decide(situation(Phase.SHIFTING, **seen(400, step=step), findings=earlier))
    assert isinstance(decision, To)
    (finding,) = decision.rollout.findings
    assert (finding.status, finding.reason) == (status, reason)
    assert finding.message.startswith(f"{(10, 50)[step]}%: ")
    assert (decision.rollout.fail_look, decision.rollout.pass_look) == (0, 0)


def test_replicas_that_went_and_came_back_are_measured_anew() -> None:
    """A drain is nobody's failure: what failed meanwhile counts neither while it lasts nor after it."""
    lost = decide(situation(Phase.SHIFTING, **seen(100, 100), new=""))
    assert isinstance(lost, To)
    assert lost.rollout.disturbed
    back = decide(situation(Phase.SHIFTING, **seen(100, 100), rollout=dict(lost.rollout)))
    assert isinstance(back, To)
    assert (back.rollout.step, back.rollout.restarts, back.rollout.disturbed) == (0, 1, False)
    anew = situation(Phase.SHIFTING, **seen(100, 100), rollout=dict(back.rollout))
    assert in_words(decide(anew)) == "stay"
    wanted = SHIFTING.wanted(anew)
    assert wanted.share == share(window=f"{ID}-0-1")


@pytest.mark.parametrize("pods", [[], [LURE]], ids=["no lure", "a lure"])
def test_what_a_broken_live_version_cannot_share_was_never_shared(pods: list[Any]) -> None:
    decision = SHIFTING.decide(situation(Phase.SHIFTING, old="crashing", pods=pods, **LAST))
    assert isinstance(decision, To)
    assert (decision.rollout.step, decision.rollout.weight, decision.rollout.disturbed) == (-1, 0, False)


def test_version_that_could_share_nothing_says_that_the_load_check_is_the_evidence() -> None:
    decision = SHIFTING.decide(situation(Phase.SHIFTING, old="crashing"))
    assert isinstance(decision, To)
    (finding,) = decision.rollout.findings
    assert (finding.type, finding.status, finding.reason) == ("CanaryPassed", "True", "WithinObjectives")
    assert "promoted on the load check alone" in finding.message


@pytest.mark.parametrize(
    ("situated", "words"),
    [
        ({**seen(10), **LATE}, "10 of 368 canary requests received in time"),
        ({"new": "unschedulable", **HELD}, "0/3 nodes are available"),
        ({"new": "unready", **HELD}, "not enough ready candidate replicas"),
        (
            {**seen(10), "old": "ready ready", **HELD},
            "cannot read the request counts of this step from every Pod of the live version",
        ),
        ({"new": "crashing", **LATE}, "container server keeps exiting with code 1"),
        ({"pods": [LURE], "rollout": {"disturbed": True}}, "delete lure"),
    ],
    ids=case,
)
def test_what_is_missing_is_told(situated: dict[str, Any], words: str) -> None:
    decision = SHIFTING.decide(situation(Phase.SHIFTING, **situated))
    match decision:
        case Inconclusive(message=message) | Fail(message=message):
            assert message.startswith("at 10%: ")
        case Stay(held=held):
            assert held is not None
            message = held[1]
        case _:
            message = ""
    assert words in message


@pytest.mark.parametrize(("seconds", "expected"), [(30, 570), (-3600, 600)])
def test_is_asked_again_when_the_deadline_passes(seconds: float, expected: float) -> None:
    assert SHIFTING.decide(situation(Phase.SHIFTING, seconds=seconds)) == Stay(requeue_after=expected)
    held = SHIFTING.decide(situation(Phase.SHIFTING, seconds=seconds, pods=[LURE], rollout={"disturbed": True}))
    assert isinstance(held, Stay)
    assert held.requeue_after == expected


def test_lure_is_never_the_winner() -> None:
    """From the first look to the last: what it answered is void while it is there, and after it has gone."""
    c = situation(Phase.SHIFTING, **seen(400, step=1), pods=[LURE])
    disturbed = decide(c)
    assert isinstance(disturbed, To)
    gone = situation(Phase.SHIFTING, **seen(400, step=1), rollout=disturbed.rollout.model_dump())
    again = decide(gone)
    assert isinstance(again, To)
    anew = situation(Phase.SHIFTING, **seen(400, step=1), rollout=again.rollout.model_dump())
    assert in_words(decide(anew)) == "stay"


def test_canary_behind_a_name_is_not_reachable() -> None:
    """Whatever the Service selects: its requests go where a hand has put the name."""
    c = situation(Phase.SHIFTING)
    assert c.canary_is_reachable
    c.world.services[canary_name(c.world.name)]["spec"]["type"] = "ExternalName"
    assert not c.canary_is_reachable

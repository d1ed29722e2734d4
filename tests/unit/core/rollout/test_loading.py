"""Loading: what lets a version on to its load check, what rejects it, and what it has to wait for."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.mlmodel import Phase
from steeltown.core.rollout import Wanted
from steeltown.core.rollout.loading import LOADING
from steeltown.core.rollout.phase import Fail, Inconclusive, Stay, To
from steeltown_testing.structs import NEW, OLD, case, fleet, in_words, situation

ALONE: dict[str, Any] = {"live": None, "old": None}
IN_PLACE: dict[str, Any] = {"live": NEW, "promoted": False, "old": None, "step": -1}
LATE: dict[str, Any] = {"seconds": 600}


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        # ready
        ({"fresh": "ready"}, "to LoadChecking"),
        ({**ALONE}, "to LoadChecking"),
        ({**IN_PLACE, "fresh": "ready"}, "to LoadChecking"),
        ({**IN_PLACE, "fresh": "starting"}, "stay"),  # the Pods that are live show nothing about a fresh one
        ({"new": "crashing ready", "fresh": "ready"}, "to LoadChecking"),
        # the baseline is waited for, but not by the fix of a version that answers nobody
        ({"fresh": "starting"}, "stay"),
        ({"fresh": None}, "stay"),
        ({"new": "ready crashing", "fresh": "starting"}, "stay"),
        ({"fresh": "unready"}, "stay"),
        ({"fresh": "unready", **LATE}, "to LoadChecking"),  # it runs, and does not become ready: its own doing
        ({"fresh": "unready@30", **LATE}, "stay"),  # the platform let it start only now
        ({"fresh": "unready@600", **LATE}, "to LoadChecking"),
        ({"fresh": "unready", **LATE, "frozen": True}, "stay"),
        ({"fresh": "starting", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"fresh": "pulling", **LATE}, "inconclusive ImagePullFailed (platform)"),
        ({"fresh": "unschedulable", **LATE}, "inconclusive Unschedulable (platform)"),
        ({"fresh": "store-down", **LATE}, "inconclusive StepFailed (platform)"),
        ({"fresh": "", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"fresh": None, **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"fresh": "starting", **LATE, "frozen": True}, "stay"),
        ({"old": "crashing", "fresh": "starting"}, "to LoadChecking"),
        ({"old": "unready", "fresh": "not-loadable"}, "to LoadChecking"),
        ({"old": "ready", "fresh": "crashing"}, "to LoadChecking"),  # nor by one that cannot start another Pod
        ({"old": "ready", "fresh": "not-loadable"}, "to LoadChecking"),
        ({"old": "ready", "fresh": "crashed"}, "stay"),
        ({"old": "unready", "fresh": "pulling"}, "stay"),
        ({"old": "busy", "fresh": "starting"}, "stay"),
        # the model's own fault
        ({"new": "not-loadable"}, "fail Loadable DigestMismatch"),
        ({"new": "not-fetched"}, "fail Loadable DigestMismatch"),
        ({"new": "out-of-memory"}, "fail Loadable OutOfMemory"),
        ({"new": "crashing"}, "fail Loadable NotLoadable"),
        ({"new": "crashing", "frozen": True}, "fail Loadable NotLoadable"),
        ({**IN_PLACE, "fresh": "crashing"}, "fail Loadable NotLoadable"),
        ({"new": "unready", **LATE}, "fail Loadable ProgressDeadlineExceeded"),
        # the platform's time is not the model's: its deadline counts from when its server runs
        ({"new": "unready@30", "seconds": 7200}, "stay"),
        ({"new": "unready@599", "seconds": 7200}, "stay"),
        ({"new": "unready@600", "seconds": 7200}, "fail Loadable ProgressDeadlineExceeded"),
        # time
        ({"new": "crashed"}, "stay"),
        ({"new": "unready", "seconds": 599}, "stay"),
        ({"new": "unready", **LATE, "frozen": True}, "stay"),
        ({"new": "unready", "seconds": 7200, "watched": 59}, "stay"),
        ({"new": "unready", "seconds": 7200, "watched": 60}, "fail Loadable ProgressDeadlineExceeded"),
        ({"new": "unready", "seconds": 10, "deadline": 10, "watched": 10}, "fail Loadable ProgressDeadlineExceeded"),
        ({"new": "unready", "seconds": -3600}, "stay"),
        # what says nothing about the model
        ({"new": "pulling", **LATE}, "inconclusive ImagePullFailed (platform)"),
        ({"new": "misconfigured", **LATE}, "inconclusive ContainerConfigError (platform)"),
        ({"new": "unschedulable", **LATE}, "inconclusive Unschedulable (platform)"),
        ({"new": "store-down", **LATE}, "inconclusive StepFailed (platform)"),
        ({"new": "starting", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "crashed", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "evicted", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "leaving", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "", **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": None, **LATE}, "inconclusive CapacityMissing (platform)"),
        ({"new": "unready pulling", **LATE}, "inconclusive ImagePullFailed (platform)"),
    ],
    ids=case,
)
def test_decision(situated: dict[str, Any], expected: str) -> None:
    assert in_words(LOADING.decide(situation(Phase.LOADING, **situated))) == expected


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        ({}, Wanted(candidate=1, canary_service=True, baseline=True, keep=(OLD,), live=OLD)),
        ({"replicas": 5}, Wanted(candidate=1, canary_service=True, baseline=True, keep=(OLD,), live=OLD)),
        ({**ALONE}, Wanted(candidate=1, canary_service=True)),
        ({**IN_PLACE}, Wanted(baseline=True, keep=(NEW,), live=NEW)),
    ],
    ids=case,
)
def test_wanted(situated: dict[str, Any], expected: Wanted) -> None:
    """No traffic, and no more than one Pod beside the live version."""
    assert LOADING.wanted(situation(Phase.LOADING, **situated)) == expected


@pytest.mark.parametrize(
    ("situated", "seconds"),
    [
        ({"seconds": 30}, 570),
        ({"seconds": -3600}, 600),  # the wall clock jumped back: the whole deadline again, never more
        ({"seconds": 7200, "watched": 10}, 50),
        ({"seconds": 7200, "watched": 59.9}, 0.5),
        ({"seconds": 7200, "frozen": True}, None),
    ],
    ids=case,
)
def test_is_asked_again_when_the_deadline_passes(situated: dict[str, Any], seconds: float | None) -> None:
    pods: tuple[dict[str, Any], ...] = ({"new": "unready"}, {"new": "ready", "fresh": "unready"})
    for each in pods:
        decision = LOADING.decide(situation(Phase.LOADING, **situated, **each))
        assert isinstance(decision, Stay)
        assert decision.requeue_after == pytest.approx(seconds)


def test_what_was_shown_is_recorded_and_the_next_phase_begins_anew() -> None:
    worn = {"fail_look": 3, "pass_look": 2, "restarts": 1, "disturbed": True}
    decision = LOADING.decide(situation(Phase.LOADING, fresh="ready", rollout=worn))
    assert isinstance(decision, To)
    (finding,) = decision.rollout.findings
    assert (finding.type, finding.status, finding.reason) == ("Loadable", "True", "GoldenRowsAnswered")
    new = decision.rollout
    assert (new.fail_look, new.pass_look, new.restarts, new.disturbed) == (0, 0, 0, False)
    assert new.phase_time == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("situated", "words"),
    [
        ({"new": fleet(NEW, "", replicas=1, refused="exceeded quota: pods")}, "exceeded quota: pods"),
        ({**IN_PLACE, "fresh": fleet(NEW, "", fresh=True, refused="exceeded quota: pods")}, "exceeded quota: pods"),
        ({"new": None}, "the Deployment has no Pods"),
        ({"new": "starting"}, "container server has not started"),
        ({"new": "unschedulable"}, "0/3 nodes are available"),
        ({"fresh": "unschedulable"}, "baseline Pod not ready within progressDeadlineSeconds (600): 0/3 nodes"),
        ({"fresh": fleet(OLD, "", fresh=True, refused="exceeded quota: pods")}, "exceeded quota: pods"),
    ],
    ids=case,
)
def test_what_is_missing_is_told_in_the_words_of_who_knows(situated: dict[str, Any], words: str) -> None:
    decision = LOADING.decide(situation(Phase.LOADING, seconds=600, **situated))
    assert isinstance(decision, Inconclusive)
    assert words in decision.message


def test_rejection_for_lateness_says_how_long_was_waited() -> None:
    decision = LOADING.decide(situation(Phase.LOADING, seconds=600, new="unready"))
    assert isinstance(decision, Fail)
    assert "progressDeadlineSeconds (600)" in decision.message

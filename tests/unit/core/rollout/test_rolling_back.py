"""RollingBack: the share is cut first, needs nobody, makes nothing larger, and ends with what is recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.conditions import Reason, false, true
from steeltown.api.mlmodel import Phase
from steeltown.core.plan import Annotate
from steeltown.core.record import Outcome, Version, outcome
from steeltown.core.rollout import Wanted
from steeltown.core.rollout.phase import Done, Stay
from steeltown.core.rollout.rolling_back import ROLLING_BACK
from steeltown.core.routing.router import Share
from steeltown_testing.structs import (
    ID,
    NEW,
    OLD,
    POLICY,
    ago,
    case,
    fleet,
    in_words,
    of_actions,
    off_route,
    run,
    situation,
    step_route,
)
from steeltown_testing.structs import told as evidence_of

WHY = {"reason": "Crashing", "message": "it crashed"}
FOUND = {"Loadable": true(Reason.GOLDEN_ROWS_ANSWERED, "a"), "CanaryPassed": false(Reason.CRASHING, "what was seen")}
REJECTED: dict[str, Any] = {"rollout": {"ending": "RolledBack", **WHY}, "findings": FOUND}
WITHDRAWN: dict[str, Any] = {"rollout": {"ending": "Withdrawn", "reason": "Withdrawn", "message": "not asked for"}}
SUPERSEDED: dict[str, Any] = {"rollout": {"ending": "Superseded", **WHY}}
SWITCHED: dict[str, Any] = {"live": NEW, "previous": OLD}
SHARED: dict[str, Any] = {"route": step_route()}


def told(result: str = "RolledBack") -> Outcome:
    """As it will stand on the run."""
    rollout = situation(Phase.ROLLING_BACK, **(REJECTED if result == "RolledBack" else WITHDRAWN)).rollout
    return Outcome(
        result=result,
        digest=NEW.digest,
        reason=rollout.reason or "",
        message=rollout.message or "",
        findings=tuple(rollout.findings),
    )


def known(word: Outcome | None) -> dict[str, Any]:
    return {"runs": [run(NEW, created=ago(3600), outcome=word)]}


RECORDED: dict[str, Any] = {**REJECTED, **known(told())}
OFF = off_route("off")


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        # the record first
        (REJECTED, "stay"),
        ({**REJECTED, "seconds": 7200}, "stay"),
        (RECORDED, "done RolledBack"),
        ({**REJECTED, "runs": []}, "done RolledBack"),
        (WITHDRAWN, "stay"),
        ({**WITHDRAWN, **known(told("Withdrawn"))}, "done Withdrawn"),
        (SUPERSEDED, "done Superseded"),  # nothing was shown against it
        # then the share is read back as off, but not for ever
        ({**RECORDED, **SHARED}, "stay"),
        ({**RECORDED, **SHARED, "seconds": 29}, "stay"),
        ({**RECORDED, **SHARED, "seconds": 30}, "done RolledBack"),
        ({**RECORDED, **SHARED, "seconds": -3600}, "stay"),
        ({**RECORDED, "route": OFF}, "stay"),
        ({**RECORDED, "route": OFF, "evidence": evidence_of(step_route())}, "stay"),
        ({**RECORDED, "route": OFF, "evidence": evidence_of(OFF)}, "done RolledBack"),
        ({**RECORDED, "old": "ready ready", "route": OFF, "evidence": evidence_of(OFF)}, "stay"),
        ({**RECORDED, "route": step_route(window="h999999999-0")}, "done RolledBack"),  # another rollout's
        ({**SUPERSEDED, **SHARED, "seconds": 0}, "stay"),
        # it needs nobody to be ready
        ({**RECORDED, "old": "unready", "new": "unready"}, "done RolledBack"),
        ({**RECORDED, "old": "", "new": None}, "done RolledBack"),
        ({**RECORDED, "old": "unready", **SHARED, "seconds": 30}, "done RolledBack"),
        ({**SUPERSEDED, "live": None, "old": None, "new": "unready"}, "done Superseded"),
        # and no switch is left out
        ({**RECORDED, **SWITCHED}, "stay"),
        ({**RECORDED, **SWITCHED, "seconds": 7200}, "stay"),
        ({**RECORDED, **SWITCHED, "step": -1}, "done RolledBack"),  # it never shared traffic with `previous`
        ({**RECORDED, **SWITCHED, "previous": None}, "done RolledBack"),
        ({**RECORDED, **SWITCHED, "promoted": False}, "done RolledBack"),  # it was live as an experiment before
        ({**RECORDED, "live": OLD, "previous": NEW}, "done RolledBack"),
    ],
    ids=case,
)
def test_decision(situated: dict[str, Any], expected: str) -> None:
    wear = {"seconds": 10, "step": 0}
    assert in_words(ROLLING_BACK.decide(situation(Phase.ROLLING_BACK, **{**wear, **situated}))) == expected


def back(to: Version | None = OLD, candidate: int | None = 1, share: Share | None = None) -> Wanted:
    return Wanted(
        candidate=candidate,
        canary_service=share is not None,
        keep=(to,) if to else (),
        live=to,
        share=share,
        observe=True,
        route_first=True,
    )


CUT = Share(stable=OLD, window=f"{ID}-off")
TOLD = ["Annotate TrainingRun/m-v2"]


@pytest.mark.parametrize(
    ("situated", "expected", "made"),
    [
        # the share is cut while one of this rollout stands
        ({**REJECTED, **SHARED}, back(share=CUT), TOLD),
        ({**REJECTED, "route": OFF}, back(share=CUT), TOLD),
        ({**REJECTED, **SHARED, "old": "unready"}, back(share=CUT), TOLD),
        ({**REJECTED, **SHARED, "canary_service": False}, replace(back(share=CUT), canary_service=False), TOLD),
        (REJECTED, back(), TOLD),
        (RECORDED, back(), []),
        ({**REJECTED, "route": step_route(window="h999999999-0")}, back(), TOLD),
        ({**WITHDRAWN, **SHARED}, back(share=CUT), TOLD),
        ({**SUPERSEDED, **SHARED}, back(share=CUT), []),
        ({**REJECTED, "runs": []}, back(), []),
        # the rejected version never becomes larger
        ({**REJECTED, "new": fleet(NEW, "ready", replicas=1), "replicas": 10}, back(candidate=1), TOLD),
        ({**REJECTED, "new": fleet(NEW, "ready", replicas=8), "replicas": 3}, back(candidate=3), TOLD),
        ({**REJECTED, "new": fleet(NEW, "", replicas=0)}, back(candidate=0), TOLD),
        ({**REJECTED, "new": None, "replicas": 3}, back(candidate=None), TOLD),
        # back to the version before, if this one was switched to
        ({**REJECTED, **SWITCHED}, back(), TOLD),
        ({**REJECTED, **SWITCHED, "old": "unready"}, back(), TOLD),
        ({**REJECTED, **SWITCHED, "step": -1}, back(NEW, None), TOLD),
        ({**REJECTED, **SWITCHED, "previous": None}, back(NEW, None), TOLD),
        ({**REJECTED, **SWITCHED, "promoted": False}, back(NEW, None), TOLD),
        ({**REJECTED, "live": None, "old": None}, back(None), TOLD),
    ],
    ids=case,
)
def test_wanted(situated: dict[str, Any], expected: Wanted, made: list[str]) -> None:
    wanted = ROLLING_BACK.wanted(situation(Phase.ROLLING_BACK, **{"step": 0, **situated}))
    assert of_actions(wanted.actions) == made
    assert wanted == replace(expected, actions=wanted.actions)


@pytest.mark.parametrize(("situated", "result"), [(REJECTED, "RolledBack"), (WITHDRAWN, "Withdrawn")], ids=case)
def test_outcome_carries_why_and_all_that_was_shown(situated: dict[str, Any], result: str) -> None:
    (action,) = ROLLING_BACK.wanted(situation(Phase.ROLLING_BACK, **situated)).actions
    assert isinstance(action, Annotate)
    plain = run(NEW, created=ago(3600))
    written = {**plain, "metadata": {**plain["metadata"], "annotations": dict(action.annotations)}}
    assert outcome(written, POLICY) == told(result)


def test_how_it_ended_and_why_reach_the_history() -> None:
    assert ROLLING_BACK.decide(situation(Phase.ROLLING_BACK, **RECORDED)) == Done(
        result="RolledBack", reason="Crashing"
    )


def test_one_begun_before_endings_were_recorded_counts_as_rejected() -> None:
    assert ROLLING_BACK.decide(situation(Phase.ROLLING_BACK)) == Done(result="RolledBack", reason="RolledBack")


def test_is_asked_again() -> None:
    assert ROLLING_BACK.decide(situation(Phase.ROLLING_BACK, **REJECTED)) == Stay(requeue_after=30)

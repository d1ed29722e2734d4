"""What ends a rollout from outside, what the policy makes of missing evidence, and the brake: over every phase."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.conditions import Reason, true, unknown
from steeltown.api.mlmodel import Phase
from steeltown.contract.histogram import Histogram
from steeltown.contract.reports import LoadReport, LoadSide
from steeltown.core.record import Outcome, Version
from steeltown.core.rollout import PHASES, Context, Wanted, begin, decide, wanted
from steeltown.core.rollout.phase import Stay, To
from steeltown_testing.structs import (
    ID,
    NEW,
    NOW,
    OLD,
    ago,
    case,
    counts,
    fleet,
    in_words,
    load_check,
    off_route,
    run,
    situation,
    step_route,
    stray,
    told,
)

NEWER = Version(run="m-v3", digest="sha256:" + "3" * 64)
OTHER = replace(NEW, digest="sha256:" + "4" * 64)
INTERRUPTIBLE = (Phase.LOADING, Phase.LOAD_CHECKING, Phase.SHIFTING)
LATER = (Phase.PROMOTING, Phase.BAKING)
FORWARD = (*INTERRUPTIBLE, *LATER)


def known(*more: Any) -> list[Any]:
    return [run(NEW, created=ago(3600)), *more]


def test_phases_stand_in_order_under_their_own_names() -> None:
    assert list(PHASES) == list(Phase)
    assert all(phase.name is name for name, phase in PHASES.items())
    assert {p.name for p in PHASES.values() if p.interruptible} == set(INTERRUPTIBLE)
    assert [(p.name, p.proves) for p in PHASES.values() if p.proves] == [
        ("Loading", "Loadable"),
        ("LoadChecking", "ServingPerformance"),
        ("Shifting", "CanaryPassed"),
    ]


def test_what_a_phase_does_not_ask_for_is_not_there() -> None:
    assert Wanted() == Wanted(
        candidate=None,
        canary_service=False,
        baseline=False,
        keep=(),
        live=None,
        grants=False,
        share=None,
        actions=(),
        observe=False,
        route_first=False,
    )


def test_rollout_begins_with_the_first_phase_and_an_intent_of_its_own() -> None:
    first = begin(NEW, NOW)
    assert (first.run, first.digest, first.phase, first.step, first.weight) == (NEW.run, NEW.digest, "Loading", -1, 0)
    assert first.started_time == first.phase_time == "2026-03-01T12:00:00Z"
    assert len(first.id) == len(ID)
    assert first.id != begin(OLD, NOW).id


# --- what ends it from outside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("phase", FORWARD)
def test_abort_goes_back_from_every_phase_also_while_frozen(phase: Phase, frozen: bool) -> None:
    decision = decide(situation(phase, abort=NEW.run, frozen=frozen))
    assert in_words(decision) == "back: Aborted (RolledBack)"
    assert in_words(decide(situation(phase, abort=OLD.run, frozen=frozen))) == "stay"


def test_abort_of_what_is_going_back_changes_nothing() -> None:
    ending = {"ending": "Superseded", "reason": "Superseded"}
    for abort in (None, NEW.run):
        assert in_words(decide(situation(Phase.ROLLING_BACK, abort=abort, rollout=ending))) == "done Superseded"


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        ({"stage": "Experimental"}, "back: Withdrawn (Withdrawn)"),
        ({"stage": "Experimental", "frozen": True}, "back: Withdrawn (Withdrawn)"),
        ({"runs": []}, "back: RunDeleted (Superseded)"),
        ({"runs": [], "frozen": True}, "back: RunDeleted (Superseded)"),
        ({"runs": [run(OTHER, created=ago(60))]}, "back: RunDeleted (Superseded)"),  # made again under its name
        ({"runs": [run(NEW, created=ago(60), finished=False)]}, "back: RunDeleted (Superseded)"),
        ({"runs": [run(NEW, created=ago(60), finished=False, result=OTHER)]}, "back: RunDeleted (Superseded)"),
        ({"runs": [run(OTHER, created=ago(60), result=NEW)]}, "back: RunDeleted (Superseded)"),
        ({"runs": [run(NEW, created=ago(60), finished=False, result=NEW)]}, "stay"),  # only its status was lost
        ({"runs": [], "stage": "Experimental"}, "back: Withdrawn (Withdrawn)"),
        ({"runs": [], "stage": "Experimental", "abort": NEW.run}, "back: Aborted (RolledBack)"),
        ({"runs": known(run(NEWER, created=ago(60)))}, "stay"),
    ],
    ids=case,
)
@pytest.mark.parametrize("phase", FORWARD)
def test_while_evidence_is_collected_a_request_can_be_taken_back(
    phase: Phase, situated: dict[str, Any], expected: str
) -> None:
    """Once the evidence is in the rollout ends first; only an abort still goes back."""
    if phase in LATER and "abort" not in situated:
        expected = "stay"
    assert in_words(decide(situation(phase, **situated))) == expected


# --- a newer version that waits --------------------------------------------------------------------------------------

REJECTION = Outcome(result="RolledBack", digest=NEWER.digest, reason="Crashing", message="")
BLOCKED: dict[str, Any] = {"findings": {"CanaryPassed": unknown(Reason.CAPACITY_MISSING, "recorded")}}
HELD: dict[Phase, dict[str, Any]] = {
    Phase.LOADING: {"new": "pulling", "seconds": 600},
    Phase.LOAD_CHECKING: {
        "rollout": {"attempt": 2},
        "findings": {"ServingPerformance": unknown(Reason.LOAD_CHECK_FAILED, "")},
    },
    Phase.SHIFTING: {"new": "pulling", "seconds": 600, **BLOCKED},
    Phase.PROMOTING: {"new": "pulling", "seconds": 600},
    Phase.BAKING: {"seconds": 120},
}


@pytest.mark.parametrize("phase", FORWARD)
@pytest.mark.parametrize(
    ("newer", "superseded"),
    [
        (run(NEWER, created=ago(60)), True),
        (run(NEWER, created=ago(60), eligible=False), False),  # somebody's trial
        (run(NEWER, created=ago(60), finished=False), False),
        (run(NEWER, created=ago(60), outcome=REJECTION), False),
        (run(replace(NEWER, run="m-v0"), created=ago(4000)), False),  # older than the one in flight
    ],
    ids=["eligible", "not eligible", "not finished", "rejected", "older"],
)
def test_a_newer_version_has_its_turn_when_the_one_in_flight_is_held(
    phase: Phase, newer: Any, superseded: bool
) -> None:
    held = situation(phase, **HELD[phase], runs=known(newer))
    stays = in_words(decide(situation(phase, **HELD[phase])))
    assert stays.startswith("stay, held: ")
    going = phase in INTERRUPTIBLE and superseded
    assert in_words(decide(held)) == ("back: Superseded (Superseded)" if going else stays)
    assert in_words(decide(situation(phase, runs=known(newer)))) == "stay"  # and never one that gets on


def test_a_newer_version_waits_while_frozen() -> None:
    held = HELD[Phase.LOAD_CHECKING]
    c = situation(Phase.LOAD_CHECKING, **held, runs=known(run(NEWER, created=ago(60))), frozen=True)
    assert in_words(decide(c)) == "stay, held: LoadCheckFailed"


def test_an_aborted_version_does_not_wait() -> None:
    c = situation(Phase.LOADING, **HELD[Phase.LOADING], runs=known(run(NEWER, created=ago(60))), abort=NEWER.run)
    assert in_words(decide(c)) == "stay, held: ImagePullFailed"


# --- the policy for missing evidence ---------------------------------------------------------------------------------

FEW = {"route": step_route(), "evidence": told(step_route(), canary=counts(10))}


def unsure(reason: str) -> dict[str, Any]:
    return {"rollout": {"attempt": 2}, "findings": {"ServingPerformance": unknown(reason, "why")}}


@pytest.mark.parametrize(
    ("phase", "situated", "reason", "rejects"),
    [
        # too little evidence about the model: as the policy says
        (Phase.SHIFTING, {**FEW, "seconds": 600}, "Inconclusive", True),
        (Phase.LOAD_CHECKING, unsure(Reason.INCONCLUSIVE), "Inconclusive", True),
        # what says nothing about the model: never a rejection
        (Phase.LOADING, {"new": "pulling", "seconds": 600}, "ImagePullFailed", False),
        (Phase.LOADING, {"new": "unschedulable", "seconds": 600}, "Unschedulable", False),
        (Phase.LOADING, {"new": "store-down", "seconds": 600}, "StepFailed", False),
        (Phase.LOADING, {"new": "", "seconds": 600}, "CapacityMissing", False),
        (Phase.LOAD_CHECKING, {"seconds": 600}, "LoadCheckFailed", False),
        (Phase.LOAD_CHECKING, unsure(Reason.LOAD_CHECK_FAILED), "LoadCheckFailed", False),
        (Phase.LOAD_CHECKING, unsure(Reason.GENERATOR_SATURATED), "GeneratorSaturated", False),
        (Phase.LOAD_CHECKING, unsure(Reason.JOB_NOT_OURS), "JobNotOurs", False),
        (Phase.LOAD_CHECKING, unsure(Reason.FOREIGN_PODS), "ForeignPods", False),
        (Phase.SHIFTING, {**BLOCKED, "seconds": 600}, "EvidenceUnreadable", False),
        (Phase.SHIFTING, {**BLOCKED, "new": "unschedulable", "seconds": 600}, "Unschedulable", False),
        (Phase.PROMOTING, {"new": "pulling", "seconds": 600}, "ImagePullFailed", False),
        (Phase.BAKING, {"seconds": 120}, "EvidenceUnreadable", False),
    ],
    ids=case,
)
def test_policy(phase: Phase, situated: dict[str, Any], reason: str, rejects: bool) -> None:
    assert in_words(decide(situation(phase, **situated))) == f"stay, held: {reason}"
    strict = in_words(decide(situation(phase, **situated, on_inconclusive="Rollback")))
    assert strict == (f"back: {reason} (RolledBack)" if rejects else f"stay, held: {reason}")


def test_missing_evidence_rejects_nothing_while_frozen() -> None:
    """Only an abort, a request taken back and harm that is shown go through the brake."""
    c = situation(Phase.LOAD_CHECKING, **unsure(Reason.INCONCLUSIVE), on_inconclusive="Rollback", frozen=True)
    assert in_words(decide(c)) == "stay, held: Inconclusive"


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        (Reason.LOAD_CHECK_FAILED, 500),
        (Reason.JOB_NOT_OURS, 500),
        (Reason.FOREIGN_PODS, 500),
        (Reason.INCONCLUSIVE, None),  # it would measure the same: a person says when it is tried again
        (Reason.GENERATOR_SATURATED, None),
    ],
)
def test_held_is_told_with_its_sentence_and_asked_again_where_it_may_pass(reason: str, seconds: float | None) -> None:
    c = situation(Phase.LOAD_CHECKING, **unsure(reason), seconds=100)
    assert decide(c) == Stay(held=(reason, "why"), requeue_after=seconds)


# --- what is recorded of a way back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "situated", "findings", "event"),
    [
        (Phase.LOADING, {"new": "crashing"}, {"Loadable": "False"}, "Warning RolledBack"),
        (Phase.SHIFTING, {"old": None, "live": None}, {}, "Normal Superseded"),
        (Phase.SHIFTING, {"stage": "Experimental"}, {}, "Normal Withdrawn"),
        (Phase.BAKING, {"abort": NEW.run}, {}, "Warning RolledBack"),
        (
            Phase.BAKING,
            {"findings": {"CanaryPassed": true(Reason.WITHIN_OBJECTIVES, "")}, "new": "crashing"},
            {"CanaryPassed": "False"},
            "Warning RolledBack",
        ),
        (
            Phase.SHIFTING,
            {**FEW, "seconds": 600, "on_inconclusive": "Rollback"},
            {"CanaryPassed": "False"},
            "Warning RolledBack",
        ),
        (
            Phase.LOAD_CHECKING,
            {**unsure(Reason.INCONCLUSIVE), "on_inconclusive": "Rollback"},
            {"ServingPerformance": "False"},
            "Warning RolledBack",
        ),
    ],
    ids=case,
)
def test_way_back_is_recorded_with_no_share_and_its_reason(
    phase: Phase, situated: dict[str, Any], findings: dict[str, str], event: str
) -> None:
    decision = decide(situation(phase, **situated))
    assert isinstance(decision, To)
    now = decision.rollout
    assert (now.phase, now.weight, now.phase_time) == ("RollingBack", 0, "2026-03-01T12:00:00Z")
    assert now.reason
    assert now.message
    assert {f.type: f.status for f in now.findings} == findings
    (note,) = decision.events
    assert f"{note.type} {note.reason}" == event
    assert note.message == f"{NEW.run}: {now.reason}: {now.message}"


# --- the brake -------------------------------------------------------------------------------------------------------

LATENCY = Histogram()
LATENCY.add(2_000, 400)
GOOD = LoadReport(candidate=LoadSide(sent=400, errors=0, over=0, latency=LATENCY))
BAKE = off_route("bake")
PASSED = Outcome(result="Promoted", digest=NEW.digest, reason="TrafficShifted", message="")
LURE = stray(fleet(NEW, "ready").deployment)


@pytest.mark.parametrize(
    ("phase", "situated", "free", "frozen"),
    [
        # nothing moves forward
        (Phase.LOADING, {"fresh": "ready"}, "to LoadChecking", "stay"),
        (Phase.LOAD_CHECKING, {"jobs": [load_check(ID, says=GOOD)]}, "to Shifting 0", "stay"),
        (Phase.LOAD_CHECKING, {"jobs": [load_check(ID, says="")]}, "to LoadChecking", "stay"),
        (
            Phase.LOAD_CHECKING,
            {**unsure(Reason.LOAD_CHECK_FAILED), "seconds": 600},
            "to LoadChecking",
            "stay, held: LoadCheckFailed",
        ),
        (
            Phase.LOAD_CHECKING,
            {**unsure(Reason.INCONCLUSIVE), "runs": [run(NEW, created=ago(3600), retry="1")]},
            "to LoadChecking",
            "stay",
        ),
        (
            Phase.SHIFTING,
            {"route": step_route(), "evidence": told(step_route(), canary=counts(400))},
            "to Shifting 1",
            "stay",
        ),
        (Phase.SHIFTING, {"old": "crashing"}, "to Promoting", "stay"),
        (Phase.SHIFTING, {"rollout": {"disturbed": True}}, "to Shifting 0", "stay"),
        (
            Phase.PROMOTING,
            {"live": NEW, "previous": OLD, "runs": [run(NEW, created=ago(60), outcome=PASSED)]},
            "to Baking",
            "stay",
        ),
        (Phase.BAKING, {"route": BAKE, "evidence": told(BAKE), "seconds": 60}, "done Promoted", "stay"),
        # what is recorded moves nothing
        (
            Phase.SHIFTING,
            {"route": step_route(), "evidence": told(step_route(), canary=counts(40))},
            "record Shifting 0",
            "record Shifting 0",
        ),
        (Phase.SHIFTING, {"pods": [LURE]}, "record Shifting 0", "record Shifting 0"),
        (Phase.LOAD_CHECKING, {"pods": [LURE]}, "record LoadChecking", "record LoadChecking"),
        (Phase.BAKING, {"route": BAKE, "evidence": told(BAKE, live=counts(40))}, "record Baking", "record Baking"),
        # a person is still told, and harm still goes back
        (
            Phase.SHIFTING,
            {"pods": [LURE], "rollout": {"disturbed": True}},
            "stay, held: ForeignPods",
            "stay, held: ForeignPods",
        ),
        (Phase.LOADING, {"new": "crashing"}, "back: NotLoadable (RolledBack)", "back: NotLoadable (RolledBack)"),
        (Phase.BAKING, {"new": "crashing"}, "back: Crashing (RolledBack)", "back: Crashing (RolledBack)"),
        (Phase.BAKING, {"new": "unready"}, "back: Crashing (RolledBack)", "back: Crashing (RolledBack)"),
        (Phase.BAKING, {"new": "cut-off"}, "back: CapacityMissing (Superseded)", "back: CapacityMissing (Superseded)"),
        # and what goes back goes on
        (Phase.ROLLING_BACK, {"rollout": {"ending": "Superseded"}}, "done Superseded", "done Superseded"),
        (Phase.ROLLING_BACK, {"rollout": {"ending": "RolledBack"}}, "stay", "stay"),
        # no deadline passes
        (Phase.LOADING, {"new": "unready", "seconds": 600}, "back: ProgressDeadlineExceeded (RolledBack)", "stay"),
        (Phase.SHIFTING, {**BLOCKED, "seconds": 600}, "stay, held: EvidenceUnreadable", "stay"),
        (Phase.PROMOTING, {"new": "pulling", "seconds": 600}, "stay, held: ImagePullFailed", "stay"),
    ],
    ids=case,
)
def test_brake(phase: Phase, situated: dict[str, Any], free: str, frozen: str) -> None:
    assert in_words(decide(situation(phase, **situated))) == free
    assert in_words(decide(situation(phase, **situated, frozen=True))) == frozen


def test_brake_changes_nothing_of_what_is_wanted() -> None:
    for phase in Phase:
        assert wanted(situation(phase, frozen=True)) == wanted(situation(phase))


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "watched", "deadline", "stalled", "late"),
    [
        (599, 7200, 600, "", False),
        (600, 7200, 600, "", True),
        (172_800, 59, 600, "", False),  # away for two days
        (172_800, 60, 600, "", True),
        (20, 19, 20, "", False),
        (20, 20, 20, "", True),
        (-3600, 7200, 600, "", False),
        # the process before has watched: what was held stays held
        (600, 0, 600, "CapacityMissing", True),
        (599, 0, 600, "CapacityMissing", False),
        (-3600, 0, 600, "CapacityMissing", False),
        # but what else a person has to look at was never a matter of time
        (172_800, 0, 600, "UnknownRun", False),
        (172_800, 0, 600, "RouterRefuses", False),
        (172_800, 60, 600, "UnknownRun", True),
    ],
)
def test_deadline_passes_only_for_a_process_that_has_watched(
    seconds: float, watched: float, deadline: int, stalled: str, late: bool
) -> None:
    def at(**more: Any) -> Context:
        return situation(Phase.LOADING, seconds=seconds, watched=watched, deadline=deadline, stalled=stalled, **more)

    assert at().late is late
    assert at(frozen=True).late is False
    assert at().seconds >= 0
    left = at().until_deadline
    assert (left is None) is (late and watched > 0)
    assert left is None or 0.5 <= left <= max(deadline, 60)


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.SHIFTING, Phase.PROMOTING])
def test_what_is_held_stays_held_right_after_a_restart(phase: Phase) -> None:
    """Fails when the status forgets for a minute that a person is waited for."""
    held = in_words(decide(situation(phase, **HELD[phase])))
    assert held.startswith("stay, held: ")
    assert in_words(decide(situation(phase, **HELD[phase], watched=0))) == "stay"
    assert in_words(decide(situation(phase, **HELD[phase], watched=0, stalled="ImagePullFailed"))) == held


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("phase", Phase)
def test_phase_that_began_ahead_of_the_clock_is_timed_anew(phase: Phase, frozen: bool) -> None:
    """The wall clock was set back: else a deadline would be as much longer, and a bake as well."""
    worn = {"fail_look": 3, "pass_look": 2, "restarts": 1, "disturbed": True, "attempt": 2, "observed_weight": 7}
    c = situation(phase, seconds=-31, frozen=frozen, rollout=worn)
    decision = decide(c)
    assert isinstance(decision, To)
    assert decision == To(rollout=c.rollout.model_copy(update={"phase_time": "2026-03-01T12:00:00Z"}), forward=False)
    for skew in (-30, 0):  # two replicas' clocks never agree
        other = decide(situation(phase, seconds=skew, frozen=frozen))
        assert not isinstance(other, To)

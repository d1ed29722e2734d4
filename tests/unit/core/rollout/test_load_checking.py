"""LoadChecking: a Job that measures, a judge that looks once, and what happens when neither can tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.conditions import Finding, Reason, unknown
from steeltown.api.mlmodel import Phase, RolloutFinding
from steeltown.contract.faults import Fault
from steeltown.contract.histogram import Histogram
from steeltown.contract.plans import LoadCheckPlan
from steeltown.contract.reports import InterfaceReport, LoadReport, LoadSide, StepReport
from steeltown.core.plan import Create, Explain
from steeltown.core.record import made_here
from steeltown.core.rollout import PHASES, Wanted, decide
from steeltown.core.rollout.load_checking import LOAD_CHECKING
from steeltown.core.rollout.phase import Fail, Inconclusive, Stay, To
from steeltown_testing.structs import (
    ID,
    NEW,
    OLD,
    POLICY,
    ROOT,
    ago,
    case,
    fleet,
    in_words,
    load_check,
    of_actions,
    run,
    situation,
    stray,
)

ALONE: dict[str, Any] = {"live": None, "old": None}
IN_PLACE: dict[str, Any] = {"live": NEW, "promoted": False, "old": None, "fresh": "ready"}
LURE = stray(fleet(NEW, "ready").deployment)


def side(sent: int, errors: int = 0) -> LoadSide:
    latency = Histogram()
    latency.add(2_000, sent - errors)
    return LoadSide(sent=sent, errors=errors, over=0, latency=latency)


GOOD = LoadReport(candidate=side(400), baseline=side(400))
BAD = LoadReport(candidate=side(400, errors=200), baseline=side(400))
FEW = LoadReport(candidate=side(50))
SATURATED = LoadReport(candidate=side(400), saturated=True)
KEPT = InterfaceReport(live=OLD.digest)
RENAMED = InterfaceReport(live=OLD.digest, breaking=("output 'y' (FP32 [-1]) is gone",))
UNREAD = InterfaceReport(live=OLD.digest, problem="ManifestMissing: not found")
OF_ANOTHER = InterfaceReport(live=NEW.digest)
ANY: dict[str, Any] = {"interface": "Any"}
CRASH = StepReport(reason="StepFailed", message="the store does not answer")


def checked(says: Any = None, **more: Any) -> dict[str, Any]:
    attempt = more.get("attempt", 0)
    return {"jobs": [load_check(ID, says=says, **more)], "rollout": {"attempt": attempt}}


def held(reason: str = Reason.INCONCLUSIVE, attempt: int = 2, **more: Any) -> dict[str, Any]:
    """The last attempt could not tell, which stands recorded."""
    return {"findings": {"ServingPerformance": unknown(reason, "why")}, "rollout": {"attempt": attempt}, **more}


def asked(retry: str, known: str | None = None, reason: str = Reason.INCONCLUSIVE, **more: Any) -> dict[str, Any]:
    """Held, with this retry on the run. known: that which was set when the rollout, or its last attempt, began."""
    rollout = {"attempt": 2, "retry": known}
    return held(reason, **{"rollout": rollout, "runs": [run(NEW, created=ago(3600), retry=retry)], **more})


def performance(decision: To) -> RolloutFinding:
    (finding,) = (f for f in decision.rollout.findings if f.type == "ServingPerformance")
    return finding


COLLECTING: dict[str, Finding] = {"ServingPerformance": unknown(Reason.COLLECTING_EVIDENCE, "attempt again")}


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        # while it is made, and while it runs
        ({}, "stay"),
        ({"seconds": 600}, "inconclusive LoadCheckFailed (platform)"),
        ({"seconds": 7200, "watched": 59}, "stay"),
        ({"seconds": 7200, "frozen": True}, "stay"),
        ({"seconds": -3600}, "stay"),
        (checked(over=""), "stay"),
        ({**checked(over=""), "seconds": 7200}, "stay"),  # the Job has a deadline of its own
        # the watch of Pods is behind that of Jobs
        (checked(pod_seen=False, seconds=29), "stay"),
        (checked(over="Failed", pod_seen=False, seconds=29), "stay"),
        (checked(pod_seen=False, seconds=30), "to LoadChecking"),
        # measured
        (checked(GOOD), "to Shifting 0"),
        ({**checked(GOOD), "old": "crashing"}, "to Promoting"),
        ({**checked(GOOD), "old": "unready"}, "to Shifting 0"),
        ({**checked(GOOD), **ALONE}, "to Promoting"),
        ({**checked(GOOD), **IN_PLACE}, "to Promoting"),
        (checked(BAD), "fail ServingPerformance ErrorRateTooHigh"),
        ({**checked(BAD), "frozen": True}, "fail ServingPerformance ErrorRateTooHigh"),
        # what users of the live version rely on
        (checked(replace(GOOD, interface=KEPT)), "to Shifting 0"),
        (checked(replace(GOOD, interface=RENAMED)), "fail InterfaceCompatible InterfaceChanged"),
        (checked(replace(BAD, interface=RENAMED)), "fail InterfaceCompatible InterfaceChanged"),
        (checked(replace(SATURATED, interface=RENAMED)), "fail InterfaceCompatible InterfaceChanged"),
        (checked(LoadReport(problem="not ready", interface=RENAMED)), "fail InterfaceCompatible InterfaceChanged"),
        ({**checked(replace(GOOD, interface=RENAMED)), "old": "crashing"}, "fail InterfaceCompatible InterfaceChanged"),
        ({**checked(replace(GOOD, interface=RENAMED)), "frozen": True}, "fail InterfaceCompatible InterfaceChanged"),
        ({**checked(replace(GOOD, interface=RENAMED)), **ANY}, "to Shifting 0"),
        ({**checked(replace(BAD, interface=RENAMED)), **ANY}, "fail ServingPerformance ErrorRateTooHigh"),
        # no comparison is no pass, but what a broken live version lacks does not block its fix
        (checked(replace(GOOD, interface=UNREAD)), "to LoadChecking"),
        (checked(replace(GOOD, interface=OF_ANOTHER)), "to LoadChecking"),
        ({**checked(replace(GOOD, interface=UNREAD)), **ANY}, "to Shifting 0"),
        ({**checked(replace(GOOD, interface=UNREAD)), "old": "crashing"}, "to Promoting"),
        (held(Reason.INTERFACE_UNKNOWN), "inconclusive InterfaceUnknown (platform)"),
        (held(Reason.INTERFACE_UNKNOWN, seconds=600), "to LoadChecking"),
        (held(Reason.INTERFACE_UNKNOWN, **ANY), "to LoadChecking"),
        (held(Reason.INTERFACE_UNKNOWN, frozen=True, **ANY), "inconclusive InterfaceUnknown (platform)"),
        (held(Reason.GENERATOR_SATURATED, **ANY), "inconclusive GeneratorSaturated (platform)"),
        # the candidate itself does not stay up: no platform's fault, and nothing to try again
        ({**checked(over=""), "new": "crashing"}, "fail ServingPerformance Crashing"),
        ({**checked(CRASH, over="Failed"), "new": "crashing"}, "fail ServingPerformance Crashing"),
        ({**checked(GOOD), "new": "crashing"}, "fail ServingPerformance Crashing"),
        ({**held(Reason.LOAD_CHECK_FAILED), "new": "crashing"}, "fail ServingPerformance Crashing"),
        ({**checked(CRASH, over="Failed"), "new": "unready"}, "to LoadChecking"),
        # not measured: again, and again, and then a person is told
        (checked(FEW), "to LoadChecking"),
        (checked(LoadReport(candidate=side(400), baseline=side(400, errors=400))), "to LoadChecking"),
        (checked(SATURATED), "to LoadChecking"),
        (checked(CRASH, over="Failed"), "to LoadChecking"),
        (checked("Traceback", over="Failed"), "to LoadChecking"),
        (checked(GOOD, forged=True), "to LoadChecking"),
        (checked(GOOD, runs={"containers": [{"name": "loadcheck", "image": "theirs"}]}), "to LoadChecking"),
        (checked(BAD, runs={"containers": [{"name": "loadcheck", "image": "theirs"}]}), "to LoadChecking"),
        (checked(FEW, attempt=1), "to LoadChecking"),
        (checked(FEW, attempt=2), "to LoadChecking"),
        ({**checked(GOOD, attempt=2), "findings": COLLECTING}, "to Shifting 0"),
        ({**checked(GOOD), "findings": {"ServingPerformance": unknown("Inconclusive", "")}}, "to Shifting 0"),
        (
            {**checked(GOOD, attempt=1), "findings": {"ServingPerformance": unknown("Inconclusive", "")}},
            "to Shifting 0",
        ),
        # held
        (held(), "inconclusive Inconclusive"),
        (held(seconds=599), "inconclusive Inconclusive"),
        (held(seconds=6000), "inconclusive Inconclusive"),  # it measured, and would measure the same
        (held(Reason.GENERATOR_SATURATED, seconds=6000), "inconclusive GeneratorSaturated (platform)"),
        # what nothing was measured by is tried again: the platform may be well by then
        (held(Reason.LOAD_CHECK_FAILED, seconds=599), "inconclusive LoadCheckFailed (platform)"),
        (held(Reason.LOAD_CHECK_FAILED, seconds=600), "to LoadChecking"),
        (held(Reason.LOAD_CHECK_FAILED, attempt=7, seconds=600), "to LoadChecking"),
        (held(Reason.FOREIGN_PODS, seconds=600), "to LoadChecking"),
        (held(Reason.JOB_NOT_OURS, seconds=600), "to LoadChecking"),
        (held(Reason.LOAD_CHECK_FAILED, seconds=600, frozen=True), "inconclusive LoadCheckFailed (platform)"),
        (held(Reason.BASELINE_FAILED), "inconclusive BaselineFailed (platform)"),
        (held(Reason.BASELINE_FAILED, seconds=600), "to LoadChecking"),
        (held(Reason.LOAD_CHECK_FAILED), "inconclusive LoadCheckFailed (platform)"),
        (held(Reason.GENERATOR_SATURATED), "inconclusive GeneratorSaturated (platform)"),
        (
            held() | {"jobs": [load_check(ID, attempt=2, says=BAD)]},
            "inconclusive Inconclusive",
        ),  # it has been looked at
        # a person asks for another measurement
        (asked("1"), "to LoadChecking"),
        (asked("2", known="1"), "to LoadChecking"),
        (asked("", known="1"), "to LoadChecking"),
        (asked("1", reason=Reason.GENERATOR_SATURATED), "to LoadChecking"),
        (asked("1", reason=Reason.LOAD_CHECK_FAILED, seconds=1), "to LoadChecking"),
        (asked("1", known="1"), "inconclusive Inconclusive"),
        (asked("1", known="1", seconds=6000), "inconclusive Inconclusive"),
        (asked("1", known="1", reason=Reason.LOAD_CHECK_FAILED, seconds=600), "to LoadChecking"),
        (asked("1", known="1", runs=[]), "inconclusive Inconclusive"),
        ({**checked(over=""), "runs": [run(NEW, created=ago(3600), retry="1")]}, "stay"),  # one is under way
        # Pods that are not ours void what is measured
        ({**checked(GOOD), "pods": [LURE]}, "record LoadChecking"),
        ({**checked(BAD), "pods": [LURE]}, "record LoadChecking"),
        # and so does a Service that is not ours, or leads elsewhere
        ({**checked(GOOD), "canary_service": False}, "record LoadChecking"),
        ({**checked(BAD), "canary_service": OLD}, "record LoadChecking"),
        ({**checked(GOOD), "baseline_service": False}, "record LoadChecking"),
    ],
    ids=case,
)
def test_decision(situated: dict[str, Any], expected: str) -> None:
    assert in_words(LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **situated))) == expected


@pytest.mark.parametrize(
    ("situated", "attempt", "status", "reason"),
    [
        (checked(FEW), 1, "Unknown", "CollectingEvidence"),
        (checked(FEW, attempt=1), 2, "Unknown", "CollectingEvidence"),
        (checked(FEW, attempt=2), 2, "Unknown", "Inconclusive"),
        (checked(CRASH, over="Failed", attempt=2), 2, "Unknown", "LoadCheckFailed"),
        (checked(GOOD, forged=True, attempt=2), 2, "Unknown", "JobNotOurs"),
        ({**checked(FEW, attempt=3), "findings": COLLECTING}, 3, "Unknown", "Inconclusive"),
        (held(Reason.LOAD_CHECK_FAILED, seconds=600), 3, "Unknown", "CollectingEvidence"),
        ({**checked(GOOD, attempt=2), "rollout": {"attempt": 2, "disturbed": True}}, 2, "Unknown", "ForeignPods"),
        (checked(GOOD), 0, "True", "WithinObjectives"),
    ],
    ids=case,
)
def test_what_is_recorded(situated: dict[str, Any], attempt: int, status: str, reason: str) -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **situated))
    assert isinstance(decision, To)
    finding = performance(decision)
    assert (decision.rollout.attempt, finding.status, finding.reason) == (attempt, status, reason)
    assert decision.rollout.phase_time == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("situated", "retry"),
    [
        (asked("2", known="1"), "2"),
        (asked("", known="1"), None),
        (asked("1", known="1", reason=Reason.LOAD_CHECK_FAILED, seconds=600), "1"),
        (held(Reason.LOAD_CHECK_FAILED, seconds=600, runs=[]), None),
    ],
    ids=case,
)
def test_retry_asks_for_one_more_attempt_and_is_remembered(situated: dict[str, Any], retry: str | None) -> None:
    decision = decide_alone(situated)
    assert isinstance(decision, To)
    assert (decision.rollout.attempt, decision.rollout.retry) == (3, retry)
    (finding,) = decision.rollout.findings
    assert (finding.status, finding.reason) == ("Unknown", "CollectingEvidence")
    failed_again = held(attempt=3) | {"runs": situated.get("runs")}
    failed_again["rollout"] |= {"retry": decision.rollout.retry}
    assert in_words(decide_alone(failed_again)) == "inconclusive Inconclusive"


def decide_alone(situated: dict[str, Any]) -> Any:
    return LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **situated))


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (CRASH, "the store does not answer"),
        ("Traceback", "no load check report found"),
        (LoadReport(problem="golden rows are missing"), "golden rows are missing"),
    ],
    ids=case,
)
def test_why_there_is_no_measurement_is_told(says: Any, words: str) -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **checked(says, over="Failed", attempt=2)))
    assert isinstance(decision, To)
    assert words in performance(decision).message


@pytest.mark.parametrize(
    ("situated", "step", "weight", "passed"),
    [
        (checked(GOOD), 0, 10, None),
        ({**checked(GOOD), "old": "crashing"}, -1, 0, "the live version serves no requests"),
        ({**checked(GOOD), **ALONE}, -1, 0, "no live version to split traffic with"),
        ({**checked(GOOD), **IN_PLACE, "new": "crashing"}, -1, 0, "no live version to split traffic with"),
    ],
    ids=case,
)
def test_where_no_requests_can_be_shared_the_load_check_is_the_evidence(
    situated: dict[str, Any], step: int, weight: int, passed: str | None
) -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **situated))
    assert isinstance(decision, To)
    assert (decision.rollout.step, decision.rollout.weight) == (step, weight)
    shown = [f for f in decision.rollout.findings if f.type == "CanaryPassed"]
    assert [(f.status, f.reason) for f in shown] == ([] if passed is None else [("True", "WithinObjectives")])
    assert all(f.message.startswith(passed or "") for f in shown)


def test_lure_is_recorded_once_and_the_attempt_counts_for_nothing() -> None:
    seen = decide(situation(Phase.LOAD_CHECKING, **checked(GOOD), pods=[LURE]))
    assert isinstance(seen, To)
    assert (seen.rollout.disturbed, seen.rollout.attempt) == (True, 0)
    for pods in ([LURE], []):  # also when it is gone before the Job ends
        voided = LOAD_CHECKING.decide(
            situation(Phase.LOAD_CHECKING, jobs=[load_check(ID, says=GOOD)], rollout={"disturbed": True}, pods=pods)
        )
        assert isinstance(voided, To)
        assert (voided.rollout.attempt, voided.rollout.disturbed) == (1, False)
        assert "not created by the operator" in performance(voided).message


WITH_CANARY = Wanted(candidate=1, canary_service=True, baseline=True, keep=(OLD,), live=OLD)


@pytest.mark.parametrize(
    ("situated", "expected", "made"),
    [
        ({}, WITH_CANARY, ["Create Job/m-load-012345-0"]),
        ({"rollout": {"attempt": 1}}, WITH_CANARY, ["Create Job/m-load-012345-1"]),
        (checked(over=""), WITH_CANARY, []),
        (checked(GOOD), WITH_CANARY, []),
        (held(), WITH_CANARY, []),  # its Job is collected after a day, and nothing is measured twice
        ({**held(attempt=3), "findings": COLLECTING}, WITH_CANARY, ["Create Job/m-load-012345-3"]),
        ({"rollout": {"attempt": 2}, "findings": COLLECTING}, WITH_CANARY, ["Create Job/m-load-012345-2"]),
        ({**ALONE}, Wanted(candidate=1, canary_service=True), ["Create Job/m-load-012345-0"]),
        ({**IN_PLACE}, Wanted(baseline=True, keep=(NEW,), live=NEW), ["Create Job/m-load-012345-0"]),
    ],
    ids=case,
)
def test_wanted(situated: dict[str, Any], expected: Wanted, made: list[str]) -> None:
    wanted = LOAD_CHECKING.wanted(situation(Phase.LOAD_CHECKING, **situated))
    assert of_actions(wanted.actions) == made
    assert wanted == Wanted(**{s: getattr(expected, s) for s in Wanted.__slots__} | {"actions": wanted.actions})


@pytest.mark.parametrize(
    ("situated", "candidate", "baseline"),
    [
        ({"fresh": "ready"}, "http://m-canary.team.svc:8080", "http://m-baseline.team.svc:8080"),
        ({"fresh": "starting"}, "http://m-canary.team.svc:8080", ""),
        ({**ALONE}, "http://m-canary.team.svc:8080", ""),
        ({**IN_PLACE}, "http://m-baseline.team.svc:8080", ""),
    ],
    ids=case,
)
def test_job_measures_the_fresh_pods_and_is_known_again(
    situated: dict[str, Any], candidate: str, baseline: str
) -> None:
    (create,) = LOAD_CHECKING.wanted(situation(Phase.LOAD_CHECKING, **situated)).actions
    assert isinstance(create, Create)
    (container,) = create.body["spec"]["template"]["spec"]["containers"]
    text = next(e["value"] for e in container["env"] if e["name"] == "STEELTOWN_PLAN")
    plan = LoadCheckPlan.from_json(text)
    assert (plan.candidate_url, plan.baseline_url, plan.candidate_digest) == (candidate, baseline, NEW.digest)
    assert made_here(create.body, ROOT, POLICY)


@pytest.mark.parametrize(
    ("situated", "live"),
    [
        ({}, OLD.digest),
        ({"old": "crashing"}, OLD.digest),
        ({"fresh": "starting"}, OLD.digest),  # no baseline answers, and the store knows its interface all the same
        (ALONE, None),
        (IN_PLACE, None),
    ],
    ids=case,
)
def test_job_compares_the_interface_with_that_of_the_live_version(situated: dict[str, Any], live: str | None) -> None:
    (create,) = LOAD_CHECKING.wanted(situation(Phase.LOAD_CHECKING, **situated)).actions
    assert isinstance(create, Create)
    (container,) = create.body["spec"]["template"]["spec"]["containers"]
    assert {e["name"]: e.get("value") for e in container["env"]}.get("STEELTOWN_LIVE_DIGEST") == live


@pytest.mark.parametrize(
    ("situated", "status", "reason"),
    [
        (checked(GOOD), "Unknown", "InterfaceUnknown"),  # an image that is too old to compare
        (checked(replace(GOOD, interface=KEPT)), "True", "InterfaceKept"),
        ({**checked(replace(GOOD, interface=RENAMED)), **ANY}, "True", "ObservedOnly"),
        (checked(replace(FEW, interface=KEPT)), "True", "InterfaceKept"),
        (checked(replace(GOOD, interface=UNREAD)), "Unknown", "InterfaceUnknown"),
        ({**checked(GOOD), **ALONE}, "True", "NotApplicable"),
        ({**checked(GOOD), **IN_PLACE}, "True", "NotApplicable"),
    ],
    ids=case,
)
def test_what_is_recorded_of_the_interface(situated: dict[str, Any], status: str, reason: str) -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **situated))
    assert isinstance(decision, To)
    (finding,) = (f for f in decision.rollout.findings if f.type == "InterfaceCompatible")
    assert (finding.status, finding.reason) == (status, reason)


@pytest.mark.parametrize("says", [CRASH, LoadReport(problem="golden rows are missing")], ids=case)
def test_nothing_is_recorded_of_an_interface_that_nobody_looked_at(says: Any) -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **checked(says, over="Failed")))
    assert isinstance(decision, To)
    assert [f.type for f in decision.rollout.findings] == ["ServingPerformance"]


def failing(errors: int, kind: str) -> LoadSide:
    return replace(side(400, errors=errors), faults=(Fault(kind=kind, first=f"{kind}: boom", count=errors),))


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (
            LoadReport(candidate=failing(200, "HTTP 500"), baseline=side(400)),
            f"live 0 of 400 (200 times HTTP 500: boom); see the log of Pod m-{NEW.id}-0",
        ),
        (
            LoadReport(candidate=side(400), baseline=failing(400, "HTTP 400")),
            "failed all of its 400 requests (400 times HTTP 400: boom): there is nothing to compare with; see the log "
            "of Pod m-baseline-0",
        ),
    ],
    ids=["candidate", "baseline"],
)
def test_verdict_about_errors_says_what_went_wrong_and_which_pod_has_more(says: LoadReport, words: str) -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, fresh="ready", **checked(says)))
    assert isinstance(decision, Fail | To)
    assert words in (decision.message if isinstance(decision, Fail) else performance(decision).message)


@pytest.mark.parametrize(("seconds", "blocks"), [(2, 2), (16, 8), (3600, 32)])
def test_measurement_is_divided_into_blocks_and_may_end_late(seconds: int, blocks: int) -> None:
    (create,) = LOAD_CHECKING.wanted(situation(Phase.LOAD_CHECKING, check=seconds)).actions
    assert isinstance(create, Create)
    (container,) = create.body["spec"]["template"]["spec"]["containers"]
    plan = LoadCheckPlan.from_json(next(e["value"] for e in container["env"] if e["name"] == "STEELTOWN_PLAN"))
    assert (plan.blocks, plan.block_seconds * plan.blocks) == (blocks, seconds)
    assert create.body["spec"]["activeDeadlineSeconds"] == seconds + 120


@pytest.mark.parametrize(
    ("situated", "seconds"),
    [
        ({}, 570),
        (checked(over=""), 5),
        (checked(pod_seen=False, seconds=1), 5),
        (held(Reason.LOAD_CHECK_FAILED, seconds=100), 500),
        (held(Reason.LOAD_CHECK_FAILED, seconds=100, frozen=True), 500),
        (held(Reason.LOAD_CHECK_FAILED, seconds=600, frozen=True), None),  # time alone changes nothing then
        (held(seconds=100), None),
    ],
    ids=case,
)
def test_is_asked_again(situated: dict[str, Any], seconds: float | None) -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **situated))
    assert isinstance(decision, Stay | Inconclusive)
    assert decision.requeue_after == seconds


QUOTA = "exceeded quota: compute, requested: pods=1"
CHECK = f"m-load-{ID[1:7]}-0"
ASKED = (Explain(kind="Job", namespace="team", name=CHECK, uid=f"uid-of-{CHECK}"),)
KNOWN: dict[str, Any] = {"causes": {f"uid-of-{CHECK}": QUOTA}}


def unmade(age: float | None = None, **more: Any) -> dict[str, Any]:
    """Its Job runs and has no Pod."""
    return checked(over="", pod_seen=False, age=age, **more)


@pytest.mark.parametrize(
    ("situated", "seconds", "asked", "blocked"),
    [
        (unmade(1), 2, (), ""),  # most have a Pod at once
        (unmade(3), 5, ASKED, ""),
        (unmade(-3600), 3, (), ""),
        (unmade(3) | KNOWN, 5, ASKED, f"JobBlocked: {QUOTA}"),
        (unmade(3) | {"causes": {"of another": QUOTA}}, 5, ASKED, ""),
        (checked(over="", age=3) | KNOWN, 5, (), ""),  # it has one by now
        (checked(over="", age=1), 5, (), ""),
        (checked(over="Failed", pod_seen=False, seconds=1, age=9) | KNOWN, 5, (), ""),  # its end may be on its way
        (checked(over="Failed", why="DeadlineExceeded", pod_seen=False, seconds=1, age=9), 5, ASKED, ""),
    ],
    ids=case,
)
def test_job_without_a_pod_is_asked_why_and_says_so(
    situated: dict[str, Any], seconds: float, asked: tuple[Explain, ...], blocked: str
) -> None:
    decision = decide_alone(situated)
    assert isinstance(decision, Stay)
    assert (decision.requeue_after, decision.explain, decision.held) == (seconds, asked, None)
    told = decision.blocked
    assert (f"{told.reason}: {told.message}" if told else "") == blocked


def test_job_that_could_make_no_pod_until_its_deadline_is_no_evidence_and_its_cause_is_told() -> None:
    """At once: no report is on its way."""
    late = checked(over="Failed", why="DeadlineExceeded", pod_seen=False, seconds=1)
    decision = decide_alone(late | KNOWN)
    assert isinstance(decision, To)
    assert (decision.rollout.attempt, decision.rollout.findings[0].reason) == (1, "CollectingEvidence")
    assert decision.rollout.findings[0].message.endswith(f"did not start before its deadline: {QUOTA}")


def test_finding_of_an_older_attempt_is_replaced() -> None:
    decision = LOAD_CHECKING.decide(situation(Phase.LOAD_CHECKING, **checked(FEW, attempt=1), findings=COLLECTING))
    assert isinstance(decision, To)
    assert [f.type for f in decision.rollout.findings if f.reason != Reason.INTERFACE_UNKNOWN] == ["ServingPerformance"]
    assert PHASES[Phase.LOAD_CHECKING] is LOAD_CHECKING

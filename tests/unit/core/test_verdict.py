"""The judge: three verdicts, stated error rates, and no way from no evidence to a pass."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.api.conditions import Reason
from steeltown.api.objectives import ServingObjective
from steeltown.contract.evidence import Counts
from steeltown.contract.histogram import Histogram
from steeltown.contract.reports import LoadReport, LoadSide
from steeltown.core.judge.verdict import FAIL_ALPHA, Looks, Result, judge_canary, judge_load, needed_requests

LIMITS = ServingObjective(error_rate="0.01", latency_milliseconds=50, slow_rate="0.01", max_slowdown="2.0")


def counts(requests: int, errors: int = 0, slow: int = 0) -> Counts:
    latency = Histogram()
    latency.add(2_000, requests - slow)
    latency.add(200_000, slow)
    return Counts(requests=requests, errors=errors, latency=latency)


def side(n: int, *, errors: int = 0, over: int = 0, microseconds: int = 2_000) -> LoadSide:
    latency = Histogram()
    latency.add(microseconds, n - errors)
    return LoadSide(sent=n, errors=errors, over=over, latency=latency)


@pytest.mark.parametrize(
    ("canary", "live", "result", "reason"),
    [
        (counts(0), counts(10_000), Result.UNKNOWN, Reason.COLLECTING_EVIDENCE),
        (counts(367), counts(7_000), Result.UNKNOWN, Reason.COLLECTING_EVIDENCE),
        (counts(368), counts(7_000), Result.PASS, Reason.WITHIN_OBJECTIVES),
        (counts(400, errors=3), counts(7_000), Result.UNKNOWN, Reason.COLLECTING_EVIDENCE),
        (counts(20, errors=20), counts(400), Result.FAIL, Reason.ERROR_RATE_TOO_HIGH),
        (counts(40, slow=20), counts(800), Result.FAIL, Reason.LATENCY_TOO_HIGH),
        (counts(40, errors=20), counts(800, errors=400), Result.UNKNOWN, Reason.COLLECTING_EVIDENCE),
        (counts(40, errors=20), counts(0), Result.FAIL, Reason.ERROR_RATE_TOO_HIGH),
    ],
    ids=[
        "no request",
        "one too few",
        "enough without errors",
        "three errors",
        "all fail",
        "half slow",
        "live fails as much: not the canary's fault",
        "no live traffic: the limit alone counts",
    ],
)
def test_canary(canary: Counts, live: Counts, result: Result, reason: Reason) -> None:
    _, judgement = judge_canary(canary, live, LIMITS, Looks())
    assert (judgement.result, judgement.reason) == (result, reason)


def test_the_plan_says_how_many_requests_are_needed() -> None:
    assert needed_requests(LIMITS) == 368
    _, judgement = judge_canary(counts(100), counts(100), LIMITS, Looks(fail=3))
    assert "368" in judgement.message


@given(st.integers(0, 367), st.integers(0, 10_000), st.integers(0, 20), st.integers(0, 20))
def test_less_than_the_needed_requests_never_pass(n: int, live: int, fail: int, passed: int) -> None:
    _, judgement = judge_canary(counts(n), counts(live), LIMITS, Looks(fail=fail, passed=passed))
    assert judgement.result is not Result.PASS


@given(st.integers(0, 2_000), st.integers(0, 30))
def test_a_look_is_taken_once(n: int, errors: int) -> None:
    """The same counts again change nothing: a restart, or a poll that brings nothing new, costs no error rate."""
    canary = counts(n, errors=min(errors, n))
    looks, first = judge_canary(canary, counts(0), LIMITS, Looks())
    again, second = judge_canary(canary, counts(0), LIMITS, looks)
    if first.result is Result.UNKNOWN:
        assert (again, second.result) == (looks, Result.UNKNOWN)


def test_a_version_exactly_at_its_limit_is_rarely_rolled_back() -> None:
    """2,000 rollouts at the limit, looked at after every request: at most FAIL_ALPHA are failed (+ 3 sd)."""
    generator = random.Random(7)
    rollouts, failed = 2_000, 0
    for _ in range(rollouts):
        looks, errors = Looks(passed=30), 0
        for n in range(1, 641):
            errors += generator.random() < float(LIMITS.error_rate)
            if n in (20, 40, 80, 160, 320, 640):
                looks, judgement = judge_canary(counts(n, errors=errors), Counts(), LIMITS, looks)
                if judgement.result is Result.FAIL:
                    failed += 1
                    break
    expected = FAIL_ALPHA * rollouts
    assert failed <= expected + 3 * expected**0.5


@pytest.mark.parametrize(
    ("report", "result", "reason"),
    [
        (LoadReport(problem="not ready"), Result.UNKNOWN, Reason.LOAD_CHECK_FAILED),
        (LoadReport(), Result.UNKNOWN, Reason.LOAD_CHECK_FAILED),
        (LoadReport(candidate=side(400), saturated=True), Result.UNKNOWN, Reason.GENERATOR_SATURATED),
        (LoadReport(candidate=side(400), baseline=side(400, errors=400)), Result.UNKNOWN, Reason.BASELINE_FAILED),
        (
            LoadReport(candidate=side(400, errors=400), baseline=side(400, errors=400)),
            Result.UNKNOWN,
            Reason.BASELINE_FAILED,
        ),
        (LoadReport(candidate=side(400, over=400), baseline=side(1, errors=1)), Result.UNKNOWN, Reason.BASELINE_FAILED),
        (LoadReport(candidate=side(400), baseline=side(400, errors=399)), Result.PASS, Reason.WITHIN_OBJECTIVES),
        (LoadReport(candidate=side(400), baseline=side(0)), Result.PASS, Reason.WITHIN_OBJECTIVES),
        (LoadReport(candidate=side(400)), Result.PASS, Reason.WITHIN_OBJECTIVES),
        (LoadReport(candidate=side(400), baseline=side(400)), Result.PASS, Reason.WITHIN_OBJECTIVES),
        (LoadReport(candidate=side(100), baseline=side(100)), Result.UNKNOWN, Reason.INCONCLUSIVE),
        (
            LoadReport(candidate=side(400, errors=40), baseline=side(400)),
            Result.FAIL,
            Reason.ERROR_RATE_TOO_HIGH,
        ),
        (
            LoadReport(candidate=side(400, over=40), baseline=side(400)),
            Result.FAIL,
            Reason.LATENCY_TOO_HIGH,
        ),
        (
            LoadReport(candidate=side(400, microseconds=20_000), baseline=side(400)),
            Result.FAIL,
            Reason.SLOWER_THAN_LIVE,
        ),
    ],
    ids=[
        "problem",
        "nothing sent",
        "saturated",
        "live fails all",
        "both fail all",
        "slow beside a live version that fails",
        "live fails nearly all",
        "live was sent nothing",
        "first version",
        "as fast as live",
        "too few",
        "errors",
        "over the objective",
        "ten times slower",
    ],
)
def test_load_check(report: LoadReport, result: Result, reason: Reason) -> None:
    judgement = judge_load(report, LIMITS)
    assert (judgement.result, judgement.reason) == (result, reason)


@pytest.mark.parametrize(
    ("errors", "first", "message"),
    [
        (0, "", "the live version failed all of its 400 requests (first: HTTP 400: input 'X' is unknown): there is"),
        (
            7,
            "HTTP 500: no",
            "is unknown), the candidate 7 of 400 (first: HTTP 500: no): there is nothing to compare with",
        ),
    ],
)
def test_baseline_that_only_fails_says_why(errors: int, first: str, message: str) -> None:
    """400 of 400 were "no live version to compare with" and passed."""
    candidate = replace(side(400, errors=errors), first_error=first)
    baseline = replace(side(400, errors=400), first_error="HTTP 400: input 'X' is unknown")
    assert message in judge_load(LoadReport(candidate=candidate, baseline=baseline), LIMITS).message


def halves(n: int) -> LoadSide:
    """Half of the answers at the live version's median, half far above its limit."""
    latency = Histogram()
    latency.add(2_000, n // 2)
    latency.add(50_000, n - n // 2)
    return LoadSide(sent=n, errors=0, over=0, latency=latency)


def test_slowdown_that_cannot_be_told_from_the_limit_is_no_pass() -> None:
    judgement = judge_load(LoadReport(candidate=halves(400), baseline=side(400)), LIMITS)
    assert (judgement.result, judgement.reason) == (Result.UNKNOWN, Reason.INCONCLUSIVE)
    assert "inconclusive with 400 requests" in judgement.message


@pytest.mark.parametrize("candidate", [None, side(0)], ids=["no side", "nothing sent"])
def test_load_check_that_sent_nothing_is_no_pass(candidate: LoadSide | None) -> None:
    judgement = judge_load(LoadReport(candidate=candidate, baseline=side(400)), LIMITS)
    assert (judgement.result, judgement.message) == (Result.UNKNOWN, "no requests were sent")

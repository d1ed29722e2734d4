"""The table of guardrails: what each counts, against which limit, and that all judges iterate over it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.conditions import Reason
from steeltown.api.objectives import ServingObjective
from steeltown.contract.evidence import Counts
from steeltown.contract.faults import Fault
from steeltown.contract.histogram import Histogram, bucket, lower_bound
from steeltown.contract.reports import LoadReport, LoadSide
from steeltown.core.judge import guardrails, verdict
from steeltown.core.judge.guardrails import GUARDRAILS, Guardrail, Side, shares, tightest
from steeltown.core.judge.verdict import Looks, Result, judge_canary, judge_load
from steeltown_testing.structs import case

LIMITS = ServingObjective(error_rate="0.02", latency_milliseconds=50, slow_rate="0.05", max_slowdown="2.0")


def latency(fast: int = 0, slow: int = 0) -> Histogram:
    made = Histogram()
    made.add(2_000, fast)
    made.add(200_000, slow)
    return made


def test_each_guardrail_has_a_name_and_a_reason_of_its_own() -> None:
    assert [(g.name, g.reason) for g in GUARDRAILS] == [
        ("errors", Reason.ERROR_RATE_TOO_HIGH),
        ("slow answers", Reason.LATENCY_TOO_HIGH),
    ]


@pytest.mark.parametrize(
    ("side", "errors", "slow"),
    [
        (Side(), 0, 0),
        (Side(requests=100, errors=3, latency=latency(90, 7)), 3, 7),
        (Side(requests=100, errors=100), 100, 0),
        (Side(requests=100, latency=latency(90, 10), over=4), 0, 4),  # counted one by one: no bucket is asked
        (Side(requests=100, latency=latency(90, 10), over=0), 0, 0),
        (Side.of_live(Counts(requests=10, errors=1, latency=latency(7, 2))), 1, 2),
        (Side.of_load(LoadSide(sent=10, errors=1, over=5, latency=latency(7, 2))), 1, 5),
    ],
    ids=case,
)
def test_what_counts_against_a_side(side: Side, errors: int, slow: int) -> None:
    found = {s.guardrail.name: s for s in shares(side, Side(requests=7, errors=2), LIMITS)}
    assert (found["errors"].events, found["slow answers"].events) == (errors, slow)
    assert {s.n for s in found.values()} == {side.requests}
    assert {s.reference_n for s in found.values()} == {7}
    assert (found["errors"].reference_events, found["slow answers"].reference_events) == (2, 0)
    assert (found["errors"].limit, found["slow answers"].limit) == (0.02, 0.05)


@pytest.mark.parametrize("milliseconds", [1, 50, 100, 333, 1048, 600_000])
def test_a_histogram_never_calls_an_answer_within_the_objective_slow(milliseconds: int) -> None:
    """A bucket that holds the objective counts as kept; the next one is over."""
    objective = LIMITS.model_copy(update={"latency_milliseconds": milliseconds})
    bound = milliseconds * 1000
    for microseconds, slow in ((bound, 0), (lower_bound(bucket(bound) + 1), 1)):
        made = Histogram()
        made.add(microseconds)
        events = {s.guardrail.name: s.events for s in shares(Side(requests=1, latency=made), Side(), objective)}
        assert events["slow answers"] == slow


@pytest.mark.parametrize(
    ("side", "reference", "words"),
    [
        (Side(requests=400, errors=3), Side(), "3 of 400 requests failed (0.75%, limit 2.00%)"),
        (
            Side(requests=400, errors=3),
            Side(requests=4000, errors=1),
            "3 of 400 requests failed (0.75%, limit 2.00%), live 1 of 4000",
        ),
        (Side(), Side(), "0 of 0 requests failed (0.00%, limit 2.00%)"),
        (
            Side(
                requests=400,
                errors=3,
                faults=(Fault(kind="timeout", first="late"), Fault(kind="s", first="no", count=2)),
            ),
            Side(requests=4000, errors=1, faults=(Fault(kind="full", first="busy"),)),
            "3 of 400 requests failed (0.75%, limit 2.00%), live 1 of 4000 (2 times no; once late)",
        ),
        (
            Side.of_load(LoadSide(sent=400, errors=3, over=0, first_error="HTTP 500: no")),
            Side(),
            "3 of 400 requests failed (0.75%, limit 2.00%) (first: HTTP 500: no)",
        ),
    ],
    ids=case,
)
def test_what_is_told(side: Side, reference: Side, words: str) -> None:
    assert shares(side, reference, LIMITS)[0].told() == words


def test_only_errors_are_told_with_what_went_wrong() -> None:
    faults = (Fault(kind="timeout", first="late", count=9),)
    slow = Side(requests=400, errors=9, over=30, faults=faults)
    assert [" (9 times late)" in s.told() for s in shares(slow, Side(), LIMITS)] == [True, False]


def test_slow_answers_are_told_with_their_objective() -> None:
    assert "took longer than 50 ms" in shares(Side(), Side(), LIMITS)[1].told()


@pytest.mark.parametrize(
    ("error_rate", "slow_rate", "expected"), [("0.02", "0.05", 0.02), ("0.2", "0.05", 0.05), ("0", "0.05", 0.0)]
)
def test_the_tightest_limit_decides_how_many_requests_are_needed(
    error_rate: str, slow_rate: str, expected: float
) -> None:
    assert tightest(LIMITS.model_copy(update={"error_rate": error_rate, "slow_rate": slow_rate})) == expected


QUICK = Guardrail(
    name="quick answers",
    reason=Reason.SLOWER_THAN_LIVE,
    limit=lambda objective: 0.01,
    what=lambda objective: "came too quickly",
    events=lambda side, objective: side.latency.total - side.latency.count_over(3_000),
)


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardrails, "GUARDRAILS", (*GUARDRAILS, QUICK))


def judged(how: str, n: int) -> Any:
    good = latency(n)
    if how == "load check":
        return judge_load(LoadReport(candidate=LoadSide(sent=n, errors=0, over=0, latency=good)), LIMITS)
    looks = Looks(passed=30) if how == "bake" else Looks()
    return judge_canary(Counts(requests=n, latency=good), Counts(), LIMITS, looks)[1]


@pytest.mark.parametrize("how", ["load check", "canary", "bake"])
def test_a_row_more_is_judged_everywhere(how: str, another: None) -> None:
    judgement = judged(how, 400)
    assert (judgement.result, judgement.reason) == (Result.FAIL, Reason.SLOWER_THAN_LIVE)
    assert "400 of 400 requests came too quickly" in judgement.message


@pytest.mark.parametrize("how", ["load check", "canary"])
def test_without_it_the_same_is_a_pass(how: str) -> None:
    assert judged(how, 400).result is Result.PASS


def test_a_row_more_shares_the_error_rate_among_all(another: None) -> None:
    """With every row the level of each test becomes stricter, so that a version at its limits fails no more often."""
    seen = []
    original = verdict._harmful

    def spy(share: Any, alpha: float) -> bool:
        seen.append(alpha)
        return original(replace(share, events=0), alpha)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "_harmful", spy)
        judged("canary", 20)
    assert seen == [pytest.approx(verdict.FAIL_ALPHA / 2 / 3)] * 3

"""The judge of serving evidence: fixed-size exact tests, three verdicts.

Harm is looked for early and often, a pass is granted late: Fail looks happen at n = 20, 40, 80, ... with
alpha split over the looks as 1/((k+1)(k+2)), which sums to one (union bound), so the chance that a version
exactly at its objective is ever failed within one step stays below `FAIL_ALPHA`. Pass looks happen at the n
that zero events would need, then at twice and four times that, with alpha halved at each. Looks are
scheduled by n alone, so when they happen does not depend on what they would find. Without evidence the
verdict is Unknown, and Unknown never promotes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ...api.conditions import Reason
from ...api.objectives import ServingObjective
from ...contract.evidence import Counts
from ...contract.faults import told
from ...contract.reports import LoadReport, LoadSide
from .exact import clopper_pearson_lower, clopper_pearson_upper, fisher_greater, needed_without_events
from .guardrails import Share, Side, shares, tightest

FAIL_ALPHA: Final = 0.01
PASS_ALPHA: Final = 0.05
FIRST_FAIL_LOOK: Final = 20
NEVER: Final = 2**62
"""Requests needed to show that a limit of zero holds: it can be violated but never shown."""


class Result(StrEnum):
    PASS = "Pass"
    FAIL = "Fail"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    result: Result
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Prior state of one step: how many looks of each kind were taken."""

    fail: int = 0
    passed: int = 0


def judge_canary(canary: Counts, live: Counts, objective: ServingObjective, looks: Looks) -> tuple[Looks, Judgement]:
    """Verdict on live requests of one step.

    Fail: one guarded share of the canary is shown to be above its limit, and above that of the live version in the
    same time if that had requests: trouble that both share is not the canary's.
    Pass: all shares are shown to be at most their limits. Unknown: neither.
    """
    guarded = shares(Side.of_live(canary), Side.of_live(live), objective)
    looks, failed = _look_for_harm(guarded, canary.requests, looks)
    if failed:
        return looks, failed
    return _look_for_pass(guarded, canary.requests, looks)


def needed_requests(objective: ServingObjective, passed_looks: int = 0) -> int:
    """Canary requests at which the next pass look happens."""
    limit = tightest(objective)
    if limit <= 0.0:
        return NEVER
    return int(needed_without_events(limit, PASS_ALPHA / 2) * 2**passed_looks)


def judge_load(report: LoadReport, objective: ServingObjective) -> Judgement:
    """Verdict on a load check: one look, absolute limits and, with a baseline, the ratio of medians.

    A baseline that only fails is none: harm that both share would be nobody's fault, and no median stands beside the
    candidate's. That is no pass, and no rejection either.
    """
    if report.problem:
        return Judgement(result=Result.UNKNOWN, reason=Reason.LOAD_CHECK_FAILED, message=report.problem)
    if report.saturated:
        message = (
            f"the load generator could not sustain the request rate (lag p99 {report.lag_p99_milliseconds:.1f} ms): "
            "lower rollout.loadCheck.ratePerSecond or schedule its Job on a less busy node"
        )
        return Judgement(result=Result.UNKNOWN, reason=Reason.GENERATOR_SATURATED, message=message)
    if report.candidate is None or report.candidate.sent == 0:
        return Judgement(result=Result.UNKNOWN, reason=Reason.LOAD_CHECK_FAILED, message="no requests were sent")
    candidate, baseline = report.candidate, report.baseline or LoadSide(sent=0, errors=0, over=0)
    if baseline.sent and baseline.errors == baseline.sent:
        return Judgement(result=Result.UNKNOWN, reason=Reason.BASELINE_FAILED, message=_told_of(candidate, baseline))
    guarded = shares(Side.of_load(candidate), Side.of_load(baseline), objective)
    for share in guarded:
        if _harmful(share, FAIL_ALPHA / len(guarded)):
            return Judgement(result=Result.FAIL, reason=share.guardrail.reason, message=share.told())
    slow = _judge_slowdown(candidate, baseline, objective)
    if slow.result is not Result.PASS:
        return slow
    for share in guarded:
        if clopper_pearson_upper(share.events, share.n, PASS_ALPHA) > share.limit:
            needed = needed_without_events(share.limit, PASS_ALPHA) if share.limit > 0 else NEVER
            message = f"{share.told()}: inconclusive, at least {needed} requests are needed"
            return Judgement(result=Result.UNKNOWN, reason=Reason.INCONCLUSIVE, message=message)
    median = (candidate.latency.quantile(0.5) or 0) / 1000
    p99 = (candidate.latency.quantile(0.99) or 0) / 1000
    seen = f"{candidate.sent} requests, {candidate.errors} failed, median {median:.1f} ms, p99 {p99:.1f} ms"
    message = f"{seen}; {slow.message}"
    return Judgement(result=Result.PASS, reason=Reason.WITHIN_OBJECTIVES, message=message)


def _told_of(candidate: LoadSide, baseline: LoadSide) -> str:
    """Of a baseline that only fails: nothing can be compared with it, and what both sides say is most of the cause."""
    why = told(Side.of_load(baseline).faults)
    text = f"the live version failed all of its {baseline.sent} requests" + (f" ({why})" if why else "")
    if candidate.errors:
        why = told(Side.of_load(candidate).faults)
        text += f", the candidate {candidate.errors} of {candidate.sent}" + (f" ({why})" if why else "")
    return f"{text}: there is nothing to compare with"


def _judge_slowdown(candidate: LoadSide, baseline: LoadSide, objective: ServingObjective) -> Judgement:
    """Sign test of the candidate's median against `max_slowdown` times the baseline's median."""
    median = baseline.latency.quantile(0.5)
    if median is None:
        return Judgement(result=Result.PASS, reason=Reason.WITHIN_OBJECTIVES, message="no live version to compare with")
    most = float(objective.max_slowdown)
    bound = int(most * median)
    over, n = candidate.latency.count_over(bound), candidate.latency.total
    own = candidate.latency.quantile(0.5) or 0.0
    ratio = f"median {own / 1000:.1f} ms is {own / median:.1f} times the live version's {median / 1000:.1f} ms"
    limit = f"limit {most:g} times"
    if clopper_pearson_lower(over, n, FAIL_ALPHA / 2) > 0.5:
        return Judgement(result=Result.FAIL, reason=Reason.SLOWER_THAN_LIVE, message=f"{ratio} ({limit})")
    if clopper_pearson_upper(over, n, PASS_ALPHA) < 0.5:
        return Judgement(result=Result.PASS, reason=Reason.WITHIN_OBJECTIVES, message=f"{ratio} ({limit})")
    message = f"{ratio} ({limit}): inconclusive with {n} requests"
    return Judgement(result=Result.UNKNOWN, reason=Reason.INCONCLUSIVE, message=message)


def _look_for_harm(guarded: tuple[Share, ...], n: int, looks: Looks) -> tuple[Looks, Judgement | None]:
    if n < FIRST_FAIL_LOOK * 2**looks.fail:
        return looks, None
    while n >= FIRST_FAIL_LOOK * 2 ** (looks.fail + 1):
        looks = replace(looks, fail=looks.fail + 1)  # looks that n has jumped over were never taken
    alpha = FAIL_ALPHA / ((looks.fail + 1) * (looks.fail + 2)) / len(guarded)
    looks = replace(looks, fail=looks.fail + 1)
    for share in guarded:
        if _harmful(share, alpha):
            return looks, Judgement(result=Result.FAIL, reason=share.guardrail.reason, message=share.told())
    return looks, None


def _look_for_pass(guarded: tuple[Share, ...], n: int, looks: Looks) -> tuple[Looks, Judgement]:
    limit = min(s.limit for s in guarded)
    first = needed_without_events(limit, PASS_ALPHA / 2) if limit > 0.0 else NEVER
    if n < first * 2**looks.passed:
        message = f"{guarded[0].told()}; next evaluation at {first * 2**looks.passed} requests"
        return looks, Judgement(result=Result.UNKNOWN, reason=Reason.COLLECTING_EVIDENCE, message=message)
    while n >= first * 2 ** (looks.passed + 1):
        looks = replace(looks, passed=looks.passed + 1)
    alpha = PASS_ALPHA / 2 ** (looks.passed + 1)
    looks = replace(looks, passed=looks.passed + 1)
    open_shares = [s for s in guarded if clopper_pearson_upper(s.events, s.n, alpha) > s.limit]
    if open_shares:
        then = first * 2**looks.passed
        message = f"{open_shares[0].told()}: inconclusive so far; next evaluation at {then} requests"
        return looks, Judgement(result=Result.UNKNOWN, reason=Reason.COLLECTING_EVIDENCE, message=message)
    message = "; ".join(s.told() for s in guarded)
    return looks, Judgement(result=Result.PASS, reason=Reason.WITHIN_OBJECTIVES, message=message)


def _harmful(share: Share, alpha: float) -> bool:
    if clopper_pearson_lower(share.events, share.n, alpha) <= share.limit:
        return False
    if share.reference_n == 0:
        return True
    return fisher_greater(share.events, share.n, share.reference_events, share.reference_n) < alpha

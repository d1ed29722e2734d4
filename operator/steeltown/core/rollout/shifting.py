"""Shifting: live requests, step by step, judged by what the canary did with its share.

Traffic follows capacity: a step's share is put in force once enough replicas are ready, until then the share before
it stays (I3). What was measured while Pods that are not ours answered under our labels, or after a drain had taken the
canary's replicas, is void: the share is cut to zero, and the step is measured anew when all is well.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from ...api.conditions import ConditionType, Reason, true, unknown
from ...api.mlmodel import Phase, RolloutStatus
from ..judge.verdict import Looks, Result, judge_canary, needed_requests
from ..observed import pods as podview
from ..routing.router import Measured, Share
from .phase import (
    Context,
    Decision,
    Fail,
    Inconclusive,
    RolloutPhase,
    Stay,
    To,
    Wanted,
    enter,
    enter_disturbed,
    finding_of,
    found,
)

LIVE_IS_BROKEN: Final = (
    "the live version serves no requests, so traffic cannot be split; promoted on the load check alone"
)


def first_step(c: Context, rollout: RolloutStatus) -> To:
    return _step(c, rollout, 0)


def _step(c: Context, rollout: RolloutStatus, step: int) -> To:
    return enter(c, Phase.SHIFTING, rollout, step=step, weight=c.world.spec.rollout.steps[step].weight)


def step_share(c: Context) -> Share | None:
    """The share of the step, None without a live version."""
    if c.live is None:
        return None
    again = f"-{c.rollout.restarts}" if c.rollout.restarts else ""
    return Share(
        stable=c.live,
        window=f"{c.rollout.id}-{c.rollout.step}{again}",
        weight=c.rollout.weight,
        canary=c.candidate,
        timeout_milliseconds=max(1000, 2 * c.objective.latency_milliseconds),
    )


def _needed_replicas(c: Context) -> int:
    return max(1, math.ceil(c.replicas * c.rollout.weight / 100))


def _capable(c: Context) -> bool:
    """Enough replicas are ready, as their Deployment and their Pods say (the watch of the one may be behind that of the
    other), and requests find them."""
    ready = sum(podview.is_ready(p) for p in c.candidate_pods)
    return min(ready, c.world.ready(c.candidate)) >= _needed_replicas(c) and c.canary_is_reachable


def _lost(c: Context, share: Share) -> bool:
    """The share is in force and the platform took the replicas that it needs, or a hand the way to them: what is
    counted now says nothing about the model. A Pod that runs and is not ready is the model's own affair."""
    if _capable(c) or not c.router.in_force(c.world, share):
        return False
    return not c.canary_is_reachable or not any(podview.runs_unready(p) for p in c.candidate_pods)


def _share(c: Context) -> Share | None:
    share = step_share(c)
    if share is None:
        return None
    if c.rollout.disturbed or c.world.foreign or _lost(c, share):
        return replace(share, window=f"{c.rollout.id}-disturbed", weight=0, canary=None)
    if _capable(c):
        return share
    before = c.router.weight_in_force(c.world, share.stable, c.rollout.id)
    return before if before and before.weight <= c.rollout.weight else None


def _wanted(c: Context) -> Wanted:
    return Wanted(
        candidate=_needed_replicas(c),
        canary_service=True,
        keep=(c.live,) if c.live else (),
        live=c.live,
        share=_share(c),
        observe=True,
    )


def _decide(c: Context) -> Decision:
    share = step_share(c)
    if share is None:
        return Fail(reason=Reason.SUPERSEDED, message="the live version no longer exists", ending="Superseded")
    if c.live_is_broken:
        shown = found(c.rollout, ConditionType.CANARY_PASSED, true(Reason.WITHIN_OBJECTIVES, LIVE_IS_BROKEN))
        return enter(c, Phase.PROMOTING, shown, step=-1, weight=0)
    if not _capable(c) and (failure := c.candidate_failure):
        message = f"at {c.rollout.weight}%: {failure[1]}"
        return Fail(failed=ConditionType.CANARY_PASSED, reason=Reason.CRASHING, message=message)
    if c.world.foreign or (not c.rollout.disturbed and _lost(c, share)):
        return _disturbed(c)
    if c.rollout.disturbed and _capable(c):
        return enter(c, Phase.SHIFTING, restarts=c.rollout.restarts + 1)
    return _judged(c, c.router.measured(c.world, share))


def _disturbed(c: Context) -> Decision:
    """What is measured from now on is void, until the step is measured anew."""
    if not c.rollout.disturbed:
        moved = enter_disturbed(c)
        if c.world.foreign:
            return moved
        told = unknown(
            Reason.CAPACITY_MISSING, f"at {c.rollout.weight}%: canary Pods were lost: restarting the measurement"
        )
        return replace(moved, rollout=found(moved.rollout, ConditionType.CANARY_PASSED, told))
    names = ", ".join(p["metadata"]["name"] for p in c.world.foreign[:3])
    message = f"Pods not created by the operator match the Service selector and answer requests: delete {names}"
    return Stay(requeue_after=c.until_deadline, held=(Reason.FOREIGN_PODS, message))


def _judged(c: Context, measured: Measured) -> Decision:
    before = Looks(fail=c.rollout.fail_look, passed=c.rollout.pass_look)
    looks, judgement = judge_canary(measured.canary, measured.live, c.objective, before)
    if judgement.result is Result.FAIL:
        return Fail(failed=ConditionType.CANARY_PASSED, reason=judgement.reason, message=judgement.message)
    if judgement.result is Result.PASS:
        return _next(c, f"{c.rollout.weight}%: {judgement.message}")
    if _was_blocked(c) and measured.complete:
        return _deadline_anew(c)
    if looks != before:  # also while held: a look that is not recorded would be taken again
        told = found(c.rollout, ConditionType.CANARY_PASSED, unknown(judgement.reason, judgement.message))
        looked = told.model_copy(update={"fail_look": looks.fail, "pass_look": looks.passed})
        return To(rollout=looked, forward=False)
    if not c.late:
        return Stay(requeue_after=c.until_deadline)
    return _overdue(c, measured, judgement.message, looks)


def _was_blocked(c: Context) -> bool:
    """The platform kept the step from its evidence, and it stands recorded."""
    told = finding_of(c.rollout, ConditionType.CANARY_PASSED)
    return told is not None and told.reason not in (Reason.COLLECTING_EVIDENCE, Reason.INCONCLUSIVE)


def _deadline_anew(c: Context) -> Decision:
    """Time in which nothing could be counted is not time for evidence. What is counted, and looked at, stays."""
    told = unknown(Reason.COLLECTING_EVIDENCE, f"at {c.rollout.weight}%: obstacle cleared, collecting evidence")
    kept = {"restarts": c.rollout.restarts, "fail_look": c.rollout.fail_look, "pass_look": c.rollout.pass_look}
    return replace(enter(c, Phase.SHIFTING, found(c.rollout, ConditionType.CANARY_PASSED, told), **kept), forward=False)


def _blocked(c: Context, reason: str, message: str) -> Decision:
    if not _was_blocked(c):
        return To(rollout=found(c.rollout, ConditionType.CANARY_PASSED, unknown(reason, message)), forward=False)
    return Inconclusive(reason=reason, message=message, platform=True)


def _next(c: Context, evidence: str) -> Decision:
    following = c.rollout.step + 1
    if following < len(c.world.spec.rollout.steps):
        told = found(c.rollout, ConditionType.CANARY_PASSED, unknown(Reason.COLLECTING_EVIDENCE, evidence))
        return _step(c, told, following)
    shown = found(c.rollout, ConditionType.CANARY_PASSED, true(Reason.WITHIN_OBJECTIVES, evidence))
    return enter(c, Phase.PROMOTING, shown)


def _overdue(c: Context, measured: Measured, seen: str, looks: Looks) -> Decision:
    at = f"at {c.rollout.weight}%"
    if not _capable(c):
        blocked = c.obstacle()
        why = blocked.message if blocked else "not enough ready candidate replicas"
        reason = blocked.reason if blocked else Reason.CAPACITY_MISSING
        return _blocked(c, reason, f"{at}: {why}")
    if not measured.complete:
        message = f"{at}: cannot read the request counts of this step from every Pod of the live version"
        return _blocked(c, Reason.EVIDENCE_UNREADABLE, message)
    needed = needed_requests(c.objective, looks.passed)
    message = f"{at}: {seen}; {measured.canary.requests} of {needed} canary requests received in time"
    return Inconclusive(reason=Reason.INCONCLUSIVE, message=message)


SHIFTING = RolloutPhase(
    name=Phase.SHIFTING,
    proves=ConditionType.CANARY_PASSED,
    interruptible=True,
    wanted=_wanted,
    decide=_decide,
)

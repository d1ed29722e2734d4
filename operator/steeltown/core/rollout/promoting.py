"""Promoting: full capacity, then traffic, in this order. The old version stays as it is.

Reached only by a recorded Pass (I4): the Service's record says so in the very write that moves its selector, and the
outcome is written onto the TrainingRun.
"""

from __future__ import annotations

from dataclasses import replace

from ...api.conditions import ConditionType, Reason
from ...api.mlmodel import Phase
from ..plan import Action, EventNote, Target
from ..record import PROMOTED, Outcome, retry_of
from .phase import Context, Decision, Fail, Inconclusive, RolloutPhase, Stay, To, Wanted, enter, finding_of
from .shifting import step_share


def _switched(c: Context) -> bool:
    return c.in_place and c.world.promoted


def _wanted(c: Context) -> Wanted:
    switched, ready = _switched(c), c.world.full(c.candidate)
    old = (c.world.previous if switched else c.live) if c.rollout.step >= 0 else None
    moves = switched or ready
    return Wanted(
        candidate=c.replicas,
        canary_service=not c.in_place,
        keep=(old,) if old else (),
        live=c.candidate if moves else c.live,
        grants=moves,
        share=step_share(c) if old and not switched else None,
        actions=_outcome(c) if moves else (),
    )


def _decide(c: Context) -> Decision:
    if _switched(c) and not record_outcome(c, PROMOTED):
        note = EventNote(type="Normal", reason=Reason.PROMOTED, message=f"{c.rollout.run} ({c.rollout.digest}) is live")
        baking = enter(c, Phase.BAKING)
        return To(rollout=baking.rollout, events=(note,))
    if not c.late or _switched(c) or c.world.full(c.candidate):
        return Stay(requeue_after=c.until_deadline)
    message = f"{c.replicas} candidate replicas not ready within progressDeadlineSeconds ({c.deadline_seconds})"
    if failure := c.candidate_failure:
        return Fail(failed=ConditionType.CANARY_PASSED, reason=Reason.CRASHING, message=f"{message}: {failure[1]}")
    blocked = c.obstacle()
    reason = blocked.reason if blocked else Reason.CAPACITY_MISSING
    told = f"{message}: {blocked.message}" if blocked else message
    return Inconclusive(reason=reason, message=told, platform=True)


def _outcome(c: Context) -> tuple[Action, ...]:
    """Not where the switch is refused: a run that says Promoted must have got there."""
    switch = Target("Service", c.world.namespace, c.world.name)
    return tuple(replace(action, after=(switch,)) for action in record_outcome(c, PROMOTED))


def record_outcome(c: Context, result: str) -> tuple[Action, ...]:
    """Write how the rollout ends onto the candidate's TrainingRun, unless it stands there or the run is gone.

    A run that was made again under the same name is another version: what was shown is not about it.
    """
    run = c.run
    if run is None:
        return ()
    shown = finding_of(c.rollout, ConditionType.CANARY_PASSED)
    outcome = Outcome(
        result=result,
        digest=c.rollout.digest,
        reason=Reason.TRAFFIC_SHIFTED if result == PROMOTED else (c.rollout.reason or Reason.ROLLED_BACK),
        message=(shown.message if shown else "") if result == PROMOTED else (c.rollout.message or ""),
        retry=retry_of(run.obj),
        findings=tuple(c.rollout.findings),
    )
    return () if run.outcome == outcome else (outcome.annotate(run.obj, c.policy),)


PROMOTING = RolloutPhase(name=Phase.PROMOTING, proves=None, interruptible=False, wanted=_wanted, decide=_decide)

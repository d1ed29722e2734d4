"""Loading: one Pod of the candidate on production resources, without traffic, must answer the golden rows.

Beside it one fresh Pod of the live version becomes the baseline of the load check. A live version that cannot start
one must not block its own fix: then the check goes on without a baseline. Time in which the platform kept a Pod from
starting is not the model's: the deadline counts from when its server runs.
"""

from __future__ import annotations

from ...api.conditions import ConditionType, Reason, true
from ...api.mlmodel import Phase
from .phase import Context, Decision, Fail, Inconclusive, RolloutPhase, Stay, Wanted, enter, found

LOADED = "ready with production resources; golden rows match the outputs recorded in training"


def candidate_beside_live(c: Context) -> Wanted:
    """Candidate beside the live version, without traffic."""
    return Wanted(
        candidate=None if c.in_place else 1,
        canary_service=not c.in_place,
        baseline=c.live is not None,
        keep=(c.live,) if c.live else (),
        live=c.live,
    )


def _decide(c: Context) -> Decision:
    waits_for_baseline = c.live is not None and not c.in_place and not c.baseline_ready
    if c.candidate_ready:
        return _without_baseline(c) if waits_for_baseline else _loaded(c)
    if failure := c.candidate_failure:
        return Fail(failed=ConditionType.LOADABLE, reason=failure[0], message=failure[1])
    if not c.late:
        return Stay(requeue_after=c.until_deadline)
    message = f"candidate Pod not ready within progressDeadlineSeconds ({c.deadline_seconds})"
    if blocked := c.obstacle():
        return Inconclusive(reason=blocked.reason, message=f"{message}: {blocked.message}", platform=True)
    if (left := c.deadline_seconds - c.running_seconds(c.candidate_pods)) > 0:
        return Stay(requeue_after=max(0.5, left))
    return Fail(failed=ConditionType.LOADABLE, reason=Reason.PROGRESS_DEADLINE_EXCEEDED, message=message)


def _without_baseline(c: Context) -> Decision:
    """Its own version must not keep a baseline from the check of the fix; what the platform lacks is waited for."""
    if c.live_is_broken or c.baseline_is_broken:
        return _loaded(c)
    if not c.late:
        return Stay(requeue_after=c.until_deadline)
    if blocked := c.baseline_obstacle():
        message = f"baseline Pod not ready within progressDeadlineSeconds ({c.deadline_seconds}): {blocked.message}"
        return Inconclusive(reason=blocked.reason, message=message, platform=True)
    if (left := c.deadline_seconds - c.running_seconds(c.baseline_pods)) > 0:
        return Stay(requeue_after=max(0.5, left))
    return _loaded(c)


def _loaded(c: Context) -> Decision:
    loaded = found(c.rollout, ConditionType.LOADABLE, true(Reason.GOLDEN_ROWS_ANSWERED, LOADED))
    return enter(c, Phase.LOAD_CHECKING, loaded)


LOADING = RolloutPhase(
    name=Phase.LOADING, proves=ConditionType.LOADABLE, interruptible=True, wanted=candidate_beside_live, decide=_decide
)

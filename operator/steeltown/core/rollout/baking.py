"""Baking: all traffic goes to the new version, the old one stays warm, and harm rolls back at once.

The bake passes only if the new version stands at its end: every replica ready and every Pod's counts read. Pods that
crash roll back; what the platform lacks, or evidence that cannot be read, keeps the old version where it is.
"""

from __future__ import annotations

from ...api.conditions import ConditionType, Reason
from ...api.mlmodel import Phase
from ...contract.evidence import Counts
from ..judge.verdict import Looks, Result, judge_canary
from ..observed import pods as podview
from ..plan import Obj
from ..record import PROMOTED, Version
from ..routing.router import Share
from .phase import Context, Decision, Done, Fail, Inconclusive, RolloutPhase, Stay, To, Wanted

_UNREADY_SECONDS = 10.0
"""A Pod that fails its readiness probe for less may only be busy."""
_EVIDENCE_GRACE_SECONDS = 60.0
"""How long after the end of the bake the last counts may take to be read before a person is told."""


def _old(c: Context) -> Version | None:
    """The version that stays warm; None where none shared the traffic."""
    old = c.world.previous if c.rollout.step >= 0 else None
    return old if old and old != c.candidate else None


def _share(c: Context) -> Share:
    return Share(stable=c.candidate, window=f"{c.rollout.id}-bake")


def _wanted(c: Context) -> Wanted:
    old = _old(c)
    return Wanted(
        candidate=c.replicas,
        keep=(old,) if old else (),
        live=c.candidate if c.in_place else c.live,
        grants=True,
        share=_share(c) if old else None,
        observe=old is not None,
    )


def _decide(c: Context) -> Decision:
    if not c.in_place:
        message = "another version became live during the bake"
        return Fail(reason=Reason.SUPERSEDED, message=message, ending="Superseded")
    if _old(c) is None:
        return Done(result=PROMOTED, reason=Reason.TRAFFIC_SHIFTED)
    measured = c.router.measured(c.world, _share(c))
    before = Looks(fail=c.rollout.fail_look, passed=30)
    looks, judgement = judge_canary(measured.live, Counts(), c.objective, before)
    if judgement.result is Result.FAIL:
        message = f"during the bake: {judgement.message}"
        return Fail(failed=ConditionType.CANARY_PASSED, reason=judgement.reason, message=message)
    if crash := _crash(c):
        message = f"during the bake: {crash}"
        return Fail(failed=ConditionType.CANARY_PASSED, reason=Reason.CRASHING, message=message)
    if _nobody_answers(c):
        message = f"during the bake: no Pod of {c.rollout.run} is ready while the previous version is ready"
        if any(podview.runs_unready(p) for p in c.world.pods_of(c.candidate)):
            return Fail(failed=ConditionType.CANARY_PASSED, reason=Reason.CRASHING, message=message)
        return Fail(reason=Reason.CAPACITY_MISSING, message=message, ending="Superseded")
    if looks.fail != c.rollout.fail_look:
        return To(rollout=c.rollout.model_copy(update={"fail_look": looks.fail}), forward=False)
    left = c.world.spec.rollout.bake_seconds - c.seconds
    if left > 0:
        return Stay(requeue_after=max(0.5, left))
    return _at_the_end(c, measured.complete)


def _crash(c: Context) -> str | None:
    """What a Pod dies of, now or since the bake began. What it had got over by then, earlier phases have judged."""
    for pod in c.world.pods_of(c.candidate):
        failure = podview.load_failure(pod)
        if failure and (not podview.is_running(pod, "server") or _ended_since(pod, c.rollout.phase_time)):
            return failure[1]
    return None


def _ended_since(pod: Obj, moment: str) -> bool:
    ends = ((s.get("lastState") or {}).get("terminated") for s in podview.statuses(pod))
    return any(str(e.get("finishedAt") or moment) >= moment for e in ends if e)


def _nobody_answers(c: Context) -> bool:
    """Users get no answer although the old version could give one: back, whoever is to blame (I1).

    Pods of the template before, while they are replaced, answer as well as any.
    """
    deployment = c.world.deployment(c.candidate)
    answering = int(((deployment or {}).get("status") or {}).get("readyReplicas") or 0)
    if not c.replicas or answering or not c.world.ready(_old(c)):
        return False
    return all(podview.ready_seconds(p, c.now) >= _UNREADY_SECONDS for p in c.world.pods_of(c.candidate))


def _at_the_end(c: Context, complete: bool) -> Decision:
    over = c.seconds - c.world.spec.rollout.bake_seconds
    if not c.world.full(c.candidate):
        message = (
            f"cannot complete the bake: {c.world.ready(c.candidate)} of {c.replicas} replicas of "
            f"{c.rollout.run} are ready"
        )
        return _wait(over, c.deadline_seconds, Reason.CAPACITY_MISSING, message)
    if c.replicas and not complete:
        message = f"cannot complete the bake: cannot read request counts from every Pod of {c.rollout.run}"
        return _wait(over, _EVIDENCE_GRACE_SECONDS, Reason.EVIDENCE_UNREADABLE, message)
    return Done(result=PROMOTED, reason=Reason.TRAFFIC_SHIFTED)


def _wait(over: float, grace: float, reason: str, message: str) -> Decision:
    if over < grace:
        return Stay(requeue_after=max(0.5, grace - over))
    return Inconclusive(reason=reason, message=message, platform=True)


BAKING = RolloutPhase(name=Phase.BAKING, proves=None, interruptible=False, wanted=_wanted, decide=_decide)

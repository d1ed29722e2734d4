"""RollingBack: weight 0 at once, then the record, then the candidate goes.

It needs no ready Pod and no evidence, repeats itself safely, and never makes the rejected version larger (I6).
"""

from __future__ import annotations

from ...api.conditions import Reason
from ...api.mlmodel import Phase
from ..naming import canary_name
from ..record import ROLLED_BACK, WITHDRAWN, Version
from ..routing.router import Share
from .phase import Context, Decision, Done, RolloutPhase, Stay, Wanted
from .promoting import record_outcome

OFF_WAIT_SECONDS = 30.0
"""How long a rollback waits to read back that the live Pods send the canary nothing before it and its Service go.
The live server answers by itself when the canary is gone, so waiting is a courtesy, not a condition."""


def _back_to(c: Context) -> Version | None:
    if c.in_place and c.world.promoted and c.rollout.step >= 0 and c.world.previous:
        return c.world.previous
    return c.live


def _off(c: Context) -> Share | None:
    """Weight 0 in a window of its own while a route of this rollout still stands."""
    back_to = _back_to(c)
    if back_to is None or c.router.weight_in_force(c.world, back_to, c.rollout.id) is None:
        return None
    return Share(stable=back_to, window=f"{c.rollout.id}-off")


def _replicas_left(c: Context) -> int | None:
    """As many as the candidate has, until it goes; never more."""
    deployment = c.world.deployment(c.candidate)
    if deployment is None or c.candidate == _back_to(c):
        return None
    return min(int(deployment["spec"].get("replicas", 0)), c.replicas)


def _records(c: Context) -> bool:
    return c.rollout.ending in (ROLLED_BACK, WITHDRAWN)


def _wanted(c: Context) -> Wanted:
    back_to, off = _back_to(c), _off(c)
    return Wanted(
        candidate=_replicas_left(c),
        canary_service=off is not None and canary_name(c.world.name) in c.world.services,
        keep=(back_to,) if back_to else (),
        live=back_to,
        share=off,
        observe=True,
        actions=record_outcome(c, c.rollout.ending or ROLLED_BACK) if _records(c) else (),
        route_first=True,
    )


def _decide(c: Context) -> Decision:
    back_to, off = _back_to(c), _off(c)
    switched = back_to is None or c.live == back_to
    recorded = not _records(c) or not record_outcome(c, c.rollout.ending or ROLLED_BACK)
    read_back = off is None or c.router.measured(c.world, off).complete
    if switched and recorded and (read_back or c.seconds >= OFF_WAIT_SECONDS):
        return Done(result=c.rollout.ending or ROLLED_BACK, reason=c.rollout.reason or Reason.ROLLED_BACK)
    return Stay(requeue_after=OFF_WAIT_SECONDS)


ROLLING_BACK = RolloutPhase(name=Phase.ROLLING_BACK, proves=None, interruptible=False, wanted=_wanted, decide=_decide)

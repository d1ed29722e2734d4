"""The rollout of one version into production: a machine of small phases.

    Loading -> LoadChecking -> Shifting (step by step) -> Promoting -> Baking -> done
       any of them -> RollingBack -> done

`wanted` says what must be there now, `decide` what to record next; see `phase` for both. What may end a rollout from
outside (abort, a withdrawn request, a deleted run, a better version that waits) is one chain, and the brake is one
filter on decisions. Invariants kept in the phases: traffic follows capacity and never the other way round (I1, I3);
a share is that of the recorded step or less (I2); Promoting is reached only by a recorded Pass (I4); RollingBack needs
nothing to be ready (I6).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from ...api.conditions import Finding, Reason, rfc3339
from ...api.mlmodel import OnInconclusive, Phase, RolloutStatus
from ..naming import short_hash
from ..plan import EventNote
from ..record import ROLLED_BACK, SUPERSEDED, WITHDRAWN, Version
from .baking import BAKING
from .load_checking import LOAD_CHECK_ATTEMPTS, LOAD_CHECKING
from .loading import LOADING
from .phase import Context, Decision, Done, Fail, Inconclusive, RolloutPhase, Stay, To, Wanted, found
from .promoting import PROMOTING
from .rolling_back import ROLLING_BACK
from .shifting import SHIFTING

__all__ = [
    "LOAD_CHECK_ATTEMPTS",
    "PHASES",
    "Context",
    "Decision",
    "Done",
    "Stay",
    "To",
    "Wanted",
    "begin",
    "decide",
    "wanted",
]

PHASES: Final = {p.name: p for p in (LOADING, LOAD_CHECKING, SHIFTING, PROMOTING, BAKING, ROLLING_BACK)}
"""In order."""


def begin(candidate: Version, now: datetime, *, retry: str = "") -> RolloutStatus:
    stamp = rfc3339(now)
    return RolloutStatus(
        id=short_hash(candidate.run, candidate.digest, stamp),
        run=candidate.run,
        digest=candidate.digest,
        phase=next(iter(PHASES)),
        retry=retry or None,
        started_time=stamp,
        phase_time=stamp,
    )


def wanted(c: Context) -> Wanted:
    return PHASES[c.rollout.phase].wanted(c)


def decide(c: Context) -> Stay | To | Done:
    """What comes next, after interruptions, the policy for missing evidence, and the brake."""
    if c.ahead_of_the_clock:
        return To(rollout=c.rollout.model_copy(update={"phase_time": rfc3339(c.now)}), forward=False)
    phase = PHASES[c.rollout.phase]
    decision = next((d for i in _INTERRUPTIONS if (d := i(c, phase))), None) or phase.decide(c)
    if isinstance(decision, Inconclusive):
        decision = _without_evidence(c, decision)
    return _roll_back(c, decision) if isinstance(decision, Fail) else _braked(c, decision)


# --- what ends a rollout from outside --------------------------------------------------------------------------------


def _aborted(c: Context, phase: RolloutPhase) -> Fail | None:
    if phase is ROLLING_BACK or c.world.spec.abort != c.rollout.run:
        return None
    return Fail(reason=Reason.ABORTED, message=f"spec.abort is set to {c.rollout.run}")


def _withdrawn(c: Context, phase: RolloutPhase) -> Fail | None:
    if not phase.interruptible or c.world.production:
        return None
    return Fail(reason=Reason.WITHDRAWN, message="spec.stage is no longer Production", ending=WITHDRAWN)


def _run_deleted(c: Context, phase: RolloutPhase) -> Fail | None:
    if not phase.interruptible or c.run is not None:
        return None
    message = f"TrainingRun {c.rollout.run} was deleted during its rollout: the same model is not rolled out again"
    return Fail(reason=Reason.RUN_DELETED, message=message, ending=SUPERSEDED)


_INTERRUPTIONS: Final[tuple[Callable[[Context, RolloutPhase], Fail | None], ...]] = (
    _aborted,
    _withdrawn,
    _run_deleted,
)


def _without_evidence(c: Context, decision: Inconclusive) -> Stay | Fail:
    """A rollout in flight finishes, unless it is held and a newer eligible version waits: then that has its turn.

    While the brake is on neither ends it: no harm is shown.
    """
    held = Stay(held=(str(decision.reason), decision.message), requeue_after=decision.requeue_after)
    if c.world.spec.frozen:
        return held
    waiting, phase = c.world.candidate, PHASES[c.rollout.phase]
    if phase.interruptible and waiting and c.run and waiting.order > c.run.order:
        message = (
            f"superseded by newer eligible version {waiting.name} while the rollout was on hold: {decision.message}"
        )
        return Fail(reason=Reason.SUPERSEDED, message=message, ending=SUPERSEDED)
    if not decision.platform and c.world.spec.rollout.on_inconclusive is OnInconclusive.ROLLBACK:
        return Fail(failed=phase.proves, reason=decision.reason, message=decision.message)
    return held


# --- recording -------------------------------------------------------------------------------------------------------


def _roll_back(c: Context, fail: Fail) -> To:
    rollout = c.rollout
    if fail.failed:
        rollout = found(rollout, fail.failed, Finding("False", fail.reason, fail.message))
    back = rollout.model_copy(
        update={
            "phase": Phase.ROLLING_BACK,
            "phase_time": rfc3339(c.now),
            "weight": 0,
            "ending": fail.ending,
            "reason": str(fail.reason),
            "message": fail.message[:2000],
        }
    )
    word = Reason.ROLLED_BACK if fail.ending == ROLLED_BACK else fail.reason
    kind = "Warning" if fail.ending == ROLLED_BACK else "Normal"
    note = EventNote(type=kind, reason=word, message=f"{c.rollout.run}: {fail.reason}: {fail.message}")
    return To(rollout=back, forward=False, events=(note,))


def _braked(c: Context, decision: Stay | To | Done) -> Stay | To | Done:
    """spec.frozen: nothing moves forward. What is running stays, and what is being taken back goes on."""
    if not c.world.spec.frozen or c.rollout.phase is Phase.ROLLING_BACK:
        return decision
    if isinstance(decision, Stay) or (isinstance(decision, To) and not decision.forward):
        return decision
    return Stay()

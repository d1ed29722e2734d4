"""Ready, and Reconciling or Stalled beside it: one chain of questions, and the first that has an answer decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...api.conditions import ConditionType, Finding, Reason, false, true
from ...api.mlmodel import Phase, VerdictStatus
from .conditions import LOADABLE, NO_VERSION, answer
from .standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """beside: Reconciling or Stalled, which then is True and Ready False; None = Ready is True."""

    beside: ConditionType | None
    reason: str
    message: str


Question = Callable[[Standing, VerdictStatus | None], Answer | None]


def ready(standing: Standing, verdict: VerdictStatus | None) -> dict[ConditionType, Finding]:
    found = next(a for ask in QUESTIONS if (a := ask(standing, verdict)) is not None)
    if found.beside is None:
        return {ConditionType.READY: true(found.reason, found.message)}
    return {
        ConditionType.READY: false(found.reason, found.message),
        found.beside: true(found.reason, found.message),
    }


def _stalled(reason: str, message: str) -> Answer:
    return Answer(beside=ConditionType.STALLED, reason=reason, message=message)


def _reconciling(reason: str, message: str) -> Answer:
    return Answer(beside=ConditionType.RECONCILING, reason=reason, message=message)


def _refused(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    if not s.refusals:
        return None
    message = "; ".join(f"{r.target.kind} {r.target.name}: {r.message}" for r in s.refusals)
    return _reconciling(Reason.APPLY_REFUSED, message)


def _abort_names_nobody(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    named = s.world.spec.abort
    if named is None or named in s.world.runs or any(h.run == named for h in s.world.status.history):
        return None
    if s.rollout and s.rollout.run == named:
        return None
    message = f"spec.abort: TrainingRun {named} of this model not found: correct or remove it"
    return _stalled(Reason.UNKNOWN_RUN, message)


def _router_refuses(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    return _stalled(Reason.ROUTER_REFUSES, s.refused_by_router) if s.refused_by_router else None


def _frozen(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    if not s.world.spec.frozen or (s.rollout and s.rollout.phase is Phase.ROLLING_BACK):
        return None
    return Answer(beside=None, reason=Reason.FROZEN, message="progress is paused by spec.frozen; serving continues")


def _held(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    return _stalled(*s.held) if s.held else None


def _in_flight(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    r = s.rollout
    if r is None:
        return None
    where = f"{r.phase.value} {r.run}" + (f" at {r.weight}%" if r.phase is Phase.SHIFTING else "")
    if s.blocked:
        return _reconciling(s.blocked.reason, f"{where}: {s.blocked.message}")
    return _reconciling(Reason.PROGRESSING, f"{where}: {r.reason}" if r.reason else where)


def _first_was_stopped(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    """Nothing is live, and the version that would be is held back by a person: its gates may well have passed."""
    newest = s.world.newest
    if s.live is not None or newest is None or newest.version is None or s.world.rejected(newest):
        return None
    if newest.name == s.world.spec.abort:
        message = f"spec.abort is set to {newest.name}: it is neither served nor rolled out"
        return _stalled(Reason.ABORTED, message)
    if s.world.withdrawn(newest) and not s.world.production:
        message = f"rollout of {newest.name} was withdrawn before completion: set spec.stage: Production to resume"
        return _stalled(Reason.WITHDRAWN, message)
    return None


def _nothing_live(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    if s.live is not None:
        return None
    if verdict and verdict.result == "Fail":
        return _stalled(verdict.reason, f"{verdict.run}: {verdict.message}")
    if verdict and s.world.newest and s.world.newest.finished:
        return _stalled(Reason.NOT_ELIGIBLE, f"{verdict.run}: {verdict.reason}: {verdict.message}")
    message = f"{verdict.run}: {verdict.message}" if verdict else NO_VERSION
    return _reconciling(verdict.reason if verdict else Reason.NO_VERSION, message)


def _newest_failed(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    """The newest version did not make it: a person must look, though the live one goes on serving."""
    newest = s.world.newest
    if verdict is None or newest is None:
        return None
    message = f"{verdict.run}: {verdict.reason}: {verdict.message}"
    if not newest.finished:
        return _reconciling(verdict.reason, message)
    if newest.version is None:
        return _stalled(Reason.RUN_FAILED, message)
    if not s.world.production or newest.version == s.live:
        return None
    if s.world.rejected(newest):
        return _stalled(Reason.ROLLED_BACK, message)
    if newest.name == s.world.spec.abort:
        return _stalled(Reason.ABORTED, f"spec.abort is set to {newest.name}: it is not rolled out")
    if newest.eligible.status != "True":
        return _stalled(Reason.NOT_ELIGIBLE, message)
    return None


def _experiment_starts(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    target = s.world.next_experiment
    if s.world.production or target is None or target.version == s.live:
        return None
    problem = answer(s, LOADABLE)
    if problem.status == "False":
        return _stalled(problem.reason, f"{target.name}: {problem.message}")
    return _reconciling(Reason.PROGRESSING, f"starting {target.name}")


def _not_full(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    if s.full or s.live is None:
        return None
    if s.subject and s.subject.version == s.live:
        problem = answer(s, LOADABLE)
        if problem.status == "False":
            return _stalled(problem.reason, f"{s.live.run}: {problem.message}")
    return _reconciling(Reason.PROGRESSING, f"{s.live.run}: waiting for all replicas to become ready")


def _settled(s: Standing, verdict: VerdictStatus | None) -> Answer | None:
    assert s.live is not None
    if s.world.production:
        late = " (spec.abort has no effect: its rollout is complete)" if s.world.spec.abort == s.live.run else ""
        return Answer(beside=None, reason=Reason.PROMOTED, message=f"{s.live.run} is in production{late}")
    if s.subject and s.subject.eligible.status == "True" and not s.world.withdrawn(s.subject):
        message = f"{s.live.run} is eligible: set spec.stage: Production to promote it"
        return Answer(beside=None, reason=Reason.AWAITING_PROMOTION, message=message)
    return Answer(beside=None, reason=Reason.SERVING, message=f"{s.live.run} is served as an experiment")


QUESTIONS: Final[tuple[Question, ...]] = (
    _refused,
    _abort_names_nobody,
    _router_refuses,
    _frozen,
    _held,
    _in_flight,
    _first_was_stopped,
    _nothing_live,
    _newest_failed,
    _experiment_starts,
    _not_full,
    _settled,
)

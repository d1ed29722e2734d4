"""The last word on the newest run, whatever became of it: the Verdict column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...api.conditions import ConditionType, Reason
from ...api.mlmodel import Phase, VerdictStatus
from .conditions import CONDITIONS, answer
from .standing import Standing

_CANARY = dict(CONDITIONS)[ConditionType.CANARY_PASSED]
_BEFORE_TRAFFIC = (Phase.LOADING, Phase.LOAD_CHECKING)


def verdict(standing: Standing) -> VerdictStatus | None:
    """None without any run."""
    return next((v for ask in _QUESTIONS if (v := ask(standing)) is not None), None)


def _taken_back(s: Standing) -> VerdictStatus | None:
    r = s.rollout
    if r is None or r.phase is not Phase.ROLLING_BACK:
        return None
    result = "Fail" if r.ending == "RolledBack" else "Unknown"
    return VerdictStatus(run=r.run, result=result, reason=r.reason or "", message=r.message or "")


def _not_finished(s: Standing) -> VerdictStatus | None:
    newest = s.world.newest
    if newest is None or newest.version is not None:
        return None
    ready = newest.finding(ConditionType.READY)
    result = "Fail" if newest.finished else "Unknown"
    return VerdictStatus(run=newest.name, result=result, reason=ready.reason, message=ready.message)


def _in_flight(s: Standing) -> VerdictStatus | None:
    r = s.rollout
    if r is None:
        return None
    if waits := s.held or (s.blocked and (s.blocked.reason, s.blocked.message)):
        return VerdictStatus(run=r.run, result="Unknown", reason=waits[0], message=waits[1])
    told = None if r.phase in _BEFORE_TRAFFIC else answer(s, _CANARY)
    passed = told is not None and told.status == "True"
    reason = Reason.WITHIN_OBJECTIVES if passed else Reason.COLLECTING_EVIDENCE
    message = told.message if told else r.phase.value
    return VerdictStatus(run=r.run, result="Pass" if passed else "Unknown", reason=reason.value, message=message)


def _ended(s: Standing) -> VerdictStatus | None:
    newest = s.world.newest
    outcome = (s.world.outcome(newest) or s.world.rejected(newest)) if newest else None
    if newest is None or outcome is None:
        return None
    if outcome.result == "Promoted":
        return VerdictStatus(run=newest.name, result="Pass", reason=Reason.PROMOTED.value, message=outcome.message)
    if not s.world.production:
        return None
    result = "Fail" if outcome.result == "RolledBack" else "Unknown"
    return VerdictStatus(run=newest.name, result=result, reason=outcome.reason, message=outcome.message)


def _gates(s: Standing) -> VerdictStatus | None:
    newest = s.world.newest
    if newest is None:
        return None
    gates = newest.eligible
    result = {"True": "Pass", "False": "Fail"}.get(gates.status, "Unknown")
    return VerdictStatus(run=newest.name, result=result, reason=gates.reason, message=gates.message)


_QUESTIONS: Final[tuple[Callable[[Standing], VerdictStatus | None], ...]] = (
    _taken_back,
    _not_finished,
    _in_flight,
    _ended,
    _gates,
)

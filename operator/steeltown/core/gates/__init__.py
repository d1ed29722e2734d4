"""The gates of a run as one table: each a chain of small checks, and the first that speaks is the condition.

A gate passes only by a check that says so; the last check of every chain is that nothing is known. To add a check: a
function with the signature `(RunFacts) -> Finding | None` and its place in a chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...api.conditions import ConditionType, Finding, Reason, false, true, unknown
from .facts import Failure, RunFacts
from .quality import quality_accepted

__all__ = ["GATES", "Failure", "RunFacts", "gates"]

Check = Callable[[RunFacts], Finding | None]


def gates(facts: RunFacts) -> dict[ConditionType, Finding]:
    return {kind: next(f for check in chain if (f := check(facts))) for kind, chain in GATES}


def _failed(kind: ConditionType) -> Check:
    def check(facts: RunFacts) -> Finding | None:
        failure = facts.failure
        return false(failure.reason, failure.message) if failure and failure.condition is kind else None

    return check


def _not_measured(facts: RunFacts) -> Finding | None:
    if not facts.over:
        return unknown(Reason.AWAITING_EVIDENCE, "not measured yet")
    if facts.report is None:
        return unknown(Reason.AWAITING_EVIDENCE, "the run ended before this was measured")
    return None


def _not_trained_on_data(facts: RunFacts) -> Finding | None:
    if facts.imported and facts.report:
        return true(Reason.NOT_APPLICABLE, "imported model: no training data")
    return None


def _data_valid(facts: RunFacts) -> Finding | None:
    """Known as soon as `prepare` has ended well, also of a run that fails later."""
    if not facts.over or facts.prepared is None:
        return None
    reason = facts.prepared.reason if facts.prepared.reason == Reason.OBSERVED_ONLY else Reason.DATA_VALID
    return true(reason, facts.prepared.message)


def _data_passed(facts: RunFacts) -> Finding:
    return true(Reason.DATA_VALID, "all data checks passed")


def _not_trained_here(facts: RunFacts) -> Finding | None:
    return true(Reason.NOT_APPLICABLE, "imported model: no training") if facts.imported else None


def _trained(facts: RunFacts) -> Finding:
    return true(Reason.COMPLETED, "training completed within its deadlines")


def _out_of_memory(facts: RunFacts) -> Finding | None:
    failure = facts.failure
    return false(failure.reason, failure.message) if failure and failure.out_of_memory else None


def _within_limits(facts: RunFacts) -> Finding:
    return true(Reason.WITHIN_LIMITS, "all containers stayed within their memory limits")


def _quality(facts: RunFacts) -> Finding:
    metrics, checks = (facts.report.metrics, facts.report.checks) if facts.report else ((), ())
    return quality_accepted(list(facts.quality), metrics, had_live=facts.had_live, checks=checks)


GATES: Final[tuple[tuple[ConditionType, tuple[Check, ...]], ...]] = (
    (
        ConditionType.DATA_VALIDATED,
        (_failed(ConditionType.DATA_VALIDATED), _not_trained_on_data, _data_valid, _not_measured, _data_passed),
    ),
    (
        ConditionType.TRAINING_HEALTHY,
        (_failed(ConditionType.TRAINING_HEALTHY), _not_measured, _not_trained_here, _trained),
    ),
    (ConditionType.RESOURCES_WITHIN_BUDGET, (_out_of_memory, _not_measured, _within_limits)),
    (ConditionType.QUALITY_ACCEPTED, (_failed(ConditionType.QUALITY_ACCEPTED), _not_measured, _quality)),
)

"""The conditions of a model as one table: type, and the questions whose first answer it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...api.conditions import RUN_GATES, ConditionType, Finding, Reason, false, true, unknown
from ...api.mlmodel import Phase
from ..observed import pods as podview
from ..plan import Obj
from .standing import Standing

Question = Callable[[Standing], Finding | None]

NO_VERSION: Final = "no TrainingRun of this model has succeeded: create one or set spec.training.template"


def conditions(standing: Standing) -> dict[ConditionType, Finding]:
    """Every condition but the summary."""
    return {kind: answer(standing, questions) for kind, questions in CONDITIONS}


def answer(standing: Standing, questions: tuple[Question, ...]) -> Finding:
    """The first answer. The last question of each chain always has one."""
    return next(found for ask in questions if (found := ask(standing)) is not None)


# --- evidence --------------------------------------------------------------------------------------------------------


def _gate(kind: ConditionType) -> Question:
    def ask(s: Standing) -> Finding:
        newest = s.world.newest
        if s.subject:
            return s.subject.finding(kind)
        return newest.finding(kind) if newest else unknown(Reason.AWAITING_EVIDENCE, NO_VERSION)

    return ask


def _shown(kind: ConditionType) -> Question:
    """What the rollout has shown, in flight or ended."""
    return lambda s: s.shown(kind)


def loaded_as_experiment(s: Standing) -> Finding | None:
    """Without a rollout its serving Pods tell."""
    if s.rollout or s.subject is None or s.subject.version is None:
        return None
    pods = s.world.pods_of(s.subject.version)
    if any(podview.is_ready(p) for p in pods):
        return true(Reason.GOLDEN_ROWS_ANSWERED, "ready; golden rows match the outputs recorded in training")
    return next((problem for p in pods if (problem := _problem(p))), None)


def _problem(pod: Obj) -> Finding | None:
    if failure := podview.load_failure(pod):
        return false(failure[0], failure[1])
    if blocked := podview.obstacle(pod):
        return unknown(blocked.reason, blocked.message)
    return None


def _not_loaded(s: Standing) -> Finding:
    if s.rollout and s.held and s.rollout.phase is Phase.LOADING:
        return unknown(*s.held)
    return unknown(Reason.AWAITING_EVIDENCE, "waiting for a Pod to load this version")


def _load_check_is_blocked(s: Standing) -> Finding | None:
    """Before what an earlier attempt has shown."""
    if s.rollout and s.rollout.phase is Phase.LOAD_CHECKING and s.blocked:
        return unknown(s.blocked.reason, s.blocked.message)
    return None


def _not_compared(s: Standing) -> Finding:
    return unknown(Reason.AWAITING_EVIDENCE, "compared with the live version by the load check")


def _load_check_runs(s: Standing) -> Finding | None:
    if s.rollout and s.rollout.phase is Phase.LOAD_CHECKING:
        return unknown(Reason.COLLECTING_EVIDENCE, "load check in progress")
    return None


def _no_load_check(s: Standing) -> Finding:
    return unknown(Reason.AWAITING_EVIDENCE, "the load check runs once promotion is requested")


# --- promotion -------------------------------------------------------------------------------------------------------


def _eligible(s: Standing) -> Finding:
    return s.subject.eligible if s.subject else unknown(Reason.NO_VERSION, NO_VERSION)


def _requested(s: Standing) -> Finding:
    if s.world.production:
        return true(Reason.REQUESTED_BY_SPEC, "spec.stage is Production")
    return false(Reason.NOT_REQUESTED, "set spec.stage: Production to request promotion")


def _rolled_back(s: Standing) -> Finding | None:
    """A rollout that is being taken back, or was, says why, whatever the canary had shown before."""
    r = s.rollout
    if r and r.phase is Phase.ROLLING_BACK:
        make = false if r.ending == "RolledBack" else unknown
        return make(r.reason or Reason.ROLLED_BACK, r.message or "")
    if s.outcome and s.outcome.result == "RolledBack":
        return false(s.outcome.reason, s.outcome.message)
    if s.outcome and s.outcome.result == "Withdrawn":
        return unknown(s.outcome.reason, s.outcome.message)
    return None


def _canary_has_its_share(s: Standing) -> Finding | None:
    r = s.rollout
    if r and r.phase is Phase.SHIFTING:
        return unknown(Reason.COLLECTING_EVIDENCE, f"step {r.step}: {r.weight}% of requests to the canary")
    return None


def _no_canary(s: Standing) -> Finding:
    return unknown(Reason.AWAITING_EVIDENCE, "no canary traffic yet")


def _promoted(s: Standing) -> Finding:
    if s.subject and s.live and s.subject.version == s.live and s.promoted:
        return true(Reason.TRAFFIC_SHIFTED, f"all traffic goes to {s.live.run}")
    return false(Reason.NOT_PROMOTED, f"{s.subject.name} is not promoted" if s.subject else "no version available")


# --- serving ---------------------------------------------------------------------------------------------------------


def _nothing_to_serve(s: Standing) -> Finding | None:
    if s.live is None:
        return false(Reason.NO_VERSION, "no version is live")
    if not s.world.spec.serving.replicas:
        return false(Reason.SCALED_TO_ZERO, f"spec.serving.replicas is 0: increase it to serve {s.live.run}")
    return None


def _available(s: Standing) -> Finding:
    assert s.live is not None
    if s.live_ready >= 1:
        # without counts: a replica more or less must not cost a write
        return true(Reason.MINIMUM_REPLICAS_AVAILABLE, f"{s.live.run} is available")
    text = f"{s.live_ready} of {s.world.spec.serving.replicas} replicas of {s.live.run} are ready"
    return false(Reason.MINIMUM_REPLICAS_UNAVAILABLE, text)


LOADABLE: Final[tuple[Question, ...]] = (_shown(ConditionType.LOADABLE), loaded_as_experiment, _not_loaded)

CONDITIONS: Final[tuple[tuple[ConditionType, tuple[Question, ...]], ...]] = (
    *((gate, (_gate(gate),)) for gate in RUN_GATES),
    (ConditionType.LOADABLE, LOADABLE),
    (ConditionType.INTERFACE_COMPATIBLE, (_shown(ConditionType.INTERFACE_COMPATIBLE), _not_compared)),
    (
        ConditionType.SERVING_PERFORMANCE,
        (_load_check_is_blocked, _shown(ConditionType.SERVING_PERFORMANCE), _load_check_runs, _no_load_check),
    ),
    (ConditionType.ELIGIBLE, (_eligible,)),
    (ConditionType.PROMOTION_REQUESTED, (_requested,)),
    (
        ConditionType.CANARY_PASSED,
        (_rolled_back, _shown(ConditionType.CANARY_PASSED), _canary_has_its_share, _no_canary),
    ),
    (ConditionType.PROMOTED, (_promoted,)),
    (ConditionType.AVAILABLE, (_nothing_to_serve, _available)),
)

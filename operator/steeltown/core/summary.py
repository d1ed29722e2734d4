"""The status of an MLModel: conditions, stage and verdict, computed from the world and a rollout.

Nothing here is remembered: each condition is a chain of questions whose first answer counts, about the
*subject*, the version that matters now (the one being rolled out, else the newest finished one). So a new
digest resets everything in the very write that first mentions it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..api.conditions import RUN_GATES, ConditionType, Finding, Reason, build, false, true, unknown
from ..api.mlmodel import MLModelStatus, Phase, RolloutStatus, VerdictStatus, VersionRef, Versions
from . import podview
from .desired.serving import VERSION_LABEL, Version
from .ownership import MODEL_LABEL
from .plan import Obj, Refusal
from .world import Outcome, Run, World, ready_replicas

_AFTER_LOADING = (Phase.LOAD_CHECKING, Phase.SHIFTING, Phase.PROMOTING, Phase.BAKING)
_AFTER_LOAD_CHECK = (Phase.SHIFTING, Phase.PROMOTING, Phase.BAKING)
_PASSED = (Phase.PROMOTING, Phase.BAKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The world as it is once the plan's actions are done, and what the planner knows about its own move."""

    world: World
    rollout: RolloutStatus | None
    live: Version | None
    promoted: bool
    held: str
    held_reason: str
    refusals: tuple[Refusal, ...]

    @property
    def subject(self) -> Run | None:
        world = self.world
        if self.rollout:
            return world.run(self.rollout.run)
        return world.target or (world.run(self.live.run) if self.live else None)

    @property
    def outcome(self) -> Outcome | None:
        return self.subject.outcome if self.subject and not self.rollout else None

    @property
    def live_ready(self) -> int:
        return ready_replicas(self.world.deployment(self.live)) if self.live else 0

    @property
    def full(self) -> bool:
        return self.live is not None and self.live_ready >= self.world.spec.serving.replicas


def conclude(o: Outlook, now: datetime) -> MLModelStatus:
    """The whole status but its history."""
    world = o.world
    findings: dict[ConditionType, Finding] = {
        **{gate: _gate(o, gate) for gate in RUN_GATES},
        ConditionType.LOADABLE: _loadable(o),
        ConditionType.SERVING_PERFORMANCE: _performance(o),
        ConditionType.ELIGIBLE: o.subject.eligible if o.subject else unknown(Reason.NO_VERSION, _NO_VERSION),
        ConditionType.PROMOTION_REQUESTED: true(Reason.REQUESTED_BY_SPEC, "spec.stage is Production")
        if world.production
        else false(Reason.NOT_REQUESTED, "set spec.stage: Production to request promotion"),
        ConditionType.CANARY_PASSED: _canary_passed(o),
        ConditionType.PROMOTED: _promoted(o),
        ConditionType.AVAILABLE: _available(o),
    }
    verdict = _verdict(o)
    findings |= _summary(o, verdict)
    generation = world.root["metadata"]["generation"]
    live = world.deployment(o.live) if o.live else None
    return MLModelStatus(
        observed_generation=generation,
        conditions=build(findings, before=world.status.conditions, generation=generation, now=now),
        stage=_stage(o, findings),
        replicas=int(((live or {}).get("status") or {}).get("replicas", 0)),
        selector=f"{MODEL_LABEL}={world.name},{VERSION_LABEL}={o.live.id}" if o.live else "",
        versions=_versions(o),
        rollout=o.rollout,
        verdict=verdict,
        history=[],
    )


_NO_VERSION = "no TrainingRun of this model has finished: create one or set spec.training.template"


def _gate(o: Outlook, gate: ConditionType) -> Finding:
    newest = o.world.newest
    if o.subject:
        return o.subject.finding(gate)
    return newest.finding(gate) if newest else unknown(Reason.AWAITING_EVIDENCE, _NO_VERSION)


def _loadable(o: Outlook) -> Finding:
    kind = ConditionType.LOADABLE
    if failed := _failed(o, kind):
        return failed
    if o.rollout and (o.rollout.loadable or o.rollout.phase in _AFTER_LOADING):
        return true(Reason.GOLDEN_ROWS_ANSWERED, o.rollout.loadable or "ready")
    if o.outcome and o.outcome.loadable:
        return true(Reason.GOLDEN_ROWS_ANSWERED, o.outcome.loadable)
    if o.rollout or o.subject is None or o.subject.version is None:
        return unknown(Reason.AWAITING_EVIDENCE, "no Pod has loaded this version yet")
    pods = o.world.pods_of(o.subject.version)
    if any(podview.is_ready(p) for p in pods):
        return true(Reason.GOLDEN_ROWS_ANSWERED, "ready; the golden rows are answered as in training")
    problem = next((x for p in pods if (x := _problem(p))), None)
    return problem or unknown(Reason.AWAITING_EVIDENCE, "no Pod has loaded this version yet")


def _performance(o: Outlook) -> Finding:
    kind = ConditionType.SERVING_PERFORMANCE
    if failed := _failed(o, kind):
        return failed
    if o.rollout and o.rollout.phase in _AFTER_LOAD_CHECK:
        return true(Reason.WITHIN_OBJECTIVES, o.rollout.performance or "")
    if o.outcome and o.outcome.performance and o.outcome.failed not in (kind, ConditionType.LOADABLE):
        return true(Reason.WITHIN_OBJECTIVES, o.outcome.performance)
    if o.rollout and o.rollout.phase is Phase.LOAD_CHECKING:
        return unknown(Reason.COLLECTING_EVIDENCE, o.rollout.performance or "the load check runs")
    return unknown(Reason.AWAITING_EVIDENCE, "measured by the load check when promotion is requested")


def _canary_passed(o: Outlook) -> Finding:
    r = o.rollout
    if r and r.phase is Phase.ROLLING_BACK:
        make = false if r.failed else unknown
        return make(r.reason or Reason.ROLLED_BACK, r.message or "")
    if r and r.phase in _PASSED:
        return true(Reason.WITHIN_OBJECTIVES, r.evidence or "")
    if r and r.phase is Phase.SHIFTING:
        return unknown(Reason.COLLECTING_EVIDENCE, r.evidence or f"step {r.step} sends {r.weight}% to the canary")
    if o.outcome and o.outcome.result == "Promoted":
        return true(Reason.WITHIN_OBJECTIVES, o.outcome.evidence)
    if o.outcome:
        return false(o.outcome.reason, o.outcome.message)
    return unknown(Reason.AWAITING_EVIDENCE, "no canary has received traffic")


def _failed(o: Outlook, kind: ConditionType) -> Finding | None:
    r = o.rollout
    if r and r.phase is Phase.ROLLING_BACK and r.failed == kind:
        return false(r.reason or Reason.ROLLED_BACK, r.message or "")
    if o.outcome and o.outcome.failed == kind:
        return false(o.outcome.reason, o.outcome.message)
    return None


def _promoted(o: Outlook) -> Finding:
    if o.subject and o.live and o.subject.version == o.live and o.promoted:
        return true(Reason.TRAFFIC_SHIFTED, f"all traffic goes to {o.live.run}")
    return false(Reason.NOT_PROMOTED, f"{o.subject.name if o.subject else 'no version'} is not promoted")


def _available(o: Outlook) -> Finding:
    least = min(1, o.world.spec.serving.replicas)
    if o.live is None:
        return false(Reason.NO_VERSION, "no version is live")
    text = f"{o.live_ready} of {o.world.spec.serving.replicas} replicas of {o.live.run} are ready"
    if o.live_ready >= least:
        # without counts: a replica more or less must not cost a write
        return true(Reason.MINIMUM_REPLICAS_AVAILABLE, f"{o.live.run} answers")
    return false(Reason.MINIMUM_REPLICAS_UNAVAILABLE, text)


def _verdict(o: Outlook) -> VerdictStatus | None:
    """The last word on the newest run, whatever became of it."""
    newest, r = o.world.newest, o.rollout
    if r and r.phase is Phase.ROLLING_BACK:
        result = "Fail" if r.failed else "Unknown"
        return VerdictStatus(run=r.run, result=result, reason=r.reason or "", message=r.message or "")
    if newest is None:
        return None
    if not newest.finished:
        ready = newest.finding(ConditionType.READY)
        return VerdictStatus(run=newest.name, result="Unknown", reason=ready.reason, message=ready.message)
    if newest.version is None:
        ready = newest.finding(ConditionType.READY)
        return VerdictStatus(run=newest.name, result="Fail", reason=ready.reason, message=ready.message)
    if r:
        told = _canary_passed(o) if r.phase not in (Phase.LOADING, Phase.LOAD_CHECKING) else None
        message = told.message if told else f"{r.phase.value}"
        reason = o.held_reason if o.held else Reason.COLLECTING_EVIDENCE.value
        passed = r.phase in _PASSED
        return VerdictStatus(
            run=r.run,
            result="Pass" if passed else "Unknown",
            reason=Reason.WITHIN_OBJECTIVES.value if passed else reason,
            message=o.held or message,
        )
    outcome = newest.outcome
    if outcome and (o.world.production or outcome.result == "Promoted"):
        result = "Pass" if outcome.result == "Promoted" else "Fail"
        word = Reason.PROMOTED.value if result == "Pass" else outcome.reason
        return VerdictStatus(run=newest.name, result=result, reason=word, message=outcome.message)
    gates = newest.eligible
    result = {"True": "Pass", "False": "Fail"}.get(gates.status, "Unknown")
    return VerdictStatus(run=newest.name, result=result, reason=gates.reason, message=gates.message)


def _summary(o: Outlook, verdict: VerdictStatus | None) -> dict[ConditionType, Finding]:
    """Ready, and Reconciling or Stalled beside it: the first of these questions that has an answer."""
    for question in (_refused, _is_frozen, _held, _in_flight, _nothing_live, _newest_failed, _not_full):
        if answer := question(o, verdict):
            kind, reason, message = answer
            if kind is ConditionType.READY:
                return {ConditionType.READY: true(reason, message)}
            return {ConditionType.READY: false(reason, message), kind: true(reason, message)}
    return {ConditionType.READY: _settled(o)}


_Answer = tuple[ConditionType, str, str] | None


def _refused(o: Outlook, verdict: VerdictStatus | None) -> _Answer:
    if not o.refusals:
        return None
    message = "; ".join(f"{r.target.kind} {r.target.name}: {r.message}" for r in o.refusals)
    return ConditionType.RECONCILING, Reason.APPLY_REFUSED, message


def _is_frozen(o: Outlook, verdict: VerdictStatus | None) -> _Answer:
    if not o.world.spec.frozen or (o.rollout and o.rollout.phase is Phase.ROLLING_BACK):
        return None
    return ConditionType.READY, Reason.FROZEN, "spec.frozen is true: nothing moves, serving goes on"


def _held(o: Outlook, verdict: VerdictStatus | None) -> _Answer:
    return (ConditionType.STALLED, o.held_reason, o.held) if o.held else None


def _in_flight(o: Outlook, verdict: VerdictStatus | None) -> _Answer:
    if o.rollout is None:
        return None
    r = o.rollout
    where = f"{r.phase.value} {r.run}" + (f" at {r.weight}%" if r.phase is Phase.SHIFTING else "")
    return ConditionType.RECONCILING, Reason.PROGRESSING, f"{where}: {r.reason}" if r.reason else where


def _nothing_live(o: Outlook, verdict: VerdictStatus | None) -> _Answer:
    if o.live is not None:
        return None
    if verdict and verdict.result == "Fail":
        return ConditionType.STALLED, verdict.reason, f"{verdict.run}: {verdict.message}"
    if verdict and o.world.newest and o.world.newest.finished:
        return ConditionType.STALLED, Reason.NOT_ELIGIBLE, f"{verdict.run}: {verdict.reason}: {verdict.message}"
    message = f"{verdict.run}: {verdict.message}" if verdict else _NO_VERSION
    return ConditionType.RECONCILING, verdict.reason if verdict else Reason.NO_VERSION, message


def _newest_failed(o: Outlook, verdict: VerdictStatus | None) -> _Answer:
    """The newest version did not make it: a person must look, though the live one goes on serving."""
    newest = o.world.newest
    if verdict is None or newest is None:
        return None
    message = f"{verdict.run}: {verdict.reason}: {verdict.message}"
    if not newest.finished:
        return ConditionType.RECONCILING, verdict.reason, message
    if newest.version is None:
        return ConditionType.STALLED, Reason.RUN_FAILED, message
    if not o.world.production:
        return None
    if newest.rejected:
        return ConditionType.STALLED, Reason.ROLLED_BACK, message
    if newest.eligible.status != "True":
        return ConditionType.STALLED, Reason.NOT_ELIGIBLE, message
    return None


def _not_full(o: Outlook, verdict: VerdictStatus | None) -> _Answer:
    target = o.world.target
    if not o.world.production and target and target.version and target.version != o.live:
        problem = _loadable(o)
        if problem.status == "False":
            return ConditionType.STALLED, problem.reason, f"{target.name}: {problem.message}"
        return ConditionType.RECONCILING, Reason.PROGRESSING, f"{target.name} is being started"
    if o.full:
        return None
    assert o.live is not None
    problem = _loadable(o)
    if problem.status == "False":
        return ConditionType.STALLED, problem.reason, f"{o.live.run}: {problem.message}"
    return ConditionType.RECONCILING, Reason.PROGRESSING, f"{o.live.run}: not all replicas are ready"


def _settled(o: Outlook) -> Finding:
    assert o.live is not None
    if o.world.production:
        return true(Reason.PROMOTED, f"{o.live.run} is in production")
    if o.subject and o.subject.eligible.status == "True":
        return true(Reason.AWAITING_PROMOTION, f"{o.live.run} is eligible: set spec.stage: Production to promote it")
    return true(Reason.SERVING, f"{o.live.run} is served as an experiment")


def _stage(o: Outlook, findings: dict[ConditionType, Finding]) -> str:
    if o.rollout:
        return "RollingBack" if o.rollout.phase is Phase.ROLLING_BACK else "Canary"
    if o.world.production:
        return "Production" if o.promoted else "Requested"
    return "Eligible" if findings[ConditionType.ELIGIBLE].status == "True" else "Experimental"


def _versions(o: Outlook) -> Versions:
    def ref(version: Version | None) -> VersionRef | None:
        if version is None:
            return None
        run = o.world.run(version.run)
        rows = run.status.get("rows") if run else None
        return VersionRef(run=version.run, digest=version.digest, rows=rows)

    target = o.world.target
    candidate = target.version if target and target.version != o.live else None
    before = o.world.live if o.world.live and o.world.live != o.live else o.world.previous
    return Versions(live=ref(o.live), candidate=ref(candidate), previous=ref(before if before != o.live else None))


def _problem(pod: Obj) -> Finding | None:
    if failure := podview.load_failure(pod):
        return false(failure[0], failure[1])
    if blocked := podview.obstacle(pod):
        return unknown(blocked.reason, blocked.message)
    return None

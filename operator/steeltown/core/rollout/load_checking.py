"""LoadChecking: open-loop load on a fresh Pod of the candidate beside a fresh Pod of the live version.

A Job measures, the judge looks once. A check that cannot tell is made again a few times, then a person is told; where
it measured nothing at all (its Pod was evicted) it is tried again once in a while, else when `steeltown.dev/retry` of
the run is set anew. It also says how the candidate's interface differs from the live version's, which is judged first:
a version that breaks what users rely on is not worth a measurement.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ...api.conditions import ConditionType, Finding, Reason, true, unknown
from ...api.mlmodel import Phase
from ...api.objectives import Interface
from ...contract.plans import FetchPlan, LoadCheckPlan
from ...contract.reports import LoadReport, StepReport
from .. import record
from ..children.jobs import load_check_job
from ..children.serving import service_url
from ..gates.interface import NOTHING_LIVE, interface_compatible
from ..judge.verdict import Judgement, Result, judge_load
from ..naming import baseline_name, canary_name, load_check_name
from ..observed.jobs import JobView
from ..plan import Create, Obj, Target
from .loading import candidate_beside_live
from .phase import (
    Context,
    Decision,
    Fail,
    Inconclusive,
    RolloutPhase,
    Stay,
    Wanted,
    enter,
    enter_disturbed,
    finding_of,
    found,
)
from .shifting import LIVE_IS_BROKEN, first_step

LOAD_CHECK_ATTEMPTS: Final = 3
AGAIN_SECONDS: Final = 600.0
"""A check that the platform kept from measuring anything is made again after so long: it may be well by then."""

_LOOK_SECONDS: Final = 5.0
"""At most so long after its end a load check is looked at, should an event have been missed."""

_ALONE = "no live version to split traffic with; promoted on the load check alone"
_PLATFORM = (
    Reason.LOAD_CHECK_FAILED,
    Reason.BASELINE_FAILED,
    Reason.GENERATOR_SATURATED,
    Reason.INTERFACE_UNKNOWN,
    Reason.JOB_NOT_OURS,
    Reason.FOREIGN_PODS,
)
"""What says nothing about the model; else a stranger's Pod or Job could have a version rejected."""
_LOGGED = (Reason.ERROR_RATE_TOO_HIGH, Reason.BASELINE_FAILED)
"""What is wrong is in the log of a Pod."""
_PASSES_BY_ITSELF = (
    Reason.LOAD_CHECK_FAILED,
    Reason.BASELINE_FAILED,
    Reason.INTERFACE_UNKNOWN,
    Reason.JOB_NOT_OURS,
    Reason.FOREIGN_PODS,
)


def _wanted(c: Context) -> Wanted:
    wanted = candidate_beside_live(c)
    name = _name(c)
    if _judged(c) or name in c.world.jobs:
        return wanted
    namespace, model = c.world.namespace, c.world.name
    reached_by = (Target("Service", namespace, canary_name(model)), Target("Service", namespace, baseline_name(model)))
    return replace(wanted, actions=(Create(_job(c, name), after=reached_by),))


def _decide(c: Context) -> Decision:
    if not c.in_place and not c.candidate_ready and (failure := c.candidate_failure):
        message = f"during the load check: {failure[1]}"
        return Fail(failed=ConditionType.SERVING_PERFORMANCE, reason=Reason.CRASHING, message=message)
    job = c.world.jobs.get(_name(c))
    if not c.rollout.disturbed and (c.world.foreign or (job and not c.load_check_is_reachable)):
        return enter_disturbed(c)
    if judged := _judged(c):
        return _held(c, judged)
    if job is None:
        if c.late:
            told = "the load check Job could not be created within progressDeadlineSeconds"
            return Inconclusive(reason=Reason.LOAD_CHECK_FAILED, message=told, platform=True)
        return Stay(requeue_after=c.until_deadline)
    view = JobView.of(job, c.world.all_pods, c.world.causes)
    report = _report(c, view)
    if report is None:
        return _runs(c, view)
    return _reported(c, report) if isinstance(report, LoadReport) else _concluded(c, report)


def _reported(c: Context, report: LoadReport) -> Decision:
    if report.interface is None and report.problem:
        return _concluded(c, judge_load(report, c.objective))
    promise = _interface(c, report)
    if promise.status == "False":
        return Fail(failed=ConditionType.INTERFACE_COMPATIBLE, reason=promise.reason, message=promise.message)
    c = replace(c, rollout=found(c.rollout, ConditionType.INTERFACE_COMPATIBLE, promise))
    return _concluded(c, _judgement(c, report, promise))


def _interface(c: Context, report: LoadReport) -> Finding:
    if c.live is None or c.in_place:
        return true(Reason.NOT_APPLICABLE, NOTHING_LIVE)
    return interface_compatible(report.interface, c.live.digest, c.world.spec.objectives.interface)


def _concluded(c: Context, judgement: Judgement) -> Decision:
    if judgement.result is Result.PASS:
        return _passed(c, judgement)
    if judgement.result is Result.FAIL:
        return Fail(failed=ConditionType.SERVING_PERFORMANCE, reason=judgement.reason, message=judgement.message)
    if c.rollout.attempt + 1 < LOAD_CHECK_ATTEMPTS:
        again = unknown(Reason.COLLECTING_EVIDENCE, f"retrying: {judgement.message}")
        return _record(c, again, attempt=c.rollout.attempt + 1)
    message = f"inconclusive after {LOAD_CHECK_ATTEMPTS} load checks: {judgement.message}"
    return _record(c, unknown(judgement.reason, message))


def _runs(c: Context, job: JobView) -> Stay:
    """The Job, and its deadline, are under way. One that cannot start says for what it waits."""
    asked = job.explain_in_seconds(c.now)
    return Stay(
        requeue_after=_LOOK_SECONDS if asked is None else min(asked, _LOOK_SECONDS),
        blocked=None if job.over else job.obstacle,
        explain=job.explain(c.now),
    )


def _record(c: Context, finding: Finding, **update: object) -> Decision:
    return enter(c, Phase.LOAD_CHECKING, found(c.rollout, ConditionType.SERVING_PERFORMANCE, finding), **update)


def _judged(c: Context) -> Finding | None:
    """The last attempt could not tell either. Recorded, so that a Job that is collected is not made again at once."""
    told = finding_of(c.rollout, ConditionType.SERVING_PERFORMANCE)
    if c.rollout.attempt + 1 < LOAD_CHECK_ATTEMPTS or told is None or told.reason == Reason.COLLECTING_EVIDENCE:
        return None
    return Finding(told.status, told.reason, told.message)


def _held(c: Context, judged: Finding) -> Decision:
    passes, left = judged.reason in _PASSES_BY_ITSELF, AGAIN_SECONDS - c.seconds
    accepted = judged.reason == Reason.INTERFACE_UNKNOWN and c.world.spec.objectives.interface is Interface.ANY
    if c.retried or ((accepted or (passes and left <= 0)) and not c.world.spec.frozen):
        told = unknown(Reason.COLLECTING_EVIDENCE, f"retrying: {judged.message}")
        run = c.world.runs.get(c.rollout.run)
        return _record(c, told, attempt=c.rollout.attempt + 1, retry=(run.retry or None) if run else None)
    return Inconclusive(
        reason=judged.reason,
        message=judged.message,
        platform=judged.reason in _PLATFORM,
        requeue_after=max(0.5, left) if passes and left > 0 else None,
    )


def _passed(c: Context, judgement: Judgement) -> Decision:
    checked = found(c.rollout, ConditionType.SERVING_PERFORMANCE, true(Reason.WITHIN_OBJECTIVES, judgement.message))
    if c.live is None or c.in_place or c.live_is_broken:
        why = LIVE_IS_BROKEN if c.live_is_broken else _ALONE
        shown = found(checked, ConditionType.CANARY_PASSED, true(Reason.WITHIN_OBJECTIVES, why))
        return enter(c, Phase.PROMOTING, shown)
    return first_step(c, checked)


def _name(c: Context) -> str:
    return load_check_name(c.world.name, c.rollout.id, c.rollout.attempt)


def _job(c: Context, name: str) -> Obj:
    check, namespace = c.world.spec.rollout.load_check, c.world.namespace
    blocks = max(2, min(32, check.duration_seconds // 2))
    fetch = FetchPlan(store=c.serving.store, digest=c.candidate.digest)
    target = baseline_name(c.world.name) if c.in_place else canary_name(c.world.name)
    compare = c.live is not None and not c.in_place and c.baseline_ready
    plan = LoadCheckPlan(
        model=c.world.name,
        candidate_url=service_url(target, namespace),
        candidate_digest=c.candidate.digest,
        golden=fetch,
        latency_milliseconds=float(c.objective.latency_milliseconds),
        baseline_url=service_url(baseline_name(c.world.name), namespace) if compare else "",
        rate_per_second=float(check.rate_per_second),
        block_seconds=check.duration_seconds / blocks,
        blocks=blocks,
    )
    return load_check_job(
        c.world.root,
        c.world.name,
        name,
        plan,
        live=c.live.digest if c.live and not c.in_place else "",
        secret=c.serving.secret,
        deadline=check.duration_seconds + 120,
        policy=c.policy,
    )


def _report(c: Context, view: JobView) -> LoadReport | Judgement | None:
    """None while the Job runs, or its Pod's end has not been seen. A Job without a readable report is no evidence."""
    if not record.made_here(view.job, c.world.root, c.policy):
        told = f"Job {view.job['metadata']['name']} was not created by the operator: delete it"
        return Judgement(result=Result.UNKNOWN, reason=Reason.JOB_NOT_OURS, message=told)
    if not view.over:
        return None
    report = view.load_report()
    if report is None:
        if view.awaits_pod(c.now):
            return None
        message = _why_no_report(view)
        return Judgement(result=Result.UNKNOWN, reason=Reason.LOAD_CHECK_FAILED, message=message)
    return report


def _judgement(c: Context, report: LoadReport, promise: Finding) -> Judgement:
    """An interface that could not be compared is no pass. It is passed over where the image is too old to compare any,
    so that operator and images may be upgraded in any order, and where the live version is broken: what it lacks may be
    the very thing that its fix is compared with."""
    if c.rollout.disturbed:
        message = "load check invalid: its requests could reach Pods not created by the operator"
        return Judgement(result=Result.UNKNOWN, reason=Reason.FOREIGN_PODS, message=message)
    if promise.status == "Unknown" and report.interface is not None and not c.live_is_broken:
        return Judgement(result=Result.UNKNOWN, reason=Reason(promise.reason), message=promise.message)
    judged = judge_load(report, c.objective)
    if judged.reason not in _LOGGED:
        return judged
    pods = c.baseline_pods if judged.reason is Reason.BASELINE_FAILED else c.candidate_pods
    names = ", ".join(p["metadata"]["name"] for p in pods[:2])
    return replace(judged, message=f"{judged.message}; see the log of Pod {names}") if names else judged


def _why_no_report(view: JobView) -> str:
    ended = view.ended("loadcheck")
    if step := StepReport.decode(ended.message) if ended else None:
        return step.message
    if blocked := view.kept_from_starting:
        return f"the load check did not start before its deadline: {blocked.message}"
    return "no load check report found: its Pod failed or was deleted"


LOAD_CHECKING = RolloutPhase(
    name=Phase.LOAD_CHECKING,
    proves=ConditionType.SERVING_PERFORMANCE,
    interruptible=True,
    wanted=_wanted,
    decide=_decide,
)

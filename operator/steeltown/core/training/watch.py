"""From the Job to its end: progress from the newest Pod, deadlines for a Pod that does not start, the real reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ...api.conditions import ConditionType, Reason, parse_time, rfc3339
from ...contract.reports import StepReport
from ..gates import Failure
from ..observed import pods as podview
from ..observed.jobs import REPORT_GRACE, JobView
from ..observed.run import ObservedRun
from ..plan import WATCH_SECONDS, Obj, Plan
from ..policy import Policy
from .finish import failed, progress, succeeded, write

_STEP_CONDITION: Final = {
    "prepare": ConditionType.DATA_VALIDATED,
    "train": ConditionType.TRAINING_HEALTHY,
    "finalise": ConditionType.QUALITY_ACCEPTED,
}


def watch(run: ObservedRun, policy: Policy) -> Plan:
    job = run.job
    assert job is not None
    if job.complete:
        report = job.step_report("finalise")
        if report is not None and report.digest:
            return succeeded(run, report, policy)
        if job.awaits_pod(run.now, run.watched_seconds):
            return Plan(requeue_after=REPORT_GRACE.total_seconds())
        return failed(run, Failure(reason=Reason.RESULT_MISSING, message=_why_no_report(job)), policy)
    if job.failed is not None:
        if job.failed.get("reason") != "DeadlineExceeded" and job.awaits_pod(run.now, run.watched_seconds):
            return Plan(requeue_after=REPORT_GRACE.total_seconds())
        return failed(run, _failure(job, job.failed), policy)
    return _progress(run, job, policy)


def _why_no_report(job: JobView) -> str:
    if job.altered:
        name = job.altered[0]["metadata"]["name"]
        return (
            f"Job completed, but the report of Pod {name} was rejected because its spec differs from the Job's "
            "template: exclude the operator's Pods from mutating webhooks, or find out who created it"
        )
    return "Job completed without a report: its Pod was deleted too early, or the checker image is too old"


def _progress(run: ObservedRun, job: JobView, policy: Policy) -> Plan:
    """A Pod, or its next container, that cannot start has `startDeadlineSeconds`; work in progress has none here."""
    phase, message = _phase(job.pod)
    blocked = job.obstacle
    if phase != Reason.PENDING and blocked is None:
        return write(run, run.status.model_copy(update={"waiting_since": None}), progress(phase, message), reason=phase)
    status = run.status.model_copy(update={"waiting_since": run.status.waiting_since or rfc3339(run.now)})
    deadline = _begun(job, status.waiting_since) + timedelta(seconds=run.spec.start_deadline_seconds)
    reason, message = (blocked.reason, blocked.message) if blocked else (phase, message)
    watched = run.watched_seconds >= min(WATCH_SECONDS, run.spec.start_deadline_seconds)
    if run.now >= deadline and watched:
        known = reason is not Reason.PENDING
        text = message if known else "no Pod has started"
        message = f"not started within startDeadlineSeconds ({run.spec.start_deadline_seconds}): {text}"
        cause = reason if known else Reason.START_DEADLINE_EXCEEDED
        return failed(run, Failure(reason=cause, message=message), policy)
    plan = write(run, status, progress(reason, message), reason=reason, until=deadline)
    waits = [w for w in (plan.requeue_after, job.explain_in_seconds(run.now)) if w is not None]
    return replace(plan, requeue_after=min(waits, default=None), explain=job.explain(run.now))


def _begun(job: JobView, waiting_since: str | None) -> datetime:
    """Since when the Pod that is awaited may have started: a retry, a drain or a preemption begins anew."""
    ended = podview.last_ended(job.pod) if job.pod else None
    created = job.pod["metadata"].get("creationTimestamp") if job.pod else None
    stamps = (job.job["metadata"]["creationTimestamp"], created, ended, waiting_since if job.pod is None else None)
    return max(parse_time(t) for t in stamps if t)


def _phase(pod: Obj | None) -> tuple[Reason, str]:
    """Where the newest Pod stands, as the reason that is also the phase."""
    if pod is None:
        return Reason.PENDING, podview.PENDING
    if podview.is_running(pod, "finalise") or podview.termination(pod, "finalise"):
        return Reason.FINALISING, "checking, evaluating and storing the model"
    if podview.is_running(pod, "train") or podview.termination(pod, "train"):
        return Reason.TRAINING, "running the trainer"
    if podview.is_running(pod, "prepare") or podview.termination(pod, "prepare"):
        return Reason.PREPARING, "fetching and checking the data"
    return Reason.PENDING, podview.PENDING


def _failure(job: JobView, condition: Obj) -> Failure:
    """The real reason of a failed Job: the first container that failed, else what the Job itself says."""
    pod = job.pod
    ended = podview.first_failure(pod) if pod else None
    evicted = podview.eviction(pod) if pod else None
    job_reason, job_message = str(condition.get("reason", "")), str(condition.get("message", ""))
    if ended is None or job_reason == "DeadlineExceeded":
        deadline = job_reason == "DeadlineExceeded"
        message = f"not finished within activeDeadlineSeconds: {job_message}" if deadline else job_message
        if ended is None and (blocked := job.kept_from_starting):
            message = f"{message}: {blocked.message}"
        elif ended is None and evicted:
            message = f"{message}: {evicted}"
        return Failure(reason=Reason.DEADLINE_EXCEEDED if deadline else Reason.STEP_FAILED, message=message)
    step = ended.container
    report = StepReport.decode(ended.message) if step != "train" else None  # user code gives no reasons
    if report:
        at = _STEP_CONDITION.get(step, ConditionType.TRAINING_HEALTHY)
        if report.reason == Reason.RESULT_MISSING:
            at = ConditionType.TRAINING_HEALTHY
        return Failure(reason=report.reason, message=report.message, condition=at)
    if pod and (ended.out_of_memory or podview.killed_unasked(pod, ended)):
        how = (
            "exceeded its memory limit"
            if ended.out_of_memory
            else "was killed, most likely because it ran out of memory"
        )
        message = f"container {step} {how}: increase resources.limits.memory or reduce memory usage"
        return Failure(reason=Reason.OUT_OF_MEMORY, message=message, log=ended.message or None)
    tail = [evicted] if evicted else ended.message.strip().splitlines()[-1:] or ["no output"]
    return Failure(
        reason=Reason.TRAINER_FAILED if step == "train" else Reason.STEP_FAILED,
        message=f"container {step} exited with code {ended.exit_code}: {tail[0][:300]}",
        condition=_STEP_CONDITION.get(step, ConditionType.TRAINING_HEALTHY),
        log=ended.message or None,
    )

"""The TrainingRun planner: one Job, created once, watched to its end; the end is final.

Data flow: spec -> Job (prepare, train, finalise) -> reports in termination messages -> conditions. A run
never trains twice (I7): the Job's name is the run's, it is made with POST so that an existing one is left
alone, and once the status says it was made, a missing Job means somebody deleted it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ..api.base import Storage
from ..api.conditions import (
    RUN_GATES,
    ConditionType,
    Finding,
    Reason,
    build,
    false,
    parse_time,
    rfc3339,
    true,
    unknown,
)
from ..api.objectives import RunObjectives
from ..api.trainingrun import Artifact, CheckResult, Metric, TrainingRunSpec, TrainingRunStatus
from ..contract.files import MODEL_OBJECT, model_prefix
from ..contract.plans import FinalisePlan, PreparePlan, Source, Task
from ..contract.reports import MetricComparison, StepReport
from . import podview
from .desired.jobs import COMPARED_ANNOTATION, OBJECTIVES_ANNOTATION, training_job
from .gates.quality import quality_accepted
from .naming import training_job_name
from .plan import MLMODEL, Action, Annotate, Create, Delete, EventNote, Obj, Plan, Snapshot
from .policy import Policy

READY, RECONCILING, STALLED = ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED
RESULT_ANNOTATION = "steeltown.dev/result"
_STEP_CONDITION = {
    "prepare": ConditionType.DATA_VALIDATED,
    "train": ConditionType.TRAINING_HEALTHY,
    "finalise": ConditionType.QUALITY_ACCEPTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run and what the cluster shows of it."""

    root: Obj
    spec: TrainingRunSpec
    status: TrainingRunStatus
    model: Obj | None
    job: Obj | None
    pod: Obj | None
    now: datetime

    @property
    def name(self) -> str:
        return str(self.root["metadata"]["name"])

    @property
    def created(self) -> datetime:
        return parse_time(self.root["metadata"]["creationTimestamp"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """The end of a run that made no version."""

    reason: str
    message: str
    condition: ConditionType = ConditionType.TRAINING_HEALTHY
    log: str | None = None
    out_of_memory: bool = False


def plan_run(snapshot: Snapshot, now: datetime, policy: Policy) -> Plan:
    """Plan for one TrainingRun. Total: an unreadable spec becomes a condition."""
    root = snapshot.root
    if "deletionTimestamp" in root["metadata"]:
        return Plan()
    status = TrainingRunStatus.model_validate(root.get("status") or {})
    job = snapshot.of_kind("Job").get(training_job_name(root["metadata"]["name"]))
    if status.completion_time:
        return _plan_after_the_end(root, status, job)
    if final := _restored(root):
        return Plan(status=final)
    try:
        spec = TrainingRunSpec.model_validate(root["spec"])
    except ValidationError as error:
        return _invalid(root, status, now, error)
    run = _Run(
        root=root,
        spec=spec,
        status=status,
        model=snapshot.of_kind(MLMODEL).get(spec.model_ref.name),
        job=job,
        pod=podview.newest(list(snapshot.of_kind("Pod").values())),
        now=now,
    )
    if run.job is None:
        return _plan_start(run, snapshot, policy)
    return _plan_watch(run)


def _plan_start(run: _Run, snapshot: Snapshot, policy: Policy) -> Plan:
    if run.status.job_name:
        message = f"Job {run.status.job_name} was deleted before it ended; a run never trains twice: create a new one"
        return _plan_failed(run, _Failure(reason=Reason.JOB_DELETED, message=message))
    deadline = run.created + timedelta(seconds=run.spec.start_deadline_seconds)
    if run.model is None:
        message = f"create MLModel {run.spec.model_ref.name} in namespace {run.root['metadata']['namespace']}"
        if run.now >= deadline:
            return _plan_failed(run, _Failure(reason=Reason.MODEL_NOT_FOUND, message=message))
        return _waiting(run, Reason.MODEL_NOT_FOUND, message, until=deadline)
    job = _job(run, run.model, policy)
    if snapshot.refusals:
        message = "; ".join(f"{r.target.kind} {r.target.name}: {r.message}" for r in snapshot.refusals)
        if run.now >= deadline:
            return _plan_failed(run, _Failure(reason=Reason.APPLY_REFUSED, message=message))
        waiting = _waiting(run, Reason.APPLY_REFUSED, message, until=deadline)
        return Plan(
            actions=(Create(job),), status=waiting.status, events=waiting.events, requeue_after=waiting.requeue_after
        )
    started = run.status.model_copy(
        update={"job_name": job["metadata"]["name"], "start_time": rfc3339(run.now), "phase": "Pending"}
    )
    findings = _progress(Reason.PENDING, podview.PENDING)
    return Plan(
        actions=(Create(job),),
        status=_status(run, started, findings, reason=Reason.PENDING),
        requeue_after=float(run.spec.start_deadline_seconds),
    )


def _job(run: _Run, model: Obj, policy: Policy) -> Obj:
    spec, model_spec = run.spec, model["spec"]
    objectives = spec.objectives or RunObjectives.model_validate(model_spec.get("objectives") or {})
    storage = Storage.model_validate(model_spec.get("storage") or {})
    store = (storage.uri or policy.artifact_store).rstrip("/")
    live = ((model.get("status") or {}).get("versions") or {}).get("live") or {}
    return training_job(
        run.root,
        spec,
        _prepare_plan(run, objectives, live.get("rows")),
        FinalisePlan(
            run=f"{run.root['metadata']['namespace']}/{run.name}",  # one store serves many namespaces
            store=store,
            imported=spec.import_ is not None,
            task=_task(spec),
            live=_live_source(store, live.get("digest")),
            seed=spec.train.seed if spec.train else 0,
        ),
        secret=storage.secret_name or policy.storage_secret,
        objectives=json.dumps(objectives.dump(), sort_keys=True, separators=(",", ":")),
        policy=policy,
    )


def _prepare_plan(run: _Run, objectives: RunObjectives, live_rows: int | None) -> PreparePlan:
    spec = run.spec
    return PreparePlan(
        run=run.name,
        data=Source(uri=spec.train.data.uri, digest=spec.train.data.digest) if spec.train else None,
        checks=objectives.data.checks(live_rows) if objectives.data else (),
        evaluation=Source(uri=spec.evaluation.data.uri, digest=spec.evaluation.data.digest)
        if spec.evaluation
        else None,
        imported=Source(uri=spec.import_.uri, digest=spec.import_.digest) if spec.import_ else None,
        task=_task(spec),
        params=dict(spec.train.params) if spec.train else None,
    )


def _task(spec: TrainingRunSpec) -> Task | None:
    if spec.task is None:
        return None
    return Task(type=spec.task.type, target=spec.task.target, features=tuple(spec.task.features))


def _live_source(store: str, digest: str | None) -> Source | None:
    return Source(uri=f"{store}/{model_prefix(digest)}/{MODEL_OBJECT}", digest=digest) if digest else None


def _plan_watch(run: _Run) -> Plan:
    job = run.job or {}
    ended = {c["type"]: c for c in (job.get("status") or {}).get("conditions") or () if c["status"] == "True"}
    if "Complete" in ended:
        return _plan_complete(run)
    if "Failed" in ended:
        return _plan_failed(run, _failure(run, ended["Failed"]))
    return _plan_progress(run, job)


def _plan_progress(run: _Run, job: Obj) -> Plan:
    """A Pod, or its next container, that cannot start has `startDeadlineSeconds`; work in progress has none here."""
    phase, message = _phase(run)
    blocked = podview.obstacle(run.pod) if run.pod else None
    if phase != Reason.PENDING and blocked is None:
        return _write(run, run.status, _progress(phase, message), reason=phase)
    ended = podview.last_ended(run.pod) if run.pod else None
    begun = max(parse_time(t) for t in (job["metadata"]["creationTimestamp"], ended) if t)
    deadline = begun + timedelta(seconds=run.spec.start_deadline_seconds)
    reason, message = (blocked.reason, blocked.message) if blocked else (phase, message)
    if run.now >= deadline:
        known = blocked is not None
        text = message if known else "no Pod of the Job has started"
        message = f"not started within startDeadlineSeconds {run.spec.start_deadline_seconds}: {text}"
        return _plan_failed(run, _Failure(reason=reason if known else Reason.START_DEADLINE_EXCEEDED, message=message))
    return _write(run, run.status, _progress(reason, message), reason=reason, until=deadline)


def _phase(run: _Run) -> tuple[Reason, str]:
    """Where the newest Pod stands, as the reason that is also the phase."""
    pod = run.pod
    if pod is None:
        return Reason.PENDING, podview.PENDING
    if podview.is_running(pod, "finalise") or podview.termination(pod, "finalise"):
        return Reason.FINALISING, "the model is checked, evaluated and stored"
    if podview.is_running(pod, "train") or podview.termination(pod, "train"):
        return Reason.TRAINING, "the trainer runs"
    if podview.is_running(pod, "prepare") or podview.termination(pod, "prepare"):
        return Reason.PREPARING, "the data is fetched and checked"
    return Reason.PENDING, podview.PENDING


def _plan_complete(run: _Run) -> Plan:
    ended = podview.termination(run.pod, "finalise") if run.pod else None
    report = StepReport.decode(ended.message) if ended else None
    if report is None or not report.digest:
        message = "the Job completed but left no report: its Pod was deleted too early, or the checker image is too old"
        return _plan_failed(run, _Failure(reason=Reason.RESULT_MISSING, message=message))
    prepared = _report(run, "prepare")
    notes = (run.job or {})["metadata"].get("annotations") or {}
    objectives = RunObjectives.model_validate_json(notes.get(OBJECTIVES_ANNOTATION, "{}"))
    quality = quality_accepted(objectives.quality, report.metrics, had_live=bool(notes.get(COMPARED_ANNOTATION)))
    imported = run.spec.import_ is not None
    findings = {
        READY: true(Reason.SUCCEEDED, f"made {report.digest}"),
        ConditionType.DATA_VALIDATED: true(Reason.NOT_APPLICABLE, "an imported model brings no training data")
        if imported
        else _data_validated(prepared),
        ConditionType.TRAINING_HEALTHY: true(Reason.NOT_APPLICABLE, "an imported model is not trained here")
        if imported
        else true(Reason.COMPLETED, "training ended within its deadlines"),
        ConditionType.RESOURCES_WITHIN_BUDGET: true(Reason.WITHIN_LIMITS, "every step ran within its limits"),
        ConditionType.QUALITY_ACCEPTED: quality,
    }
    status = run.status.model_copy(
        update={
            "phase": "Succeeded",
            "completion_time": rfc3339(run.now),
            "rows": prepared.rows if prepared else None,
            "artifact": Artifact(digest=report.digest, uri=report.uri, size_bytes=report.size_bytes),
            "metrics": [_metric(m) for m in report.metrics][:16],
            "checks": _checks(prepared, report),
        }
    )
    note = EventNote(type="Normal", reason=Reason.SUCCEEDED, message=f"made {report.digest}; {quality.message}")
    return _finish(run, status, findings, note)


def _data_validated(prepared: StepReport | None) -> Finding:
    """prepare ended well; it says so itself when a check that is only observed failed."""
    if prepared is None:
        return true(Reason.DATA_VALID, "all checks passed")
    observed = prepared.reason == Reason.OBSERVED_ONLY
    return true(Reason.OBSERVED_ONLY if observed else Reason.DATA_VALID, prepared.message)


def _failure(run: _Run, condition: Obj) -> _Failure:
    """The real reason of a failed Job: the first container that failed, else what the Job itself says."""
    ended = podview.first_failure(run.pod) if run.pod else None
    job_reason, job_message = str(condition.get("reason", "")), str(condition.get("message", ""))
    if ended is None or job_reason == "DeadlineExceeded":
        deadline = job_reason == "DeadlineExceeded"
        message = f"the run did not end within its deadline: {job_message}" if deadline else job_message
        return _Failure(reason=Reason.DEADLINE_EXCEEDED if deadline else Reason.STEP_FAILED, message=message)
    step = ended.container
    report = StepReport.decode(ended.message) if step != "train" else None  # user code gives no reasons
    if report:
        at = _STEP_CONDITION.get(step, ConditionType.TRAINING_HEALTHY)
        if report.reason == Reason.RESULT_MISSING:
            at = ConditionType.TRAINING_HEALTHY
        return _Failure(reason=report.reason, message=report.message, condition=at)
    if run.pod and (ended.out_of_memory or podview.killed_unasked(run.pod, ended)):
        how = "used more memory than its limit" if ended.out_of_memory else "was killed, most likely for memory"
        message = f"container {step} {how}: raise resources.limits.memory or use less"
        return _Failure(reason=Reason.OUT_OF_MEMORY, message=message, log=ended.message or None, out_of_memory=True)
    tail = ended.message.strip().splitlines()[-1:] or ["it left no output"]
    message = f"container {step} exited with code {ended.exit_code}: {tail[0][:300]}"
    reason = Reason.TRAINER_FAILED if step == "train" else Reason.STEP_FAILED
    return _Failure(
        reason=reason,
        message=message,
        condition=_STEP_CONDITION.get(step, ConditionType.TRAINING_HEALTHY),
        log=ended.message or None,
    )


def _plan_failed(run: _Run, failure: _Failure) -> Plan:
    findings: dict[ConditionType, Finding] = {
        READY: false(failure.reason, failure.message),
        STALLED: true(failure.reason, failure.message),
        **dict.fromkeys(RUN_GATES, unknown(Reason.AWAITING_EVIDENCE, "the run ended before this was measured")),
    }
    prepared = _report(run, "prepare")
    if prepared and failure.condition is not ConditionType.DATA_VALIDATED:
        findings[ConditionType.DATA_VALIDATED] = _data_validated(prepared)
    if failure.out_of_memory:
        findings[ConditionType.RESOURCES_WITHIN_BUDGET] = false(failure.reason, failure.message)
    findings[failure.condition] = false(failure.reason, failure.message)
    last = podview.first_failure(run.pod) if run.pod else None
    report = StepReport.decode(last.message) if last and last.container != "train" else None
    status = run.status.model_copy(
        update={
            "phase": "Failed",
            "completion_time": rfc3339(run.now),
            "rows": prepared.rows if prepared else (report.rows if report else None),
            "checks": _checks(prepared, report),
            "log": failure.log[-4000:] if failure.log else None,
        }
    )
    note = EventNote(type="Warning", reason=failure.reason, message=failure.message)
    return _finish(run, status, findings, note)


def _finish(run: _Run, status: TrainingRunStatus, findings: dict[ConditionType, Finding], note: EventNote) -> Plan:
    """The end, written twice: first as an annotation, which a restored backup still has when status and Job are
    lost, so that no run ever trains twice (I7); then as the status that people read."""
    final = _status(run, status, findings, reason=note.reason, always=True) or {}
    told = [{**c, "message": c["message"][:200]} for c in final["conditions"]]
    kept = {k: v for k, v in final.items() if k not in ("checks", "log")} | {"conditions": told}
    meta = run.root["metadata"]
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    witness = Annotate(run.root["kind"], meta["namespace"], meta["name"], meta["uid"], {RESULT_ANNOTATION: text})
    return Plan(actions=(witness,), status=final, events=(note,))


def _restored(root: Obj) -> Obj | None:
    """The final status as the annotation remembers it."""
    text = (root["metadata"].get("annotations") or {}).get(RESULT_ANNOTATION)
    try:
        status = TrainingRunStatus.model_validate_json(text or "")
    except ValidationError:
        return None
    return status.dump() if status.completion_time else None


def _plan_after_the_end(root: Obj, status: TrainingRunStatus, job: Obj | None) -> Plan:
    """The outcome stands for good; a Job that still runs (its start deadline passed) is removed."""
    finished = {c["type"] for c in ((job or {}).get("status") or {}).get("conditions") or () if c["status"] == "True"}
    actions: tuple[Action, ...] = ()
    if job and not finished & {"Complete", "Failed"} and "deletionTimestamp" not in job["metadata"]:
        meta = job["metadata"]
        actions = (Delete("Job", meta["namespace"], meta["name"], meta["uid"]),)
    return Plan(actions=actions)


def _invalid(root: Obj, status: TrainingRunStatus, now: datetime, error: ValidationError) -> Plan:
    first = error.errors()[0]
    message = f"spec.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}: create a corrected TrainingRun"
    findings: dict[ConditionType, Finding] = {
        READY: false(Reason.INVALID_SPEC, message),
        STALLED: true(Reason.INVALID_SPEC, message),
    }
    generation = root["metadata"]["generation"]
    changed = status.model_copy(
        update={
            "observed_generation": generation,
            "phase": "Failed",
            "reason": Reason.INVALID_SPEC.value,
            "completion_time": rfc3339(now),
            "conditions": build(findings, before=status.conditions, generation=generation, now=now),
        }
    )
    return Plan(status=changed.dump(), locked=True)


def _waiting(run: _Run, reason: Reason, message: str, *, until: datetime) -> Plan:
    plan = _write(run, run.status, _progress(reason, message), reason=reason, until=until)
    note = EventNote(type="Warning", reason=reason, message=message)
    return Plan(status=plan.status, events=(note,) if plan.status else (), requeue_after=plan.requeue_after)


def _progress(reason: str, message: str) -> dict[ConditionType, Finding]:
    return {
        READY: false(reason, message),
        RECONCILING: true(reason, message),
        **dict.fromkeys(RUN_GATES, unknown(Reason.AWAITING_EVIDENCE, "not measured yet")),
    }


def _write(
    run: _Run,
    status: TrainingRunStatus,
    findings: dict[ConditionType, Finding],
    *,
    reason: str,
    until: datetime | None = None,
) -> Plan:
    phases = {Reason.PREPARING, Reason.TRAINING, Reason.FINALISING}
    phased = status.model_copy(update={"phase": str(reason) if reason in phases else "Pending"})
    wait = max(0.5, (until - run.now).total_seconds()) if until else None
    return Plan(status=_status(run, phased, findings, reason=reason), requeue_after=wait)


def _status(
    run: _Run,
    status: TrainingRunStatus,
    findings: dict[ConditionType, Finding],
    *,
    reason: str,
    always: bool = False,
) -> Obj | None:
    """The status to write, None if it stands there already."""
    generation = run.root["metadata"]["generation"]
    wanted = status.model_copy(
        update={
            "observed_generation": generation,
            "reason": str(reason),
            "conditions": build(findings, before=run.status.conditions, generation=generation, now=run.now),
        }
    ).dump()
    return wanted if always or wanted != run.status.dump() else None


def _report(run: _Run, step: str) -> StepReport | None:
    ended = podview.termination(run.pod, step) if run.pod else None
    return StepReport.decode(ended.message) if ended and ended.exit_code == 0 else None


def _metric(m: MetricComparison) -> Metric:
    def text(x: float | None) -> str | None:
        return None if x is None else f"{x:.6g}"

    return Metric(
        name=m.name,
        candidate=f"{m.candidate:.6g}",
        live=text(m.live),
        difference=text(m.difference),
        lower=text(m.lower),
        upper=text(m.upper),
        rows=m.n,
    )


def _checks(*reports: StepReport | None) -> list[CheckResult]:
    """The checks worth showing, worst first."""
    order = {"Fail": 0, "InsufficientData": 1, "Warn": 2, "Pass": 3}
    found: list[Any] = [c for r in reports if r for c in r.checks]
    found.sort(key=lambda c: order[c.verdict.value])
    return [
        CheckResult(
            name=c.name[:64],
            verdict=c.verdict.value,
            message=c.message[:500],
            value=None if c.value is None else f"{c.value:.6g}",
            threshold=None if c.threshold is None else f"{c.threshold:.6g}",
        )
        for c in found[:16]
    ]

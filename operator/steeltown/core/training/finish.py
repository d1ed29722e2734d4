"""Conclusions: the status of a run in progress and at its end.

The end is written twice: first as a sealed annotation, which a restored backup still has when status and Job are
lost, so that no run ever trains twice (I7); then as the status that people read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from ...api.conditions import (
    ConditionType,
    Finding,
    Reason,
    build,
    false,
    parse_time,
    rfc3339,
    true,
)
from ...api.objectives import QualityObjective, RunObjectives
from ...api.trainingrun import Artifact, CheckResult, Metric, TrainingRunStatus
from ...contract.reports import MetricComparison, StepReport
from .. import record
from ..children.jobs import BASIS_ANNOTATION, COMPARED_ANNOTATION, OBJECTIVES_ANNOTATION, reference_of
from ..gates import Failure, RunFacts, gates
from ..naming import training_job_name
from ..observed import pods as podview
from ..observed.jobs import JobView
from ..observed.run import ObservedRun
from ..observed.trust import controller_uid
from ..plan import Action, Delete, EventNote, Obj, Plan, Snapshot
from ..policy import Policy

READY, RECONCILING, STALLED = ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED
KEEP_JOB_SECONDS: Final = 86400
"""A Job is kept so long after its run has ended. It is never collected before its result is recorded."""

Findings = Mapping[ConditionType, Finding]


# --- in progress -----------------------------------------------------------------------------------------------------


def progress(reason: str, message: str) -> Findings:
    return {READY: false(reason, message), RECONCILING: true(reason, message), **gates(RunFacts())}


def waiting(run: ObservedRun, reason: Reason, message: str, *, until: datetime) -> Plan:
    plan = write(run, run.status, progress(reason, message), reason=reason, until=until)
    note = EventNote(type="Warning", reason=reason, message=message)
    return Plan(status=plan.status, events=(note,) if plan.status else (), requeue_after=plan.requeue_after)


def write(
    run: ObservedRun, status: TrainingRunStatus, findings: Findings, *, reason: str, until: datetime | None = None
) -> Plan:
    phases = {Reason.PREPARING, Reason.TRAINING, Reason.FINALISING}
    phased = status.model_copy(update={"phase": str(reason) if reason in phases else "Pending"})
    wait = max(0.5, (until - run.now).total_seconds()) if until else None
    return Plan(status=written(run, phased, findings, reason=reason), requeue_after=wait)


def written(run: ObservedRun, status: TrainingRunStatus, findings: Findings, *, reason: str) -> Obj | None:
    """The status to write, None if it stands there already."""
    wanted = _concluded(run, status, findings, reason=reason)
    return wanted if wanted != run.status.dump() else None


def _concluded(run: ObservedRun, status: TrainingRunStatus, findings: Findings, *, reason: str) -> Obj:
    generation = run.root["metadata"]["generation"]
    return status.model_copy(
        update={
            "observed_generation": generation,
            "reason": str(reason),
            "created_time": run.status.created_time or run.root["metadata"]["creationTimestamp"],
            "conditions": build(findings, before=run.status.conditions, generation=generation, now=run.now),
        }
    ).dump()


# --- at the end ------------------------------------------------------------------------------------------------------


def succeeded(run: ObservedRun, report: StepReport, policy: Policy) -> Plan:
    assert run.job is not None
    prepared = run.job.step_report("prepare", ok_only=True)
    notes = run.job.template_annotations
    facts = RunFacts(
        over=True,
        imported=run.spec.import_ is not None,
        prepared=prepared,
        report=report,
        quality=_objectives(notes.get(OBJECTIVES_ANNOTATION, "{}")),
        had_live=bool(notes.get(COMPARED_ANNOTATION)),
    )
    passed = gates(facts)
    findings = {READY: true(Reason.SUCCEEDED, f"produced model {report.digest}"), **passed}
    status = run.status.model_copy(
        update={
            "phase": "Succeeded",
            "completion_time": rfc3339(run.now),
            "waiting_since": None,
            "rows": prepared.rows if prepared else None,
            "artifact": Artifact(
                digest=report.digest,
                uri=report.uri,
                size_bytes=report.size_bytes,
                reference=reference_of(run.root),
            ),
            "metrics": [_metric(m) for m in report.metrics][:16],
            "quality_basis": notes.get(BASIS_ANNOTATION),
            "checks": _checks(prepared, report),
        }
    )
    quality = passed[ConditionType.QUALITY_ACCEPTED].message
    note = EventNote(type="Normal", reason=Reason.SUCCEEDED, message=f"produced model {report.digest}; {quality}")
    return _finish(run, status, findings, note, policy)


def _objectives(text: str) -> tuple[QualityObjective, ...]:
    """As they were when the Job was made; the seal of the Job covers them."""
    return tuple(RunObjectives.model_validate_json(text).quality)


def failed(run: ObservedRun, failure: Failure, policy: Policy) -> Plan:
    job = run.job
    prepared = job.step_report("prepare", ok_only=True) if job else None
    findings = {
        READY: false(failure.reason, failure.message),
        STALLED: true(failure.reason, failure.message),
        **gates(RunFacts(over=True, failure=failure, prepared=prepared)),
    }
    last = podview.first_failure(run.pod) if run.pod else None
    report = StepReport.decode(last.message) if last and last.container != "train" else None
    status = run.status.model_copy(
        update={
            "phase": "Failed",
            "completion_time": rfc3339(run.now),
            "waiting_since": None,
            "rows": prepared.rows if prepared else (report.rows if report else None),
            "checks": _checks(prepared, report),
            "log": failure.log[-4000:] if failure.log else None,
        }
    )
    note = EventNote(type="Warning", reason=failure.reason, message=failure.message)
    return _finish(run, status, findings, note, policy)


def _finish(run: ObservedRun, status: TrainingRunStatus, findings: Findings, note: EventNote, policy: Policy) -> Plan:
    final = _concluded(run, status, findings, reason=note.reason)
    return Plan(actions=(record.keep_result(run.root, final, policy),), status=final, events=(note,))


def after_the_end(snapshot: Snapshot, status: TrainingRunStatus, now: datetime, policy: Policy) -> Plan:
    """The end stands for good. Its Job is removed: at once if it still runs (its deadline passed), else after a day.

    A result that somebody took off is put back, and one without a seal (of version 0.1) is sealed: the status is the
    other witness. One that was changed is left: it opens as nothing, and to tell would cost each run a look into its
    seal at every resync.
    """
    root = snapshot.root
    again: tuple[Action, ...] = ()
    if not record.has_result(root) and status.reason not in _UNKEPT:
        again = (record.keep_result(root, status.dump(), policy),)
    job = snapshot.of_kind("Job").get(training_job_name(root["metadata"]["name"]))
    if job is None or controller_uid(job) != root["metadata"]["uid"] or "deletionTimestamp" in job["metadata"]:
        return Plan(actions=again)
    meta = job["metadata"]
    left = KEEP_JOB_SECONDS - (now - parse_time(status.completion_time or rfc3339(now))).total_seconds()
    if JobView.of(job, ()).over and left > 0:
        return Plan(actions=again, requeue_after=left)
    return Plan(actions=(*again, Delete("Job", meta["namespace"], meta["name"], meta["uid"])))


_UNKEPT: Final = (Reason.INVALID_SPEC,)
"""Ends that need no second witness: an unreadable spec trains nothing, and cannot be bound to."""


def invalid(root: Obj, status: TrainingRunStatus, now: datetime, error: ValidationError) -> Plan:
    first = error.errors()[0]
    message = f"invalid spec.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}: create a corrected TrainingRun"
    findings: Findings = {
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


# --- reports ---------------------------------------------------------------------------------------------------------


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

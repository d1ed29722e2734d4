"""Before there is a Job: what the run waits for, or the Job, with everything that it will be measured against.

Objectives, evaluation rows and the live version are taken as they are at this moment and travel with the Job, sealed,
so a run never changes when its model does.
"""

from __future__ import annotations

import json
from datetime import timedelta

from ...api import trainingrun as spec_of
from ...api.conditions import Reason, rfc3339
from ...api.mlmodel import MLModelSpec
from ...api.objectives import RunObjectives
from ...api.trainingrun import TrainingRunSpec
from ...contract.files import MODEL_OBJECT, model_prefix
from ...contract.plans import FinalisePlan, Outputs, PreparePlan, Source, Task
from ..children.jobs import training_job
from ..gates import Failure
from ..gates.objectives import basis, effective
from ..observed import pods as podview
from ..observed.run import ObservedRun
from ..plan import Create, Obj, Plan, Refusal
from ..policy import Policy
from ..record import seal_of
from .finish import failed, progress, waiting, written


def start(run: ObservedRun, refusals: tuple[Refusal, ...], policy: Policy) -> Plan:
    if run.status.job_name:
        return failed(run, _gone(run), policy)
    deadline = run.created + timedelta(seconds=run.spec.start_deadline_seconds)
    if run.model is None or run.model_spec is None:
        return _without_model(run, policy)
    job = _job(run, run.model_spec, policy)
    if refusals:
        message = "; ".join(f"{r.target.kind} {r.target.name}: {r.message}" for r in refusals)
        if run.now >= deadline:
            return failed(run, Failure(reason=Reason.APPLY_REFUSED, message=message), policy)
        held = waiting(run, Reason.APPLY_REFUSED, message, until=deadline)
        return Plan(actions=(Create(job),), status=held.status, events=held.events, requeue_after=held.requeue_after)
    started = run.status.model_copy(
        update={
            "job_name": job["metadata"]["name"],
            "job_seal": seal_of(job),
            "start_time": rfc3339(run.now),
            "waiting_since": rfc3339(run.now),
            "phase": "Pending",
        }
    )
    return Plan(
        actions=(Create(job),),
        status=written(run, started, progress(Reason.PENDING, podview.PENDING), reason=Reason.PENDING),
        requeue_after=float(run.spec.start_deadline_seconds),
    )


def _gone(run: ObservedRun) -> Failure:
    name = run.status.job_name
    if run.taken is not None:
        message = f"Job {name} was not created by the operator: delete it and create a new TrainingRun"
        return Failure(reason=Reason.JOB_NOT_OURS, message=message)
    message = f"Job {name} was deleted before it finished: create a new TrainingRun (a run is never trained twice)"
    return Failure(reason=Reason.JOB_DELETED, message=message)


def _without_model(run: ObservedRun, policy: Policy) -> Plan:
    deadline = run.created + timedelta(seconds=run.spec.start_deadline_seconds)
    name = run.spec.model_ref.name
    message = f"MLModel {run.namespace}/{name} not found: create it"
    if run.model is not None:
        message = f"invalid spec of MLModel {run.namespace}/{name}: see its Ready condition"
    if run.now >= deadline:
        return failed(run, Failure(reason=Reason.MODEL_NOT_FOUND, message=message), policy)
    return waiting(run, Reason.MODEL_NOT_FOUND, message, until=deadline)


def _job(run: ObservedRun, model: MLModelSpec, policy: Policy) -> Obj:
    objectives = effective(model.objectives, run.spec.objectives)
    store = ((model.storage.uri if model.storage else None) or policy.artifact_store).rstrip("/")
    live = run.live.live.digest if run.live else None
    return training_job(
        run.root,
        run.spec,
        _prepare_plan(run, model, objectives),
        FinalisePlan(
            run=f"{run.namespace}/{run.name}",  # one store serves many namespaces
            store=store,
            imported=run.spec.import_ is not None,
            task=_task(run.spec, model),
            live=_live_source(store, live),
            live_outputs=_outputs(model.evaluation.task) if live and model.evaluation else None,
            seed=run.spec.train.seed if run.spec.train else 0,
        ),
        secret=(model.storage.secret_name if model.storage else None) or policy.storage_secret,
        objectives=json.dumps(objectives.dump(), sort_keys=True, separators=(",", ":")),
        basis=basis(model.objectives),
        policy=policy,
    )


def _prepare_plan(run: ObservedRun, model: MLModelSpec, objectives: RunObjectives) -> PreparePlan:
    spec = run.spec
    evaluation = model.evaluation or spec.evaluation
    return PreparePlan(
        run=run.name,
        data=Source(uri=spec.train.data.uri, digest=spec.train.data.digest) if spec.train else None,
        checks=objectives.data.checks(run.live.rows if run.live else None) if objectives.data else (),
        evaluation=Source(uri=evaluation.data.uri, digest=evaluation.data.digest) if evaluation else None,
        imported=Source(uri=spec.import_.uri, digest=spec.import_.digest) if spec.import_ else None,
        task=_task(spec, model),
        params=dict(spec.train.params) if spec.train else None,
    )


def _task(spec: TrainingRunSpec, model: MLModelSpec) -> Task | None:
    """The model's where it names one: what is measured for promotion is not the run's to choose.

    What the outputs mean is, where the model does not say: the file of the run could say the same.
    """
    own = model.evaluation.task if model.evaluation else None
    task = own or spec.task
    if task is None:
        return None
    outputs = _outputs(task) or _outputs(spec.task)
    return Task(type=task.type, target=task.target, features=tuple(task.features), outputs=outputs)


def _outputs(task: spec_of.Task | None) -> Outputs | None:
    """Of the model's task they hold for every version, of a run's for its own alone."""
    said = task.outputs if task else None
    return Outputs(label=said.label, probabilities=said.probabilities, classes=tuple(said.classes)) if said else None


def _live_source(store: str, digest: str | None) -> Source | None:
    return Source(uri=f"{store}/{model_prefix(digest)}/{MODEL_OBJECT}", digest=digest) if digest else None

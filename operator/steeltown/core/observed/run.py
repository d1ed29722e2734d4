"""A TrainingRun as the cluster shows it: its spec, its model, and the one Job that works for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ...api.conditions import parse_time
from ...api.mlmodel import MLModelSpec
from ...api.trainingrun import TrainingRunSpec, TrainingRunStatus
from .. import record
from ..naming import training_job_name
from ..plan import MLMODEL, Obj, Snapshot
from ..policy import Policy
from ..record import LiveRecord
from . import pods as podview
from .jobs import JobView
from .model import read_status


@dataclass(frozen=True, kw_only=True)
class ObservedRun:
    """job: only one that the operator made, for exactly this run. taken: a Job of that name that is not."""

    root: Obj
    spec: TrainingRunSpec
    status: TrainingRunStatus
    model: Obj | None
    model_spec: MLModelSpec | None
    live: LiveRecord | None
    job: JobView | None
    taken: Obj | None
    now: datetime
    watched_seconds: float

    @classmethod
    def of(
        cls, snapshot: Snapshot, spec: TrainingRunSpec, status: TrainingRunStatus, now: datetime, policy: Policy
    ) -> ObservedRun:
        root = snapshot.root
        job = snapshot.of_kind("Job").get(training_job_name(root["metadata"]["name"]))
        ours = job is not None and record.made_here(job, root, policy, witness=status.job_seal)
        model = snapshot.of_kind(MLMODEL).get(spec.model_ref.name)
        service = snapshot.of_kind("Service").get(spec.model_ref.name)
        return cls(
            root=root,
            spec=spec,
            status=status,
            model=model,
            model_spec=_readable(model),
            live=record.live_record(model, service, read_status(model), policy) if model else None,
            job=JobView.of(job, snapshot.of_kind("Pod").values(), snapshot.causes) if job and ours else None,
            taken=None if ours else job,
            now=now,
            watched_seconds=snapshot.watched_seconds,
        )

    @property
    def name(self) -> str:
        return str(self.root["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.root["metadata"]["namespace"])

    @property
    def created(self) -> datetime:
        return parse_time(self.root["metadata"]["creationTimestamp"])

    @property
    def pod(self) -> Obj | None:
        return self.job.pod if self.job else None

    @cached_property
    def at_work(self) -> bool:
        """A container of the newest Pod runs."""
        pod = self.pod
        return pod is not None and any(podview.is_running(pod, c) for c in ("prepare", "train", "finalise"))


def _readable(model: Obj | None) -> MLModelSpec | None:
    if model is None:
        return None
    try:
        return MLModelSpec.model_validate(model["spec"])
    except ValueError:
        return None

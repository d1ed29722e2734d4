"""An MLModel as the cluster shows it: its versions, who is live, and what each version's Pods are doing.

Everything that decides is derived here once per reconcile, from objects and sealed records; the status keeps only
the progress of the one rollout in flight. With many runs this must stay cheap: a run is looked into only when it
may matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from pydantic import ValidationError

from ...api.conditions import RUN_GATES, ConditionType, Finding, Reason, false, parse_time, true, unknown
from ...api.mlmodel import MLModelSpec, MLModelStatus, RolloutStatus, Stage
from ...contract.evidence import ROUTE_ANNOTATION, Evidence, Route
from .. import record
from ..children import serving
from ..children.serving import TRACK_LABEL, VERSION_LABEL
from ..naming import baseline_name, deployment_name
from ..plan import TRAINING_RUN, Obj, Snapshot
from ..policy import Policy
from ..record import LiveRecord, Outcome, Version
from . import pods as podview
from . import trust
from .collecting import Collecting, collecting

Order = tuple[str, int, str]

_DIGITS = "0123456789"


def order(run: str, created: str) -> Order:
    """Creation order of runs; within one second by the number that ends the name, then by name."""
    digits = len(run) - len(run.rstrip(_DIGITS))
    return created, int(run[-min(digits, 9) :]) if digits else -1, run


class Run:
    """A TrainingRun of the model, read without parsing all of it, and each fact at most once.

    created: when it was first created; a restore gives it another creationTimestamp. version: what it made, None unless
    it succeeded.
    """

    def __init__(self, obj: Obj, policy: Policy) -> None:
        meta = obj["metadata"]
        self.obj = obj
        self.policy = policy
        self.name: str = meta["name"]
        self.annotations: Mapping[str, str] = meta.get("annotations") or {}
        self.controller = trust.controller_uid(obj)
        self.status: dict[str, Any] = obj.get("status") or {}
        if not self.status.get("completionTime") and (kept := record.run_result(obj, policy)):
            self.status = kept.dump()  # restored without its status, which the run's own reconcile will bring back
        # Not properties: all runs of a model are asked for these, and it may have thousands.
        self.finished = bool(self.status.get("completionTime"))
        self.created = str(self.status.get("createdTime") or meta.get("creationTimestamp", ""))
        self.order = order(self.name, self.created)
        digest = (self.status.get("artifact") or {}).get("digest") if self.finished else None
        self.version = Version(run=self.name, digest=digest) if digest else None

    @cached_property
    def retry(self) -> str:
        return record.retry_of(self.obj)

    @cached_property
    def outcome(self) -> Outcome | None:
        """How the rollout of exactly this version ended, None also when a user has asked to retry it."""
        found = record.outcome(self.obj, self.policy)
        if found is None or self.version is None or found.digest != self.version.digest:
            return None
        return found if found.retry == self.retry else None

    def finding(self, kind: str) -> Finding:
        """A condition of the run, as a finding. Before its first status: as that one will most likely say."""
        for c in self.status.get("conditions") or ():
            if c["type"] == kind:
                return Finding(c["status"], c["reason"], c["message"])
        if kind == ConditionType.READY:
            return unknown(Reason.PENDING, podview.PENDING)
        return unknown(Reason.AWAITING_EVIDENCE, "not measured yet")

    @cached_property
    def eligible(self) -> Finding:
        """True when every gate of the run is; else the first that is not."""
        for gate in RUN_GATES:
            finding = self.finding(gate)
            if finding.status != "True":
                make = false if finding.status == "False" else unknown
                return make(finding.reason, f"{gate.value}: {finding.message}")
        if self.status.get("qualityBasis") == "Run":
            message = (
                "the MLModel enforced no quality objective when this run started: add one and create a new TrainingRun"
            )
            return unknown(Reason.NO_QUALITY_OBJECTIVE, message)
        return true(Reason.GATES_PASSED, f"{self.name} passed {', '.join(g.value for g in RUN_GATES)}")


_KNOWN: dict[str, Run] = {}
_MOST_KNOWN = 50_000
_MANY = 200


def read_runs(named: Mapping[str, Obj], policy: Policy) -> dict[str, Run]:
    """The runs of a model, by name.

    Of a model with many, each is read anew only if the object is another than last time: one event concerns one of
    them. What is remembered of a run takes 2 KiB, more than it is worth where a model has few.
    """
    read = _remembered if len(named) > _MANY else Run
    return {name: read(obj, policy) for name, obj in named.items()}


def _remembered(obj: Obj, policy: Policy) -> Run:
    uid = obj["metadata"].get("uid", "")
    known = _KNOWN.get(uid)
    if known is not None and known.obj is obj and known.policy is policy:
        return known
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    made = _KNOWN[uid] = Run(obj, policy)
    return made


def read_status(root: Obj) -> MLModelStatus:
    """The status as it stands; of one that cannot be read (a phase of another version, a hand's edit) what can be."""
    raw = root.get("status") or {}
    for without in ((), ("rollout",), ("rollout", "conditions", "verdict"), tuple(raw)):
        try:
            status = MLModelStatus.model_validate({k: v for k, v in raw.items() if k not in without})
        except ValidationError:
            continue
        return (
            status if status.rollout is None or _sane(status.rollout) else status.model_copy(update={"rollout": None})
        )
    raise AssertionError("an empty status can be read")


MOST_LOOKS: Final = 62
"""After so many, each at twice the requests of the one before, no number of requests is left."""


MOST_COUNTED: Final = 10**6
"""Attempts of a load check, restarts of a step: they name Jobs and windows."""


def _sane(rollout: RolloutStatus) -> bool:
    """One that this operator may have written: a schema does not tell a time from a text."""
    looks = (rollout.fail_look, rollout.pass_look)
    counted = (rollout.attempt, rollout.restarts)
    return (
        is_time(rollout.phase_time)
        and all(0 <= n <= MOST_LOOKS for n in looks)
        and rollout.step >= -1
        and 0 <= rollout.weight <= 100
        and all(0 <= n <= MOST_COUNTED for n in counted)
    )


def is_time(text: str) -> bool:
    """As the API server and the operator write times, in whole seconds."""
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class ObservedModel:
    """One moment. Derived facts are computed at most once.

    runs: users' own and those that belong to this very model, but those that are being taken out of the store. Those
    of another model that had its name are about to be collected; their names are still taken (run_names). leaving:
    uids of those that are being taken out of the store, and are still here.
    """

    root: Obj
    spec: MLModelSpec
    status: MLModelStatus
    policy: Policy
    now: datetime
    runs: Mapping[str, Run]
    record: LiveRecord | None
    service: Obj | None
    deployments: Mapping[str, Obj]
    services: Mapping[str, Obj]
    jobs: Mapping[str, Obj]
    all_pods: tuple[Obj, ...]
    replicasets: tuple[Obj, ...]
    evidence: Mapping[str, Evidence]
    members: Mapping[str, Mapping[str, Obj]] = field(default_factory=dict)
    """Kind -> name -> object: for a router that puts its shares into objects of its own kind."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """By uid of a Job: why it makes no Pod, once a plan has asked."""
    run_names: Collection[str] = ()
    watched_seconds: float = float("inf")
    collecting: Collecting | None = None
    leaving: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, snapshot: Snapshot, spec: MLModelSpec, status: MLModelStatus, now: datetime, policy: Policy
    ) -> ObservedModel:
        service = snapshot.of_kind("Service").get(snapshot.root["metadata"]["name"])
        jobs, pods = snapshot.of_kind("Job"), tuple(snapshot.of_kind("Pod").values())
        going = collecting(snapshot.root, jobs, pods, policy, causes=snapshot.causes)
        uid, named = snapshot.root["metadata"]["uid"], snapshot.of_kind(TRAINING_RUN)
        gone = going.uids if going else frozenset()
        runs = {
            n: r
            for n, r in read_runs(named, policy).items()
            if r.controller in (None, uid) and not (gone and r.obj["metadata"]["uid"] in gone)
        }
        told = record.live_record(snapshot.root, service, status, policy)
        return cls(
            root=snapshot.root,
            spec=spec,
            status=status,
            policy=policy,
            now=now,
            runs=runs,
            run_names=named.keys(),
            record=told or _selected(snapshot.root, service, runs.values()),
            service=service,
            deployments=_own(snapshot, "Deployment"),
            services=_own(snapshot, "Service"),
            jobs=jobs,
            all_pods=pods,
            replicasets=tuple(snapshot.of_kind("ReplicaSet").values()),
            evidence=snapshot.evidence,
            members=snapshot.members,
            causes=snapshot.causes,
            watched_seconds=snapshot.watched_seconds,
            collecting=going,
            leaving=frozenset(obj["metadata"]["uid"] for obj in named.values()) & gone if gone else gone,
        )

    @property
    def name(self) -> str:
        return str(self.root["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.root["metadata"]["namespace"])

    # --- who is live -------------------------------------------------------------------------------------------------

    @property
    def live(self) -> Version | None:
        return self.record.live if self.record else None

    @property
    def previous(self) -> Version | None:
        return self.record.previous if self.record else None

    @cached_property
    def promoted(self) -> bool:
        """The live version got where it is by evidence, not by being the newest experiment."""
        return self.record is not None and (self.record.promoted or self.was_promoted(self.record.live))

    def outcome(self, run: Run) -> Outcome | None:
        """How the rollout of the run's version ended, as its record says, unless that is one of before.

        A promotion that the bake took back is written over. Whoever kept a copy and puts it back would have promoted a
        version that was rejected; the history is the other witness.
        """
        found = run.outcome
        if found is None or found.result != record.PROMOTED:
            return found
        since = (h for h in self.status.history if (h.run, h.digest) == (run.name, found.digest))
        taken_back = any(h.outcome == record.ROLLED_BACK and (h.retry or "") == found.retry for h in since)
        return None if taken_back else found

    def was_promoted(self, version: Version) -> bool:
        """The newest word on it is that its rollout ended well."""
        run = self.runs.get(version.run)
        if run and run.version == version and (ended := self.outcome(run)):
            return ended.result == record.PROMOTED
        told = (h for h in self.status.history if h.run == version.run and h.digest == version.digest)
        return next((h.outcome == record.PROMOTED for h in told), False)

    @cached_property
    def selected(self) -> str:
        """Label of the version that the Service selects at this very moment, whoever made it so."""
        if self.service is None:
            return ""
        return str((self.service["spec"].get("selector") or {}).get(VERSION_LABEL, ""))

    def selects(self, deployment: Obj) -> bool:
        """The Service sends requests to Pods of this Deployment."""
        selector = ((self.service or {}).get("spec") or {}).get("selector") or {}
        labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
        return bool(selector) and selector.items() <= labels.items()

    # --- which version should be -------------------------------------------------------------------------------------

    @property
    def rollout(self) -> RolloutStatus | None:
        return self.status.rollout

    @property
    def production(self) -> bool:
        return self.spec.stage is Stage.PRODUCTION

    @cached_property
    def newest(self) -> Run | None:
        return max(self.runs.values(), key=lambda r: r.order, default=None)

    @cached_property
    def live_order(self) -> Order | None:
        """Of the run that is live; recorded with it, so that deleting the run makes nothing older newer."""
        return order(self.live.run, self.created(self.live)) if self.live else None

    @cached_property
    def _newer(self) -> list[Run]:
        """Finished runs that are not older than the live one, newest first."""
        limit = self.live_order
        found = [r for r in self.runs.values() if r.version and (limit is None or r.order >= limit)]
        return sorted(found, key=lambda r: r.order, reverse=True)

    @property
    def target(self) -> Run | None:
        """The newest finished run, unless it is older than the live one's. It may be rejected, or not eligible."""
        return self._newer[0] if self._newer else None

    @cached_property
    def newest_eligible(self) -> Run | None:
        """Unless it is older than the live one's run. It may be rejected."""
        return next((r for r in self._newer if r.eligible.status == "True"), None)

    @cached_property
    def candidate(self) -> Run | None:
        """The version to roll out next: the newest that is eligible, unless it is live by evidence or was rejected.

        One that is not eligible is passed over, so that a trial never stands before a version that earned its turn.
        While nothing is live at all, rejected ones are passed over too.
        """
        run = next(
            (r for r in self._newer if r.eligible.status == "True" and not (self.record is None and self.rejected(r))),
            None,
        )
        if run is None or self.rejected(run) or run.name == self.spec.abort:
            return None
        return None if run.version == self.live and self.promoted else run

    def rejected(self, run: Run) -> Outcome | None:
        """The rollout that rejected these very bytes, under this run or another, unless a retry is asked for.

        Also one that ended because somebody deleted the run: made again, the same bytes are not rolled out again. A run
        that is older than that end was restored, and has its turn.
        """
        if run.version is None:
            return None
        if ended := self.outcome(run):
            return ended if ended.result == record.ROLLED_BACK else None
        for entry in self.status.history:
            if entry.digest != run.version.digest:
                continue
            if entry.outcome == record.PROMOTED:
                return None
            made_again = entry.reason == Reason.RUN_DELETED and (entry.run != run.name or run.created >= entry.time)
            if (entry.outcome == record.ROLLED_BACK or made_again) and (entry.retry or "") == run.retry:
                same = "" if entry.run == run.name else f"same model as {entry.run}: "
                return Outcome(
                    result=record.ROLLED_BACK,
                    digest=entry.digest,
                    reason=entry.reason,
                    message=f"{same}{entry.message}",
                    findings=tuple(entry.findings),
                )
        return None

    def withdrawn(self, run: Run) -> bool:
        """Its rollout was cut short because promotion was no longer asked for: unproven, so nobody is given it."""
        if ended := self.outcome(run):
            return ended.result == record.WITHDRAWN
        told = (h for h in self.status.history if run.version and (h.run, h.digest) == (run.name, run.version.digest))
        return next((h.outcome == record.WITHDRAWN for h in told), False)

    @cached_property
    def next_experiment(self) -> Run | None:
        """In Experimental: the newest finished version, proven or not, unless evidence or a person spoke against it."""
        run = self.target
        if run is None or self.rejected(run) or self.withdrawn(run) or run.name == self.spec.abort:
            return None
        return run

    def rows(self, version: Version) -> int | None:
        """That it was trained on, as its run says."""
        run = self.runs.get(version.run)
        rows = run.status.get("rows") if run and run.version == version else None
        return rows if isinstance(rows, int) else None

    def created(self, version: Version) -> str:
        """When the run of `version` was created, also after it is gone, as long as the version is live.

        Where nothing has noted it (a record of version 0.1 is lost): when the version's Deployment was.
        """
        if self.record and version == self.record.live and self.record.created:
            return self.record.created
        if run := self.runs.get(version.run):
            return run.created
        return str((self.deployment(version) or {"metadata": {}})["metadata"].get("creationTimestamp", ""))

    # --- children and Pods -------------------------------------------------------------------------------------------

    def deployment(self, version: Version) -> Obj | None:
        return self.deployments.get(deployment_name(self.name, version.id))

    @property
    def baseline(self) -> Obj | None:
        return self.deployments.get(baseline_name(self.name))

    @cached_property
    def _serving(self) -> tuple[list[Obj], list[Obj]]:
        candidates = [p for p in self.all_pods if TRACK_LABEL in (p["metadata"].get("labels") or {})]
        deployments = self.deployments.values()
        return trust.served_by(self.root, candidates, self.replicasets, deployments, self.now, self._made_here)

    def _made_here(self, deployment: Obj) -> bool:
        """By its seal; where a hand took that off, by what the operator would write in its place."""
        if record.made_here(deployment, self.root, self.policy):
            return True
        return record.same_program(deployment, self._intents.get(deployment["metadata"]["name"]))

    @cached_property
    def _intents(self) -> Mapping[str, Obj]:
        """Deployments of the versions that are spoken of, by name."""
        spec, experiment = serving.serving_spec(self.name, self.spec, self.policy), self.next_experiment
        rolled_out = candidate_of(self.rollout) if self.rollout else None
        versions = (self.live, self.previous, rolled_out, experiment.version if experiment else None)
        made = [serving.deployment(self.root, spec, v, 1, self.policy) for v in versions if v]
        if self.live:
            made.append(serving.baseline_deployment(self.root, spec, self.live, self.policy))
        return {d["metadata"]["name"]: d for d in made}

    @property
    def pods(self) -> list[Obj]:
        """Pods of our Deployments."""
        return self._serving[0]

    @property
    def claimed(self) -> list[Obj]:
        """Pods that our Deployments control, also those that run something else than we wrote."""
        return trust.claimed_by(self.root, self.all_pods, self.replicasets, self.deployments.values())

    @cached_property
    def foreign(self) -> list[Obj]:
        """Ready Pods that are not ours, although their labels make our Services send them requests."""
        selectors = [s["spec"].get("selector") or {} for s in self.services.values()]
        return [
            p
            for p in self._serving[1]
            if any(s and s.items() <= (p["metadata"].get("labels") or {}).items() for s in selectors)
        ]

    def pods_of(self, version: Version, track: str = "serving") -> list[Obj]:
        wanted = {VERSION_LABEL: version.id, TRACK_LABEL: track}
        return [
            p
            for p in self.pods
            if wanted.items() <= (p["metadata"].get("labels") or {}).items() and not podview.is_terminating(p)
        ]

    def route_of(self, pod: Obj) -> Route | None:
        text = (pod["metadata"].get("annotations") or {}).get(ROUTE_ANNOTATION, "")
        try:
            return Route.from_json(text)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def ready(self, version: Version | None) -> int:
        return ready_replicas(self.deployment(version)) if version else 0

    def full(self, version: Version | None) -> bool:
        """It has a Deployment with all the replicas that the spec asks for ready."""
        return version is not None and self.ready(version) >= self.spec.serving.replicas


def _own(snapshot: Snapshot, kind: str) -> dict[str, Obj]:
    """By name. One of another controller is none of the model's children, whatever its labels say."""
    return {name: obj for name, obj in snapshot.of_kind(kind).items() if record.belongs(obj, snapshot.root)}


def _selected(root: Obj, service: Obj | None, runs: Iterable[Run]) -> LiveRecord | None:
    """Who is live where neither record nor status tell: the version that the Service sends requests to."""
    if service is None or not record.belongs(service, root):
        return None
    label = (service["spec"].get("selector") or {}).get(VERSION_LABEL)
    found = next((r for r in runs if r.version and r.version.id == label), None)
    return LiveRecord(live=found.version, created=found.created) if found and found.version else None


def ready_replicas(deployment: Obj | None) -> int:
    """Pods of the present template that are ready; 0 while the controller has not seen this generation."""
    if deployment is None:
        return 0
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return 0
    return min(int(status.get("readyReplicas", 0)), int(status.get("updatedReplicas", 0)))


def candidate_of(rollout: RolloutStatus) -> Version:
    return Version(run=rollout.run, digest=rollout.digest)

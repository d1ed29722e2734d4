"""An MLModel as the cluster shows it: its versions, who is live, and what each version's pods are doing.

The Service is the record of who is live (its annotations) and the switch (its selector), and the outcome of
a rollout stands on the TrainingRun it was about. So everything that decides can be read again after the
status was lost; the status only keeps the progress of the one rollout in flight.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..api.conditions import RUN_GATES, ConditionType, Finding, Reason, false, true, unknown
from ..api.mlmodel import MLModelSpec, MLModelStatus, Phase, RolloutStatus, Stage
from ..contract import strict
from ..contract.evidence import ROUTE_ANNOTATION, Evidence, Route
from . import podview
from .desired.serving import (
    CREATED_ANNOTATION,
    LIVE_ANNOTATION,
    PREVIOUS_ANNOTATION,
    PROMOTED_ANNOTATION,
    TRACK_LABEL,
    VERSION_LABEL,
    Version,
)
from .naming import baseline_name, deployment_name
from .plan import TRAINING_RUN, Obj, Snapshot

OUTCOME_ANNOTATION = "steeltown.dev/outcome"
_OUTCOME_BYTES = 64 << 10
_OUTCOME_TEXT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the rollout of a version ended; written onto its TrainingRun, so it outlives every status.

    result: Promoted or RolledBack. failed: type of the condition it failed. The other texts are what was seen.
    """

    result: str
    reason: str
    message: str
    failed: str = ""
    loadable: str = ""
    performance: str = ""
    evidence: str = ""

    def to_json(self) -> str:
        return json.dumps({s: getattr(self, s) for s in self.__slots__ if getattr(self, s)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> Outcome | None:
        """None for what is absent or unreadable."""
        try:
            fields = strict.parse_object(text or "", "outcome", max_bytes=_OUTCOME_BYTES)
            outcome = cls(**{s: fields.text(s, _OUTCOME_TEXT, "") for s in cls.__slots__})
        except ValueError:
            return None
        return outcome if outcome.result and outcome.reason else None


Order = tuple[str, int, str]


def order(run: str, created: str) -> Order:
    """Creation order of runs; within one second by the number that ends the name, then by name."""
    number = re.search(r"(\d+)$", run)
    return created, int(number[1]) if number else -1, run


class Run:
    """A TrainingRun of the model, read without parsing all of it."""

    def __init__(self, obj: Obj) -> None:
        self.obj = obj
        self.name: str = obj["metadata"]["name"]
        self.status: dict[str, Any] = obj.get("status") or {}

    @property
    def created(self) -> str:
        return str(self.obj["metadata"].get("creationTimestamp", ""))

    @cached_property
    def order(self) -> Order:
        return order(self.name, self.created)

    @property
    def finished(self) -> bool:
        return bool(self.status.get("completionTime"))

    @cached_property
    def version(self) -> Version | None:
        """What it made, None unless it succeeded."""
        digest = (self.status.get("artifact") or {}).get("digest")
        return Version(run=self.name, digest=digest) if self.finished and digest else None

    @cached_property
    def outcome(self) -> Outcome | None:
        return Outcome.from_json((self.obj["metadata"].get("annotations") or {}).get(OUTCOME_ANNOTATION))

    @property
    def rejected(self) -> bool:
        return self.outcome is not None and self.outcome.result == "RolledBack"

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
        return true(Reason.GATES_PASSED, f"{', '.join(g.value for g in RUN_GATES)} hold for {self.name}")


@dataclass(frozen=True, kw_only=True)
class World:
    """Derived facts are computed once: a world is one moment."""

    root: Obj
    spec: MLModelSpec
    status: MLModelStatus
    runs: tuple[Run, ...]  # oldest first
    service: Obj | None
    deployments: dict[str, Obj]  # by name
    services: dict[str, Obj]
    jobs: dict[str, Obj]
    pods: tuple[Obj, ...]
    evidence: dict[str, Evidence]

    @classmethod
    def of(cls, snapshot: Snapshot, spec: MLModelSpec, status: MLModelStatus) -> World:
        runs = sorted((Run(r) for r in snapshot.of_kind(TRAINING_RUN).values()), key=lambda r: r.order)
        services = dict(snapshot.of_kind("Service"))
        return cls(
            root=snapshot.root,
            spec=spec,
            status=status,
            runs=tuple(runs),
            service=services.get(snapshot.root["metadata"]["name"]),
            deployments=dict(snapshot.of_kind("Deployment")),
            services=services,
            jobs=dict(snapshot.of_kind("Job")),
            pods=tuple(snapshot.of_kind("Pod").values()),
            evidence=dict(snapshot.evidence),
        )

    @property
    def name(self) -> str:
        return str(self.root["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.root["metadata"]["namespace"])

    @property
    def _record(self) -> dict[str, str]:
        return (self.service or {"metadata": {}})["metadata"].get("annotations") or {}

    @cached_property
    def live(self) -> Version | None:
        """Whom the Service's record names; without a Service (somebody deleted it) whom the status last named."""
        known = self.status.versions.live
        if self.service is None and known is not None:
            return Version(run=known.run, digest=known.digest)
        return Version.from_json(self._record.get(LIVE_ANNOTATION))

    @cached_property
    def previous(self) -> Version | None:
        return Version.from_json(self._record.get(PREVIOUS_ANNOTATION))

    @cached_property
    def promoted(self) -> bool:
        """The live version got where it is by evidence, not by being the newest experiment."""
        if self.live is None:
            return False
        if self.service is None:
            run = self.run(self.live.run)
            return run is not None and run.outcome is not None and run.outcome.result == "Promoted"
        return self._record.get(PROMOTED_ANNOTATION) == self.live.digest

    @property
    def rollout(self) -> RolloutStatus | None:
        return self.status.rollout

    @property
    def production(self) -> bool:
        return self.spec.stage is Stage.PRODUCTION

    def run(self, name: str) -> Run | None:
        return next((r for r in self.runs if r.name == name), None)

    @cached_property
    def newest(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @cached_property
    def target(self) -> Run | None:
        """The version that should be live: the newest finished run, unless it is older than the live one's.

        A rejected run stays the target (nothing older takes its place); whoever acts looks at `rejected`.
        """
        finished = [r for r in self.runs if r.version]
        if not finished or (self.live_order and finished[-1].order < self.live_order):
            return None
        return finished[-1]

    @cached_property
    def live_order(self) -> Order | None:
        """Of the run that is live; recorded on the Service, so that deleting the run makes nothing older newer."""
        if self.live is None:
            return None
        run = self.run(self.live.run)
        return order(self.live.run, run.created if run else self._record.get(CREATED_ANNOTATION, ""))

    def created(self, version: Version) -> str:
        """When the run of `version` was created, also after it is gone, as long as the version is live."""
        run = self.run(version.run)
        if run is not None:
            return run.created
        return self._record.get(CREATED_ANNOTATION, "") if version == self.live else ""

    def deployment(self, version: Version) -> Obj | None:
        return self.deployments.get(deployment_name(self.name, version.id))

    @property
    def baseline(self) -> Obj | None:
        return self.deployments.get(baseline_name(self.name))

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
        except (ValueError, KeyError):
            return None


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


def is_late(rollout: RolloutStatus) -> bool:
    """Phases that a newer version no longer interrupts: the evidence is in, traffic is moving or has moved."""
    return rollout.phase in (Phase.PROMOTING, Phase.BAKING, Phase.ROLLING_BACK)

"""The status of a model: nothing in it is remembered but the rollout in flight and what has happened."""

from __future__ import annotations

from datetime import datetime

from ...api.conditions import ConditionType, Finding, build
from ...api.mlmodel import HistoryEntry, MLModelStatus, Phase, Retention, VersionRef, Versions
from ..children.serving import VERSION_LABEL
from ..ownership import MODEL_LABEL
from ..record import Version
from .conditions import conditions
from .ready import ready
from .standing import Standing
from .verdict import verdict

__all__ = ["Standing", "conclude"]


def conclude(s: Standing, history: list[HistoryEntry], retention: Retention | None, now: datetime) -> MLModelStatus:
    world = s.world
    findings = conditions(s)
    last_word = verdict(s)
    findings |= ready(s, last_word)
    generation = world.root["metadata"]["generation"]
    live = world.deployment(s.live) if s.live else None
    return MLModelStatus(
        observed_generation=generation,
        conditions=build(findings, before=world.status.conditions, generation=generation, now=now),
        stage=_stage(s, findings),
        replicas=int(((live or {}).get("status") or {}).get("replicas", 0)),
        selector=f"{MODEL_LABEL}={world.name},{VERSION_LABEL}={s.live.id}" if s.live else "",
        versions=_versions(s),
        rollout=s.rollout,
        verdict=last_word,
        switches=max(world.status.switches, s.record.switches if s.record else 0),
        history=history,
        retention=retention,
    )


def _stage(s: Standing, findings: dict[ConditionType, Finding]) -> str:
    if s.rollout:
        return "RollingBack" if s.rollout.phase is Phase.ROLLING_BACK else "Canary"
    if s.world.production:
        return "Production" if s.promoted else "Requested"
    return "Eligible" if findings[ConditionType.ELIGIBLE].status == "True" else "Experimental"


def _versions(s: Standing) -> Versions:
    target = s.world.target
    candidate = target.version if target and target.version != s.live else None
    before = s.record.previous if s.record else None
    return Versions(
        live=_ref(s, s.live, promoted=s.promoted),
        candidate=_ref(s, candidate),
        previous=_ref(s, before if before != s.live else None),
    )


def _ref(s: Standing, version: Version | None, *, promoted: bool = False) -> VersionRef | None:
    if version is None:
        return None
    run = s.world.runs.get(version.run)
    rows = s.record.rows if s.record and version == s.live else None
    if rows is None:
        rows = s.world.rows(version)
    created = (s.record.created if s.record and version == s.live else "") or (run.created if run else "")
    live = version == s.live
    return VersionRef(
        run=version.run,
        digest=version.digest,
        rows=rows,
        promoted=promoted,
        created=(created or None) if live else None,
    )

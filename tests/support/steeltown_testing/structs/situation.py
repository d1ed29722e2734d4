"""One moment of the rollout of `NEW` over `OLD`, as the context that its phase decides in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from steeltown.api.conditions import Condition, ConditionType, Finding, build, true
from steeltown.api.mlmodel import MLModelSpec, MLModelStatus, Phase, RolloutFinding, RolloutStatus
from steeltown.contract.evidence import Evidence, Route
from steeltown.core.children import serving
from steeltown.core.observed.model import ObservedModel, Run
from steeltown.core.plan import Obj
from steeltown.core.record import LiveRecord, Version
from steeltown.core.rollout import Context
from steeltown.core.routing import SERVER

from .objects import MODEL, NAMESPACE, NEW, NOW, OLD, POLICY, ROOT, SERVING, Fleet, ago, fleet, run

ID: Final = "h012345678"
"""Of the rollout."""
STEPS: Final = (10, 50)
_URL: Final = f"http://{MODEL}-canary.{NAMESPACE}.svc:8080"
_AFTER_SWITCH: Final = (Phase.BAKING,)
_WITH_STEP: Final = (Phase.SHIFTING, Phase.PROMOTING, Phase.BAKING, Phase.ROLLING_BACK)


def step_route(step: int = 0, restarts: int = 0, **change: Any) -> Route:
    """What a live Pod carries while a step's share is in force."""
    again = f"-{restarts}" if restarts else ""
    fields = {
        "window": f"{ID}-{step}{again}",
        "weight": STEPS[step],
        "canary_url": _URL,
        "canary_digest": NEW.digest,
        "timeout_milliseconds": 1000,
    }
    return Route(**{**fields, **change})


def off_route(word: str) -> Route:
    """A route that hands nothing over: "off", "bake", "disturbed"."""
    return Route(window=f"{ID}-{word}")


def situation(
    phase: Phase,
    *,
    seconds: float = 30,
    watched: float = float("inf"),
    # the spec
    stage: str = "Production",
    frozen: bool = False,
    abort: str | None = None,
    replicas: int = 1,
    on_inconclusive: str = "Hold",
    deadline: int = 600,
    bake: int = 60,
    latency: int = 100,
    check: int = 16,
    interface: str = "Compatible",
    # the rollout
    step: int | None = None,
    findings: dict[str, Finding] | None = None,
    rollout: dict[str, Any] | None = None,
    stalled: str = "",
    # who is live
    live: Version | str | None = "",
    previous: Version | str | None = "",
    promoted: bool = True,
    # what serves
    old: Fleet | str | None = "ready",
    new: Fleet | str | None = "ready",
    fresh: Fleet | str | None = None,
    route: Route | str | None = None,
    evidence: Evidence | Sequence[Evidence | None] = (),
    pods: Sequence[Obj] = (),
    canary_service: Version | dict[str, str] | bool = True,
    baseline_service: bool = True,
    # what else there is
    jobs: Sequence[tuple[Obj, tuple[Obj, ...]]] = (),
    causes: Mapping[str, str] | None = None,
    runs: Sequence[Obj] | None = None,
) -> Context:
    """Everything that is not said is as in a rollout in which all is well.

    seconds: since the phase began. old, new: the two versions' Pods, each in a word; None: no Deployment. fresh: the
    Pod of the live version for the load check. route, evidence: of the Pods that requests of this phase are counted by:
    those of the old version, in the bake those of the new one. pods: more of them. canary_service: it is there, or
    whom it selects, or what a hand has added to its selector. baseline_service: it is there, in the phases that have
    one. stalled: why, as the status says. causes: see `Snapshot`. runs: beside that of `OLD`, in place of that of
    `NEW`.
    """
    switched = phase in _AFTER_SWITCH
    now_live = (NEW if switched else OLD) if isinstance(live, str) else live
    before = (OLD if switched else None) if isinstance(previous, str) else previous
    at = (0 if phase in _WITH_STEP else -1) if step is None else step
    raw = {
        "stage": stage,
        "frozen": frozen,
        "abort": abort,
        "serving": {"replicas": replicas},
        "objectives": {"interface": interface, "serving": {"latencyMilliseconds": latency}},
        "rollout": {
            "steps": [{"weight": w} for w in STEPS],
            "onInconclusive": on_inconclusive,
            "progressDeadlineSeconds": deadline,
            "bakeSeconds": bake,
            "loadCheck": {"durationSeconds": check},
        },
    }
    told = (evidence,) if isinstance(evidence, Evidence) else tuple(evidence)
    counting: dict[str, Any] = {"route": route, "evidence": told}
    other: dict[str, Any] = {}
    fleets = [
        _fleet(OLD, old, other if now_live == NEW else counting),
        _fleet(NEW, new, counting if now_live == NEW else other),
        _fleet(now_live or OLD, fresh, {"fresh": True}),
    ]
    serves = [f for f in fleets if f is not None]
    record = LiveRecord(live=now_live, promoted=promoted, previous=before, switches=1) if now_live else None
    reached = canary_service if isinstance(canary_service, Version) else NEW
    services = {f"{MODEL}-canary": serving.canary_service(ROOT, MODEL, reached)} if canary_service else {}
    if isinstance(canary_service, dict):
        spec = services[f"{MODEL}-canary"]["spec"]
        spec["selector"] = {**spec["selector"], **canary_service}
    if now_live and baseline_service and phase in (Phase.LOADING, Phase.LOAD_CHECKING):
        services[f"{MODEL}-baseline"] = serving.baseline_service(ROOT, MODEL, now_live)
    if record:
        services[MODEL] = serving.live_service(ROOT, MODEL, record, POLICY)
    known = [run(OLD, created=ago(7200)), *([run(NEW, created=ago(3600))] if runs is None else runs)]
    world = ObservedModel(
        root=ROOT,
        spec=MLModelSpec.model_validate(raw),
        status=MLModelStatus(conditions=_conditions(stalled)),
        policy=POLICY,
        now=NOW,
        runs={r["metadata"]["name"]: Run(r, POLICY) for r in known},
        run_names=[r["metadata"]["name"] for r in known],
        record=record,
        service=services.get(MODEL),
        deployments={f.name: f.deployment for f in serves},
        services=services,
        jobs={job["metadata"]["name"]: job for job, _ in jobs},
        all_pods=(*(p for f in serves for p in f.pods), *(p for _, made in jobs for p in made), *pods),
        replicasets=tuple(r for f in serves for r in f.replicasets),
        evidence={uid: e for f in serves for uid, e in f.evidence.items()},
        causes=causes or {},
        watched_seconds=watched,
    )
    return Context(
        world=world,
        rollout=_rollout(phase, seconds, at, findings or {}, rollout or {}),
        router=SERVER,
        serving=SERVING,
        policy=POLICY,
        now=NOW,
    )


def _conditions(stalled: str) -> list[Condition]:
    told = {ConditionType.STALLED: true(stalled, "why")} if stalled else {}
    return build(told, before=(), generation=1, now=NOW)


def _fleet(version: Version, given: Fleet | str | None, more: dict[str, Any]) -> Fleet | None:
    return fleet(version, given, **more) if isinstance(given, str) else given


def _rollout(
    phase: Phase, seconds: float, step: int, findings: dict[str, Finding], change: dict[str, Any]
) -> RolloutStatus:
    known = RolloutStatus(
        id=ID,
        run=NEW.run,
        digest=NEW.digest,
        phase=phase,
        step=step,
        weight=0 if step < 0 or phase is Phase.ROLLING_BACK else STEPS[step],
        started_time=ago(1800),
        phase_time=ago(seconds),
        findings=[
            RolloutFinding(type=kind, status=f.status, reason=f.reason, message=f.message)
            for kind, f in findings.items()
        ],
    )
    return known.model_copy(update=change)

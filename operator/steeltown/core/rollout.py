"""The rollout of one version into production, phase by phase.

    Loading -> LoadChecking -> Shifting (step by step) -> Promoting -> Baking -> done
       any of them -> RollingBack -> done

Each phase is a function from the world to a `Move`: the children that must exist, the routes of the live
pods, further actions, and possibly the next `RolloutStatus`. A move that changes the rollout is an intent:
it is written first, alone and locked, and carried out by the next reconcile. Invariants kept here: traffic
follows capacity and never the other way round (I1, I3); a route carries the weight of the recorded step or
less (I2); promotion starts only from a recorded Pass (I4); RollingBack needs nothing to be ready (I6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..api.conditions import ConditionType, Reason, parse_time, rfc3339
from ..api.mlmodel import OnInconclusive, Phase, RolloutStatus
from ..contract.evidence import Counts, Evidence, Route
from ..contract.plans import FetchPlan, LoadCheckPlan
from ..contract.reports import LoadReport, StepReport
from . import podview
from .desired.jobs import load_check_job
from .desired.serving import ServingSpec, Version, service_url
from .judge.verdict import Judgement, Limits, Looks, Result, judge_canary, judge_load, needed_requests
from .naming import baseline_name, canary_name, load_check_name, short_hash
from .plan import Action, Annotate, Create, EventNote, Obj
from .policy import Policy
from .world import OUTCOME_ANNOTATION, Outcome, World, candidate_of, ready_replicas

LOAD_CHECK_ATTEMPTS = 3
OFF_WAIT_SECONDS = 30.0
"""How long a rollback waits to read back that the live pods send the canary nothing before it removes it.
The live server answers by itself when the canary is gone, so waiting is a courtesy, not a condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    world: World
    rollout: RolloutStatus
    serving: ServingSpec
    limits: Limits
    policy: Policy
    now: datetime

    @property
    def candidate(self) -> Version:
        return candidate_of(self.rollout)

    @property
    def live(self) -> Version | None:
        return self.world.live

    @property
    def in_place(self) -> bool:
        """The candidate is already live (as an experiment) and only has to earn its promotion."""
        return self.live == self.candidate

    @property
    def deadline(self) -> datetime:
        seconds = self.world.spec.rollout.progress_deadline_seconds
        return parse_time(self.rollout.phase_time) + timedelta(seconds=seconds)

    @property
    def late(self) -> bool:
        """While the brake is on, no deadline passes."""
        return self.now >= self.deadline and not self.world.spec.frozen

    @property
    def until_deadline(self) -> float:
        return max(0.5, (self.deadline - self.now).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a phase asks for.

    replicas: candidate's replicas wanted (None: no Deployment of the candidate). fresh: the load check's pods.
    switch_to: version that the Service must select. route: for the pods of `routed` (None: no route).
    next: the rollout to record as intent; done: the rollout is over. held: no evidence by the deadline.
    """

    replicas: int | None = None
    canary_service: bool = False
    fresh: bool = False
    keep: tuple[Version, ...] = ()
    switch_to: Version | None = None
    routed: Version | None = None
    route: Route | None = None
    actions: tuple[Action, ...] = ()
    next: RolloutStatus | None = None
    done: str = ""
    held: str = ""
    held_reason: str = ""
    observed_weight: int | None = None
    observe: tuple[Obj, ...] = ()
    requeue_after: float | None = None
    events: tuple[EventNote, ...] = field(default=())


def begin(candidate: Version, now: datetime) -> RolloutStatus:
    stamp = rfc3339(now)
    return RolloutStatus(
        id=short_hash(candidate.run, candidate.digest, stamp),
        run=candidate.run,
        digest=candidate.digest,
        phase=Phase.LOADING,
        started_time=stamp,
        phase_time=stamp,
    )


def advance(context: Context) -> Move:
    return _PHASES[context.rollout.phase](context)


def roll_back(
    rollout: RolloutStatus, now: datetime, *, failed: ConditionType | None, reason: str, message: str
) -> RolloutStatus:
    return rollout.model_copy(
        update={
            "phase": Phase.ROLLING_BACK,
            "phase_time": rfc3339(now),
            "weight": 0,
            "failed": failed.value if failed else None,
            "reason": str(reason),
            "message": message[:2000],
        }
    )


# --- Loading ---------------------------------------------------------------------------------------------------------


def _loading(c: Context) -> Move:
    pods = c.world.pods_of(c.candidate, "baseline" if c.in_place else "serving")
    ready = [p for p in pods if podview.is_ready(p)]
    keep = _with_canary(c, fresh=c.live is not None)
    baseline_waits = c.live is not None and not c.in_place and not _baseline_ready(c)
    if ready and not baseline_waits:
        told = "ready on production resources; the golden rows are answered as in training"
        return _to(keep, c, Phase.LOAD_CHECKING, loadable=told)
    failure = next((f for p in pods if (f := podview.load_failure(p))), None)
    if failure and not ready:
        return _fail(keep, c, ConditionType.LOADABLE, failure[0], failure[1])
    if c.late:
        what = "the baseline Pod of the live version" if ready else "the candidate's Pod"
        blocked = next((b for p in pods if (b := podview.obstacle(p))), None)
        message = f"{what} was not ready within {c.world.spec.rollout.progress_deadline_seconds} s" + (
            f": {blocked.message}" if blocked else ""
        )
        if ready:
            return _inconclusive(keep, c, message)
        reason = blocked.reason if blocked else Reason.PROGRESS_DEADLINE_EXCEEDED
        return _fail(keep, c, ConditionType.LOADABLE, reason, message)
    return keep


def _baseline_ready(c: Context) -> bool:
    return c.live is not None and any(podview.is_ready(p) for p in c.world.pods_of(c.live, "baseline"))


# --- LoadChecking ----------------------------------------------------------------------------------------------------


def _load_checking(c: Context) -> Move:
    keep = _with_canary(c, fresh=c.live is not None)
    name = load_check_name(c.world.name, c.rollout.id, c.rollout.attempt)
    job = c.world.jobs.get(name)
    if job is None:
        return _replace(keep, actions=(Create(_load_job(c, name)),), requeue_after=c.until_deadline)
    judgement = _load_judgement(c, job, name)
    if judgement is None:
        return keep
    if judgement.result is Result.PASS:
        return _after_load_check(keep, c, judgement)
    if judgement.result is Result.FAIL:
        return _fail(keep, c, ConditionType.SERVING_PERFORMANCE, judgement.reason, judgement.message)
    if c.rollout.attempt + 1 < LOAD_CHECK_ATTEMPTS:
        again = c.rollout.model_copy(
            update={"attempt": c.rollout.attempt + 1, "performance": f"attempt again: {judgement.message}"[:1000]}
        )
        return _replace(keep, next=again)
    message = f"{LOAD_CHECK_ATTEMPTS} load checks were inconclusive: {judgement.message}"
    return _inconclusive(keep, c, message, reason=judgement.reason)


def _after_load_check(keep: Move, c: Context, judgement: Judgement) -> Move:
    if c.live is None or c.in_place:
        evidence = "there is no other version to share traffic with; the load check is the evidence"
        return _to(keep, c, Phase.PROMOTING, performance=judgement.message, evidence=evidence)
    return _to_step(keep, c, 0, performance=judgement.message[:1000])


def _load_job(c: Context, name: str) -> Obj:
    check, namespace = c.world.spec.rollout.load_check, c.world.namespace
    blocks = max(2, min(32, check.duration_seconds // 2))
    fetch = FetchPlan(store=c.serving.store, digest=c.candidate.digest)
    target = baseline_name(c.world.name) if c.in_place else canary_name(c.world.name)
    compare = c.live is not None and not c.in_place
    plan = LoadCheckPlan(
        model=c.world.name,
        candidate_url=service_url(target, namespace),
        candidate_digest=c.candidate.digest,
        golden=fetch,
        latency_milliseconds=float(c.limits.latency_milliseconds),
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
        secret=c.serving.secret,
        deadline=check.duration_seconds + 120,
        policy=c.policy,
    )


def _load_judgement(c: Context, job: Obj, name: str) -> Judgement | None:
    """None while the Job runs. A Job without a readable report is no evidence."""
    ended = {x["type"] for x in (job.get("status") or {}).get("conditions") or () if x["status"] == "True"}
    if not ended & {"Complete", "Failed"}:
        return None
    pod = podview.newest([p for p in c.world.pods if (p["metadata"].get("labels") or {}).get("job-name") == name])
    last = podview.termination(pod, "loadcheck") if pod else None
    report = LoadReport.decode(last.message) if last else None
    if report is None:
        step = StepReport.decode(last.message) if last else None
        message = step.message if step else "the load check left no report: its Pod failed or was deleted"
        return Judgement(result=Result.UNKNOWN, reason=Reason.LOAD_CHECK_FAILED, message=message)
    return judge_load(report, c.limits)


# --- Shifting --------------------------------------------------------------------------------------------------------


def _shifting(c: Context) -> Move:
    steps, full = c.world.spec.rollout.steps, c.world.spec.serving.replicas
    weight = c.rollout.weight
    wanted = max(1, math.ceil(full * weight / 100))
    capable = ready_replicas(c.world.deployment(c.candidate)) >= wanted
    route = _step_route(c) if capable or _applied(c) else _previous_route(c)
    pods, seen = _observed(c, c.live)
    keep = Move(
        replicas=wanted,
        canary_service=True,
        keep=(c.live,) if c.live else (),
        switch_to=c.live,
        routed=c.live,
        route=route,
        observe=tuple(pods),
        observed_weight=max((e.weight for e in seen), default=None),
        requeue_after=c.until_deadline,
    )
    if c.live is None:  # somebody removed the live Service: nothing is left to compare with
        return _fail(keep, c, None, Reason.SUPERSEDED, "the live version is gone")
    counted = [e for e in seen if e.window == _step_route(c).window]
    canary, live = Counts.merged(e.canary for e in counted), Counts.merged(e.live for e in counted)
    before = Looks(fail=c.rollout.fail_look, passed=c.rollout.pass_look)
    looks, judgement = judge_canary(canary, live, c.limits, before)
    if judgement.result is Result.FAIL:
        return _fail(keep, c, ConditionType.CANARY_PASSED, judgement.reason, judgement.message)
    if judgement.result is Result.PASS:
        evidence = f"{c.rollout.weight}%: {judgement.message}"[:1000]
        following = c.rollout.step + 1
        if following < len(steps):
            return _to_step(keep, c, following, evidence=evidence)
        return _to(keep, c, Phase.PROMOTING, evidence=evidence)
    if c.late:
        needed = needed_requests(c.limits, looks.passed)
        message = f"at {weight}%: {judgement.message}; {canary.requests} of {needed} canary requests came in time"
        keep = _inconclusive(keep, c, message)
    if looks != before and keep.next is None:  # also while held: a look that is not recorded would be taken again
        update = {"fail_look": looks.fail, "pass_look": looks.passed, "evidence": judgement.message[:1000]}
        return _replace(keep, next=c.rollout.model_copy(update=update))
    return keep


def _step_route(c: Context) -> Route:
    return Route(
        window=f"{c.rollout.id}-{c.rollout.step}",
        weight=c.rollout.weight,
        canary_url=service_url(canary_name(c.world.name), c.world.namespace),
        canary_digest=c.candidate.digest,
        timeout_milliseconds=max(1000, 2 * c.limits.latency_milliseconds),
    )


def _previous_route(c: Context) -> Route | None:
    """The route in force before this step, while the canary grows to the capacity that the step needs."""
    routes = [r for p in c.world.pods_of(c.live) if (r := c.world.route_of(p))] if c.live else []
    mine = [r for r in routes if r.window.startswith(c.rollout.id) and r.weight <= c.rollout.weight]
    return max(mine, key=lambda r: r.weight, default=None)


def _applied(c: Context) -> bool:
    wanted = _step_route(c)
    return c.live is not None and any(c.world.route_of(p) == wanted for p in c.world.pods_of(c.live))


def _observed(c: Context, version: Version | None) -> tuple[list[Obj], list[Evidence]]:
    pods = [p for p in c.world.pods_of(version) if podview.is_ready(p)] if version else []
    seen = [c.world.evidence[p["metadata"]["uid"]] for p in pods if p["metadata"]["uid"] in c.world.evidence]
    return pods, seen


# --- Promoting, Baking -----------------------------------------------------------------------------------------------


def _promoting(c: Context) -> Move:
    """Full capacity, then traffic. The old version stays as it is."""
    full = c.world.spec.serving.replicas
    switched = c.live == c.candidate and c.world.promoted
    old = (c.world.previous if switched else c.live) if c.rollout.step >= 0 else None
    keep = Move(
        replicas=full,
        canary_service=not c.in_place,
        keep=(old,) if old else (),
        switch_to=c.live,
        routed=old,
        route=_step_route(c) if old and not switched else None,
        requeue_after=c.until_deadline,
    )
    outcome = Outcome(
        result="Promoted",
        reason=Reason.TRAFFIC_SHIFTED,
        message=c.rollout.evidence or "",
        loadable=c.rollout.loadable or "",
        performance=c.rollout.performance or "",
        evidence=c.rollout.evidence or "",
    )
    record = _record(c, outcome)
    if switched and not record:
        note = EventNote(type="Normal", reason=Reason.PROMOTED, message=f"{c.rollout.run} {c.rollout.digest} is live")
        return _replace(_to(keep, c, Phase.BAKING), events=(note,))
    if switched or ready_replicas(c.world.deployment(c.candidate)) >= full:
        return _replace(keep, switch_to=c.candidate, actions=record)
    if c.late:
        message = f"{full} replicas of the candidate were not ready in time"
        return _fail(keep, c, ConditionType.CANARY_PASSED, Reason.PROGRESS_DEADLINE_EXCEEDED, message)
    return keep


def _baking(c: Context) -> Move:
    """The old version stays warm; errors of the new one roll back at once."""
    old = c.world.previous if c.rollout.step >= 0 else None
    pods, seen = _observed(c, c.candidate)
    window = f"{c.rollout.id}-bake"
    end = parse_time(c.rollout.phase_time) + timedelta(seconds=c.world.spec.rollout.bake_seconds)
    keep = Move(
        replicas=c.world.spec.serving.replicas,
        keep=(old,) if old and old != c.candidate else (),
        switch_to=c.candidate,
        routed=c.candidate,
        route=Route(window=window),
        observe=tuple(pods),
        requeue_after=max(0.5, (end - c.now).total_seconds()),
    )
    if c.live != c.candidate:
        return _fail(keep, c, None, Reason.SUPERSEDED, "another version was made live during the bake")
    if c.rollout.step < 0 or old is None or old == c.candidate:  # no other version shared the traffic
        return _replace(keep, route=None, done=Reason.TRAFFIC_SHIFTED)
    counts = Counts.merged(e.live for e in seen if e.window == window)
    looks, judgement = judge_canary(counts, Counts(), c.limits, Looks(fail=c.rollout.fail_look, passed=30))
    if judgement.result is Result.FAIL:
        return _fail(keep, c, ConditionType.CANARY_PASSED, judgement.reason, f"during the bake {judgement.message}")
    if c.now >= end:
        return _replace(keep, done=Reason.TRAFFIC_SHIFTED)
    if looks.fail != c.rollout.fail_look:
        return _replace(keep, next=c.rollout.model_copy(update={"fail_look": looks.fail}))
    return keep


# --- RollingBack -----------------------------------------------------------------------------------------------------


def _rolling_back(c: Context) -> Move:
    """Weight 0 at once, then the record, then the candidate goes. Needs no ready pod and repeats itself safely."""
    back_to = c.live
    if c.in_place and c.world.promoted and c.rollout.step >= 0 and c.world.previous:
        back_to = c.world.previous
    off = Route(window=f"{c.rollout.id}-off")
    stable_pods = [p for p in c.world.pods_of(back_to) if podview.is_ready(p)] if back_to else []
    seen = [e for p in stable_pods if (e := c.world.evidence.get(p["metadata"]["uid"]))]
    routed = any((r := c.world.route_of(p)) and r.window.startswith(c.rollout.id) for p in stable_pods)
    keep = Move(
        keep=tuple({v.id: v for v in (back_to, c.candidate if c.candidate != back_to else None) if v}.values()),
        switch_to=back_to,
        routed=back_to,
        route=off if routed else None,
        observe=tuple(stable_pods) if routed else (),
        observed_weight=max((e.weight for e in seen), default=None) if routed else None,
        actions=_record(c, _rejection(c)) if c.rollout.failed else (),
        requeue_after=OFF_WAIT_SECONDS,
    )
    waited = (c.now - parse_time(c.rollout.phase_time)).total_seconds()
    switched = back_to is None or c.live == back_to
    read_back = all(e.window == off.window for e in seen) and len(seen) == len(stable_pods)
    recorded = not keep.actions
    if switched and recorded and (not routed or read_back or waited >= OFF_WAIT_SECONDS):
        return _replace(keep, done=c.rollout.reason or Reason.ROLLED_BACK)
    return keep


def _rejection(c: Context) -> Outcome:
    r = c.rollout
    return Outcome(
        result="RolledBack",
        reason=r.reason or Reason.ROLLED_BACK,
        message=r.message or "",
        failed=r.failed or "",
        loadable=r.loadable or "",
        performance=r.performance or "",
        evidence=r.evidence or "",
    )


def _record(c: Context, outcome: Outcome) -> tuple[Action, ...]:
    """Write the outcome onto the candidate's TrainingRun, unless it stands there or the run is gone."""
    run = c.world.run(c.rollout.run)
    if run is None or run.outcome == outcome:
        return ()
    meta = run.obj["metadata"]
    annotations = {OUTCOME_ANNOTATION: outcome.to_json()}
    return (Annotate(run.obj["kind"], meta["namespace"], meta["name"], meta["uid"], annotations),)


# --- moving on -------------------------------------------------------------------------------------------------------


def _with_canary(c: Context, *, fresh: bool) -> Move:
    """Candidate beside the live version, without traffic."""
    return Move(
        replicas=None if c.in_place else 1,
        canary_service=not c.in_place,
        fresh=fresh,
        keep=(c.live,) if c.live else (),
        switch_to=c.live,
        requeue_after=c.until_deadline,
    )


def _to(keep: Move, c: Context, phase: Phase, **update: str) -> Move:
    cut = {k: v[:1000] for k, v in update.items()}
    fresh = {"phase": phase, "phase_time": rfc3339(c.now), "fail_look": 0, "pass_look": 0}
    return _replace(keep, next=c.rollout.model_copy(update={**fresh, **cut}))


def _to_step(keep: Move, c: Context, step: int, **update: str) -> Move:
    moved = _to(keep, c, Phase.SHIFTING, **update)
    assert moved.next is not None
    weight = c.world.spec.rollout.steps[step].weight
    return _replace(moved, next=moved.next.model_copy(update={"step": step, "weight": weight}))


def _fail(keep: Move, c: Context, failed: ConditionType | None, reason: str, message: str) -> Move:
    note = EventNote(type="Warning", reason=Reason.ROLLED_BACK, message=f"{c.rollout.run}: {reason}: {message}")
    back = roll_back(c.rollout, c.now, failed=failed, reason=reason, message=message)
    return _replace(keep, next=back, events=(note,), held="")


def _inconclusive(keep: Move, c: Context, message: str, *, reason: str = Reason.INCONCLUSIVE) -> Move:
    if c.world.spec.rollout.on_inconclusive is OnInconclusive.ROLLBACK:
        return _fail(keep, c, ConditionType.CANARY_PASSED, reason, message)
    return _replace(keep, held=message, held_reason=str(reason), requeue_after=None)


def braked(c: Context, move: Move) -> Move:
    """spec.frozen: nothing moves forward. What is running stays, and harm that is shown still rolls back."""
    rolling_back = c.rollout.phase is Phase.ROLLING_BACK or (
        move.next is not None and move.next.phase is Phase.ROLLING_BACK
    )
    if rolling_back:
        return move
    return _replace(move, next=None, done="", actions=(), switch_to=c.live, events=())


def _replace(move: Move, **update: object) -> Move:
    values = {s: getattr(move, s) for s in Move.__slots__}
    return Move(**{**values, **update})


_PHASES = {
    Phase.LOADING: _loading,
    Phase.LOAD_CHECKING: _load_checking,
    Phase.SHIFTING: _shifting,
    Phase.PROMOTING: _promoting,
    Phase.BAKING: _baking,
    Phase.ROLLING_BACK: _rolling_back,
}

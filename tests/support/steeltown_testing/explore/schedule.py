"""One schedule: a scenario, the writes at which the operator dies, and what must hold at every moment.

Beside its steps a test drives a schedule by hand: `until` something is so, then a hand's act, a lag, a trouble of
nature, a jump of the clock, then `settle`. All of it leaves the invariants in force, with one exception that has to be
asked for: `grace`, a few ticks in which the operator mends what a hand has taken from users.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from steeltown.api.mlmodel import MLModelStatus, Phase
from steeltown.contract.evidence import ROUTE_ANNOTATION, Counts, Route
from steeltown.core.plan import Action, Annotate, Key, Obj, Target, target
from steeltown.core.planners import PLANNERS
from steeltown.core.policy import Policy
from steeltown.runtime.explainer import Explainer
from steeltown.runtime.ports import LostLease
from steeltown.runtime.reconciler import Reconciler
from steeltown.runtime.store import Store

from . import records
from .cluster import Applier, Cluster, Crash, Recorder, controller_uid, later
from .nature import REQUESTS_PER_TICK, Behaviour, Nature, is_ready, route_of

MODEL = "m"
POLICY = Policy(trainer_image="trainer", checker_image="checker", server_image="server", seal_key=records.KEY)
QUIET_TICKS = 6
SUMMARY = ("Ready", "Reconciling", "Stalled")
BY_A_PERSON = ("Aborted",)
ABORT_TICKS = 3
"""I6: at most so many ticks after the intent to roll back, no live pod sends the candidate anything."""


class Operator:
    """The operator's own Store and Reconciler, started from nothing: it lists the cluster and goes on."""

    def __init__(self, cluster: Cluster, nature: Nature, applier: Applier) -> None:
        self.cluster, self.nature = cluster, nature
        self.listed = True
        self.store = Store()
        self.queue: dict[Key, None] = {}
        self.due: dict[Key, datetime] = {}
        self.seen: dict[Any, str] = {}
        self.started = cluster.operator_now, cluster.monotonic
        self.reconciler = Reconciler(
            store=self.store,
            planners=PLANNERS,
            policy=POLICY,
            applier=applier,
            recorder=Recorder(),
            fence=applier.fence,
            wake=self._add,
            now=self._now,
            clock=lambda: cluster.monotonic.timestamp(),
        )
        self.explainer = Explainer(
            store=self.store, reader=self, wake=self._add, clock=lambda: cluster.monotonic.timestamp()
        )

    def _now(self) -> datetime:
        """As `app.main.SteadyClock`: the wall clock at the start of the process, and the time since."""
        wall, monotonic = self.started
        return wall + (self.cluster.monotonic - monotonic)

    def _add(self, key: Key) -> None:
        self.queue[key] = None

    def watch(self) -> None:
        """Deliver what changed since the last look, deletions included, as far as each watch has come."""
        seen = self.cluster.objects if self.listed else self.cluster.as_watched()
        self.listed = False
        for where, obj in seen.items():
            if self.seen.get(where) != obj["metadata"]["resourceVersion"]:
                for key in self.store.apply_event("MODIFIED", obj):
                    self._add(key)
        for where in [w for w in self.seen if w not in seen and w not in self.cluster.objects]:
            known = self.store.get(where)
            if known:
                gone = {**known, "metadata": {**known["metadata"], "resourceVersion": str(self.cluster.version)}}
                for key in self.store.apply_event("DELETED", gone):
                    self._add(key)
        self.seen = {w: o["metadata"]["resourceVersion"] for w, o in seen.items()}

    def observe(self) -> None:
        pods = {p["metadata"]["uid"]: p for p in self.cluster.of_kind("Pod")}
        for key, wanted in self.store.observed():
            evidence = self.nature.evidence(pods[wanted.uid]) if wanted.uid in pods else None
            if evidence and self.store.put_evidence(wanted.uid, evidence):
                self._add(key)

    async def latest_warning(self, namespace: str, uid: str) -> str:
        """As `kube.events`."""
        told = [e["message"] for e in self.cluster.of_kind("Event") if e["involvedObject"]["uid"] == uid]
        return told[-1] if told else ""

    def run(self) -> None:
        """Reconcile until nothing is left to do now."""
        self.watch()
        self.observe()
        self.cluster.drive(self.explainer.once())
        for key in [k for k, moment in self.due.items() if moment <= self.cluster.monotonic]:
            del self.due[key]
            self._add(key)
        for _ in range(300):
            if not self.queue:
                return
            key = next(iter(self.queue))
            del self.queue[key]
            self.due.pop(key, None)  # as the real queue: an older promise is void
            outcome = self.cluster.drive(self.reconciler.reconcile(key))
            if outcome.failed or outcome.requeue_after is not None:
                self.due[key] = later(self.cluster.monotonic, outcome.requeue_after or 1)
            self.watch()
        raise AssertionError("the operator does not come to rest within one tick")


@dataclass(frozen=True, slots=True)
class Step:
    """A user's act, once its moment has come."""

    when: Callable[[Explorer], bool]
    act: Callable[[Explorer], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    steps: tuple[Step, ...]
    ticks: int = 60
    expected_live: str = ""
    replicas: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """All that decides how a schedule goes on after a tick. The operator's cache is a copy of the objects."""

    version: int
    pending: int
    due: dict[Key, datetime]
    trained: dict[str, int]
    seen: tuple[object, ...]
    counts: dict[str, tuple[str, int, Counts, Counts, int]]
    objects: dict[Target, Obj]


@dataclass(slots=True)
class Explorer:
    """Runs one schedule and checks the invariants after every write and every tick."""

    scenario: Scenario
    crash_at: dict[int, str] = field(default_factory=dict)
    cluster: Cluster = field(default_factory=Cluster)
    nature_of: type[Nature] = Nature
    nature: Nature = field(init=False)
    applier: Applier = field(init=False)
    operator: Operator = field(init=False)
    pending: list[Step] = field(default_factory=list)
    was_serving: bool = False
    aborting: dict[str, datetime] = field(default_factory=dict)
    promoted: set[str] = field(default_factory=set)
    tick: int = 0
    graceful: int = -1
    """Until this tick users may miss what a hand has taken from them."""
    abort_ticks: int = ABORT_TICKS
    routed: list[tuple[int, str, int]] = field(default_factory=list)
    """Each share that was given to a canary: tick, digest, weight."""
    forks: list[tuple[int, str, Explorer]] | None = None
    """Filled, if it is a list, with each different world before and after a write: where a crash would leave it."""
    trail: list[Moment] = field(default_factory=list)
    """The state at the end of each tick, for forks to compare theirs with."""

    def __post_init__(self) -> None:
        self.nature = self.nature_of(self.cluster)
        self.pending = list(self.scenario.steps)
        self._connect()

    def _connect(self) -> None:
        around = self._fork if self.forks is not None else None
        self.applier = Applier(self.cluster, crash_at=self.crash_at, written=self._written, around=around)
        self.operator = Operator(self.cluster, self.nature, self.applier)

    def _fork(self, write: int, moment: str) -> None:
        assert self.forks is not None
        if self.forks and self.forks[-1][2].at(self.tick, self.cluster):
            return  # before this write is after the last one
        self.forks.append((write, moment, self.fork()))

    def fork(self) -> Explorer:
        """The same world, with an operator that starts from nothing."""
        other = type(self)(self.scenario, cluster=self.cluster.copy(), nature_of=self.nature_of)
        other.nature = self.nature.copy(other.cluster)
        other.pending, other.tick = list(self.pending), self.tick
        other.was_serving, other.aborting, other.promoted = self.was_serving, dict(self.aborting), set(self.promoted)
        other.graceful, other.abort_ticks, other.routed = self.graceful, self.abort_ticks, list(self.routed)
        other._connect()
        return other

    def at(self, tick: int, cluster: Cluster) -> bool:
        return self.tick == tick and self.cluster.version == cluster.version

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Explorer:
        while self.tick < self.scenario.ticks:
            self._user()
            self.resume()
        return self._end()

    def rejoins(self, undisturbed: Explorer) -> bool:
        """Resumes and runs until all of its state is that of the undisturbed run, whose future is then its own.

        False: it ran to its end without.
        """
        self.resume()
        while self.tick < self.scenario.ticks:
            crashed = all(write <= self.applier.count for write in self.crash_at)
            if crashed and self.trail[-1] == undisturbed.trail[self.tick - 1]:
                return True
            self._user()
            self.resume()
        self._end()
        return False

    def _end(self) -> Explorer:
        assert not self.pending, f"{len(self.pending)} acts of the scenario never had their moment"
        self._check_rest()
        return self

    def until(self, when: Callable[[Explorer], bool], *, within: int = 60) -> Explorer:
        """Goes on until it is so, at the start of a tick."""
        end = self.tick + within
        while not when(self):
            assert self.tick < end, f"{within} ticks were not enough; {self.told()}"
            self._user()
            self.resume()
        return self

    def go(self, ticks: int) -> Explorer:
        return self.run_to(self.tick + ticks)

    def settle(self, *, within: int = 150) -> Explorer:
        """Hands off: it comes to rest, stays there for a while, and writes nothing any more."""
        quiet, end = 0, self.tick + within
        while quiet < QUIET_TICKS:
            assert self.tick < end, f"no rest within {within} ticks; {self.told()}"
            self._user()
            self.resume()
            moves = self.pending or (self.model is not None and not self.settled())
            quiet = 0 if moves else quiet + 1
        return self._end()

    def told(self) -> str:
        """What the model says about itself, and what was written last."""
        said = {c.type: (c.status, c.reason, c.message) for c in self.status.conditions if c.type in SUMMARY}
        return f"{said}, rollout {self.rollout}, {self.cluster.log[-8:]}"

    # --- what happens to it ------------------------------------------------------------------------------------------

    def grace(self, ticks: int) -> None:
        self.graceful = self.tick + ticks

    def take_over(self) -> None:
        """A standby leads. Its watches may be behind, but it lists all before it decides (`runtime.leadership`)."""
        self.operator = Operator(self.cluster, self.nature, self.applier)

    def absence(self, seconds: int, *, stride: int = 3600) -> None:
        """So long no operator runs; then one starts from nothing."""
        for _ in range(seconds // stride):
            self.nature.tick()
            self.cluster.end_tick()
            self.cluster.now = later(self.cluster.now, stride - 1)
        self.operator = Operator(self.cluster, self.nature, self.applier)

    def idle(self, seconds: int, *, stride: int = 3600) -> None:
        """So long nothing happens, with the operator running: it wakes when something is due."""
        for _ in range(seconds // stride):
            self.go(1)
            self.cluster.now = later(self.cluster.now, stride - 1)

    def run_to(self, tick: int) -> Explorer:
        """Only so far, to look at what is in the middle."""
        while self.tick < tick:
            self._user()
            self.resume()
        return self

    def resume(self) -> None:
        """The rest of a tick, from where the operator (re)starts."""
        self._operate()
        self.nature.tick()
        self.check()
        self.cluster.end_tick()
        self.tick += 1
        self.trail.append(self._moment())

    def _moment(self) -> Moment:
        return Moment(
            objects=dict(self.cluster.objects),
            version=self.cluster.version,
            counts=dict(self.nature.counts),
            trained=dict(self.nature.trained),
            due=dict(self.operator.due),
            pending=len(self.pending),
            seen=(self.was_serving, tuple(self.aborting.items()), frozenset(self.promoted), self.nature.moment()),
        )

    def _user(self) -> None:
        while self.pending and self.pending[0].when(self):
            self.pending.pop(0).act(self)

    def _operate(self) -> None:
        while True:
            try:
                return self.operator.run()
            except Crash:
                self.operator = Operator(self.cluster, self.nature, self.applier)
            except LostLease:
                self._outlive()

    def _outlive(self) -> None:
        """I9: whatever an old leader still tries, it writes nothing. Then another one starts from nothing."""
        before = self.applier.count
        for key in (*self.operator.queue, *self.operator.store.all_roots()):
            with contextlib.suppress(LostLease):
                self.cluster.drive(self.operator.reconciler.reconcile(key))
        assert self.applier.count == before, f"I9: {self.cluster.log[before - self.applier.count :]}"
        self.applier.take_over()
        self.operator = Operator(self.cluster, self.nature, self.applier)

    def _check_rest(self) -> None:
        """I8: at rest nothing is written, not even after a restart that lists everything anew."""
        before = self.applier.count
        self._operate()
        self._check_cache()
        self.operator = Operator(self.cluster, self.nature, self.applier)
        self._operate()
        assert self.applier.count == before, f"I8: {self.cluster.log[before - self.applier.count :]}"

    def _check_cache(self) -> None:
        """Whatever was planned with them: the objects of the cache, whose parts are shared, are as they were put in."""
        compared = 0
        for where, obj in self.cluster.objects.items():
            known = self.operator.store.get(where)
            if known is not None and known["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
                untouched = Store()
                untouched.apply_event(None, obj)
                assert known == untouched.get(where), f"the cache's {where} was changed"
                compared += 1
        assert compared or not self.cluster.objects, "the cache holds nothing of the cluster"

    # --- what can be asked -------------------------------------------------------------------------------------------

    @property
    def model(self) -> Obj | None:
        return self.cluster.get("MLModel", MODEL)

    @property
    def status(self) -> MLModelStatus:
        """Of a model whose status somebody has spoiled: none."""
        try:
            return MLModelStatus.model_validate((self.model or {}).get("status") or {})
        except ValidationError:
            return MLModelStatus.model_validate({})

    @property
    def rollout(self) -> Obj | None:
        found: Obj | None = ((self.model or {}).get("status") or {}).get("rollout")
        return found

    @property
    def live(self) -> str:
        """The run that is live, as the status tells it."""
        return self.status.versions.live.run if self.status.versions.live else ""

    @property
    def selector(self) -> dict[str, str]:
        service = self.cluster.get("Service", MODEL)
        return dict(service["spec"]["selector"]) if service else {}

    def outcome(self, run: str) -> tuple[str, str]:
        """(Promoted or RolledBack, reason)"""
        obj = self.cluster.get("TrainingRun", run)
        return records.outcome(obj) if obj else ("", "")

    def condition(self, kind: str, *, of: Obj | None = None) -> tuple[str, str, str]:
        """(status, reason, message) of the model's condition, or of another object's."""
        conditions = (((of or self.model) or {}).get("status") or {}).get("conditions") or ()
        return next(((c["status"], c["reason"], c["message"]) for c in conditions if c["type"] == kind), ("", "", ""))

    def phase(self, phase: Phase, step: int | None = None) -> bool:
        rollout = self.status.rollout
        return rollout is not None and rollout.phase is phase and (step is None or rollout.step == step)

    def settled(self) -> bool:
        ready = {c.type: c for c in self.status.conditions}.get("Ready")
        stalled = any(c.type == "Stalled" for c in self.status.conditions)
        current = self.status.observed_generation == (self.model or {"metadata": {}})["metadata"].get("generation")
        return ready is not None and current and (ready.status == "True" or stalled)

    def _service(self) -> Obj | None:
        """The one that users call, once it is this model's: of one that was deleted some may be left for a moment."""
        service = self.cluster.get("Service", MODEL)
        mine = service and self.model and controller_uid(service) == self.model["metadata"]["uid"]
        return service if mine else None

    @property
    def promoted_digest(self) -> str:
        """Of the version that a record under the operator's seal says is live by evidence, "" if none is."""
        return records.promoted_digest(self.model, self._service()) if self.model else ""

    def final(self) -> dict[str, Any]:
        """The end state without what names moments: times, ids, resource versions."""
        outcomes = {}
        for run in self.cluster.of_kind("TrainingRun"):
            outcomes[run["metadata"]["name"]] = (run["status"]["phase"], *records.outcome(run))
        rollout = self.status.rollout
        services = {
            s["metadata"]["name"]: (s["spec"]["selector"], records.record(s)) for s in self.cluster.of_kind("Service")
        }
        return {
            "runs": outcomes,
            "deployments": {d["metadata"]["name"]: d["spec"]["replicas"] for d in self.cluster.of_kind("Deployment")},
            "services": services,
            "conditions": [(c.type, c.status, c.reason) for c in self.status.conditions],
            "rollout": rollout and (rollout.run, rollout.phase, rollout.step, rollout.weight, rollout.attempt),
            "stage": self.status.stage,
            "history": [(h.run, h.outcome, h.reason) for h in self.status.history],
            "routes": sorted(r.weight for r in self._routes().values() if r.weight),
        }

    def _routes(self) -> dict[str, Route]:
        found = {}
        for pod in self.cluster.of_kind("Pod"):
            if route := route_of(pod):
                found[pod["metadata"]["name"]] = route
        return found

    # --- invariants --------------------------------------------------------------------------------------------------

    def _written(self, what: Action | Obj) -> None:
        if isinstance(what, Annotate) and target(what).kind == "Pod":
            self._check_weight(what)
        if isinstance(what, dict) and (what.get("rollout") or {}).get("phase") == Phase.ROLLING_BACK:
            self.aborting.setdefault(what["rollout"]["id"], self.cluster.monotonic)
        self.check()

    def check(self) -> None:
        """I1, I3, I4, I6, I7, I11, I13 at this very moment."""
        if self.model is None:
            return
        self._check_serving()
        self._check_promotion()
        self._check_rejections()
        for rollout, since in self.aborting.items():
            routed = [r for r in self._routes().values() if r.window.startswith(rollout) and r.weight > 0]
            late = (self.cluster.monotonic - since).total_seconds() > self.abort_ticks
            assert not (routed and late), f"I6: {rollout} still routes {routed}"
        assert all(n == 1 for n in self.nature.trained.values()), f"I7: trained {self.nature.trained}"

    def _check_weight(self, action: Annotate) -> None:
        """I2: no route asks for more than the step recorded before, or for another digest. I3 of the canary."""
        route = Route.from_json(action.annotations.get(ROUTE_ANNOTATION) or "")
        if route is None or route.weight == 0:
            return
        self.routed.append((self.tick, route.canary_digest, route.weight))
        rollout = self.status.rollout
        assert rollout is not None, f"I2: weight {route.weight} without a rollout"
        assert rollout.phase in (Phase.SHIFTING, Phase.PROMOTING), f"I2: weight {route.weight} in {rollout.phase}"
        assert route.weight <= rollout.weight, f"I2: weight {route.weight} > {rollout.weight}"
        assert route.canary_digest == rollout.digest, "I2: another digest"
        canary = self.nature.selected(f"{MODEL}-canary")
        ready, needed = sum(map(self._there, canary)), self.scenario.replicas * route.weight / 100
        assert ready >= needed, f"I3: weight {route.weight} before its capacity: {ready} of {needed} replicas are ready"

    def _check_serving(self) -> None:
        """I1 and I3: who served goes on serving, with the capacity that the spec asks for. I11: out of a Deployment
        of that size. Pods that nature keeps from being ready are not missed: nobody took them away."""
        selected = self.nature.selected(MODEL) if self._service() else []
        if self.scenario.replicas and sum(map(is_ready, selected)) >= self.scenario.replicas:
            self.was_serving = True
        if not self.was_serving or self.tick <= self.graceful:
            return
        there = sum(map(self._there, selected))
        there += self.nature.lost(MODEL) if there < self.scenario.replicas else 0
        assert there, f"I1: no ready endpoint; {self.cluster.log[-5:]}"
        assert there >= self.scenario.replicas, f"I3: {there} ready; {self.cluster.log[-5:]}"
        selector = self.selector.items()
        sizes = [
            d["spec"]["replicas"]
            for d in self.cluster.of_kind("Deployment")
            if selector <= d["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert sum(sizes) >= self.scenario.replicas, f"I11: {sizes} replicas asked for; {self.cluster.log[-5:]}"

    def _there(self, pod: Obj) -> bool:
        return is_ready(pod) or self.nature.excused(pod)

    def _check_rejections(self) -> None:
        """I13: who rejects a good version has been told nothing about it."""
        if self.nature.requests_per_tick < REQUESTS_PER_TICK:
            return  # too few users to tell: who asks for `onInconclusive: Rollback` wants that said of the version
        history = ((self.model or {}).get("status") or {}).get("history") or ()
        ends = [(h.get("run"), h.get("digest"), h.get("outcome"), h.get("reason")) for h in history]
        for run in self.cluster.of_kind("TrainingRun"):
            digest = ((run.get("status") or {}).get("artifact") or {}).get("digest", "")
            ends.append((run["metadata"]["name"], digest, *records.outcome(run)))
        for name, digest, result, reason in ends:
            if result != "RolledBack" or not digest or reason in BY_A_PERSON or name in self.nature.guilty:
                continue
            assert Behaviour.of(digest).kind != "good", f"I13: {name} was rejected: {reason}; {self.cluster.log[-5:]}"

    def _accepts_any_interface(self) -> bool:
        """Also before there is anything that it could differ from."""
        objectives = (self.model or {"spec": {}})["spec"].get("objectives") or {}
        return not self.promoted or objectives.get("interface") == "Any"

    def _check_promotion(self) -> None:
        """I4: a digest is marked as promoted only after a Pass for exactly that digest was recorded."""
        digest = self.promoted_digest
        if not digest or digest in self.promoted:
            return
        rollout = self.status.rollout
        assert rollout is not None and rollout.digest == digest, f"I4: {digest} promoted, rollout is {rollout}"
        assert rollout.phase is Phase.PROMOTING, f"I4: promoted in {rollout.phase}"
        kinds = (
            "good",
            "uncharted",
            "latefailing",
            "latecrashing",
            *(("renamed",) if self._accepts_any_interface() else ()),
        )
        assert Behaviour.of(digest).kind in kinds, f"I4: {Behaviour.of(digest)} was promoted"
        told = rollout.step < 0 or self.nature.carried.get(digest, 0) > 0
        assert told, f"I13: {digest} was promoted although nobody has asked it anything"
        self.promoted.add(digest)

"""A phase of a rollout: a value with what it proves, what it wants, and how it decides.

    wanted(c)   what must exist and be in force while the phase lasts. It only depends on the context, never on what
                was decided, so it is the same before and after a crash.
    decide(c)   Stay, To another recorded state, Fail, Inconclusive or Done. A decision that changes the record is
                written first, alone and locked; the next reconcile carries it out.

What a phase has shown is a finding in the record of the rollout. Conditions are looked up there, never inferred from
which phase comes after which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final

from ...api.conditions import ConditionType, Finding, Reason, parse_time, rfc3339
from ...api.mlmodel import Phase, RolloutFinding, RolloutStatus
from ...api.objectives import ServingObjective
from .. import record
from ..children.serving import ServingSpec, leads_to_pods, selector
from ..naming import baseline_name, canary_name
from ..observed import pods as podview
from ..observed.model import ObservedModel, Run, candidate_of
from ..plan import WATCH_SECONDS, Action, EventNote, Explain, Obj
from ..policy import Policy
from ..record import Version
from ..routing.router import Router, Share

CLOCK_SKEW_SECONDS: Final = 30.0
"""By how much the clocks of two replicas may differ without a meaning."""
_OF_THE_SPEC: Final = (Reason.UNKNOWN_RUN, Reason.ROUTER_REFUSES)
"""What stalls a model at once, whatever its rollout has waited for."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that a phase may know."""

    world: ObservedModel
    rollout: RolloutStatus
    router: Router
    serving: ServingSpec
    policy: Policy
    now: datetime

    @property
    def candidate(self) -> Version:
        return candidate_of(self.rollout)

    @property
    def live(self) -> Version | None:
        return self.world.live

    @cached_property
    def run(self) -> Run | None:
        """That of the candidate; None if it is gone, or made again under the same name.

        A status is a projection: while it is lost, the sealed result says what the run has made.
        """
        run = self.world.runs.get(self.rollout.run)
        if run is None or run.version == self.candidate:
            return run
        kept = None if run.finished else record.run_result(run.obj, self.policy)
        return run if kept and kept.artifact and kept.artifact.digest == self.rollout.digest else None

    @property
    def objective(self) -> ServingObjective:
        return self.world.spec.objectives.serving

    @property
    def replicas(self) -> int:
        return self.world.spec.serving.replicas

    @property
    def in_place(self) -> bool:
        """The candidate is already live (as an experiment) and only has to earn its promotion."""
        return self.live == self.candidate

    @property
    def seconds(self) -> float:
        """Since this phase or step began. A wall clock that jumped back makes none of it negative."""
        return max(0.0, (self.now - parse_time(self.rollout.phase_time)).total_seconds())

    @property
    def ahead_of_the_clock(self) -> bool:
        """The phase began in the future: the wall clock was set back since, and the phase is timed anew from now."""
        return (parse_time(self.rollout.phase_time) - self.now).total_seconds() > CLOCK_SKEW_SECONDS

    @property
    def retried(self) -> bool:
        """A user has set another `steeltown.dev/retry` on the run since this rollout, or its last attempt, began."""
        run = self.world.runs.get(self.rollout.run)
        return run is not None and run.retry != (self.rollout.retry or "")

    @property
    def deadline_seconds(self) -> int:
        return self.world.spec.rollout.progress_deadline_seconds

    @property
    def late(self) -> bool:
        """While the brake is on no deadline passes, nor before this process has watched for a while."""
        watched = self.world.watched_seconds >= min(self.deadline_seconds, WATCH_SECONDS) or self._was_late
        return self.seconds >= self.deadline_seconds and watched and not self.world.spec.frozen

    @property
    def _was_late(self) -> bool:
        """The status says that the rollout is held: whoever wrote that had watched long enough."""
        told = (k.reason for k in self.world.status.conditions if k.type == ConditionType.STALLED)
        return any(reason not in _OF_THE_SPEC for reason in told)

    @property
    def until_deadline(self) -> float | None:
        watch = min(self.deadline_seconds, WATCH_SECONDS) - self.world.watched_seconds
        left = max(self.deadline_seconds - self.seconds, watch)
        return max(0.5, left) if left > 0 else None

    @cached_property
    def candidate_pods(self) -> list[Obj]:
        """Those that load it for this rollout: an experiment that is live is tried on a fresh Pod."""
        return self.world.pods_of(self.candidate, "baseline" if self.in_place else "serving")

    @property
    def candidate_ready(self) -> bool:
        return any(podview.is_ready(p) for p in self.candidate_pods)

    @property
    def candidate_failure(self) -> tuple[str, str] | None:
        """(reason, message) of a fault of the model itself. A Pod that is ready has got over its own."""
        pods = (p for p in self.candidate_pods if not podview.is_ready(p))
        return next((f for p in pods if (f := podview.load_failure(p))), None)

    @property
    def canary_is_reachable(self) -> bool:
        """The Service by which the canary is reached is ours and selects it: it may have been refused."""
        return self._leads_to(canary_name(self.world.name), self.candidate, "serving")

    @property
    def load_check_is_reachable(self) -> bool:
        """So are those by which a load check reaches its two sides."""
        beside = self.live is None or self._leads_to(baseline_name(self.world.name), self.live, "baseline")
        return beside and (self.in_place or self.canary_is_reachable)

    def _leads_to(self, name: str, version: Version, track: str) -> bool:
        service = self.world.services.get(name)
        if service is None or not leads_to_pods(service):
            return False
        return bool(service["spec"].get("selector") == selector(self.world.name, version, track))

    @cached_property
    def baseline_ready(self) -> bool:
        return any(podview.is_ready(p) for p in self.baseline_pods)

    @property
    def baseline_is_broken(self) -> bool:
        """The live version cannot start a fresh Pod, by its own fault."""
        return any(podview.load_failure(p) for p in self.baseline_pods if not podview.is_ready(p))

    @cached_property
    def live_is_broken(self) -> bool:
        """No Pod of the live version answers, and it is the version's own fault: it must not block its fix.

        One that runs may only be busy, however often it has crashed in its life.
        """
        if self.live is None or self.in_place or self.world.ready(self.live):
            return False
        serving = self.world.pods_of(self.live)
        if any(podview.is_ready(p) for p in serving):
            return False
        pods = [*serving, *self.world.pods_of(self.live, "baseline")]
        return any(podview.load_failure(p) for p in pods if not podview.is_running(p, "server"))

    def obstacle(self) -> podview.Obstacle | None:
        """What the platform lacks for the candidate's Pods; it says nothing about the model (I13)."""
        deployment = self.world.baseline if self.in_place else self.world.deployment(self.candidate)
        return _obstacle(self.candidate_pods, deployment)

    def baseline_obstacle(self) -> podview.Obstacle | None:
        """The same for the Pod of the baseline."""
        return _obstacle(self.baseline_pods, self.world.baseline)

    def running_seconds(self, pods: list[Obj]) -> float:
        """For how long the server that began first has run, of those that do not answer yet."""
        return max((podview.running_seconds(p, "server", self.now) for p in pods), default=0.0)

    @property
    def baseline_pods(self) -> list[Obj]:
        return self.world.pods_of(self.live, "baseline") if self.live else []


def _obstacle(pods: list[Obj], deployment: Obj | None) -> podview.Obstacle | None:
    blocked = next((b for p in pods if (b := podview.obstacle(p))), None)
    if blocked:
        return blocked
    if any(podview.is_running(p, "server") for p in pods):
        return None
    if pods:
        told = "container server has not started"
    else:
        conditions = ((deployment or {}).get("status") or {}).get("conditions") or ()
        failed = next((c.get("message") for c in conditions if c["type"] == "ReplicaFailure"), None)
        told = str(failed or "the Deployment has no Pods")
    return podview.Obstacle(reason=Reason.CAPACITY_MISSING, message=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Children and share that a phase asks for.

    candidate: replicas of the candidate's own Deployment, None = it has none. baseline: one fresh Pod of the live
    version, for the load check. keep: versions that stay at full capacity. live: what the Service must select.
    grants: `live` is so by the evidence of this rollout. share: traffic to the canary, None = no share and no window.
    actions: what this phase makes but once: a Job, a record. observe: read what is counted under `share`. route_first:
    the share is cut before anything else is touched.
    """

    candidate: int | None = None
    canary_service: bool = False
    baseline: bool = False
    keep: tuple[Version, ...] = ()
    live: Version | None = None
    grants: bool = False
    share: Share | None = None
    actions: tuple[Action, ...] = ()
    observe: bool = False
    route_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Nothing to record. held: (reason, message) why a person may have to look.

    blocked: what keeps the work of the phase from starting, as far as is known; its time has not passed yet. explain:
    objects whose Events may tell more.
    """

    requeue_after: float | None = None
    held: tuple[str, str] | None = None
    blocked: podview.Obstacle | None = None
    explain: tuple[Explain, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class To:
    """Record `rollout` and go on from there.

    forward: it moves the rollout on, so the brake holds it back. A look that was taken, or a measurement that is void,
    is recorded also while the brake is on: forgotten, the one would be taken again, the other be believed.
    """

    rollout: RolloutStatus
    forward: bool = True
    events: tuple[EventNote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Harm is shown. failed: the condition that is False, None = none was judged. ending: see `RolloutStatus`."""

    reason: str
    message: str
    failed: ConditionType | None = None
    ending: str = "RolledBack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inconclusive:
    """The time for evidence is over and there is none. platform: what is missing says nothing about the model, so the
    rollout waits for the platform whatever `onInconclusive` says."""

    reason: str
    message: str
    platform: bool = False
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The rollout is over. result: Promoted, RolledBack, Withdrawn or Superseded."""

    result: str
    reason: str


Decision = Stay | To | Fail | Inconclusive | Done


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPhase:
    """name: as recorded. proves: the condition that it shows, None = it shows none. interruptible: a withdrawn request
    or a deleted run ends it; later the evidence is in and the rollout ends first."""

    name: Phase
    proves: ConditionType | None
    interruptible: bool
    wanted: Callable[[Context], Wanted]
    decide: Callable[[Context], Decision]


# --- recording -------------------------------------------------------------------------------------------------------


def found(rollout: RolloutStatus, kind: ConditionType, finding: Finding) -> RolloutStatus:
    """The rollout, with this finding in the place of an older one about the same condition."""
    new = RolloutFinding(type=kind.value, status=finding.status, reason=finding.reason, message=finding.message[:1000])
    others = [f for f in rollout.findings if f.type != kind.value]
    return rollout.model_copy(update={"findings": [*others, new]})


def finding_of(rollout: RolloutStatus, kind: ConditionType) -> RolloutFinding | None:
    return next((f for f in rollout.findings if f.type == kind.value), None)


def enter(c: Context, phase: Phase, rollout: RolloutStatus | None = None, **update: object) -> To:
    """Record the next phase or step, with fresh looks, from now on."""
    start = {
        "phase": phase,
        "phase_time": rfc3339(c.now),
        "fail_look": 0,
        "pass_look": 0,
        "restarts": 0,
        "disturbed": False,
    }
    return To(rollout=(rollout or c.rollout).model_copy(update={**start, **update}))


def enter_disturbed(c: Context) -> To:
    """Pods that are not ours took part: whatever is measured until they are gone is void."""
    return replace(enter(c, c.rollout.phase, disturbed=True, restarts=c.rollout.restarts), forward=False)

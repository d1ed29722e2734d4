"""The MLModel planner: which version should be live, and the next safe move towards it.

    runs -> next version -> (Experimental: serve it; Production: roll it out on evidence) -> children, share, status

Without a rollout in flight everything follows from the cluster and its records alone. A rollout adds one recorded
intent, `status.rollout`; see `rollout`. What a phase wants becomes the least set of requests here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final

from pydantic import ValidationError

from ..api.conditions import ConditionType, Reason, build, false, rfc3339, true
from ..api.mlmodel import HistoryEntry, MLModelSpec, MLModelStatus, Phase, Retention, RolloutStatus
from . import rollout as rollouts
from .children import serving
from .children.changes import apply_if_changed
from .children.prune import unwanted
from .children.serving import ServingSpec
from .history import expire
from .naming import baseline_name, canary_name, deployment_name
from .new_runs import new_run
from .observed.model import ObservedModel, Run, candidate_of, read_status
from .plan import Action, Create, EventNote, Obj, Plan, Snapshot, Target, target
from .policy import Policy
from .record import PROMOTED, LiveRecord, Version
from .rollout import Context, Done, Stay, To, Wanted
from .rollout.phase import finding_of
from .routing import router_for
from .routing.router import Router
from .status import Standing, conclude

HISTORY_LENGTH: Final = 20


def plan_model(snapshot: Snapshot, now: datetime, policy: Policy) -> Plan:
    """Plan for one MLModel. Total: an unreadable spec becomes a condition."""
    root = snapshot.root
    if "deletionTimestamp" in root["metadata"]:
        return Plan()
    status = read_status(root)
    try:
        spec = MLModelSpec.model_validate(root["spec"])
    except ValidationError as error:
        return _invalid(root, status, now, error)
    world = ObservedModel.of(snapshot, spec, status, now, policy)
    return _Planner(world=world, snapshot=snapshot, now=now, policy=policy).plan()


@dataclass(frozen=True, kw_only=True)
class _Planner:
    world: ObservedModel
    snapshot: Snapshot
    now: datetime
    policy: Policy

    def plan(self) -> Plan:
        rollout = self.world.rollout
        if rollout is None:
            candidate = self.world.candidate if self.world.production else None
            if candidate and candidate.version and not self.world.spec.frozen and not self._refused_by_router:
                return self._record(To(rollout=rollouts.begin(candidate.version, self.now, retry=candidate.retry)))
            return self._carry_out(None, self._settle(), Stay())
        context = self._context(rollout)
        decision = rollouts.decide(context)
        if isinstance(decision, Stay):
            return self._carry_out(rollout, rollouts.wanted(context), decision)
        return self._record(decision)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _settle(self) -> Wanted:
        """Without a rollout: in Experimental the newest version is served as soon as it is ready to be."""
        world = self.world
        live, target = world.live, None if world.production or world.spec.frozen else world.next_experiment
        want = target.version if target else live
        if want is None:
            return Wanted()
        if want == live or live is None:
            return Wanted(keep=(want,), live=want)
        return Wanted(keep=(live, want), live=want if world.full(want) else live)

    def _context(self, rollout: RolloutStatus) -> Context:
        return Context(
            world=self.world,
            rollout=rollout,
            router=self._router,
            serving=self._serving,
            policy=self.policy,
            now=self.now,
        )

    @cached_property
    def _router(self) -> Router:
        return router_for(self.world.spec)

    @cached_property
    def _refused_by_router(self) -> str:
        return self._router.refuses(self.world.spec)

    @cached_property
    def _serving(self) -> ServingSpec:
        return serving.serving_spec(self.world.name, self.world.spec, self.policy)

    # --- recording ---------------------------------------------------------------------------------------------------

    def _record(self, decision: To | Done) -> Plan:
        """Record what comes next, and nothing else: whoever restarts after this write knows what to do."""
        before, history, retention = self.world.rollout, self.world.status.history, self.world.status.retention
        if isinstance(decision, Done):
            assert before is not None
            history = [self._entry(before, decision), *history][:HISTORY_LENGTH]
            status = self._status(None, self.world.record, Stay(), history=history, retention=retention)
            return Plan(status=status, locked=True)
        status = self._status(decision.rollout, self.world.record, Stay(), history=history, retention=retention)
        again = 1.0 if status is None else None  # the same record within one second of the clock
        return Plan(status=status, locked=True, events=decision.events, requeue_after=again)

    def _entry(self, rollout: RolloutStatus, done: Done) -> HistoryEntry:
        shown = finding_of(rollout, ConditionType.CANARY_PASSED)
        run = self.world.runs.get(rollout.run)
        message = (shown.message if shown else "") if done.result == PROMOTED else (rollout.message or "")
        return HistoryEntry(
            time=rollout.phase_time if done.reason == Reason.RUN_DELETED else rfc3339(self.now),
            run=rollout.run,
            digest=rollout.digest,
            outcome=done.result,
            reason=done.reason,
            message=message[:500],
            retry=(run.retry or None) if run else None,
            findings=rollout.findings,
        )

    # --- carrying out ------------------------------------------------------------------------------------------------

    def _carry_out(self, rollout: RolloutStatus | None, wanted: Wanted, stay: Stay) -> Plan:
        rolling_back = rollout is not None and rollout.phase is Phase.ROLLING_BACK
        record = self._live_record(wanted)
        made, ask_again = new_run(self.world, self.now)
        expiry = expire(self.world, self._serving, self.policy)
        share = self._router.actions(self.world, wanted.share)
        switch, children = self._switch(record), self._children(rollout, wanted)
        ordered = (*switch, *share, *children) if wanted.route_first else (*children, *switch, *share)
        after = tuple(target(a) for a in switch)
        records = tuple(replace(a, after=(*a.after, *after)) for a in wanted.actions)
        pruned = tuple(replace(a, after=after) for a in self._prune(rollout, wanted))
        actions = (*made, *ordered, *records, *pruned, *expiry.actions)
        if self.world.spec.frozen and not rolling_back:
            made, actions = (), switch if self.world.service is None else ()
        waits = [w for w in (stay.requeue_after, ask_again, expiry.requeue_after) if w is not None]
        history, retention = self.world.status.history, expiry.retention
        return Plan(
            actions=actions,
            status=self._status(
                rollout,
                self._told_record(record),
                stay,
                history=history,
                retention=retention,
                wanted=wanted,
                made=made,
            ),
            events=expiry.events,
            requeue_after=min(waits, default=None),
            observe=self._router.observe(self.world, wanted.share) if wanted.share and wanted.observe else (),
            explain=(*stay.explain, *expiry.explain),
        )

    def _children(self, rollout: RolloutStatus | None, wanted: Wanted) -> tuple[Action, ...]:
        world, root, spec = self.world, self.world.root, self._serving
        replicas = dict.fromkeys(wanted.keep, world.spec.serving.replicas)
        candidate = candidate_of(rollout) if rollout else None
        if candidate and wanted.candidate is not None:
            replicas[candidate] = max(wanted.candidate, replicas.get(candidate, 0))
        actions: list[Action] = []
        for version, count in replicas.items():
            intent = serving.deployment(root, spec, version, count, self.policy)
            actions += apply_if_changed(intent, world.deployment(version))
        if candidate and wanted.canary_service:
            intent = serving.canary_service(root, world.name, candidate)
            actions += apply_if_changed(intent, world.services.get(canary_name(world.name)))
        if wanted.baseline and world.live:
            intent = serving.baseline_deployment(root, spec, world.live, self.policy)
            actions += apply_if_changed(intent, world.baseline)
            intent = serving.baseline_service(root, world.name, world.live)
            actions += apply_if_changed(intent, world.services.get(baseline_name(world.name)))
        return tuple(actions)

    def _live_record(self, wanted: Wanted) -> LiveRecord | None:
        """What the Service will say: the same as now, or one switch more."""
        now, live = self.world.record, wanted.live
        if live is None:
            return now
        if now is not None and now.live == live:
            promoted = wanted.grants or self.world.promoted
            previous = now.previous if now.previous != live else None
            rows = now.rows if now.rows is not None else self.world.rows(live)
            return replace(now, promoted=promoted, previous=previous, created=self.world.created(live), rows=rows)
        if not self._may_select(live):
            return now
        return LiveRecord(
            live=live,
            promoted=wanted.grants or self.world.was_promoted(live),
            previous=now.live if now else None,
            created=self.world.created(live),
            rows=self.world.rows(live),
            switches=(now.switches if now else self.world.status.switches) + 1,
        )

    def _told_record(self, record: LiveRecord | None) -> LiveRecord | None:
        """What the status may say: a switch that was refused has not happened."""
        service = Target("Service", self.world.namespace, self.world.name)
        return self.world.record if any(r.target == service for r in self.snapshot.refusals) else record

    def _may_select(self, version: Version) -> bool:
        """Traffic follows capacity, whoever asks for the switch: what answers users is only left for what can (I1)."""
        world = self.world
        if world.service is None or world.selected == version.id or world.ready(version):
            return True
        answering = (d for d in world.deployments.values() if world.selects(d))
        return not any(int((d.get("status") or {}).get("readyReplicas", 0)) for d in answering)

    def _switch(self, record: LiveRecord | None) -> tuple[Action, ...]:
        if record is None or not self._may_select(record.live):
            return ()
        actual = self.world.service
        service = serving.live_service(self.world.root, self.world.name, record, self.policy, actual)
        return apply_if_changed(service, actual)

    def _prune(self, rollout: RolloutStatus | None, wanted: Wanted) -> tuple[Action, ...]:
        """The live version always stays, and so does what the Service selects."""
        world = self.world
        deployments = {deployment_name(world.name, v.id) for v in (*wanted.keep, wanted.live, world.live) if v}
        services = {world.name}
        if rollout and wanted.candidate is not None:
            deployments.add(deployment_name(world.name, candidate_of(rollout).id))
        if wanted.canary_service:
            services.add(canary_name(world.name))
        if wanted.baseline:
            deployments.add(baseline_name(world.name))
            services.add(baseline_name(world.name))
        return unwanted(world, deployments=deployments, services=services)

    # --- telling -----------------------------------------------------------------------------------------------------

    def _status(
        self,
        rollout: RolloutStatus | None,
        record: LiveRecord | None,
        stay: Stay,
        *,
        history: list[HistoryEntry],
        retention: Retention | None,
        wanted: Wanted | None = None,
        made: tuple[Create, ...] = (),
    ) -> Obj | None:
        """The status to write, None if it stands there already. made: TrainingRuns of this plan's actions."""
        world = self.world
        if made and not self.snapshot.refusals:
            new = {create.body["metadata"]["name"]: Run(create.body, self.policy) for create in made}
            world = replace(world, runs={**world.runs, **new})
        if rollout and wanted and wanted.share and wanted.observe:
            weight = self._router.measured(world, wanted.share).weight
            rollout = rollout.model_copy(update={"observed_weight": weight}) if weight is not None else rollout
        if history is not world.status.history:
            world = replace(world, status=world.status.model_copy(update={"history": history}))
        standing = Standing(
            world=world,
            rollout=rollout,
            record=record,
            promoted=record is not None and (record.promoted or world.was_promoted(record.live)),
            held=stay.held,
            blocked=stay.blocked,
            refusals=self.snapshot.refusals,
            refused_by_router=self._refused_by_router,
        )
        written = conclude(standing, history, retention, self.now).dump()
        return written if written != self.world.status.dump() else None


def _invalid(root: Obj, status: MLModelStatus, now: datetime, error: ValidationError) -> Plan:
    first = error.errors()[0]
    message = (
        f"invalid spec.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}: correct it; serving is not affected"
    )
    generation = root["metadata"]["generation"]
    findings = {
        ConditionType.READY: false(Reason.INVALID_SPEC, message),
        ConditionType.STALLED: true(Reason.INVALID_SPEC, message),
    }
    wanted = status.model_copy(
        update={
            "observed_generation": generation,
            "conditions": build(findings, before=status.conditions, generation=generation, now=now),
        }
    ).dump()
    note = EventNote(type="Warning", reason=Reason.INVALID_SPEC, message=message)
    return Plan(status=wanted, events=(note,)) if wanted != status.dump() else Plan()

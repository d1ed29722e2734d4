"""The MLModel planner: which version should be live, and the next safe move towards it.

    runs -> target -> (Experimental: serve it; Production: roll it out on evidence) -> children, routes, status

Without a rollout in flight everything follows from the world alone. A rollout adds one recorded intent,
`status.rollout`; see `rollout`. What a move asks for becomes the least set of requests here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from ..api.conditions import ConditionType, Reason, build, false, rfc3339, true
from ..api.mlmodel import HistoryEntry, MLModelSpec, MLModelStatus, Phase, RolloutStatus
from ..contract.evidence import ROUTE_ANNOTATION, Route
from . import rollout as rollouts
from .changes import apply_if_changed
from .desired import serving
from .desired.jobs import TEMPLATE_ANNOTATION, run_from_template
from .desired.serving import PORT, TRACK_LABEL, ServingSpec, Version
from .judge.verdict import Limits
from .naming import baseline_name, canary_name, deployment_name, run_name, short_hash
from .plan import Action, Annotate, Create, Delete, EventNote, Obj, Observe, Plan, Snapshot
from .policy import Policy
from .rollout import Context, Move
from .summary import Outlook, conclude
from .world import Run, World, candidate_of, is_late, ready_replicas

HISTORY_LIMIT = 20


def plan_model(snapshot: Snapshot, now: datetime, policy: Policy) -> Plan:
    """Plan for one MLModel. Total: an unreadable spec becomes a condition."""
    root = snapshot.root
    if "deletionTimestamp" in root["metadata"]:
        return Plan()
    status = MLModelStatus.model_validate(root.get("status") or {})
    try:
        spec = MLModelSpec.model_validate(root["spec"])
    except ValidationError as error:
        return _invalid(root, status, now, error)
    world = World.of(snapshot, spec, status)
    planner = _Planner(world=world, snapshot=snapshot, now=now, policy=policy)
    return planner.plan()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    world: World
    snapshot: Snapshot
    now: datetime
    policy: Policy

    def plan(self) -> Plan:
        world, rollout = self.world, self.world.rollout
        if rollout is None:
            target = world.target
            if target and not world.spec.frozen and self._wants_rollout(target):
                assert target.version is not None
                return self._intent(Move(next=rollouts.begin(target.version, self.now)))
            return self._effects(None, self._settle())
        if not is_late(rollout) and not world.spec.frozen and (why := self._superseded(rollout)):
            move = Move(next=rollouts.roll_back(rollout, self.now, failed=None, reason=Reason.SUPERSEDED, message=why))
        else:
            context = self._context(rollout)
            move = rollouts.advance(context)
            if world.spec.frozen:
                move = rollouts.braked(context, move)
        return self._intent(move) if move.next or move.done else self._effects(rollout, move)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _wants_rollout(self, target: Run) -> bool:
        world = self.world
        if not world.production or target.rejected or target.eligible.status != "True":
            return False
        return target.version != world.live or not world.promoted

    def _superseded(self, rollout: RolloutStatus) -> str:
        """Why the rollout in flight has lost its point, "" if it has not."""
        target = self.world.target
        if not self.world.production:
            return "promotion is no longer requested"
        if target and target.version == candidate_of(rollout) and target.rejected:
            return f"{target.name} was marked as rejected"
        if target is None or target.version != candidate_of(rollout):
            return f"{target.name if target else 'another version'} is newer" if target else "its TrainingRun is gone"
        return ""

    def _settle(self) -> Move:
        """Without a rollout: in Experimental the newest version is served as soon as it is ready to be.

        Unless it was rolled back before: taking a promotion back must not serve what evidence has rejected.
        """
        world = self.world
        live, target = world.live, world.target
        experiment = target and not world.production and not world.spec.frozen and not target.rejected
        want = target.version if target and experiment else live
        if want is None:
            return Move()
        if want == live or live is None:
            return Move(keep=(want,), switch_to=want)
        ready = ready_replicas(world.deployment(want)) >= world.spec.serving.replicas
        return Move(keep=(live, want), switch_to=want if ready else live)

    def _context(self, rollout: RolloutStatus) -> Context:
        return Context(
            world=self.world,
            rollout=rollout,
            serving=self._serving(),
            limits=limits_of(self.world.spec),
            policy=self.policy,
            now=self.now,
        )

    def _serving(self) -> ServingSpec:
        spec = self.world.spec
        storage = spec.storage
        return ServingSpec(
            model=self.world.name,
            resources=spec.serving.resources,
            store=((storage.uri if storage else None) or self.policy.artifact_store).rstrip("/"),
            secret=(storage.secret_name if storage else None) or self.policy.storage_secret,
            progress_deadline_seconds=spec.rollout.progress_deadline_seconds,
        )

    # --- carrying out ------------------------------------------------------------------------------------------------

    def _intent(self, move: Move) -> Plan:
        """Record what comes next, and nothing else: whoever restarts after this write knows what to do."""
        before = self.world.rollout
        after = None if move.done else move.next
        history = self._history(before, move) if before and move.done else self.world.status.history
        held = Move(
            keep=move.keep,
            switch_to=move.switch_to or self.world.live,
            observed_weight=move.observed_weight,
            held=move.held if after is not None else "",
            held_reason=move.held_reason,
        )
        status = self._status(after, held, history, always=True)
        return Plan(status=status, locked=True, events=move.events)

    def _effects(self, rollout: RolloutStatus | None, move: Move) -> Plan:
        rolling_back = rollout is not None and rollout.phase is Phase.ROLLING_BACK
        routes, switch = self._routes(move), self._switch(rollout, move)
        children = self._children(rollout, move)
        ordered = (*switch, *routes, *children) if rolling_back else (*children, *switch, *routes)
        made = self._template_run()
        actions = (*made, *ordered, *move.actions, *self._prune(rollout, move))
        if self.world.spec.frozen and not rolling_back:
            made, actions = (), switch if self.world.service is None else ()
        return Plan(
            actions=actions,
            status=self._status(rollout, move, self.world.status.history, made=made),
            events=move.events,
            requeue_after=move.requeue_after,
            observe=tuple(_observe(p) for p in move.observe if (p.get("status") or {}).get("podIP")),
        )

    def _template_run(self) -> tuple[Create, ...]:
        """A TrainingRun when the template is not the one that the last run was made from."""
        training = self.world.spec.training
        if training is None or training.template is None or self.world.spec.frozen:
            return ()
        template = training.template.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        fingerprint = short_hash(template)
        made = [(r.obj["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION) for r in self.world.runs]
        last = next((f for f in reversed(made) if f), None)
        if last == fingerprint:
            return ()
        pattern = re.compile(re.escape(self.world.name) + r"-v(\d+)$")
        numbers = [int(m[1]) for r in self.world.runs if (m := pattern.match(r.name))]
        name = run_name(self.world.name, max(numbers, default=0) + 1)
        raw = self.world.root["spec"]["training"]["template"]
        return (Create(run_from_template(self.world.root, name, raw, fingerprint)),)

    def _children(self, rollout: RolloutStatus | None, move: Move) -> tuple[Action, ...]:
        world, root, spec = self.world, self.world.root, self._serving()
        full = world.spec.serving.replicas
        replicas = dict.fromkeys(move.keep, full)
        candidate = candidate_of(rollout) if rollout else None
        if candidate and move.replicas is not None:
            replicas[candidate] = max(move.replicas, replicas.get(candidate, 0))
        actions: list[Action] = []
        for version, count in replicas.items():
            intent = serving.deployment(root, spec, version, count, self.policy)
            actions += apply_if_changed(intent, world.deployment(version))
        if candidate and move.canary_service:
            intent = serving.canary_service(root, world.name, candidate)
            actions += apply_if_changed(intent, world.services.get(canary_name(world.name)))
        if candidate and move.fresh and world.live:
            intent = serving.baseline_deployment(root, spec, world.live, self.policy)
            actions += apply_if_changed(intent, world.baseline)
            intent = serving.baseline_service(root, world.name, world.live)
            actions += apply_if_changed(intent, world.services.get(baseline_name(world.name)))
        return tuple(actions)

    def _switch(self, rollout: RolloutStatus | None, move: Move) -> tuple[Action, ...]:
        if move.switch_to is None:
            return ()
        live, previous = self.world.live, self.world.previous
        before = live if live and live != move.switch_to else previous
        service = serving.live_service(
            self.world.root,
            self.world.name,
            move.switch_to,
            promoted=self._promoted(rollout, move.switch_to),
            previous=before if before != move.switch_to else None,
            created=self.world.created(move.switch_to),
        )
        return apply_if_changed(service, self.world.service)

    def _promoted(self, rollout: RolloutStatus | None, version: Version | None) -> bool:
        """Whether `version` is live by evidence (I4): its recorded outcome, or the Pass that this rollout recorded."""
        if version is None:
            return False
        if version == self.world.live and self.world.promoted:
            return True
        if rollout and rollout.phase is Phase.PROMOTING and version == candidate_of(rollout):
            return ready_replicas(self.world.deployment(version)) >= self.world.spec.serving.replicas
        run = self.world.run(version.run)
        return run is not None and run.version == version and bool(run.outcome and run.outcome.result == "Promoted")

    def _routes(self, move: Move) -> tuple[Action, ...]:
        """The wanted route on every pod of the routed version; no pod of any other keeps a share for a canary (I2)."""
        actions = []
        for pod in self.world.pods:
            meta = pod["metadata"]
            labels = meta.get("labels") or {}
            if labels.get(TRACK_LABEL) != "serving" or "deletionTimestamp" in meta:
                continue
            mine = move.routed is not None and labels.get(serving.VERSION_LABEL) == move.routed.id
            wanted = move.route if mine else None
            text = (meta.get("annotations") or {}).get(ROUTE_ANNOTATION)
            if wanted is None and _harmless(text, self.world.route_of(pod)):
                continue
            if wanted is not None and text == wanted.to_json():
                continue
            value = wanted.to_json() if wanted else None
            actions.append(Annotate("Pod", meta["namespace"], meta["name"], meta["uid"], {ROUTE_ANNOTATION: value}))
        return tuple(actions)

    def _prune(self, rollout: RolloutStatus | None, move: Move) -> tuple[Action, ...]:
        """Children that nothing asks for any more. The live version and what the Service selects always stay."""
        world = self.world
        wanted = {deployment_name(world.name, v.id) for v in (*move.keep, move.switch_to, world.live) if v}
        services = {world.name}
        if rollout and move.replicas is not None:
            wanted.add(deployment_name(world.name, candidate_of(rollout).id))
        if move.canary_service:
            services.add(canary_name(world.name))
        if move.fresh:
            wanted.add(baseline_name(world.name))
            services.add(baseline_name(world.name))
        gone = [d for n, d in world.deployments.items() if n not in wanted]
        gone += [s for n, s in world.services.items() if n not in services]
        return tuple(
            Delete(o["kind"], world.namespace, o["metadata"]["name"], o["metadata"]["uid"])
            for o in gone
            if "deletionTimestamp" not in o["metadata"] and _owned(o, world.root)
        )

    # --- telling -----------------------------------------------------------------------------------------------------

    def _status(
        self,
        rollout: RolloutStatus | None,
        move: Move,
        history: list[HistoryEntry],
        *,
        made: tuple[Create, ...] = (),
        always: bool = False,
    ) -> Obj | None:
        """The status to write, None if it stands there already. made: TrainingRuns of this plan's actions."""
        world = self.world
        if made and not self.snapshot.refusals:
            world = replace(world, runs=(*world.runs, *(Run(create.body) for create in made)))
        if rollout and move.observed_weight is not None:
            rollout = rollout.model_copy(update={"observed_weight": move.observed_weight})
        outlook = Outlook(
            world=world,
            rollout=rollout,
            live=move.switch_to or world.live,
            promoted=self._promoted(rollout, move.switch_to or world.live),
            held=move.held,
            held_reason=move.held_reason,
            refusals=self.snapshot.refusals,
        )
        wanted = conclude(outlook, self.now).model_copy(update={"history": history}).dump()
        return wanted if always or wanted != world.status.dump() else None

    def _history(self, rollout: RolloutStatus, move: Move) -> list[HistoryEntry]:
        promoted = rollout.phase is Phase.BAKING
        outcome = "Promoted" if promoted else "RolledBack" if rollout.failed else "Superseded"
        entry = HistoryEntry(
            time=rfc3339(self.now),
            run=rollout.run,
            digest=rollout.digest,
            outcome=outcome,
            reason=move.done,
            message=((rollout.evidence if promoted else rollout.message) or "")[:500],
        )
        return [entry, *self.world.status.history][:HISTORY_LIMIT]


def limits_of(spec: MLModelSpec) -> Limits:
    objective = spec.objectives.serving
    return Limits(
        error_rate=float(objective.error_rate),
        latency_milliseconds=objective.latency_milliseconds,
        slow_rate=float(objective.slow_rate),
        max_slowdown=float(objective.max_slowdown),
    )


def _harmless(text: str | None, route: Route | None) -> bool:
    """No route, or one that sends nothing away: not worth a write."""
    return not text or (route is not None and route.weight == 0)


def _owned(obj: Obj, root: Obj) -> bool:
    return any(o.get("uid") == root["metadata"]["uid"] for o in obj["metadata"].get("ownerReferences") or ())


def _observe(pod: Obj) -> Observe:
    return Observe(uid=pod["metadata"]["uid"], url=f"http://{pod['status']['podIP']}:{PORT}")


def _invalid(root: Obj, status: MLModelStatus, now: datetime, error: ValidationError) -> Plan:
    first = error.errors()[0]
    message = f"spec.{'.'.join(str(p) for p in first['loc'])}: {first['msg']}: correct it; serving goes on unchanged"
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

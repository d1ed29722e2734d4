"""One reconcile: look, decide, carry out, remember.

Level-triggered: it never asks what happened, only what is. The order of its writes is the crash protocol:
actions one after the other, the status after them, Events last; it may die between any two, and the next
reconcile, in this process or another, starts again from the cluster. After a write the root is woken once
more, so a plan has been carried out exactly when a reconcile finds nothing to do. Routes in a row are of one rank: they
are written at the same time, each behind the fence.

A refusal is an answer: the write has not happened, and holds up only what names it in `after`. A failure is
none: the write may have happened or not, so the pass ends there and the next one looks again.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..core.plan import Action, Annotate, Delete, Key, Obj, Plan, Snapshot, Target, target
from .concurrency import in_turn
from .expectations import Expectations
from .ports import Answer, Applier, Fence, Monotonic, Now, Planners, Recorder, RunAll, Wake
from .refusals import RETRY_SECONDS, Refusals
from .store import Store, target_of, version_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the queue has to know about a reconcile that ended by itself.

    failed: try again with back-off, not before `requeue_after`. Otherwise requeue_after is when time alone
    may change the plan, None = never. writes: requests that were sent.
    """

    requeue_after: float | None = None
    failed: bool = False
    message: str = ""
    writes: int = 0


@dataclass(slots=True)
class _Pass:
    """One reconcile under way.

    held: targets of actions that were refused or left out. waits: seconds until each refused one may be tried.
    unanswered: the API server did not answer a write, or cannot now: no other one is begun.
    end: set by whatever ends it before its plan is carried out.
    """

    key: Key
    id: str
    root: Obj
    writes: int = 0
    held: set[Target] = field(default_factory=set)
    waits: list[float] = field(default_factory=list)
    refused: bool = False
    unanswered: bool = False
    end: Outcome | None = None

    def fields(self) -> dict[str, Any]:
        metadata = self.root["metadata"]
        return log_fields(self.key, self.id) | {"uid": metadata["uid"], "generation": metadata.get("generation")}

    def failed(self, message: str, after: float | None = None) -> Outcome:
        return Outcome(failed=True, message=message, requeue_after=after, writes=self.writes)


def log_fields(key: Key, reconcile_id: str) -> dict[str, Any]:
    """The stable keys that every log line about a reconcile carries."""
    return {
        "controller": key.kind.lower(),
        "namespace": key.namespace,
        "object": key.name,
        "reconcileID": reconcile_id,
    }


NOTHING_LEFT: Final = Outcome()


class Reconciler:
    """Brings one root closer to what its planner wants. The only code that writes to roots and children.

    run_all: how actions that are independent of each other are carried out.
    """

    def __init__(
        self,
        *,
        store: Store,
        planners: Planners,
        policy: Any,
        applier: Applier,
        recorder: Recorder,
        fence: Fence,
        wake: Wake,
        now: Now,
        clock: Monotonic,
        run_all: RunAll = in_turn,
    ) -> None:
        self._run_all = run_all
        self._store = store
        self._planners = planners
        self._policy = policy
        self._applier = applier
        self._recorder = recorder
        self._fence = fence
        self._wake = wake
        self._now = now
        self._clock, self._began = clock, clock()
        self._expectations = Expectations(store=store, clock=clock)
        self._refusals = Refusals(clock=clock)

    def begin(self) -> None:
        """From now on this process decides; see `Snapshot.watched_seconds`."""
        self._began = self._clock()

    async def reconcile(self, key: Key, *, reconcile_id: str = "") -> Outcome:
        """Raises `LostLease` when it may no longer write, and whatever the planner raises."""
        if (wait := self._expectations.wait_seconds(key)) is not None:
            return Outcome(requeue_after=wait)
        snapshot = self._store.snapshot(key, self._refusals.of(key))
        if snapshot is None:
            self._forget(key)
            return NOTHING_LEFT
        under_way = _Pass(key, reconcile_id, snapshot.root)
        plan = self._decide(key, snapshot)
        await self._act(under_way, plan)
        if under_way.end is not None:
            return replace(under_way.end, writes=under_way.writes)
        if under_way.refused:
            # The status must say so within this same reconcile: decide again, knowing it, and do only that.
            again = self._store.snapshot(key, self._refusals.of(key))
            if again is None:
                return NOTHING_LEFT
            under_way.root, plan = again.root, self._decide(key, again)
        return await self._conclude(under_way, plan)

    def _decide(self, key: Key, snapshot: Snapshot) -> Plan:
        watched = replace(snapshot, watched_seconds=self._clock() - self._began)
        plan = self._planners[key.kind](watched, self._now(), self._policy)
        self._store.explain(key, plan.explain)
        self._store.observe(key, plan.observe)
        return plan

    async def _act(self, under_way: _Pass, plan: Plan) -> None:
        """Carries out the actions in order, up to the first that fails.

        What is refused, or must wait after a refusal, holds up only the actions that are `after` it.
        """
        for rank in _ranks(plan.actions):
            await self._run_all([functools.partial(self._carry_out, under_way, action) for action in rank])
            if under_way.end is not None:
                return

    async def _carry_out(self, under_way: _Pass, action: Action) -> None:
        if under_way.unanswered:
            return
        where = target(action)
        if not under_way.held.isdisjoint(action.after):
            under_way.held.add(where)
            return
        if (wait := self._refusals.wait_seconds(under_way.key, where)) is not None:
            under_way.held.add(where)
            under_way.waits.append(wait)
            return
        self._fence()
        under_way.writes += 1
        answer = await self._applier.run(action)
        if answer.result == "refused":
            self._refused(under_way, where, answer)
            under_way.held.add(where)
            under_way.waits.append(RETRY_SECONDS)
            under_way.refused = True
            return
        under_way.unanswered |= answer.result == "transient"
        end = self._take(under_way, action, where, answer)
        if end is not None and (under_way.end is None or end.failed):
            under_way.end = end

    def _take(self, under_way: _Pass, action: Action, where: Target, answer: Answer) -> Outcome | None:
        """Takes over the answer to an action; an Outcome means that the plan no longer stands."""
        if answer.result == "done":
            uid = action.uid if isinstance(action, Annotate | Delete) else ""
            self._done(under_way, where, uid, answer.obj)
            return None
        if answer.result == "stale" and isinstance(action, Annotate | Delete):
            self._wake_all(self._store.forget(where, action.uid))
            if isinstance(action, Delete):
                return None  # gone is what it wanted
            self._wake(under_way.key)
            return Outcome(writes=under_way.writes)
        logger.info("write failed: %s", answer.message, extra=under_way.fields() | {"target": _text(where)})
        return under_way.failed(answer.message, answer.retry_after)

    def _done(self, under_way: _Pass, where: Target, uid: str, obj: Obj | None) -> None:
        if obj is None:
            self._wake_all(self._store.forget(where, uid))
        else:
            self._wake_all(self._store.write_through(obj))
            self._expectations.expect(under_way.key, where, uid=obj["metadata"]["uid"], version=version_of(obj))
        if self._refusals.forget(under_way.key, where):
            self._wake(under_way.key)

    def _refused(self, under_way: _Pass, where: Target, answer: Answer) -> None:
        logger.warning("write refused: %s", answer.message, extra=under_way.fields() | {"target": _text(where)})
        self._refusals.remember(under_way.key, where, answer.message)

    async def _conclude(self, under_way: _Pass, plan: Plan) -> Outcome:
        """Status, then Events, then when to look again."""
        if plan.status is not None:
            end = await self._write_status(under_way, plan.status, locked=plan.locked)
            if end is not None:
                return end
        for note in plan.events:
            self._recorder.record(under_way.root, note)
        wanted = {target(action) for action in plan.actions}
        if plan.status is not None:
            wanted.add(Target(*under_way.key))
        if self._refusals.expire(under_way.key, wanted):
            self._wake(under_way.key)
        # also of one that this plan does not ask for: it is told in the status until it has aged
        waits = (plan.requeue_after, self._refusals.next_wait_seconds(under_way.key), *under_way.waits)
        return Outcome(requeue_after=min((w for w in waits if w is not None), default=None), writes=under_way.writes)

    async def _write_status(self, under_way: _Pass, status: Obj, *, locked: bool) -> Outcome | None:
        root, where = under_way.root, Target(*under_way.key)
        if (wait := self._refusals.wait_seconds(under_way.key, where)) is not None:
            return Outcome(requeue_after=wait, writes=under_way.writes)
        uid = root["metadata"]["uid"]
        if not locked and (newest := self._store.get(where)) is not None and newest["metadata"]["uid"] == uid:
            root = newest
        self._fence()
        under_way.writes += 1
        answer = await self._applier.status(root, status, locked=locked)
        match answer.result:
            case "done":
                self._done(under_way, where, uid, answer.obj)
                return None
            case "stale":
                self._wake_all(self._store.forget(target_of(root), uid))
                return Outcome(writes=under_way.writes)
            case "conflict":
                # Somebody wrote the root since the snapshot: that version has to arrive before a new decision.
                self._expectations.expect(under_way.key, where, uid=uid, version=version_of(root) + 1)
                self._wake(under_way.key)
                return Outcome(message=answer.message, writes=under_way.writes)
            case "refused":
                # Nowhere left to say it but the log: the status itself is what was refused.
                self._refused(under_way, where, answer)
                return Outcome(requeue_after=RETRY_SECONDS, message=answer.message, writes=under_way.writes)
            case "transient":
                logger.info("status write failed: %s", answer.message, extra=under_way.fields())
                return under_way.failed(answer.message, answer.retry_after)

    def _wake_all(self, keys: list[Key]) -> None:
        for key in keys:
            self._wake(key)

    def _forget(self, key: Key) -> None:
        self._expectations.forget(key)
        self._refusals.drop(key)
        self._store.observe(key, ())
        self._store.explain(key, ())


def _ranks(actions: Sequence[Action]) -> Iterator[list[Action]]:
    """The actions in order, those together that may be written at the same time: routes that follow each other.

    Any other order between two actions may be what keeps each prefix of the plan safe.
    """
    rank: dict[Target, Action] = {}
    of_routes = False
    for action in actions:
        where = target(action)
        joins = of_routes and _is_route(action) and where not in rank and rank.keys().isdisjoint(action.after)
        if rank and not joins:
            yield [*rank.values()]
            rank = {}
        rank[where] = action
        of_routes = _is_route(action)
    if rank:
        yield [*rank.values()]


def _is_route(action: Action) -> bool:
    return isinstance(action, Annotate) and action.kind == "Pod"


def _text(where: Target) -> str:
    return f"{where.kind}/{where.name}"

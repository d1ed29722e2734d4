"""One reconcile: the order of writes, what each answer leads to, refusals, fencing, read-your-writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from steeltown.core.plan import (
    Annotate,
    Apply,
    Create,
    Delete,
    EventNote,
    Key,
    Observe,
    Plan,
    Refusal,
    Snapshot,
    Target,
)
from steeltown.runtime.concurrency import at_once, in_turn
from steeltown.runtime.ports import LostLease, RunAll
from steeltown.runtime.reconciler import Outcome, Reconciler
from steeltown.runtime.store import Store

MODEL = Key("MLModel", "team", "m")
NOTE = EventNote(type="Normal", reason="Promoted", message="v2 serves")
Decide = Callable[[Snapshot], Plan]


class Bench:
    """A reconciler over one model, its planner a function of the test."""

    def __init__(
        self, *, objects: Any, clock: Any, writes: Any, notes: Any, answer: Any, run_all: RunAll = in_turn
    ) -> None:
        self.objects, self.clock, self.writes, self.notes, self.answer = objects, clock, writes, notes, answer
        self.store = Store()
        self.woken: list[Key] = []
        self.decide: Decide = lambda snapshot: Plan()
        self.fence: Callable[[], None] = lambda: None
        self.snapshots: list[Snapshot] = []
        self.store.apply_event(None, objects.model(status={}))
        writes.answer = self.accept
        self.reconciler = Reconciler(
            store=self.store,
            planners={"MLModel": self._plan},
            policy=None,
            applier=writes,
            recorder=notes,
            fence=lambda: self.fence(),
            wake=self.woken.append,
            now=clock.now,
            clock=clock,
            run_all=run_all,
        )

    def _plan(self, snapshot: Snapshot, now: datetime, policy: Any) -> Plan:
        self.snapshots.append(snapshot)
        return self.decide(snapshot)

    def accept(self, what: Any) -> Any:
        """As an API server that does what it is told."""
        match what:
            case Apply(body) | Create(body):
                return self.answer(result="done", obj=self.objects.changed(body))
            case Delete() | Annotate():
                return self.answer(result="done")
            case _:
                root = self.store.get(Target(*MODEL))
                return self.answer(result="done", obj=self.objects.changed(root, status=what))

    def refuse(self, message: str) -> None:
        def say(what: Any) -> Any:
            refused = isinstance(what, Apply)
            return self.answer(result="refused", message=message) if refused else self.accept(what)

        self.writes.answer = say

    async def reconcile(self) -> Outcome:
        self.writes.seen.clear()
        return await self.reconciler.reconcile(MODEL)


@pytest.fixture
def bench(objects: Any, clock: Any, writes: Any, notes: Any, answer: Any) -> Bench:
    return Bench(objects=objects, clock=clock, writes=writes, notes=notes, answer=answer)


def explaining(snapshot: Snapshot) -> Plan:
    """Wants a Deployment, and its status says what the last attempt met."""
    status = {"message": "; ".join(refusal.message for refusal in snapshot.refusals)}
    has = bool(snapshot.of_kind("Deployment"))
    child = {"kind": "Deployment", "metadata": {"name": "d", "namespace": "team", "uid": "d", "labels": LABELS}}
    return Plan(
        actions=() if has else (Apply(child),),
        status=None if snapshot.root["status"] == status else status,
        events=(NOTE,),
    )


LABELS = {"steeltown.dev/model": "m"}


async def test_empty_plan_writes_nothing(bench: Bench) -> None:
    assert await bench.reconcile() == Outcome()
    assert bench.writes.seen == []
    assert bench.woken == []


async def test_plan_is_carried_out_in_order_and_status_and_events_come_last(bench: Bench) -> None:
    first = Create({"kind": "Job", "metadata": {"name": "j", "namespace": "team", "uid": "j"}})
    second = Delete("Pod", "team", "p", "u")
    bench.decide = lambda snapshot: Plan(actions=(first, second), status={"a": 1}, events=(NOTE,), requeue_after=60.0)
    outcome = await bench.reconcile()
    assert bench.writes.seen == [first, second, {"a": 1}]
    assert bench.notes.seen == [NOTE]
    assert outcome == Outcome(requeue_after=60.0, writes=3)


async def test_reconcile_that_wrote_is_followed_by_one_that_sees_the_answers(bench: Bench) -> None:
    bench.decide = explaining
    await bench.reconcile()
    assert MODEL in bench.woken
    outcome = await bench.reconcile()
    assert outcome.writes == 0
    assert set(bench.snapshots[-1].of_kind("Deployment")) == {"d"}


async def test_root_that_is_gone_is_forgotten(bench: Bench) -> None:
    bench.decide = lambda snapshot: Plan(observe=(Observe(uid="u", url="http://pod"),))
    await bench.reconcile()
    assert bench.store.observed()
    bench.store.apply_event("DELETED", bench.objects.model(version=99))
    assert await bench.reconcile() == Outcome()
    assert bench.store.observed() == []


async def test_refused_child_is_explained_in_the_status_within_the_same_reconcile(bench: Bench) -> None:
    bench.decide = explaining
    bench.refuse("quota exceeded")
    outcome = await bench.reconcile()
    assert bench.snapshots[-1].refusals == (
        Refusal(target=Target("Deployment", "team", "d"), message="quota exceeded"),
    )
    assert bench.writes.seen[-1] == {"message": "quota exceeded"}
    assert len(bench.writes.seen) == 2
    assert outcome.requeue_after == 10.0
    assert not outcome.failed


async def test_refused_child_is_not_tried_again_within_ten_seconds(bench: Bench) -> None:
    bench.decide = explaining
    bench.refuse("quota exceeded")
    await bench.reconcile()
    bench.clock.seconds = 9.0
    outcome = await bench.reconcile()
    assert bench.writes.seen == []
    assert outcome.requeue_after == pytest.approx(1.0)


async def test_refused_child_that_is_accepted_later_is_no_longer_explained(bench: Bench) -> None:
    bench.decide = explaining
    bench.refuse("quota exceeded")
    await bench.reconcile()
    bench.writes.answer = bench.accept
    bench.clock.seconds = 10.0
    bench.woken.clear()
    await bench.reconcile()
    assert MODEL in bench.woken
    await bench.reconcile()
    assert bench.writes.seen == [{"message": ""}]
    assert bench.snapshots[-1].refusals == ()


def child(name: str, *after: str, kind: str = "Deployment") -> Apply:
    """A Deployment to apply, after others of these names."""
    body = {"kind": kind, "metadata": {"name": name, "namespace": "team", "uid": name, "labels": LABELS}}
    return Apply(body, after=tuple(Target(kind, "team", other) for other in after))


def refusing(bench: Bench, *names: str) -> Callable[[Any], Any]:
    def say(what: Any) -> Any:
        refused = isinstance(what, Apply) and what.body["metadata"]["name"] in names
        return bench.answer(result="refused", message="quota exceeded") if refused else bench.accept(what)

    return say


@pytest.mark.parametrize(
    ("actions", "refused", "carried_out"),
    [
        pytest.param((child("a"), child("b")), "a", ["b"], id="independent: goes on"),
        pytest.param((child("a"), child("b", "a")), "a", [], id="after the refused one: left out"),
        pytest.param((child("a"), child("b", "a"), child("c", "b")), "a", [], id="after one that is left out: too"),
        pytest.param((child("a"), child("b"), child("c", "a"), child("d", "b")), "a", ["b", "d"], id="only those"),
        pytest.param((child("a"), child("b", "a")), "b", ["a"], id="the one before is not concerned"),
        pytest.param((child("a"), child("b", "gone")), "a", ["b"], id="after what no action touches: stands already"),
    ],
)
async def test_refused_action_holds_up_only_what_names_it(
    bench: Bench, actions: tuple[Apply, ...], refused: str, carried_out: list[str]
) -> None:
    bench.decide = lambda snapshot: Plan(actions=actions)
    bench.writes.answer = refusing(bench, refused)
    for attempted in ([refused], []):  # refused now, then waiting after the refusal
        outcome = await bench.reconcile()
        names = [action.body["metadata"]["name"] for action in bench.writes.seen]
        assert sorted(names) == sorted([*carried_out, *attempted])
        assert outcome.requeue_after == pytest.approx(10.0)


async def test_refused_child_does_not_keep_a_rollback_from_taking_its_traffic_back(bench: Bench) -> None:
    back = Annotate("Pod", "team", "p", "u", {"steeltown.dev/route": '{"weight": 0}'})
    switch = child("m", kind="Service")
    bench.decide = lambda snapshot: Plan(actions=(child("d"), switch, back), status={"a": len(snapshot.refusals)})
    bench.writes.answer = refusing(bench, "d")
    await bench.reconcile()
    assert bench.writes.seen == [child("d"), switch, back, {"a": 1}]


async def test_root_with_two_refused_children_comes_back_when_the_first_may_be_tried(bench: Bench) -> None:
    bench.decide = lambda snapshot: Plan(actions=(child("a"),))
    bench.writes.answer = refusing(bench, "a", "b")
    await bench.reconcile()
    bench.clock.seconds = 4.0
    bench.decide = lambda snapshot: Plan(actions=(child("a"), child("b")))
    assert (await bench.reconcile()).requeue_after == pytest.approx(6.0)
    assert {refusal.target.name for refusal in bench.snapshots[-1].refusals} == {"a", "b"}


@pytest.mark.parametrize(
    ("asked", "soonest"),
    [
        pytest.param(None, 6.0, id="only the refusal"),
        pytest.param(2.0, 2.0, id="the plan is sooner"),
        pytest.param(60.0, 6.0, id="the refusal is sooner"),
    ],
)
async def test_root_comes_back_when_the_first_of_plan_and_refusal_wants_it(
    bench: Bench, asked: float | None, soonest: float
) -> None:
    bench.decide = lambda snapshot: Plan(actions=(child("a"),), requeue_after=asked)
    bench.writes.answer = refusing(bench, "a")
    await bench.reconcile()
    bench.clock.seconds = 4.0
    assert (await bench.reconcile()).requeue_after == pytest.approx(soonest)


async def test_failure_still_ends_the_pass_and_so_what_is_independent_of_it(bench: Bench) -> None:
    bench.decide = lambda snapshot: Plan(actions=(child("a"), child("b")), status={"a": 1})
    bench.writes.answer = lambda what: bench.answer(result="transient", message="busy")
    assert (await bench.reconcile()).failed
    assert bench.writes.seen == [child("a")]


async def test_refusal_that_no_plan_asks_about_any_more_is_dropped_when_it_is_old(bench: Bench) -> None:
    bench.decide = explaining
    bench.refuse("no")
    await bench.reconcile()
    bench.decide = lambda snapshot: Plan()
    await bench.reconcile()
    assert bench.snapshots[-1].refusals
    bench.clock.seconds = 10.0
    bench.woken.clear()
    await bench.reconcile()
    assert bench.woken == [MODEL]
    await bench.reconcile()
    assert bench.snapshots[-1].refusals == ()


async def test_refused_status_is_not_tried_again_within_ten_seconds(bench: Bench) -> None:
    bench.decide = lambda snapshot: Plan(status={"a": 1})
    bench.writes.answer = lambda what: bench.answer(result="refused", message="invalid")
    assert (await bench.reconcile()).requeue_after == 10.0
    assert (await bench.reconcile()).writes == 0
    bench.clock.seconds = 10.0
    assert (await bench.reconcile()).writes == 1


async def test_conflict_on_the_status_waits_for_the_newer_root_and_not_longer(bench: Bench) -> None:
    bench.decide = lambda snapshot: Plan(status={"a": 1}, locked=True, events=(NOTE,))
    bench.writes.answer = lambda what: bench.answer(result="conflict")
    await bench.reconcile()
    assert bench.woken == [MODEL]
    assert bench.notes.seen == []
    outcome = await bench.reconcile()
    assert bench.writes.seen == []
    assert outcome.requeue_after == pytest.approx(5.0)
    bench.store.apply_event("MODIFIED", bench.objects.changed(bench.store.get(Target(*MODEL)), spec="edited"))
    bench.writes.answer = bench.accept
    await bench.reconcile()
    assert bench.writes.seen == [{"a": 1}]


async def test_conflict_with_a_broken_watch_goes_on_after_five_seconds(bench: Bench) -> None:
    bench.decide = lambda snapshot: Plan(status={"a": 1}, locked=True)
    bench.writes.answer = lambda what: bench.answer(result="conflict")
    await bench.reconcile()
    bench.clock.seconds = 5.0
    await bench.reconcile()
    assert bench.writes.seen == [{"a": 1}]


async def test_locked_status_goes_over_the_version_that_was_decided_upon(bench: Bench) -> None:
    def edited(what: Any) -> Any:
        bench.store.apply_event("MODIFIED", bench.objects.changed(bench.store.get(Target(*MODEL)), spec="edited"))
        return bench.answer(result="done")

    action = Delete("Pod", "team", "p", "u")
    for locked in (True, False):
        bench.writes.answer = lambda what: edited(what) if isinstance(what, Delete) else bench.accept(what)
        bench.decide = lambda snapshot, locked=locked: Plan(actions=(action,), status={"a": locked}, locked=locked)  # type: ignore[misc]
        decided = bench.store.get(Target(*MODEL))
        await bench.reconcile()
        assert (bench.writes.roots[-1] is decided) is locked


async def test_stale_annotation_drops_the_ghost_and_the_plan(bench: Bench) -> None:
    bench.store.apply_event(None, bench.objects.child("Pod", "p", uid="u"))
    annotate = Annotate("Pod", "team", "p", "u", {"steeltown.dev/route": "{}"})
    bench.decide = lambda snapshot: Plan(actions=(annotate,), status={"a": 1})
    bench.writes.answer = lambda what: bench.answer(result="stale")
    await bench.reconcile()
    assert bench.writes.seen == [annotate]
    assert bench.store.get(Target("Pod", "team", "p")) is None
    assert MODEL in bench.woken


async def test_deleting_what_is_gone_is_success(bench: Bench) -> None:
    bench.store.apply_event(None, bench.objects.child("Pod", "p", uid="u"))
    delete = Delete("Pod", "team", "p", "u")
    bench.decide = lambda snapshot: Plan(actions=(delete,), status={"a": 1})
    bench.writes.answer = lambda what: bench.answer(result="stale") if isinstance(what, Delete) else bench.accept(what)
    await bench.reconcile()
    assert bench.writes.seen == [delete, {"a": 1}]
    assert bench.store.get(Target("Pod", "team", "p")) is None


async def test_status_of_a_root_that_is_gone_drops_it(bench: Bench) -> None:
    bench.decide = lambda snapshot: Plan(status={"a": 1})
    bench.writes.answer = lambda what: bench.answer(result="stale")
    await bench.reconcile()
    assert bench.store.get(Target(*MODEL)) is None


async def test_transient_failure_ends_the_plan_and_asks_for_a_retry(bench: Bench) -> None:
    bench.decide = explaining
    bench.writes.answer = lambda what: bench.answer(result="transient", message="busy", retry_after=7.0)
    outcome = await bench.reconcile()
    assert len(bench.writes.seen) == 1
    assert outcome == Outcome(failed=True, message="busy", requeue_after=7.0, writes=1)


async def test_lost_lease_stops_before_the_next_write(bench: Bench) -> None:
    bench.decide = explaining

    def lost() -> None:
        raise LostLease("gone")

    bench.fence = lost
    with pytest.raises(LostLease):
        await bench.reconcile()
    assert bench.writes.seen == []


def route(number: int, *after: str) -> Annotate:
    named = tuple(Target("Pod", "team", name) for name in after)
    return Annotate("Pod", "team", f"p{number}", f"u{number}", {"steeltown.dev/route": "{}"}, after=named)


class SlowServer:
    """An applier whose every write takes a tenth of a second; `answers` by the name of the Pod, else done."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.fenced = 0
        self.running = 0
        self.most = 0
        self.answers: dict[str, str] = {}
        self.begun: list[str] = []

    def fence(self) -> None:
        self.fenced += 1

    async def run(self, action: Any) -> Any:
        assert self.fenced == len(self.begun) + 1, "I9: a write that has not asked for the Lease"
        self.begun.append(getattr(action, "name", "") or action.body["metadata"]["name"])
        name = self.begun[-1]
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.1)
        self.running -= 1
        return self.bench.answer(result=self.answers.get(name, "done"), message="no")

    async def status(self, root: Any, status: Any, *, locked: bool) -> Any:
        return self.bench.accept(status)


@pytest.fixture
def slow(objects: Any, clock: Any, notes: Any, answer: Any, writes: Any) -> SlowServer:
    bench = Bench(objects=objects, clock=clock, writes=writes, notes=notes, answer=answer, run_all=at_once(16))
    server = SlowServer(bench)
    bench.fence = server.fence
    bench.reconciler._applier = server
    return server


@pytest.mark.looptime
async def test_thousand_routes_are_written_within_a_reconcile_sixteen_at_a_time(slow: SlowServer) -> None:
    routes = tuple(route(number) for number in range(1000))
    slow.bench.decide = lambda snapshot: Plan(actions=routes)
    started = asyncio.get_running_loop().time()
    assert (await slow.bench.reconcile()).writes == 1000
    assert asyncio.get_running_loop().time() - started < 7.0
    assert slow.most == 16


@pytest.mark.looptime
async def test_lease_that_is_lost_among_the_routes_lets_none_begin_afterwards(slow: SlowServer) -> None:
    slow.bench.decide = lambda snapshot: Plan(actions=tuple(route(number) for number in range(100)))

    def lost() -> None:
        if slow.fenced == 20:
            raise LostLease("gone")
        slow.fence()

    slow.bench.fence = lost
    with pytest.raises(LostLease):
        await slow.bench.reconcile()
    await asyncio.sleep(10)
    assert len(slow.begun) == 20


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("plan", "most"),
    [
        pytest.param((route(1), route(2), route(3)), 3, id="routes in a row"),
        pytest.param((route(1), child("d"), route(2)), 1, id="something between them"),
        pytest.param((child("d"), child("e")), 1, id="children: one after the other"),
        pytest.param((route(1), route(2, "p1")), 1, id="one after the other, as it asks for"),
        pytest.param((route(1), route(1)), 1, id="the same Pod twice"),
    ],
)
async def test_only_routes_in_a_row_are_written_together(
    slow: SlowServer, plan: tuple[Apply | Annotate, ...], most: int
) -> None:
    slow.bench.decide = lambda snapshot: Plan(actions=plan)
    await slow.bench.reconcile()
    assert slow.most == most
    assert len(slow.begun) == len(plan)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("result", "begun", "failed"),
    [
        pytest.param("refused", 40, False, id="refused: the others have their share taken back"),
        pytest.param("stale", 40, False, id="the Pod is gone: the others are not"),
        pytest.param("conflict", 40, True, id="somebody else wrote that Pod: the others go on, then again"),
        pytest.param("transient", 16, True, id="no answer: none is begun any more, those under way end"),
    ],
)
async def test_answer_to_one_route_among_many(slow: SlowServer, result: str, begun: int, failed: bool) -> None:
    slow.bench.decide = lambda snapshot: Plan(actions=tuple(route(number) for number in range(40)))
    slow.answers["p0"] = result
    outcome = await slow.bench.reconcile()
    assert (len(slow.begun), outcome.failed, outcome.writes) == (begun, failed, begun)

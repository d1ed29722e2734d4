"""Why a Job makes no Pod: read from its Events, rarely, and by nobody's failure but its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from steeltown.core.observed.jobs import POD_COMES_SECONDS
from steeltown.core.plan import Explain, Key, Obj
from steeltown.kube.client import Client
from steeltown.kube.events import EventReader
from steeltown.runtime.concurrency import at_once
from steeltown.runtime.explainer import INTERVAL_SECONDS, LAST_DELAY_SECONDS, Explainer
from steeltown.runtime.store import Store

KEY = Key("TrainingRun", "team", "r")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Reader:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.message = ""

    async def latest_warning(self, namespace: str, uid: str) -> str:
        self.asked.append(uid)
        if uid == "broken":
            raise ConnectionError("no route")
        return self.message


def job(uid: str) -> Explain:
    return Explain(kind="Job", namespace="team", name=uid, uid=uid)


def explainer() -> tuple[Explainer, Store, Reader, Clock, list[Key]]:
    store, reader, clock, woken = Store(), Reader(), Clock(), list[Key]()
    return Explainer(store=store, reader=reader, wake=woken.append, clock=clock), store, reader, clock, woken


async def test_nothing_is_read_unless_a_plan_asks() -> None:
    explain, _, reader, _, _ = explainer()
    await explain.once()
    assert reader.asked == []


async def test_cause_wakes_its_root_once() -> None:
    explain, store, reader, clock, woken = explainer()
    store.explain(KEY, (job("j"),))
    reader.message = "exceeded quota"
    await explain.once()
    clock.now += 10
    await explain.once()
    assert woken == [KEY]
    assert reader.asked == ["j", "j"]


async def test_object_that_stays_unexplained_is_looked_at_less_and_less_often() -> None:
    explain, store, reader, clock, _ = explainer()
    store.explain(KEY, (job("j"),))
    for _ in range(3600):
        await explain.once()
        clock.now += 1
    assert 10 < len(reader.asked) < 12 + 3600 / LAST_DELAY_SECONDS


@pytest.mark.parametrize("known_at", [0.0, 1.0, 4.1, 6.1, 8.0])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.99])
async def test_cause_of_a_job_without_a_pod_is_told_within_ten_seconds_of_its_creation(
    phase: float, known_at: float
) -> None:
    """Whenever the plan's question meets the reader's interval, and though each look begins a little late."""
    explain, store, reader, clock, woken = explainer()
    created = clock.now
    clock.now += phase
    while not woken:
        assert clock.now <= created + 10
        if clock.now >= created + POD_COMES_SECONDS:
            store.explain(KEY, (job("j"),))
        reader.message = "exceeded quota" if clock.now >= created + known_at else ""
        await explain.once()
        clock.now += INTERVAL_SECONDS + 0.01


async def test_several_are_read_at_the_same_time() -> None:
    """One that does not answer keeps nobody waiting."""
    answered, told, woken, store = asyncio.Event(), asyncio.Event(), list[Key](), Store()

    def wake(key: Key) -> None:
        woken.append(key)
        told.set()

    class Slow(Reader):
        async def latest_warning(self, namespace: str, uid: str) -> str:
            if uid == "slow":
                await answered.wait()
            return "exceeded quota"

    explain = Explainer(store=store, reader=Slow(), wake=wake, clock=Clock(), run_all=at_once(2))
    other = Key("TrainingRun", "team", "other")
    store.explain(other, (job("slow"),))
    store.explain(KEY, (job("j"),))
    looks = asyncio.create_task(explain.once())
    await asyncio.wait_for(told.wait(), timeout=5)
    assert woken == [KEY]
    answered.set()
    await looks
    assert woken == [KEY, other]


async def test_events_that_cannot_be_read_cost_nobody_else() -> None:
    explain, store, reader, _, woken = explainer()
    store.explain(Key("TrainingRun", "team", "other"), (job("broken"),))
    store.explain(KEY, (job("j"),))
    reader.message = "exceeded quota"
    await explain.once()
    assert woken == [KEY]


class Events(Client):
    def __init__(self, *items: Obj) -> None:
        self.items = items

    async def request(self, *args: Any, **named: Any) -> Obj:
        return {"items": [*self.items]}


def event(second: int, reason: str, note: str) -> Obj:
    return {"metadata": {}, "reason": reason, "note": note, "eventTime": f"2026-01-01T00:00:{second:02d}.000000Z"}


@pytest.mark.parametrize("end", ["DeadlineExceeded", "BackoffLimitExceeded", "PodFailurePolicy"])
async def test_end_of_a_job_does_not_hide_why_it_got_nowhere(end: str) -> None:
    over = event(9, end, "Job was active longer than specified deadline")
    assert await EventReader(Events(event(1, "FailedCreate", "exceeded quota"), over)).latest_warning("n", "u") == (
        "exceeded quota"
    )
    assert await EventReader(Events(over)).latest_warning("n", "u") == ""


async def test_cause_is_forgotten_when_no_plan_asks_any_more() -> None:
    _, store, _, _, _ = explainer()
    store.explain(KEY, (job("j"),))
    assert store.put_cause("j", "exceeded quota")
    store.explain(KEY, ())
    store.explain(KEY, (job("j"),))
    assert store.put_cause("j", "exceeded quota"), "it is new again"

"""Why a Job makes no Pod: read from its Events, rarely, and by nobody's failure but its own."""

from __future__ import annotations

from steeltown.core.plan import Explain, Key
from steeltown.runtime.explainer import LAST_DELAY_SECONDS, Explainer
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


async def test_events_that_cannot_be_read_cost_nobody_else() -> None:
    explain, store, reader, _, woken = explainer()
    store.explain(Key("TrainingRun", "team", "other"), (job("broken"),))
    store.explain(KEY, (job("j"),))
    reader.message = "exceeded quota"
    await explain.once()
    assert woken == [KEY]


async def test_cause_is_forgotten_when_no_plan_asks_any_more() -> None:
    _, store, _, _, _ = explainer()
    store.explain(KEY, (job("j"),))
    assert store.put_cause("j", "exceeded quota")
    store.explain(KEY, ())
    store.explain(KEY, (job("j"),))
    assert store.put_cause("j", "exceeded quota"), "it is new again"

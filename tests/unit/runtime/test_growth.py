"""What the runtime does for one event, and for one list of everything, as the cluster grows: counted, not timed.

The interpreter's instructions are the same on any machine: twice the objects may cost twice as many for a list of
everything, and none more for an event. The same at full size, timed: benchmarks/controller/scale.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from steeltown.core.plan import Key, Obj
from steeltown.runtime.resync import Resync
from steeltown.runtime.store import Store
from steeltown_testing.counting import instructions

MODEL = Key("MLModel", "team", "m")
FINISHED = {"completionTime": "2026-01-01T00:00:00Z"}


def with_runs(objects: Any, count: int) -> Store:
    store = Store()
    store.apply_event(None, objects.model())
    for number in range(count):
        store.apply_event(None, objects.run(f"r{number}", status=FINISHED))
    store.apply_event(None, objects.run("last"))
    store.apply_event(None, objects.child("Pod", "p"))
    store.snapshot(MODEL)
    return store


@pytest.mark.parametrize("kind", ["MLModel", "Pod", "TrainingRun"])
def test_event_and_snapshot_cost_the_same_however_many_runs_a_model_has(objects: Any, kind: str) -> None:
    make = {"MLModel": objects.model, "Pod": lambda: objects.child("Pod", "p"), "TrainingRun": objects.run}[kind]
    few, many = with_runs(objects, 10), with_runs(objects, 200)

    def work(store: Store) -> Callable[[], object]:
        event = make()
        return lambda: (store.apply_event("MODIFIED", event), store.snapshot(MODEL))

    assert instructions(work(many)) == instructions(work(few))


def test_event_copies_no_members_but_those_of_its_kind(objects: Any) -> None:
    store = with_runs(objects, 10)
    before = store.snapshot(MODEL)
    store.apply_event("MODIFIED", objects.child("Pod", "p"))
    after = store.snapshot(MODEL)
    assert before is not None and after is not None
    assert after.of_kind("TrainingRun") is before.of_kind("TrainingRun")
    assert after.of_kind("Pod") is not before.of_kind("Pod")


class Lists:
    """Lists what it was given, by kind and namespace."""

    def __init__(self, found: dict[tuple[str, str | None], list[Obj]]) -> None:
        self.found = found

    async def pages(self, kind: str, namespace: str | None) -> AsyncIterator[tuple[list[Obj], int]]:
        yield self.found.get((kind, namespace), []), 10**9


def resync_of(objects: Any, namespaces: int) -> Callable[[], object]:
    """Lists everything in so many namespaces of ten Pods each, all of them known."""
    names = [f"n{number}" for number in range(namespaces)]
    found: dict[tuple[str, str | None], list[Obj]] = {}
    store = Store()
    for name in names:
        pods = [objects.child("Pod", f"p{number}", uid=f"{name}-{number}") for number in range(10)]
        found["Pod", name] = [{**pod, "metadata": {**pod["metadata"], "namespace": name}} for pod in pods]
        for pod in found["Pod", name]:
            store.apply_event(None, pod)
    kinds = ("MLModel", "TrainingRun", "Pod")
    resync = Resync(lister=Lists(found), store=store, kinds=kinds, namespaces=names, wake=lambda key: None)
    resync._pace = Unhurried()  # type: ignore[assignment]
    return lambda: asyncio.run(resync.fill())


class Unhurried:
    async def __call__(self) -> None:
        pass


def test_list_of_everything_costs_what_there_is_and_not_its_square(objects: Any) -> None:
    once, twice = (instructions(resync_of(objects, namespaces)) for namespaces in (20, 40))
    assert 1.9 * once < twice < 2.1 * once

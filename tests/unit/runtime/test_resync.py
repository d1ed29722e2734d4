"""Lists that repair what watches miss, without mistaking the newest for the missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from steeltown.core.plan import Key, Obj, Target
from steeltown.runtime.resync import NotCaughtUp, Resync
from steeltown.runtime.store import Store

MODEL = Key("MLModel", "team", "m")
POD = Target("Pod", "team", "p")


class Lists:
    """Pages per kind at one version; `between` runs after the first page was handed out."""

    def __init__(self, version: int = 100) -> None:
        self.version = version
        self.items: dict[str, list[list[Obj]]] = {}
        self.failures: dict[str, int] = {}
        self.between: Callable[[], object] = lambda: None
        self.calls: list[tuple[str, str | None]] = []

    async def pages(self, kind: str, namespace: str | None) -> AsyncIterator[tuple[list[Obj], int]]:
        self.calls.append((kind, namespace))
        if self.failures.get(kind, 0):
            self.failures[kind] -= 1
            raise ConnectionError("not now")
        for page in self.items.get(kind, [[]]):
            yield page, self.version
            self.between()


class Bench:
    def __init__(self) -> None:
        self.lists, self.store = Lists(), Store()
        self.woken: list[Key] = []
        self.pruned: list[tuple[str, int]] = []
        self.resync = Resync(
            lister=self.lists,
            store=self.store,
            kinds=("MLModel", "Pod"),
            namespaces=(None,),
            wake=self.woken.append,
            on_pruned=lambda kind, count: self.pruned.append((kind, count)),
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_fill_takes_over_all_pages_and_wakes_all_roots(bench: Bench, objects: Any) -> None:
    bench.lists.items["MLModel"] = [[objects.model("a")], [objects.model("b")]]
    assert bench.resync.missing == ["MLModel", "Pod"]
    await bench.resync.fill()
    assert bench.resync.missing == []
    assert bench.resync.filled.is_set()
    assert {key.name for key in bench.woken} == {"a", "b"}


@pytest.mark.looptime
async def test_kind_that_is_not_served_yet_is_waited_for(bench: Bench) -> None:
    bench.lists.failures["MLModel"] = 3
    filling = asyncio.create_task(bench.resync.fill())
    await asyncio.sleep(0.5)
    assert bench.resync.missing == ["MLModel"]
    assert not bench.resync.filled.is_set()
    await filling
    assert bench.resync.missing == []
    assert [kind for kind, _ in bench.lists.calls].count("Pod") == 1


async def test_deletion_that_the_watch_missed_is_repaired(bench: Bench, objects: Any) -> None:
    bench.store.apply_event(None, objects.child("Pod", "p", version=50))
    await bench.resync.list_kind("Pod")
    assert bench.store.get(POD) is None
    assert bench.woken == [MODEL]
    assert bench.pruned == [("Pod", 1)]


async def test_pod_created_while_the_list_is_read_is_no_ghost(bench: Bench, objects: Any) -> None:
    bench.lists.items["Pod"] = [[], []]
    bench.lists.between = lambda: bench.store.apply_event("ADDED", objects.child("Pod", "p", version=101))
    await bench.resync.list_kind("Pod")
    assert bench.store.get(POD) is not None
    assert bench.pruned == []


async def test_pod_deleted_while_the_list_is_read_does_not_come_back(bench: Bench, objects: Any) -> None:
    pod = objects.child("Pod", "p", version=50)
    bench.store.apply_event(None, pod)
    bench.lists.items["Pod"] = [[], [pod]]
    gone = objects.child("Pod", "p", version=101)
    bench.lists.between = lambda: bench.store.apply_event("DELETED", gone)
    await bench.resync.list_kind("Pod")
    assert bench.store.get(POD) is None


async def test_change_that_the_watch_brought_meanwhile_is_not_undone(bench: Bench, objects: Any) -> None:
    bench.store.apply_event("MODIFIED", objects.child("Pod", "p", version=120, spec="new"))
    bench.lists.items["Pod"] = [[objects.child("Pod", "p", version=50, spec="old")]]
    await bench.resync.list_kind("Pod")
    kept = bench.store.get(POD)
    assert kept is not None
    assert kept["spec"] == "new"


@pytest.mark.looptime
async def test_everything_is_listed_again_every_period(bench: Bench, objects: Any) -> None:
    running = asyncio.create_task(bench.resync.run())
    await asyncio.sleep(2000.0)
    running.cancel()
    assert [kind for kind, _ in bench.lists.calls].count("Pod") == 3


@pytest.mark.looptime
async def test_lists_of_watches_are_answered_by_one_round_of_ours(bench: Bench) -> None:
    running = asyncio.create_task(bench.resync.run())
    await asyncio.sleep(10)
    assert bench.lists.calls == []
    bench.resync.soon("Pod", None)
    await asyncio.sleep(0.5)
    bench.resync.soon("MLModel", None)
    bench.resync.soon("Pod", None)
    await asyncio.sleep(10)
    assert sorted(kind for kind, _ in bench.lists.calls) == ["MLModel", "Pod"]
    running.cancel()


@pytest.mark.looptime
async def test_watch_that_lists_anew_has_its_kind_in_its_namespace_listed_and_no_other(
    bench: Bench, objects: Any
) -> None:
    bench.store.apply_event(None, objects.model("other"))
    resync = Resync(
        lister=bench.lists,
        store=bench.store,
        kinds=("MLModel", "Pod"),
        namespaces=("team", "elsewhere"),
        wake=bench.woken.append,
    )
    running = asyncio.create_task(resync.run())
    bench.store.apply_event(None, objects.child("Pod", "p", version=50))
    resync.soon("Pod", "team")
    await asyncio.sleep(10)
    assert bench.lists.calls == [("Pod", "team")]
    assert bench.woken == [MODEL], "only the root of what was missing"
    running.cancel()


@pytest.mark.looptime
async def test_list_of_one_kind_that_fails_is_tried_again(bench: Bench, objects: Any) -> None:
    bench.store.apply_event(None, objects.child("Pod", "p", version=50))
    running = asyncio.create_task(bench.resync.run())
    bench.lists.failures["Pod"] = 2
    bench.resync.soon("Pod", None)
    await asyncio.sleep(10)
    assert bench.store.get(POD) is None
    running.cancel()


@pytest.mark.looptime
async def test_watches_that_list_anew_all_the_time_do_not_put_off_the_list_of_everything(bench: Bench) -> None:
    running = asyncio.create_task(bench.resync.run())
    for _ in range(700):
        bench.resync.soon("Pod", None)
        await asyncio.sleep(1)
    assert [kind for kind, _ in bench.lists.calls].count("MLModel") == 1
    running.cancel()


async def test_catching_up_lists_everything_again_and_so_answers_the_lists_of_watches(bench: Bench) -> None:
    await bench.resync.fill()
    bench.resync.soon("Pod", None)
    bench.lists.calls.clear()
    await bench.resync.catch_up()
    assert [kind for kind, _ in bench.lists.calls] == ["MLModel", "Pod"]
    assert not bench.resync._due


@pytest.mark.looptime
async def test_watch_that_lists_while_we_do_is_answered_by_another_list(bench: Bench) -> None:
    running = asyncio.create_task(bench.resync.run())
    bench.lists.between = lambda: bench.resync.soon("Pod", None) if len(bench.lists.calls) == 2 else None
    await bench.resync.catch_up()
    await asyncio.sleep(10)
    assert [kind for kind, _ in bench.lists.calls] == ["MLModel", "Pod", "Pod"]
    running.cancel()


@pytest.mark.looptime
async def test_kind_that_cannot_be_listed_in_time_is_named(bench: Bench) -> None:
    bench.lists.failures["Pod"] = 10**6
    started = asyncio.get_running_loop().time()
    with pytest.raises(
        NotCaughtUp, match="cannot list within 60 s of acquiring the Lease: Pod; see the preceding `cannot list`"
    ):
        await bench.resync.catch_up(within_seconds=60.0)
    assert asyncio.get_running_loop().time() - started == pytest.approx(60.0)


async def test_watched_is_said_once_every_watch_has_listed_what_it_follows(bench: Bench) -> None:
    bench.resync.soon("Pod", None)
    bench.resync.soon("Pod", None)
    assert not bench.resync.watched.is_set()
    bench.resync.soon("MLModel", None)
    assert bench.resync.watched.is_set()

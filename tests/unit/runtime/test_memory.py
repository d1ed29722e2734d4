"""The cycle collector is kept away from what the cache holds, and the cache still frees it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from steeltown.app.memory import SetAside, take_over_full_collections
from steeltown.runtime.store import Store


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Seen(dict[str, Any]):
    """A dictionary whose end can be watched."""


def test_collection_sees_only_the_objects_that_came_last(objects: Any) -> None:
    take_over_full_collections()
    store = Store(on_stored=SetAside(every=100).stored)
    before = gc.get_freeze_count()
    for number in range(250):
        store.apply_event("ADDED", objects.child("Pod", f"p{number}"))
    assert gc.get_freeze_count() - before > 200
    young = sum(1 for found in gc.get_objects() if isinstance(found, dict) and found.get("kind") == "Pod")
    assert young == 50


def test_full_collections_begin_only_with_what_the_cache_takes(objects: Any) -> None:
    take_over_full_collections()
    store = Store(on_stored=SetAside(every=100).stored)
    before = gc.get_stats()[2]["collections"]
    held = [[[]] for _ in range(200_000)]  # type: ignore[var-annotated]
    assert gc.get_stats()[2]["collections"] == before
    for number in range(100):
        store.apply_event("ADDED", objects.child("Pod", f"p{number}"))
    assert gc.get_stats()[2]["collections"] == before + 1
    del held


def test_event_that_brings_nothing_new_is_not_counted(objects: Any) -> None:
    noted = []
    store = Store(on_stored=lambda: noted.append(1))
    pod = objects.child("Pod", "p")
    store.apply_event("ADDED", pod)
    store.apply_event("MODIFIED", pod)
    assert len(noted) == 1


def test_what_was_set_aside_is_freed_with_its_last_reference() -> None:
    held: dict[str, Any] = {"a": Seen(b=[1])}
    end = weakref.ref(held["a"])
    SetAside(every=1).stored()
    gc.disable()
    try:
        del held["a"]
        assert end() is None
    finally:
        gc.enable()

"""The work queue's contract, as properties over any history and as single behaviours in virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.runtime.queue import HIGH, LOW, Backoff, WorkQueue

KEYS = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.sampled_from([HIGH, LOW])),
        st.tuples(st.just("after"), KEYS, st.floats(0.1, 5.0)),
        st.tuples(st.just("retry"), KEYS, st.none()),
        st.tuples(st.just("pop"), st.none(), st.none()),
        st.tuples(st.just("done"), st.none(), st.none()),
        st.tuples(st.just("wait"), st.none(), st.floats(0.0, 3.0)),
    ),
    max_size=80,
)


@pytest.fixture
def queue(clock: Any) -> WorkQueue[str]:
    return WorkQueue(clock=clock, rng=random.Random(1))


def drain(queue: WorkQueue[str]) -> list[str]:
    taken = []
    while (key := queue.pop()) is not None:
        taken.append(key)
        queue.done(key)
    return taken


@given(steps=STEPS)
def test_any_history_never_hands_a_key_to_two_workers_and_loses_none(steps: list[tuple[str, Any, Any]]) -> None:
    seconds = 0.0
    queue: WorkQueue[str] = WorkQueue(clock=lambda: seconds, rng=random.Random(0))
    held: list[str] = []
    owed: set[str] = set()  # added and not yet handed out since
    for step, key, value in steps:
        if step == "add":
            queue.add(key, value)
            owed.add(key)
        elif step == "after":
            queue.add_after(key, value)
            owed.add(key)
        elif step == "retry":
            queue.retry(key)
            owed.add(key)
        elif step == "wait":
            seconds += value
        elif step == "done" and held:
            queue.done(held.pop())
        elif step == "pop" and (popped := queue.pop()) is not None:
            assert popped not in held
            held.append(popped)
            owed.discard(popped)
    for key in held:
        queue.done(key)
    seconds += 1000.0
    assert owed <= set(drain(queue))
    assert len(queue) == 0
    assert queue.next_due() is None


def test_key_added_often_is_handed_out_once(queue: WorkQueue[str]) -> None:
    for _ in range(5):
        queue.add("a")
    assert drain(queue) == ["a"]


def test_key_added_while_it_is_worked_on_runs_once_more_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert queue.pop() == "a"
    queue.add("a")
    queue.add("a")
    assert queue.pop() is None
    queue.done("a")
    assert drain(queue) == ["a"]


def test_edit_overtakes_the_backlog(queue: WorkQueue[str]) -> None:
    for name in "abc":
        queue.add(name, LOW)
    queue.add("edited", HIGH)
    assert drain(queue) == ["edited", "a", "b", "c"]


def test_waiting_key_that_becomes_urgent_moves_up_and_is_handed_out_once(queue: WorkQueue[str]) -> None:
    queue.add("a", LOW)
    queue.add("b", LOW)
    queue.add("b", HIGH)
    assert drain(queue) == ["b", "a"]


def test_backlog_is_served_although_edits_never_end(queue: WorkQueue[str]) -> None:
    queue.add("old", LOW)
    taken = []
    for number in range(10):
        queue.add(f"edit-{number}", HIGH)
        queue.add(f"more-{number}", HIGH)
        key = queue.pop()
        assert key is not None
        taken.append(key)
        queue.done(key)
    assert "old" in taken[:5]


def test_delay_ends_at_the_earliest_time_that_was_asked_for(queue: WorkQueue[str], clock: Any) -> None:
    queue.add_after("a", 10.0)
    queue.add_after("a", 3.0)
    queue.add_after("a", 20.0)
    assert queue.next_due() == 3.0
    clock.seconds = 2.9
    assert queue.pop() is None
    clock.seconds = 3.0
    assert drain(queue) == ["a"]
    assert queue.next_due() is None


def test_event_overrides_a_delay(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 300.0)
    queue.add("a", HIGH)
    assert drain(queue) == ["a"]
    assert queue.next_due() is None


def test_key_that_is_handed_out_has_no_older_promise_left(queue: WorkQueue[str], clock: Any) -> None:
    queue.add_after("a", 5.0)
    queue.add("a", LOW)
    assert queue.pop() == "a"
    queue.add_after("a", 60.0)
    queue.done("a")
    clock.seconds = 5.0
    assert queue.pop() is None
    assert queue.next_due() == 60.0


def test_retries_of_a_key_grow_to_the_cap_and_start_over_after_success(clock: Any) -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    queue: WorkQueue[str] = WorkQueue(clock=clock, rng=Highest(), backoff=Backoff(rate=1e9))
    delays = [queue.retry("a") for _ in range(15)]
    assert delays[:4] == [0.05, 0.1, 0.2, 0.4]
    assert delays[-1] == 300.0
    queue.forget("a")
    assert queue.retry("a") == 0.05


@given(failures=st.integers(1, 40), seed=st.integers())
def test_retry_is_drawn_between_now_and_the_doubled_limit(failures: int, seed: int) -> None:
    queue: WorkQueue[str] = WorkQueue(clock=lambda: 0.0, rng=random.Random(seed), backoff=Backoff(rate=1e9))
    for number in range(failures):
        assert 0.0 <= queue.retry("a") <= min(300.0, 0.05 * 2**number)


def test_retries_of_all_keys_together_are_bounded(clock: Any) -> None:
    queue: WorkQueue[str] = WorkQueue(clock=clock, backoff=Backoff(base=0.0, rate=10.0, burst=5.0))
    delays = [queue.retry(str(number)) for number in range(25)]
    assert delays[4] == 0.0
    assert delays[-1] == pytest.approx(2.0)


def test_many_overridden_delays_do_not_fill_memory(queue: WorkQueue[str]) -> None:
    for _ in range(10_000):
        queue.add_after("a", 600.0)
        queue.add("a")
        drain(queue)
    assert len(queue._heap) < 200


async def test_waiting_worker_gets_the_key_as_soon_as_it_is_added(clock: Any) -> None:
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await waiting == "a"


@pytest.mark.looptime
async def test_waiting_worker_gets_a_delayed_key_exactly_when_it_is_due() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue(clock=loop.time)
    started = loop.time()
    queue.add_after("later", 30.0)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(1.0)
    queue.add_after("sooner", 4.0)
    assert await waiting == "sooner"
    assert loop.time() - started == pytest.approx(5.0)
    assert await queue.get() == "later"
    assert loop.time() - started == pytest.approx(30.0)


async def test_cancelled_worker_takes_no_key_with_it(clock: Any) -> None:
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1.0) == "a"

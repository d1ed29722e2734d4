"""Events: said once, counted when repeated, cut off when too many, never a failure of a reconcile."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.core.plan import EventNote, Obj
from steeltown.runtime.ports import LostLease
from steeltown.runtime.recorder import EventRecorder

NOTE = EventNote(type="Warning", reason="LoadCheckFailed", message="p99 is 80 ms, objective 50 ms")


class Writer:
    def __init__(self) -> None:
        self.created: list[Obj] = []
        self.counted: list[tuple[str, Obj]] = []
        self.names: set[str] = set()
        self.error: Exception | None = None

    async def create(self, event: Obj) -> bool:
        if self.error:
            raise self.error
        name = event["metadata"]["name"]
        if name in self.names:
            return False
        self.names.add(name)
        self.created.append(event)
        return True

    async def count(self, namespace: str, name: str, series: Obj) -> bool:
        if name not in self.names:
            return False
        self.counted.append((name, series))
        return True


class Bench:
    def __init__(self, clock: Any, objects: Any) -> None:
        self.clock, self.writer, self.root = clock, Writer(), objects.model()
        self.leading = True
        self.recorder = self.start()

    def start(self) -> EventRecorder:
        return EventRecorder(
            writer=self.writer, instance="pod-1", fence=self.fence, clock=self.clock, now=self.clock.now
        )

    def fence(self) -> None:
        if not self.leading:
            raise LostLease("gone")

    async def say(self, *notes: EventNote) -> None:
        for note in notes:
            self.recorder.record(self.root, note)
        await self.recorder.flush()


@pytest.fixture
def bench(clock: Any, objects: Any) -> Bench:
    return Bench(clock, objects)


async def test_note_becomes_an_event_about_the_root(bench: Bench) -> None:
    await bench.say(NOTE)
    (event,) = bench.writer.created
    assert (event["type"], event["reason"], event["note"]) == (NOTE.type, NOTE.reason, NOTE.message)
    assert event["regarding"]["uid"] == bench.root["metadata"]["uid"]
    assert event["eventTime"] == "2026-01-01T00:00:00.000000Z"


async def test_note_repeated_within_five_minutes_is_not_written_again(bench: Bench) -> None:
    for second in range(0, 300, 10):
        bench.clock.seconds = float(second)
        await bench.say(NOTE)
    assert len(bench.writer.created) == 1
    assert bench.writer.counted == []


async def test_note_that_goes_on_is_counted_every_five_minutes(bench: Bench) -> None:
    for minute in range(21):
        bench.clock.seconds = 60.0 * minute
        await bench.say(NOTE)
    assert len(bench.writer.created) == 1
    assert [series["count"] for _, series in bench.writer.counted] == [6, 11, 16, 21]


async def test_note_that_returns_after_ten_minutes_is_a_new_event(bench: Bench) -> None:
    await bench.say(NOTE)
    bench.clock.seconds = 601.0
    await bench.say(NOTE)
    assert len(bench.writer.created) == 2
    assert len(bench.writer.names) == 2


async def test_restarted_operator_does_not_say_it_again(bench: Bench) -> None:
    await bench.say(NOTE)
    bench.recorder = bench.start()
    await bench.say(NOTE)
    assert len(bench.writer.created) == 1


async def test_event_that_has_expired_meanwhile_is_written_anew(bench: Bench) -> None:
    await bench.say(NOTE)
    bench.writer.names.clear()
    bench.clock.seconds = 301.0
    await bench.say(NOTE)
    assert len(bench.writer.created) == 2


async def test_root_that_says_too_many_different_things_is_cut_off(bench: Bench) -> None:
    await bench.say(*(EventNote(type="Normal", reason="Step", message=str(number)) for number in range(100)))
    assert len(bench.writer.created) == 25
    bench.clock.seconds = 600.0
    await bench.say(*(EventNote(type="Normal", reason="Step", message=f"later {number}") for number in range(100)))
    assert len(bench.writer.created) == 27


async def test_event_that_cannot_be_written_fails_nothing(bench: Bench) -> None:
    bench.writer.error = ConnectionError("down")
    await bench.say(NOTE)
    bench.writer.error = None
    await bench.say(EventNote(type="Normal", reason="Next", message=""))
    assert [event["reason"] for event in bench.writer.created] == ["Next"]


async def test_replica_that_no_longer_leads_writes_no_event(bench: Bench) -> None:
    bench.leading = False
    await bench.say(NOTE)
    assert bench.writer.created == []


async def test_long_message_is_cut_to_what_the_api_takes(bench: Bench) -> None:
    await bench.say(EventNote(type="Normal", reason="Long", message="ü" * 2000))
    assert len(bench.writer.created[0]["note"].encode()) <= 1024

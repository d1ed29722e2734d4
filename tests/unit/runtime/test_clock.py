"""The clock that deadlines are counted by, while somebody sets that of the node, and after an absence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from steeltown.app import main
from steeltown.app.main import SteadyClock

STARTED = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Machine:
    """The two clocks of a node: one that is set, one that only counts."""

    def __init__(self) -> None:
        self.wall = STARTED
        self.seconds = 123_456.0  # since the node was booted

    def passes(self, time: timedelta) -> None:
        self.wall += time
        self.seconds += time.total_seconds()

    def now(self, zone: tzinfo) -> datetime:
        return self.wall.astimezone(zone)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(main, "datetime", made)
    monkeypatch.setattr(main, "time", made)
    return made


def test_it_begins_with_the_wall_clock_and_goes_as_time_does(machine: Machine) -> None:
    clock = SteadyClock()
    assert clock() == STARTED
    machine.passes(timedelta(seconds=0.5))
    assert clock() == STARTED + timedelta(seconds=0.5)
    machine.passes(2 * DAY)
    assert clock() == STARTED + 2 * DAY + timedelta(seconds=0.5)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forth", "back"])
def test_it_does_not_jump_with_the_wall_clock(machine: Machine, jump: timedelta) -> None:
    clock = SteadyClock()
    machine.passes(timedelta(seconds=10))
    machine.wall += jump
    assert clock() == STARTED + timedelta(seconds=10)
    machine.passes(timedelta(seconds=10))
    assert clock() == STARTED + timedelta(seconds=20)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forth", "back"])
def test_process_that_starts_after_a_jump_takes_over_the_time_of_the_node(machine: Machine, jump: timedelta) -> None:
    """Others write times by it too, so a new process must agree with them and not with its predecessor."""
    before = SteadyClock()
    machine.wall += jump
    assert SteadyClock()() - before() == jump


def test_process_that_starts_two_days_later_knows_of_them(machine: Machine) -> None:
    SteadyClock()
    machine.passes(2 * DAY)
    after = SteadyClock()
    assert after() == STARTED + 2 * DAY
    machine.passes(HOUR)
    assert after() == STARTED + 2 * DAY + HOUR


def test_it_tells_its_zone_whatever_that_of_the_node(machine: Machine) -> None:
    """Times in objects are UTC; one without a zone cannot be compared with them."""
    assert SteadyClock()().tzinfo is UTC

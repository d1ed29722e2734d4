"""Refused writes: when one may be tried again, and when the root comes back for it."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.core.plan import Key, Target
from steeltown.runtime.refusals import RETRY_SECONDS, Refusals

MODEL, OTHER = Key("MLModel", "team", "m"), Key("MLModel", "team", "o")
FIRST, SECOND = Target("Deployment", "team", "a"), Target("Service", "team", "b")


@pytest.fixture
def refusals(clock: Any) -> Refusals:
    """The first was refused 4 s ago, the second just now."""
    made = Refusals(clock=clock)
    made.remember(MODEL, FIRST, "quota exceeded")
    clock.seconds = 4.0
    made.remember(MODEL, SECOND, "denied by policy")
    return made


@pytest.mark.parametrize(
    ("seconds", "wait"),
    [
        (4.0, 6.0),
        (9.5, 0.5),
        (RETRY_SECONDS, 0.0),  # at once, and not never: it stands until it is tried again, or dropped
        (RETRY_SECONDS + 1, 0.0),
        (7200.0, 0.0),
    ],
)
def test_root_comes_back_when_the_first_of_its_refusals_has_aged(
    refusals: Refusals, clock: Any, seconds: float, wait: float
) -> None:
    clock.seconds = seconds
    assert refusals.next_wait_seconds(MODEL) == pytest.approx(wait)
    assert refusals.next_wait_seconds(OTHER) is None


def test_root_comes_back_for_the_next_when_the_first_is_gone(refusals: Refusals) -> None:
    assert refusals.forget(MODEL, FIRST)
    assert refusals.next_wait_seconds(MODEL) == 10.0
    assert refusals.forget(MODEL, SECOND)
    assert refusals.next_wait_seconds(MODEL) is None


def test_refused_again_ages_anew(refusals: Refusals, clock: Any) -> None:
    clock.seconds = 10.0
    refusals.remember(MODEL, FIRST, "quota exceeded")
    assert refusals.next_wait_seconds(MODEL) == 4.0  # the second


def test_what_has_aged_and_nobody_asks_for_is_dropped_and_waited_for_no_more(refusals: Refusals, clock: Any) -> None:
    clock.seconds = 10.0
    assert refusals.expire(MODEL, wanted=[])
    assert [r.target for r in refusals.of(MODEL)] == [SECOND]
    assert refusals.next_wait_seconds(MODEL) == 4.0
    refusals.drop(MODEL)
    assert refusals.next_wait_seconds(MODEL) is None

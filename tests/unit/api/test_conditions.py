"""The rules of conditions, and the checker that runs over every status the tests write."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from steeltown.api.conditions import ConditionType, Reason, build, false, true, unknown, violations

T0, T1 = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
READY, STALLED, RECONCILING = ConditionType.READY, ConditionType.STALLED, ConditionType.RECONCILING


def condition(kind: str, status: str, generation: int = 2) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "X", "message": "", "observedGeneration": generation}


def obj(*conditions: dict[str, Any], observed: int = 2, generation: int = 2) -> dict[str, Any]:
    status = {"observedGeneration": observed, "conditions": list(conditions)}
    return {"metadata": {"generation": generation}, "status": status}


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (obj(), "FAIL0002"),
        (obj(condition("Ready", "True"), condition("Stalled", "True")), "FAIL0001"),
        (obj(condition("Ready", "Unknown"), condition("Reconciling", "True")), "FAIL0003"),
        (
            obj(condition("Ready", "False"), condition("Reconciling", "True"), condition("Stalled", "True")),
            "FAIL0005",
        ),
        (obj(condition("Ready", "False", 3), observed=3), "FAIL0006"),
        (obj(condition("Ready", "True", 1), observed=1), "FAIL0007"),
        (obj(condition("Ready", "True"), condition("Available", "True", 1)), "FAIL0008"),
        (obj(condition("Ready", "Unknown")), "FAIL0011"),
        (obj(condition("Ready", "True"), condition("Stalled", "False")), "WARN0003"),
        (obj(condition("Ready", "True"), condition("Ready", "True")), "two conditions of one type"),
    ],
)
def test_each_rule_can_fail(bad: dict[str, Any], rule: str) -> None:
    assert any(rule in violation for violation in violations(bad)), violations(bad)


@pytest.mark.parametrize(
    "good",
    [
        obj(condition("Ready", "True"), condition("Available", "True")),
        obj(condition("Ready", "False"), condition("Reconciling", "True")),
        obj(condition("Ready", "False"), condition("Stalled", "True"), condition("Eligible", "Unknown")),
    ],
)
def test_settled_and_moving_status_are_fine(good: dict[str, Any]) -> None:
    assert violations(good) == []


def test_transition_time_moves_only_with_the_status() -> None:
    first = build({READY: false(Reason.PENDING, "a")}, before=[], generation=1, now=T0)
    same = build({READY: false(Reason.TRAINING, "b")}, before=first, generation=2, now=T1)
    other = build({READY: true(Reason.SUCCEEDED, "c")}, before=same, generation=2, now=T1)
    assert same[0].last_transition_time == first[0].last_transition_time
    assert (same[0].reason, same[0].message, same[0].observed_generation) == ("Training", "b", 2)
    assert other[0].last_transition_time == "2026-01-02T00:00:00Z"


def test_every_condition_gets_the_generation_of_this_write() -> None:
    findings = {READY: true("A", ""), ConditionType.ELIGIBLE: unknown("B", "")}
    assert {c.observed_generation for c in build(findings, before=[], generation=7, now=T0)} == {7}


def test_message_is_cut_to_what_the_api_server_accepts() -> None:
    (only,) = build({READY: true("A", "x" * 9000)}, before=[], generation=1, now=T0)
    assert len(only.message) <= 2048

"""Objectives of the data as checks: what the checker is asked for, and that the version before understands it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from steeltown.api.objectives import DataObjective
from steeltown.contract.plans import DataCheck, Mode, PreparePlan

OBSERVE = {"mode": "Observe"}
DELAY = {"name": "delay", "type": "Number", "maxNullFraction": "0.05"}

CASES: dict[str, tuple[dict[str, Any], int | None, list[tuple[str, dict[str, Any], str]]]] = {
    "nothing": ({}, None, []),
    "rows without bounds": ({"rows": {}}, 100, []),
    "rows": ({"rows": {"min": 1, "max": 9}}, None, [("rows", {"min": 1, "max": 9}, "Enforce")]),
    "rows, observed": ({"rows": {"max": 9, **OBSERVE}}, None, [("rows", {"max": 9}, "Observe")]),
    "share of the live rows": ({"rows": {"minRatioToLive": "0.5"}}, 999, [("rows", {"min": 500}, "Enforce")]),
    "share that floats cannot hold": ({"rows": {"minRatioToLive": "0.07"}}, 100, [("rows", {"min": 7}, "Enforce")]),
    "the higher of two bounds": (
        {"rows": {"min": 600, "minRatioToLive": "0.5"}},
        999,
        [("rows", {"min": 600}, "Enforce")],
    ),
    "share of nothing": ({"rows": {"minRatioToLive": "0.5"}}, None, []),
    "a column": ({"columns": [{"name": "a"}]}, None, [("columns", {"columns": [{"name": "a"}]}, "Enforce")]),
    "columns are one check for each mode": (
        {"columns": [DELAY, {"name": "a"}, {"name": "b", "type": "String", **OBSERVE}]},
        None,
        [
            ("columns", {"columns": [{"name": "delay"}, {"name": "a"}]}, "Enforce"),
            ("types", {"columns": [{"name": "delay", "type": "Number"}]}, "Enforce"),
            ("nulls", {"columns": [{"name": "delay", "maxNullFraction": 0.05}]}, "Enforce"),
            ("columns", {"columns": [{"name": "b"}]}, "Observe"),
            ("types", {"columns": [{"name": "b", "type": "String"}]}, "Observe"),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_objectives_become_checks(case: Any) -> None:
    written, live_rows, expected = case
    found = DataObjective.model_validate(written).checks(live_rows)
    assert found == tuple(DataCheck(name=n, parameters=p, mode=Mode(m)) for n, p, m in expected)


KEYS_OF_0_1 = {"run", "data", "columns", "minRows", "maxRows", "evaluation", "imported", "task", "params"}
COLUMN_KEYS_OF_0_1 = {"name", "type", "maxNullFraction"}


def plan(written: dict[str, Any], live_rows: int | None) -> PreparePlan:
    return PreparePlan(run="r", checks=DataObjective.model_validate(written).checks(live_rows))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_plan_asks_for_the_same_on_both_sides(case: Any) -> None:
    sent = plan(*case[:2])
    received = PreparePlan.from_json(sent.to_json())

    def by_name(p: PreparePlan) -> list[DataCheck]:
        return sorted(p.demands, key=lambda c: (c.name, c.mode))

    assert by_name(received) == by_name(sent)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_checker_of_version_0_1_reads_every_plan_that_only_enforces(case: Any) -> None:
    """It refuses keys that it does not know; so it refuses by name what it could not do."""
    text = json.loads(plan(*case[:2]).to_json())
    observed = any(mode == "Observe" for _, _, mode in case[2])
    assert set(text) - KEYS_OF_0_1 == ({"checks"} if observed else set())
    for column in text.get("columns", ()):
        assert set(column) <= COLUMN_KEYS_OF_0_1


def test_plan_in_the_words_of_0_1_is_what_0_1_wrote() -> None:
    written = {"rows": {"min": 3, "max": 9}, "columns": [DELAY, {"name": "a"}]}
    assert json.loads(plan(written, None).to_json()) == {
        "run": "r",
        "minRows": 3,
        "maxRows": 9,
        "columns": [{"name": "delay", "type": "Number", "maxNullFraction": 0.05}, {"name": "a"}],
    }

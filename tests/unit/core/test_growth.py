"""What one decision costs as the runs of a model become many, counted, and how much is remembered of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from steeltown.api.conditions import rfc3339
from steeltown.api.mlmodel import MLModelSpec
from steeltown.core.children import serving
from steeltown.core.model import plan_model
from steeltown.core.observed import model as observed
from steeltown.core.observed.model import Run, read_runs
from steeltown.core.plan import Delete, Obj, Snapshot
from steeltown.core.record import LiveRecord, Version
from steeltown_testing.counting import instructions
from steeltown_testing.explore.cluster import START, later
from steeltown_testing.structs import MODEL, NOW, POLICY, ROOT, run

FEW, MANY = 300, 600
"""Both above the number from which runs are remembered, so that they cost the same each."""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Run]:
    known: dict[str, Run] = {}
    monkeypatch.setattr(observed, "_KNOWN", known)
    return known


def runs_of(count: int, model: str = MODEL) -> dict[str, Obj]:
    made = (Version(run=f"{model}-v{n}", digest=f"sha256:{n:064x}") for n in range(1, count + 1))
    return {v.run: run(v, created=rfc3339(later(START, n))) for n, v in enumerate(made)}


def seen(count: int) -> Snapshot:
    """A model whose newest run is live by evidence; all but ten of the others are beyond its limit."""
    runs = runs_of(count)
    newest = list(runs)[-1]
    digest = runs[newest]["status"]["artifact"]["digest"]
    live = LiveRecord(live=Version(run=newest, digest=digest), promoted=True, switches=1)
    spec = MLModelSpec.model_validate({"stage": "Production", "historyLimit": 10})
    root = {**ROOT, "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True)}
    service = serving.live_service(root, MODEL, live, POLICY)
    return Snapshot(root=root, members={"TrainingRun": runs, "Service": {MODEL: service}})


def cost(snapshot: Snapshot) -> int:
    return instructions(lambda: plan_model(snapshot, NOW, POLICY))


@pytest.mark.parametrize("again", [False, True], ids=["first look", "after an event"])
def test_plan_costs_what_there_is_and_not_its_square(again: bool) -> None:
    costs = []
    for count in (FEW, MANY):
        snapshot = seen(count)
        planned = plan_model(snapshot, NOW, POLICY).actions
        assert any(isinstance(a, Delete) and a.kind == "TrainingRun" for a in planned), "runs beyond the limit go"
        if not again:
            observed._KNOWN.clear()
        costs.append(cost(snapshot))
    few, many = costs
    assert 1.5 * few < many < 2 * few  # a part of the cost is the same for any number


# --- what is remembered ----------------------------------------------------------------------------------------------


def read(named: Mapping[str, Obj]) -> list[Run]:
    return list(read_runs(named, POLICY).values())


def test_runs_are_remembered_of_a_model_with_more_than_200(nothing_known: dict[str, Run]) -> None:
    few, many = runs_of(200), runs_of(201)
    first, second = read(few), read(few)
    assert not any(a is b for a, b in zip(first, second, strict=True))
    assert nothing_known == {}
    first, second = read(many), read(many)
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert len(nothing_known) == 201


def test_run_is_read_anew_when_its_object_or_the_policy_is_another() -> None:
    named = runs_of(201)
    first = read(named)
    changed = {**named, "m-v7": {**named["m-v7"], "status": {}}}
    second = read(changed)
    assert [a.name for a, b in zip(first, second, strict=True) if a is not b] == ["m-v7"]
    assert second[6].finished is False
    other = read_runs(changed, replace(POLICY, seal_key=b"another key"))
    assert not any(a is b for a, b in zip(second, other.values(), strict=True))


def test_no_more_than_50_000_runs_are_remembered(nothing_known: dict[str, Run]) -> None:
    one, another, third = (runs_of(201, model) for model in ("one", "another", "third"))
    known = read(one)
    nothing_known.update((f"a run that is long gone {n}", known[0]) for n in range(50_000 - 2 * 201))
    read(another)
    assert len(nothing_known) == 50_000
    assert all(a is b for a, b in zip(known, read(one), strict=True)), "full, and nothing is forgotten yet"
    assert [r.name for r in read(third)] == list(third)
    assert len(nothing_known) == 201, "one more makes room for all"

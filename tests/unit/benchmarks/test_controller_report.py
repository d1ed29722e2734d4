"""What the controller benchmark makes of its figures: the ratio to the floor, and which budgets are broken."""

from __future__ import annotations

import copy
import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks/controller"

Figures = dict[str, Any]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARK)
    return importlib.import_module("report")


def requests(**counts: dict[str, int]) -> Figures:
    return {"writes": {}, "reads": {}, "standing": {}, "lease": {"update leases": 12}, **counts}


def figures(objects: int, cpu: float, **more: Any) -> Figures:
    return {
        "objects": objects,
        "cpu_ms_per_object": cpu,
        "writes_per_object": 3.0,
        "reads_per_object": 0.0,
        "requests": requests(),
        "start_rss_kib": 80_000,
        "converged_rss_kib": 80_000 + objects * 60,
        **more,
    }


def result() -> Figures:
    """All at its budget."""
    idle = {"seconds": 60.0, "requests": requests(), "cpu_seconds_per_minute": 0.1}
    edits = {"count": 200, "p50_ms": 25.0, "p99_ms": 75.0}
    rounds = [figures(100, 10.0), figures(300, 8.0, idle=idle, edits=edits), figures(300, 10.0), figures(300, 99.0)]
    return {
        "subjects": {
            "serving-floor": {"rounds": [figures(300, 5.0), figures(300, 1.0), figures(300, 50.0)]},
            "serving": {"budget": 3, "floor": "serving-floor", "rounds": rounds},
        }
    }


@pytest.mark.parametrize(
    ("rounds", "floor", "size", "expected"),
    [
        pytest.param([(300, 8.0)], [(300, 4.0)], 300, 2.0, id="one round each"),
        pytest.param([(300, 9.0), (300, 6.0), (300, 99.0)], [(300, 3.0)], 300, 3.0, id="the median, not the mean"),
        pytest.param([(300, 6.0)], [(300, 1.0), (300, 3.0), (300, 90.0)], 300, 2.0, id="also of the floor"),
        pytest.param([(100, 12.0), (300, 6.0)], [(300, 3.0)], 100, 4.0, id="a smaller size, by the same floor"),
        pytest.param([(100, 12.0), (300, 6.0)], [(300, 3.0)], 300, 2.0, id="the size that was asked for"),
        pytest.param([(300, 6.0)], [(100, 50.0), (300, 3.0)], 300, 2.0, id="the floor with the most objects"),
        pytest.param([(300, 6.0), (300, 10.0)], [(300, 4.0)], 300, 2.0, id="between two rounds"),
        pytest.param([(300, 2.0)], [(300, 4.0)], 300, 0.5, id="cheaper than the floor"),
    ],
)
def test_cpu_is_told_as_a_ratio_of_medians(
    report: Any, rounds: list[tuple[int, float]], floor: list[tuple[int, float]], size: int, expected: float
) -> None:
    ratio = report.cpu_ratio([figures(*r) for r in rounds], [figures(*r) for r in floor], size)
    assert ratio == pytest.approx(expected)


def test_no_budget_is_broken_where_all_are_just_kept(report: Any) -> None:
    assert report.broken(result()) == []


def every(**change: Any) -> Callable[[Figures], None]:
    """In all rounds of the subject."""

    def make(found: Figures) -> None:
        for each in found["subjects"]["serving"]["rounds"]:
            each.update(change)

    return make


def part(name: str, **change: Any) -> Callable[[Figures], None]:
    return lambda found: found["subjects"]["serving"]["rounds"][1][name].update(change)


def without_floor(found: Figures) -> None:
    del found["subjects"]["serving-floor"]
    every(cpu_ms_per_object=10.1)(found)


BROKEN: dict[str, tuple[Callable[[Figures], None], list[str]]] = {
    "writes": (
        every(writes_per_object=3.5),
        [f"serving: N = {n}: writes per object is 3.5, at most 3 is allowed" for n in (100, 300)],
    ),
    "reads": (
        every(reads_per_object=0.1),
        [f"serving: N = {n}: uncached reads per object is 0.1, at most 0 is allowed" for n in (100, 300)],
    ),
    "watches": (
        every(requests=requests(standing={"watch pods": 2})),
        [f"serving: N = {n}: lists and watches begun meanwhile is 2, at most 0 is allowed" for n in (100, 300)],
    ),
    "CPU": (
        every(cpu_ms_per_object=11.0),
        [f"serving: N = {n}: CPU per object, times the floor, is 2.2, at most 2 is allowed" for n in (100, 300)],
    ),
    "CPU where no floor was measured": (
        without_floor,
        [f"serving: N = {n}: CPU per object, ms, is 10.1, at most 10 is allowed" for n in (100, 300)],
    ),
    "memory": (
        every(converged_rss_kib=80_000 + 300 * 61),
        ["serving: memory per object, KiB, is 61, at most 60 is allowed"],
    ),
    "median of edits": (
        part("edits", p50_ms=25.5),
        ["serving: edit -> child, p50 ms, is 25.5, at most 25 is allowed"],
    ),
    "slow edits": (part("edits", p99_ms=80.0), ["serving: edit -> child, p99 ms, is 80, at most 75 is allowed"]),
    "idle": (
        part("idle", requests=requests(reads={"get pods": 1})),
        ["serving: idle: requests but the Lease is 1, at most 0 is allowed"],
    ),
}


@pytest.mark.parametrize(("change", "told"), BROKEN.values(), ids=BROKEN)
def test_broken_budget_is_named_with_its_figure(
    report: Any, change: Callable[[Figures], None], told: list[str]
) -> None:
    found = result()
    change(found)
    assert report.broken(found) == told


def test_subject_without_a_budget_is_held_to_none(report: Any) -> None:
    found = result()
    every(writes_per_object=9.0, cpu_ms_per_object=900.0)(found)
    del found["subjects"]["serving"]["budget"]
    assert report.broken(found) == []


@pytest.mark.parametrize(("cpu", "code"), [(10.0, None), (11.0, "CPU per object")])
def test_benchmark_ends_with_an_error_that_names_the_broken_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, report: Any, cpu: float, code: str | None
) -> None:
    bench = importlib.import_module("bench")
    found = copy.deepcopy(result())
    every(cpu_ms_per_object=cpu)(found)

    async def measured(*_: Any) -> Figures:
        return found

    monkeypatch.setattr(bench, "_measure", measured)
    monkeypatch.setattr(bench, "write_result", lambda *_: tmp_path / "r.json")
    monkeypatch.setattr(report, "table_of", lambda results: "the table")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    if code is None:
        bench.main()
        return
    with pytest.raises(SystemExit, match=code):
        bench.main()

"""Results as a table: medians over the rounds, the worst round beside them, and the budget they are held to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
Rounds = Sequence[Mapping[str, Any]]

CPU_MS, P50_MS, P99_MS, KIB = 10.0, 25.0, 75.0, 60.0
CPU_RATIO = 2.0
"""Machines differ by a factor of two: where a floor was measured in the same run, it is the measure of CPU."""


def table(folder: Path) -> str:
    """The newest figures of each subject."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("2*.json"), key=_order)]
    return table_of(results) if results else f"no results in {folder}"


def table_of(results: Iterable[Result]) -> str:
    newest: dict[str, Result] = {}
    for result in results:
        newest |= dict.fromkeys(result["subjects"], result)
    return "\n\n".join(_subject(result["subjects"][name], result) for name, result in newest.items())


def _order(path: Path) -> tuple[str, int]:
    day, _, number = path.stem.rpartition("-")
    return day, int(number)


def _subject(subject: Mapping[str, Any], result: Result) -> str:
    rounds: Rounds = subject["rounds"]
    sizes = sorted({figures["objects"] for figures in rounds} - {0})
    budget = subject.get("budget")
    rows = [("", *(f"N = {size}" for size in sizes), "budget" if budget else "")]

    def row(label: str, name: str, limit: str = "", digits: int = 1) -> None:
        rows.append((label, *(_spread(rounds, size, name, digits) for size in sizes), limit if budget else ""))

    row("writes per object", "writes_per_object", f"<= {budget}", 2)
    row("uncached reads per object", "reads_per_object", "0", 2)
    row("lists and watches begun meanwhile", "begun", "0", 0)
    floor = result["subjects"].get(subject.get("floor"))
    row("CPU per object, ms", "cpu_ms_per_object", "" if floor else f"<= {CPU_MS:.0f}")
    if floor:
        ratios = (f"{cpu_ratio(rounds, floor['rounds'], size):.2f}" for size in sizes)
        rows.append(("CPU per object, times the floor of the same run", *ratios, f"<= {CPU_RATIO:.0f}"))
    row("all converged, s", "converge_seconds")
    memory = ["-"] * (len(sizes) - 1) + [f"{kib_per_object(rounds):.0f}"]
    rows.append((f"memory per object, KiB (N = {sizes[-1]} - N = 0)", *memory, f"<= {KIB:.0f}" if budget else ""))
    row("memory when converged, MiB", "converged_rss_mib", digits=0)
    rows += _edits(rounds, sizes, bool(budget)) + _idle(rounds, sizes, bool(budget))
    row("load average before", "load_before")
    head = f"{subject['title']}\n{result['at'][:10]}, {_versions(result)}; {result['machine']['cores']} cores"
    requests = "\n".join(
        f"N = {size}, writes: " + ", ".join(f"{n} {what}" for what, n in _writes(rounds, size)) for size in sizes
    )
    return f"{head}\n\n{markdown(rows)}\n\n{requests}"


def broken(result: Result) -> list[str]:
    """The budgets that do not hold, of the subjects that have any; medians, as in the table."""
    return [
        f"{name}: {what} is {value:g}, at most {bound:g} is allowed"
        for name, subject in result["subjects"].items()
        if subject.get("budget")
        for what, value, bound in _held(subject, result)
        if value > bound
    ]


def _held(subject: Mapping[str, Any], result: Result) -> Iterable[tuple[str, float, float]]:
    """(what, value, budget)"""
    rounds: Rounds = subject["rounds"]
    floor = result["subjects"].get(subject.get("floor"))
    for size in sorted({figures["objects"] for figures in rounds} - {0}):
        at = f"N = {size}: "
        for what, name, bound in (
            ("writes per object", "writes_per_object", float(subject["budget"])),
            ("uncached reads per object", "reads_per_object", 0.0),
            ("lists and watches begun meanwhile", "begun", 0.0),
        ):
            yield at + what, _median(rounds, size, name), bound
        if floor:
            yield at + "CPU per object, times the floor,", cpu_ratio(rounds, floor["rounds"], size), CPU_RATIO
        else:
            yield at + "CPU per object, ms,", _median(rounds, size, "cpu_ms_per_object"), CPU_MS
    yield "memory per object, KiB,", kib_per_object(rounds), KIB
    if edits := _of_largest(rounds, "edits"):
        yield "edit -> child, p50 ms,", edits["p50_ms"], P50_MS
        yield "edit -> child, p99 ms,", edits["p99_ms"], P99_MS
    if idle := _of_largest(rounds, "idle"):
        yield "idle: requests but the Lease", float(_but_the_lease(idle)), 0.0


def cpu_ratio(rounds: Rounds, floor: Rounds, size: int) -> float:
    """Median CPU per object over that of the floor, which is measured with the most objects only."""
    most: int = max(figures["objects"] for figures in floor)
    return _median(rounds, size, "cpu_ms_per_object") / _median(floor, most, "cpu_ms_per_object")


def kib_per_object(rounds: Rounds) -> float:
    """Memory with the most objects, converged, less that of a controller that has just started with none."""
    size: int = max(figures["objects"] for figures in rounds)
    empty = [figures["start_rss_kib"] for figures in rounds if figures["objects"] == 0]
    if not empty:  # nothing exists before it starts
        empty = [figures["start_rss_kib"] for figures in rounds]
    full = [figures["converged_rss_kib"] for figures in rounds if figures["objects"] == size]
    return float(statistics.median(full) - statistics.median(empty)) / size


def _edits(rounds: Rounds, sizes: Sequence[int], budget: bool) -> list[tuple[str, ...]]:
    found = _of_largest(rounds, "edits")
    if found is None:
        return []
    names = [
        (f"edit -> child, p50 ms ({found['count']} edits)", "p50_ms", f"<= {P50_MS:.0f}"),
        ("edit -> child, p99 ms", "p99_ms", f"<= {P99_MS:.0f}"),
        ("CPU per edit, ms", "cpu_ms_per_edit", ""),
        ("writes per edit", "writes_per_edit", ""),
    ]
    pad = ("-",) * (len(sizes) - 1)
    return [(label, *pad, f"{found[name]:g}", limit if budget else "") for label, name, limit in names]


def _idle(rounds: Rounds, sizes: Sequence[int], budget: bool) -> list[tuple[str, ...]]:
    found = _of_largest(rounds, "idle")
    if found is None:
        return []
    pad, per_minute = ("-",) * (len(sizes) - 1), 60 / found["seconds"]
    others, lease = _but_the_lease(found), sum(found["requests"]["lease"].values())
    return [
        ("idle: requests per minute but the Lease", *pad, f"{others * per_minute:.0f}", "0" if budget else ""),
        ("idle: Lease requests per minute", *pad, f"{lease * per_minute:.0f}", ""),
        ("idle: CPU s per minute", *pad, f"{found['cpu_seconds_per_minute']:g}", ""),
    ]


def _but_the_lease(idle: Mapping[str, Any]) -> int:
    return sum(sum(idle["requests"][kind].values()) for kind in ("writes", "reads", "standing"))


def _of_largest(rounds: Rounds, part: str) -> Mapping[str, Any] | None:
    return next((figures[part] for figures in rounds if part in figures), None)


def _spread(rounds: Rounds, size: int, name: str, digits: int) -> str:
    values = [_value(figures, name) for figures in rounds if figures["objects"] == size]
    middle, low, high = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low}-{high})"


def _median(rounds: Rounds, size: int, name: str) -> float:
    return statistics.median(_value(figures, name) for figures in rounds if figures["objects"] == size)


def _value(figures: Mapping[str, Any], name: str) -> float:
    if name == "begun":  # a watch that does not work shows here: its objects then come by lists
        return float(sum(figures["requests"]["standing"].values()))
    if name == "converged_rss_mib":
        return float(figures["converged_rss_kib"]) / 1024
    return float(figures[name])


def _writes(rounds: Rounds, size: int) -> list[tuple[str, int]]:
    """Of the last round of that size."""
    last = [figures for figures in rounds if figures["objects"] == size][-1]
    return sorted(last["requests"]["writes"].items())


def _versions(result: Result) -> str:
    versions = result["versions"]
    return ", ".join(f"{name} {versions[name]}" for name in ("kubernetes", "python", "commit"))


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)

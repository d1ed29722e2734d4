"""A result as markdown: what README.md shows and `--report` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from . import figures
from .cells import CELLS
from .figures import CPU, RATE, Result, Spread, Verdict
from .subjects import ECHO, SUBJECTS

BUSY: Final = 0.95
NOTHING: Final = "-"

Row = tuple[str, ...]


def newest(folder: Path) -> Result | None:
    """By day and number of the file's name."""
    paths = sorted(folder.glob("*.json"), key=_order)
    return json.loads(paths[-1].read_text()) if paths else None


def _order(path: Path) -> tuple[str, int]:
    day, _, number = path.stem.rpartition("-")
    return day, int(number)


def document(result: Result) -> str:
    measured = [name for name in SUBJECTS if any(name in each["servers"] for each in result["rounds"])]
    peers = [name for name in measured if SUBJECTS[name].lock]
    inferring = [name for name in measured if name != ECHO]
    parts = [
        _head(result),
        _section("Goals", _goals(figures.judge(result))),
        _section("Requests per second", _cells(result, measured, _rates)),
        _section("CPU per request, us", _cells(result, measured, _cpu)),
        _section("Ours over theirs: requests per second", _cells(result, peers, _advantage(RATE))),
        _section("Ours over theirs: requests per CPU second", _cells(result, peers, _advantage(CPU))),
        _section("Share of the CPU time: onnxruntime's run / bare HTTP", _cells(result, inferring, _shares)),
        _section("Start and memory, one model", _starts(result, measured)),
        _section("Open loop, logreg JSON: p50 / p99 / max ms", _open(result, inferring)),
        _notes(result),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(result: Result) -> str:
    machine, versions, options = result["machine"], result["versions"], result["options"]
    loads = [load[0] for each in result["rounds"] for load in (each["load_before"], each["load_after"])]
    packages = ", ".join(f"{name} {version}" for name, version in versions["shown"].items())
    return (
        f"{result['at'][:10]}, commit {versions['commit']}; {machine.get('cpu', machine['architecture'])}, "
        f"{machine['cores']} cores\n{packages}\n"
        f"{len(result['rounds'])} rounds, {options['seconds']:g} s a cell: medians, extremes in brackets; "
        f"load average {min(loads):.1f} to {max(loads):.1f}"
    )


def _section(title: str, rows: Sequence[Row]) -> str:
    return f"**{title}**\n\n{markdown(rows)}" if len(rows) > 1 else ""


def _goals(verdicts: Sequence[Verdict]) -> list[Row]:
    rows: list[Row] = [("goal", "set", "measured", "")]
    for verdict in verdicts:
        goal, spread = verdict.goal, verdict.spread
        sign = ">=" if goal.at_least else "<="
        word = {True: "pass", False: "**miss**", None: "not measured"}[verdict.passed]
        measured = _spread(spread, _number, goal.unit) + (" †" if verdict.doubtful else "")
        rows.append((goal.title, f"{sign} {goal.limit:g}{goal.unit}", measured, word))
    return rows


def _cells(result: Result, servers: Sequence[str], show: Callable[[Result, str, str], str]) -> list[Row]:
    cells = [
        name
        for name in CELLS
        if any(name in each["closed"] for numbers in result["rounds"] for each in numbers["servers"].values())
    ]
    rows: list[Row] = [("", *(CELLS[name].title for name in cells))] if cells else []
    return rows + [(SUBJECTS[server].title, *(show(result, server, cell) for cell in cells)) for server in servers]


def _rates(result: Result, server: str, cell: str) -> str:
    busy = Spread.of(figures.values(result, server, cell, "generator_busy"))
    mark = " \\*" if busy and busy.median > BUSY else ""
    return _measured(result, server, cell, RATE, lambda value: f"{value:,.0f}") + mark


def _cpu(result: Result, server: str, cell: str) -> str:
    return _measured(result, server, cell, CPU, _number)


def _measured(result: Result, server: str, cell: str, name: str, form: Callable[[float], str]) -> str:
    rounds = [each for each in figures.closed(result, server, cell) if each]
    invalid = sum("invalid" in each for each in rounds)
    if not rounds:
        return NOTHING
    if invalid == len(rounds):
        return "invalid"
    text = _spread(Spread.of(figures.values(result, server, cell, name)), form)
    return f"{text}, {invalid} invalid" if invalid else text


def _advantage(name: str) -> Callable[[Result, str, str], str]:
    return lambda result, peer, cell: _spread(Spread.of(figures.advantages(result, peer, cell, name)), _number, "x")


def _shares(result: Result, server: str, cell: str) -> str:
    found = figures.shares(result, server, cell)
    if found.runtime is None:
        return NOTHING
    return f"{found.runtime:.1%} / {NOTHING if found.http is None else format(found.http, '.1%')}"


def _starts(result: Result, servers: Sequence[str]) -> list[Row]:
    rows: list[Row] = [("", "cold start, s", "RSS, MiB", "PSS, MiB", "processes")]
    for server in servers:
        spreads = [Spread.of(figures.start_values(result, server, n)) for n in ("cold_seconds", "rss_mib", "pss_mib")]
        processes = Spread.of(figures.start_values(result, server, "processes"))
        if processes:
            forms = (lambda value: f"{value:.2f}", *[lambda value: f"{value:.0f}"] * 2)
            shown = (_spread(spread, form) for spread, form in zip(spreads, forms, strict=True))
            rows.append((SUBJECTS[server].title, *shown, f"{processes.median:g}"))
    return rows


def _open(result: Result, servers: Sequence[str]) -> list[Row]:
    rates: list[int] = result["options"]["rates"]
    rows = [("", *(f"{rate:,}/s" for rate in rates))]
    for server in servers:
        cells = [_at_rate(figures.open_loop(result, server, rate)) for rate in rates]
        if set(cells) != {NOTHING}:
            rows.append((SUBJECTS[server].title, *cells))
    return rows


def _at_rate(rounds: Sequence[Any]) -> str:
    valid = [each for each in rounds if "invalid" not in each]
    if not valid:
        return "invalid" if rounds else NOTHING
    saturated = [each for each in valid if each["saturated"]]
    if 2 * len(saturated) > len(valid):
        answered = Spread.of(each["answered"] / each["window_seconds"] for each in saturated)
        return f"saturated ({answered.median:,.0f}/s)" if answered else NOTHING
    held = [each for each in valid if not each["saturated"]]
    columns = (Spread.of(each[name] / 1e3 for each in held) for name in ("p50_us", "p99_us", "max_us"))
    text = " / ".join(f"{spread.median:.2f}" for spread in columns if spread)
    marks = " †" if any(figures.lag_note(each) for each in held) else ""
    return text + marks + (f", saturated in {len(saturated)} of {len(valid)} rounds" if saturated else "")


def _notes(result: Result) -> str:
    lags = [
        each["lag_p99_us"]
        for numbers in result["rounds"]
        for measured in numbers["servers"].values()
        for each in measured["open"].values()
        if "lag_p99_us" in each
    ]
    lines = [
        "\\* the generator used more than 95 % of its core: the server could have been faster.",
        "† the generator's own lag (p99) was above 10 % of the p99 in some round, or requests were dropped.",
    ]
    if lags:
        lines.append(f"Send lag of the open-loop generator, p99: {min(lags):.0f} to {max(lags):.0f} us.")
    return "\n".join([*lines, *figures.complaints(result)])


def _spread(spread: Spread | None, form: Callable[[float], str], unit: str = "") -> str:
    if spread is None:
        return NOTHING
    middle, low, high = (form(value) for value in (spread.median, spread.low, spread.high))
    return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low}-{high})"


def _number(value: float) -> str:
    """Three digits that matter."""
    if not math.isfinite(value):
        return "not held"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)

"""What the rounds say: medians, ratios, shares of the limits, goals. Pure functions of a result as it is committed.

A ratio is computed within a round, where both servers met the same machine, and the median is taken of the ratios.
A measurement of ours that failed counts as the worst there is, so that no goal is reached by failing; one of a peer's
that failed is left out.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .cells import CELLS, OPEN_LOOP_CELL
from .subjects import ECHO, OURS

Result = Mapping[str, Any]

RATE: Final = "requests_per_second"
CPU: Final = "cpu_us"
LAG_SHARE: Final = 0.1  # of the reported p99: above it, the generator's delays are part of the figure


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1]) if found else None


def closed(result: Result, server: str, cell: str) -> list[Mapping[str, Any] | None]:
    """By round; None where it was not measured."""
    return [figures["servers"].get(server, {}).get("closed", {}).get(cell) for figures in result["rounds"]]


def values(result: Result, server: str, cell: str, name: str) -> list[float]:
    """Of the valid rounds."""
    return [each[name] for each in closed(result, server, cell) if each and "invalid" not in each]


def start_values(result: Result, server: str, name: str) -> list[float]:
    starts = (figures["servers"].get(server, {}).get("start") for figures in result["rounds"])
    return [start[name] for start in starts if start]


def open_loop(result: Result, server: str, rate: int) -> list[Mapping[str, Any]]:
    """Of the rounds that got as far as this rate."""
    found = (figures["servers"].get(server, {}).get("open", {}).get(str(rate)) for figures in result["rounds"])
    return [each for each in found if each]


def advantages(result: Result, peer: str, cell: str, name: str = RATE) -> list[float]:
    """Of ours over the peer, one a round: above 1 is better, for requests per second and for CPU alike."""
    found = []
    for ours, other in zip(closed(result, OURS, cell), closed(result, peer, cell), strict=True):
        if not ours or not other or "invalid" in other:
            continue
        if "invalid" in ours:
            found.append(0.0)
        elif name == RATE:
            found.append(ours[name] / other[name])
        else:
            found.append(other[name] / ours[name])
    return found


@dataclass(frozen=True)
class Shares:
    """Of a cell's CPU time per request, in the median: onnxruntime's run, and HTTP on our stack with nothing behind."""

    runtime: float | None
    http: float | None


def shares(result: Result, server: str, cell: str) -> Shares:
    limit = f"{CELLS[cell].model}-{CELLS[cell].rows}"
    runtime, http = [], []
    for number, figures in enumerate(closed(result, server, cell)):
        if not figures or "invalid" in figures or not figures[CPU]:
            continue
        runtime.append(result["rounds"][number]["limits"][limit] / figures[CPU])
        echo = closed(result, ECHO, cell)[number]
        if echo and "invalid" not in echo:
            http.append(echo[CPU] / figures[CPU])
    return Shares(*(spread.median if spread else None for spread in (Spread.of(runtime), Spread.of(http))))


def lag_note(figures: Mapping[str, Any]) -> bool:
    """Whether the generator's own delays or requests it gave up are part of this open-loop figure."""
    return bool(figures.get("dropped")) or figures.get("lag_p99_us", 0.0) > LAG_SHARE * figures.get("p99_us", math.inf)


@dataclass(frozen=True, kw_only=True)
class Goal(ABC):
    """at_least: whether more is better. The limit itself passes."""

    title: str
    limit: float
    unit: str
    at_least: bool

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    @abstractmethod
    def observed(self, result: Result) -> list[float]:
        """One a round that measured it."""

    def doubtful(self, result: Result) -> bool:
        """Whether the generator's own delays may be part of the figures."""
        return False


@dataclass(frozen=True, kw_only=True)
class Faster(Goal):
    peer: str
    cell: str
    unit: str = "x"
    at_least: bool = True

    def observed(self, result: Result) -> list[float]:
        return advantages(result, self.peer, self.cell)


@dataclass(frozen=True, kw_only=True)
class CheapRequest(Goal):
    cell: str
    unit: str = " us"
    at_least: bool = False

    def observed(self, result: Result) -> list[float]:
        return [
            math.inf if "invalid" in figures else figures[CPU]
            for figures in closed(result, OURS, self.cell)
            if figures is not None
        ]


@dataclass(frozen=True, kw_only=True)
class QuickUnderRate(Goal):
    rate: int
    unit: str = " ms"
    at_least: bool = False

    def observed(self, result: Result) -> list[float]:
        """Infinite where the rate was not held, or a lower one already was not."""
        found = []
        for figures in result["rounds"]:
            reached = figures["servers"].get(OURS, {}).get("open", {})
            at_rate = reached.get(str(self.rate))
            if at_rate is not None and not at_rate.get("saturated") and "invalid" not in at_rate:
                found.append(at_rate["p99_us"] / 1e3)
            elif reached and self.rate in result["options"]["rates"]:
                found.append(math.inf)
        return found

    def doubtful(self, result: Result) -> bool:
        return any(lag_note(each) for each in open_loop(result, OURS, self.rate))


@dataclass(frozen=True, kw_only=True)
class SmallStart(Goal):
    name: str
    at_least: bool = False

    def observed(self, result: Result) -> list[float]:
        return start_values(result, OURS, self.name)


_TUNED: Final = {"mlserver-tuned": "MLServer tuned", "kserve-tuned": "KServe tuned"}


def _faster(limit: float, cell: str, *peers: str) -> list[Goal]:
    what = CELLS[cell].title
    return [Faster(title=f"{what}, over {_TUNED[p]}", limit=limit, peer=p, cell=cell) for p in peers or _TUNED]


GOALS: Final[Sequence[Goal]] = (
    *_faster(8, "logreg-c8"),
    *_faster(18, "logreg-c64"),
    *_faster(4, "mlp-json", "mlserver-tuned"),
    *_faster(6, "mlp-json", "kserve-tuned"),
    *_faster(12, "mlp-binary", "kserve-tuned"),
    *_faster(2, "mlp-json-32", "mlserver-tuned"),
    *_faster(2, "logreg-grpc"),
    QuickUnderRate(title=f"open loop {OPEN_LOOP_CELL.model} 5,000/s, p99", limit=2.5, rate=5000),
    CheapRequest(title="CPU per request, logreg JSON c=8", limit=90, cell="logreg-c8"),
    CheapRequest(title="CPU per request, logreg JSON c=64", limit=45, cell="logreg-c64"),
    SmallStart(title="cold start to the first answer", limit=1.2, unit=" s", name="cold_seconds"),
    SmallStart(title="memory (RSS)", limit=110, unit=" MiB", name="rss_mib"),
)


@dataclass(frozen=True)
class Verdict:
    """spread and passed are None where the result has no figures for the goal."""

    goal: Goal
    spread: Spread | None
    passed: bool | None
    doubtful: bool


def judge(result: Result, goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    """By the median of the rounds."""
    verdicts = []
    for goal in goals:
        spread = Spread.of(goal.observed(result))
        passed = goal.holds(spread.median) if spread else None
        verdicts.append(Verdict(goal, spread, passed, goal.doubtful(result)))
    return verdicts


def complaints(result: Result) -> list[str]:
    """What was not measured or must not be trusted, and why."""
    found = []
    for figures in result["rounds"]:
        for server, measured in figures["servers"].items():
            where = f"round {figures['round'] + 1}, {server}"
            found += [f"{where}: {failure}" for failure in measured.get("failures", ())]
            cells = {**measured["closed"], **{f"{rate}/s": each for rate, each in measured["open"].items()}}
            found += [f"{where}, {cell}: {each['invalid']}" for cell, each in cells.items() if "invalid" in each]
    return found

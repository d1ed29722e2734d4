"""What is said of the rounds of benchmarks/serving: medians, ratios within a round, goals, and how failures count."""

from __future__ import annotations

import math
from typing import Any

import pytest
from serving_bench import figures
from serving_bench.cells import CELLS
from serving_bench.figures import CheapRequest, Faster, QuickUnderRate, SmallStart, Spread

LIMITS = {"logreg-1": 8.0, "mlp-1": 60.0}


def cell(rate: float, cpu: float = 50.0) -> dict[str, Any]:
    return {"requests_per_second": rate, "cpu_us": cpu, "generator_busy": 0.5}


def held(p99_us: float, **more: Any) -> dict[str, Any]:
    return {"p99_us": p99_us, "saturated": False, "dropped": 0, "lag_p99_us": 10.0, **more}


def server(closed: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"closed": closed or {}, "open": {}, **more}


def result(*rounds: dict[str, Any]) -> dict[str, Any]:
    return {
        "options": {"rates": [1000, 5000]},
        "rounds": [{"round": n, "limits": LIMITS, "servers": servers} for n, servers in enumerate(rounds)],
    }


FASTER = Faster(title="faster", limit=8, peer="mlserver-tuned", cell="logreg-c8")
CHEAP = CheapRequest(title="cheap", limit=90, cell="logreg-c8")
QUICK = QuickUnderRate(title="quick", limit=2.5, rate=5000)
SMALL = SmallStart(title="small", limit=110, unit=" MiB", name="rss_mib")


def race(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, Any]:
    return {"steeltown": server({"logreg-c8": ours}), "mlserver-tuned": server({"logreg-c8": peer})}


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ([3.0, 1.0, 2.0], Spread(2.0, 1.0, 3.0)),
        ([4.0, 1.0], Spread(2.5, 1.0, 4.0)),
        ([7.0], Spread(7.0, 7.0, 7.0)),
        ([], None),
    ],
)
def test_a_spread_is_the_median_and_the_extremes(values: list[float], spread: Spread | None) -> None:
    assert Spread.of(values) == spread


def test_ratios_are_made_within_a_round_before_their_median_is_taken() -> None:
    # The second round's machine was half as fast for both: medians of all rounds would make a ratio of 15.
    measured = result(race(cell(10_000), cell(1_000)), race(cell(5_000), cell(500)), race(cell(20_000), cell(1_000)))
    assert figures.advantages(measured, "mlserver-tuned", "logreg-c8") == [10, 10, 20]
    assert Spread.of(figures.advantages(measured, "mlserver-tuned", "logreg-c8")) == Spread(10, 10, 20)


def test_an_advantage_in_cpu_time_is_above_one_when_ours_uses_less() -> None:
    measured = result(race(cell(1, cpu=50), cell(1, cpu=800)))
    assert figures.advantages(measured, "mlserver-tuned", "logreg-c8", figures.CPU) == [16]


def test_a_round_in_which_the_peer_failed_is_left_out() -> None:
    measured = result(race(cell(10_000), {"invalid": "status 500"}), race(cell(9_000), cell(1_000)))
    assert figures.advantages(measured, "mlserver-tuned", "logreg-c8") == [9]


def test_a_round_in_which_ours_failed_counts_as_no_advantage() -> None:
    measured = result(race({"invalid": "status 500"}, cell(1_000)))
    assert figures.advantages(measured, "mlserver-tuned", "logreg-c8") == [0]


@pytest.mark.parametrize(
    ("goal", "servers", "passed"),
    [
        (FASTER, race(cell(8_000), cell(1_000)), True),
        (FASTER, race(cell(7_999), cell(1_000)), False),
        (FASTER, race({"invalid": "wrong answer"}, cell(1_000)), False),
        (FASTER, {"steeltown": server({"logreg-c8": cell(8_000)})}, None),
        (CHEAP, {"steeltown": server({"logreg-c8": cell(1, cpu=90)})}, True),
        (CHEAP, {"steeltown": server({"logreg-c8": cell(1, cpu=90.1)})}, False),
        (CHEAP, {"steeltown": server({"logreg-c8": {"invalid": "wrong answer"}})}, False),
        (CHEAP, {"mlserver-tuned": server({"logreg-c8": cell(1, cpu=1)})}, None),
        (QUICK, {"steeltown": server(open={"5000": held(2500)})}, True),
        (QUICK, {"steeltown": server(open={"5000": held(2501)})}, False),
        (QUICK, {"steeltown": server(open={"5000": held(900, saturated=True)})}, False),
        (QUICK, {"steeltown": server(open={"5000": held(900, invalid="status 503")})}, False),
        (QUICK, {"steeltown": server(open={"1000": held(900, saturated=True)})}, False),
        (QUICK, {"steeltown": server()}, None),
        (SMALL, {"steeltown": server(start={"rss_mib": 110})}, True),
        (SMALL, {"steeltown": server(start={"rss_mib": 111})}, False),
        (SMALL, {"steeltown": server()}, None),
    ],
)
def test_a_goal_is_passed_missed_or_not_measured(
    goal: figures.Goal, servers: dict[str, Any], passed: bool | None
) -> None:
    [verdict] = figures.judge(result(servers), [goal])
    assert verdict.passed is passed


def test_a_goal_is_judged_by_the_median_of_the_rounds() -> None:
    rounds = [{"steeltown": server({"logreg-c8": cell(1, cpu=cpu)})} for cpu in (80, 95, 85)]
    [verdict] = figures.judge(result(*rounds), [CHEAP])
    assert verdict.passed
    assert verdict.spread == Spread(85, 80, 95)


def test_one_round_below_the_rate_shows_as_infinite_in_the_spread() -> None:
    rounds = [{"steeltown": server(open={"5000": each})} for each in (held(600), held(900, saturated=True), held(700))]
    [verdict] = figures.judge(result(*rounds), [QUICK])
    assert verdict.passed
    assert verdict.spread is not None
    assert math.isinf(verdict.spread.high)


def test_shares_hold_a_request_against_both_limits_of_its_own_round() -> None:
    measured = result(
        {"steeltown": server({"logreg-c8": cell(1, cpu=40)}), "echo": server({"logreg-c8": cell(1, cpu=10)})}
    )
    assert figures.shares(measured, "steeltown", "logreg-c8") == figures.Shares(runtime=0.2, http=0.25)


@pytest.mark.parametrize(
    ("measured", "noted"),
    [
        (held(1000, lag_p99_us=100.0), False),
        (held(1000, lag_p99_us=101.0), True),
        (held(1000, dropped=1), True),
    ],
)
def test_a_generator_that_was_late_or_gave_up_is_noted(measured: dict[str, Any], noted: bool) -> None:
    assert figures.lag_note(measured) is noted


def test_a_goal_judged_by_latency_that_may_be_lag_is_doubtful() -> None:
    late, punctual = held(1000, lag_p99_us=400.0), held(1000)
    verdicts = [
        figures.judge(result({"steeltown": server(open={"5000": each})}), [QUICK])[0] for each in (late, punctual)
    ]
    assert [verdict.doubtful for verdict in verdicts] == [True, False]


def test_every_failure_is_told_with_its_round_and_server() -> None:
    failed = server({"logreg-c8": {"invalid": "status 500"}}, failures=["rf: the server ended with 1"])
    assert figures.complaints(result({"kserve": failed})) == [
        "round 1, kserve: rf: the server ended with 1",
        "round 1, kserve, logreg-c8: status 500",
    ]


def test_every_goal_of_the_table_names_a_cell_that_exists() -> None:
    assert all(CELLS[goal.cell] for goal in figures.GOALS if isinstance(goal, Faster | CheapRequest))

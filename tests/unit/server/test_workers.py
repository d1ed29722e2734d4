"""Several processes on one port: to everybody outside they are one server."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from steeltown.contract.evidence import Evidence, Route
from steeltown.contract.faults import Fault
from steeltown_server.counters import Counters
from steeltown_server.engine import RunStatistics
from steeltown_server.settings import Settings
from steeltown_server.workers import count

INFER = "/v2/models/m/infer"
GIB = 1 << 30


def settings(workers: int = 0) -> Settings:
    return Settings(model_name="m", model_version="v", model_digest="d", workers=workers)


@pytest.mark.parametrize(
    ("workers", "cpus", "memory", "model", "expected"),
    [
        (0, 1, 64 * GIB, 0, 1),
        (0, 4, 64 * GIB, 1 << 20, 4),
        (0, 4, GIB, 1 << 20, 3),  # half of the memory holds three
        (0, 4, GIB, 1 << 28, 1),
        (0, 4, 100 << 20, 0, 1),  # never none
        (3, 1, 100 << 20, 0, 3),  # who asks for them gets them
    ],
)
def test_workers_fill_the_processors_as_far_as_memory_goes(
    workers: int, cpus: int, memory: int, model: int, expected: int
) -> None:
    assert count(settings(workers), cpus=cpus, memory_bytes=memory, model_bytes=model) == expected


def children(server: Any) -> list[int]:
    text = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


@pytest.fixture
def pair(serve: Any, scaled: Any, tmp_path: Path) -> Iterator[Any]:
    """Two workers; both listen."""
    server = serve(scaled, workers=2, route_file=tmp_path / "route.json", drain_seconds=1.5)
    deadline = time.monotonic() + 30
    while len(server.logged("serving")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield server
    server.terminate()  # the parent takes its workers with it, unless it is killed
    server.process.wait(timeout=20)


def ask(server: Any, row: Any, connections: int, each: int) -> None:
    """So many connections that none of the workers goes without, save once in 2^connections."""

    def one(_: int) -> None:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for _ in range(each):
                assert client.post(INFER, json=row).json()["outputs"][0]["data"] == [2, 4, 6]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(connections)))


def test_any_worker_tells_what_all_have_counted(pair: Any, row: Any) -> None:
    ask(pair, row, 40, 3)
    told = [pair.evidence() for _ in range(12)]  # by whichever worker the connection came to
    assert {e.live.requests for e in told} == {120}
    assert {e.live.latency.total for e in told} == {120}
    assert len({e.instance for e in told}) == 1
    (stats,) = pair.get("/v2/models/m/stats").json()["model_stats"]
    assert stats["inference_count"] == 120
    text = pair.get("/metrics").text
    assert any(
        line.startswith("steeltown_server_requests_total") and line.endswith(" 120.0") for line in text.splitlines()
    )
    assert httpx.post(pair.url + "/steeltown/evidence").status_code == 405


def test_each_worker_answers_a_part(pair: Any, row: Any) -> None:
    before = [cpu(pid) for pid in children(pair)]
    ask(pair, row, 40, 10)
    assert all(after > first for after, first in zip(map(cpu, children(pair)), before, strict=True))


def cpu(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def test_a_new_epoch_begins_for_all_and_counts_from_zero(pair: Any, row: Any, tmp_path: Path) -> None:
    ask(pair, row, 20, 1)
    (tmp_path / "new").write_text(Route(window="two").to_json())
    os.replace(tmp_path / "new", tmp_path / "route.json")
    deadline = time.monotonic() + 5
    while {pair.evidence().window for _ in range(12)} != {"two"}:
        assert time.monotonic() < deadline
    assert pair.evidence().live.requests == 0
    ask(pair, row, 20, 1)
    assert {pair.evidence().live.requests for _ in range(6)} == {20}


def test_signal_drains_all_workers_and_loses_nothing(pair: Any, row: Any) -> None:
    stop = time.monotonic() + 5

    def load(_: int) -> int:
        answered = 0
        with httpx.Client(base_url=pair.url, timeout=20) as client:
            while time.monotonic() < stop:
                try:
                    assert client.post(INFER, json=row).status_code == 200
                except httpx.ConnectError:  # it no longer listens
                    return answered
                answered += 1
        raise AssertionError("the server never went away")

    with ThreadPoolExecutor(6) as pool:
        loads = [pool.submit(load, i) for i in range(6)]
        time.sleep(0.3)
        pair.terminate()
        assert all(each.result() > 0 for each in loads)
    assert pair.process.wait(timeout=20) == 0
    assert [line["finished"] for line in pair.logged("stopped")] == [True, True]


def test_death_of_one_worker_ends_all(pair: Any) -> None:
    """The kubelet starts all of them anew; half a server would go unnoticed."""
    os.kill(children(pair)[0], signal.SIGKILL)
    assert pair.process.wait(timeout=20) == 128 + signal.SIGKILL
    with pytest.raises(httpx.ConnectError):
        httpx.get(pair.url)


def test_model_that_must_not_serve_ends_all_with_its_reason(launch: Any, scaled: Any) -> None:
    golden = scaled.golden()
    golden["outputs"][0]["data"][0] = 3
    scaled.write_golden(golden)
    server = launch(scaled, workers=2)
    assert server.process.wait(timeout=30) == 65
    assert "GoldenRowsDiffer" in (scaled.path / "termination-log").read_text()


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


ROUTE = Route(window="e", weight=5, canary_url="http://a:1", canary_digest="sha256:c")


def test_counts_add_up() -> None:
    first, second = Counters("d", "i"), Counters("d", "i")
    for counters, errors in ((first, 1), (second, 2)):
        counters.begin(ROUTE)
        for _ in range(errors):
            counters.current.live.error("failed", "boom")
        counters.current.canary.ok(20)
        counters.count_answer(200)
        counters.count_canary("ok")
        counters.count_latency(50, 20)
    both = first.with_told([through_json(second.told())])
    evidence = both.evidence()
    assert (evidence.live.errors, evidence.canary.requests, evidence.window) == (3, 2, "e")
    assert evidence.live.faults == (Fault(kind="failed", first="boom", count=3),)
    assert (evidence.route, evidence.weight) == (ROUTE.fingerprint, 5)
    assert (both.answers, both.canary_results, both.latency_microseconds) == ({200: 2}, {"ok": 2}, 100)
    assert sum(both.latency.values()) == 2
    assert (both.current.weight, both.current.route) == (5, ROUTE.fingerprint)


@pytest.mark.parametrize(
    "other", [replace(ROUTE, window="later"), replace(ROUTE, weight=6), replace(ROUTE, canary_digest="sha256:x"), None]
)
def test_counts_of_another_route_are_not_added(other: Route | None) -> None:
    """A worker that is a poll ahead or behind."""
    first, second = Counters("d", "i"), Counters("d", "i")
    for counters, route in ((first, ROUTE), (second, other)):
        counters.begin(route)
        counters.current.live.error("failed", "boom")
        counters.current.canary.error("timeout", "no response within 1 s")
    told = first.with_told([through_json(second.told())]).evidence()
    assert (told.live.errors, told.canary.errors, told.route) == (1, 1, ROUTE.fingerprint)


def test_evidence_with_told_is_that_of_one_process() -> None:
    counters = Counters("d", "i")
    assert Evidence.from_json(through_json(counters.told()["evidence"])) == counters.evidence()


def test_statistics_add_up() -> None:
    one, other = RunStatistics(), RunStatistics()
    for statistics, runs in ((one, 1), (other, 2)):
        statistics.runs = statistics.jobs = runs
        statistics.rows = 10 * runs
        statistics.batches = {3: (runs, 7)}
        statistics.waits = {5: runs}
        statistics.last_run = runs
    both = one.with_told([through_json(other.told())])
    assert (both.runs, both.jobs, both.rows, both.batches, both.waits) == (3, 3, 30, {3: (3, 14)}, {5: 3})
    assert both.last_run == 2


def test_array_model_answers_alike_from_every_worker(pair: Any, body: Any) -> None:
    array = np.arange(30, dtype=np.float32).reshape(10, 3)
    for _ in range(8):
        assert pair.infer(body(x=array)).json()["outputs"][0]["data"] == (array * 2).ravel().tolist()

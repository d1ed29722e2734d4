"""Evidence: read only while a plan asks, and a reason to reconcile only when it says something new."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from steeltown.contract.evidence import EVIDENCE_PATH, Counts, Evidence
from steeltown.contract.histogram import Histogram
from steeltown.core.plan import Key, Observe
from steeltown.kube.observe import EvidenceReader
from steeltown.runtime.observer import Observer
from steeltown.runtime.store import Store

MODEL = Key("MLModel", "team", "m")
POD = Observe(uid="u", url="http://pod")


def evidence(requests: int) -> Evidence:
    live = Counts(requests=requests, latency=Histogram({5: requests}))
    canary = Counts(requests=1, errors=1)
    return Evidence(instance="i", digest="d", window="e", weight=5, live=live, canary=canary)


def answer_with(**changed: Any) -> bytes:
    return json.dumps({**evidence(7).to_json(), **changed}).encode()


class Reader:
    def __init__(self) -> None:
        self.says: Evidence | None = None
        self.reads = 0

    async def read(self, url: str) -> Evidence | None:
        self.reads += 1
        return self.says


class Bench:
    def __init__(self) -> None:
        self.store, self.reader = Store(), Reader()
        self.woken: list[Key] = []
        self.observer = Observer(store=self.store, reader=self.reader, wake=self.woken.append)


async def test_without_a_plan_that_asks_no_pod_is_read() -> None:
    bench = Bench()
    await bench.observer.once()
    assert bench.reader.reads == 0


async def test_new_evidence_wakes_the_root_and_the_same_again_does_not() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (POD,))
    for requests in (1, 1, 2):
        bench.reader.says = evidence(requests)
        await bench.observer.once()
    assert bench.woken == [MODEL, MODEL]


async def test_pod_that_does_not_answer_wakes_nobody() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (POD,))
    await bench.observer.once()
    assert bench.woken == []


@pytest.mark.looptime
async def test_pods_are_read_every_few_seconds_until_the_plan_says_otherwise() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (POD,))
    running = asyncio.create_task(bench.observer.run())
    await asyncio.sleep(9.5)
    assert bench.reader.reads == 4
    bench.store.observe(MODEL, ())
    await asyncio.sleep(60.0)
    assert bench.reader.reads == 4
    running.cancel()


@pytest.fixture
async def pod() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """A server on loopback that answers evidence requests with whatever the test puts in."""
    answer: dict[str, Any] = {"body": b"", "status": 200, "wait": 0.0}

    async def serve(request: web.Request) -> web.Response:
        await asyncio.sleep(answer["wait"])
        return web.Response(body=answer["body"], status=answer["status"])

    app = web.Application()
    app.router.add_get(EVIDENCE_PATH, serve)
    runner = web.AppRunner(app, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", answer
    await runner.cleanup()


async def test_reader_understands_what_a_server_says(pod: tuple[str, dict[str, Any]]) -> None:
    url, answer = pod
    answer["body"] = json.dumps(evidence(7).to_json()).encode()
    reader = EvidenceReader()
    found = await reader.read(url)
    await reader.close()
    assert found is not None
    assert found.live.requests == 7


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b"x" * (2 << 20), 200),
        (b"{}", 503),
        (b'{"live": 1}', 200),
        (b"[" * 1_000_000, 200),
        (b"[" * 60_000, 200),
        (b'{"x":' * 10_000, 200),
        (b"\xff\xfe", 200),
        (answer_with(weight=10**400).replace(b"1" + b"0" * 400, b"1e999"), 200),
        (answer_with(live=[]), 200),
        (answer_with(weight=True), 200),
        (answer_with(live={"requests": 7, "errors": 0, "latency": {str(10**11): 7}}), 200),
        (gzip.compress(answer_with()), 200),
    ],
)
async def test_answer_that_is_no_evidence_is_none(pod: tuple[str, dict[str, Any]], body: bytes, status: int) -> None:
    url, answer = pod
    answer.update(body=body, status=status)
    reader = EvidenceReader()
    assert await reader.read(url) is None
    await reader.close()


class Broken(EvidenceReader):
    """Fails as no library says it can."""

    async def _body(self, url: str) -> bytes:
        raise RecursionError("whatever it may be")


async def test_reading_lets_no_exception_out_and_says_so_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    reader = Broken(clock=lambda: now)
    for _ in range(100):
        assert await reader.read("http://pod") is None
    now = 61.0
    assert await reader.read("http://other") is None
    assert [r.getMessage() for r in caplog.records] == [
        "no evidence from http://pod: RecursionError: whatever it may be; it counts as silent "
        "(1 such answers since the last line)",
        "no evidence from http://other: RecursionError: whatever it may be; it counts as silent "
        "(100 such answers since the last line)",
    ]


async def test_reading_can_be_cancelled(pod: tuple[str, dict[str, Any]]) -> None:
    url, answer = pod
    answer["wait"] = 0.2
    reader = EvidenceReader()
    reading = asyncio.create_task(reader.read(url))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await reader.close()


async def test_pod_that_hangs_costs_one_timeout(pod: tuple[str, dict[str, Any]]) -> None:
    url, answer = pod
    answer["wait"] = 0.5
    reader = EvidenceReader(timeout_seconds=0.1)
    started = asyncio.get_running_loop().time()
    assert await reader.read(url) is None
    assert asyncio.get_running_loop().time() - started < 0.4
    await reader.close()


async def test_pod_that_is_gone_is_none() -> None:
    reader = EvidenceReader()
    assert await reader.read("http://127.0.0.1:1") is None
    await reader.close()

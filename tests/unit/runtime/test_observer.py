"""Evidence: read only while a plan asks, and a reason to reconcile only when it says something new."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
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
OTHER = Key("MLModel", "else", "o")
POD = Observe(uid="u", url="http://pod")


def evidence(requests: int) -> Evidence:
    live = Counts(requests=requests, latency=Histogram({5: requests}))
    canary = Counts(requests=1, errors=1)
    return Evidence(instance="i", digest="d", window="e", weight=5, live=live, canary=canary)


def answer_with(**changed: Any) -> bytes:
    return json.dumps({**evidence(7).to_json(), **changed}).encode()


class Reader:
    """Says what the test puts in; a pod that hangs takes the whole timeout and says nothing."""

    def __init__(self) -> None:
        self.says: Evidence | None = None
        self.reads: list[tuple[float, str]] = []
        self.under_way = self.most_under_way = 0

    async def read(self, url: str, namespace: str) -> Evidence | None:
        self.reads.append((round(asyncio.get_running_loop().time(), 1), url))
        if "hangs" in url:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            await asyncio.sleep(2.0)
            self.under_way -= 1
            return None
        return self.says

    def times(self, url: str) -> list[float]:
        first = self.reads[0][0]
        return [round(at - first, 1) for at, read in self.reads if read == url]


class Bench:
    def __init__(self) -> None:
        self.store, self.reader = Store(), Reader()
        self.woken: list[Key] = []
        self.observer = Observer(store=self.store, reader=self.reader, wake=self.wake)

    def wake(self, key: Key) -> None:
        self.woken.append(key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """At most until the test is over; an observer that ended by itself fails it."""
        task = asyncio.create_task(self.observer.run())
        try:
            yield
            assert not task.done(), task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.mark.looptime
async def test_without_a_plan_that_asks_no_pod_is_read() -> None:
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(60.0)
    assert bench.reader.reads == []


@pytest.mark.looptime
async def test_new_evidence_wakes_the_root_and_the_same_again_does_not() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (POD,))
    async with bench.running():
        for requests in (1, 1, 2):
            bench.reader.says = evidence(requests)
            await asyncio.sleep(3.0)
    assert bench.woken == [MODEL, MODEL]


@pytest.mark.looptime
async def test_pod_that_does_not_answer_wakes_nobody() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (POD,))
    async with bench.running():
        await asyncio.sleep(1.0)
    assert len(bench.reader.reads) == 1
    assert bench.woken == []


@pytest.mark.looptime
async def test_pods_are_read_every_few_seconds_until_the_plan_says_otherwise() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (POD,))
    async with bench.running():
        await asyncio.sleep(9.5)
        assert bench.reader.times(POD.url) == [0.0, 3.0, 6.0, 9.0]
        bench.store.observe(MODEL, ())
        await asyncio.sleep(60.0)
    assert len(bench.reader.reads) == 4


@pytest.mark.looptime
async def test_pods_that_hang_delay_no_other_model_and_are_read_few_at_a_time() -> None:
    bench = Bench()
    bench.store.observe(OTHER, tuple(Observe(uid=f"h{i}", url=f"http://hangs-{i}") for i in range(16)))
    bench.store.observe(MODEL, (POD,))
    bench.reader.says = evidence(1)
    async with bench.running():
        await asyncio.sleep(30.5)
    assert bench.reader.times(POD.url) == [3.0 * i for i in range(11)]
    assert bench.reader.most_under_way == 4
    assert bench.reader.times("http://hangs-15") == [6.0, 15.0, 24.0]  # their own rounds take 8 s and begin at the next


@pytest.mark.looptime
@pytest.mark.parametrize("place", ["reader", "store", "wake"])
async def test_exception_for_one_pod_costs_that_reading_and_nothing_else(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.store.observe(OTHER, (Observe(uid="bad", url="http://bad"),))
    bench.store.observe(MODEL, (POD,))
    bench.reader.says = evidence(1)
    read, put, wake = bench.reader.read, bench.store.put_evidence, bench.wake

    async def bad_read(url: str, namespace: str) -> Evidence | None:
        if url == "http://bad":
            raise RecursionError("broken")
        return await read(url, namespace)

    def bad_put(uid: str, seen: Evidence) -> bool:
        if uid == "bad":
            raise ValueError("broken")
        return put(uid, seen)

    def bad_wake(key: Key) -> None:
        if key == OTHER:
            raise KeyError("broken")
        wake(key)

    if place == "reader":
        monkeypatch.setattr(bench.reader, "read", bad_read)
    elif place == "store":
        monkeypatch.setattr(bench.store, "put_evidence", bad_put)
    else:
        bench.observer = Observer(store=bench.store, reader=bench.reader, wake=bad_wake)
    async with bench.running():
        await asyncio.sleep(6.5)
        bench.reader.says = evidence(2)
        await asyncio.sleep(3.0)
    assert bench.woken == [MODEL, MODEL]
    assert [r.getMessage() for r in caplog.records if r.name == "steeltown.runtime.observer"] == [
        "failed to process evidence of Pod bad from http://bad; the Pod counts as unreadable"
    ]


@pytest.mark.looptime
async def test_observer_that_is_cancelled_leaves_no_reading_behind() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (Observe(uid="h", url="http://hangs"),))
    async with bench.running():
        await asyncio.sleep(1.0)
        assert bench.reader.under_way == 1
    assert len(asyncio.all_tasks()) == 1


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
    found = await reader.read(url, "team")
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
    assert await reader.read(url, "team") is None
    await reader.close()


class Broken(EvidenceReader):
    """Fails as no library says it can."""

    async def _body(self, url: str) -> bytes:
        raise RecursionError("whatever it may be")


async def test_reading_lets_no_exception_out_and_says_so_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    reader = Broken(clock=lambda: now)
    for _ in range(100):
        assert await reader.read("http://pod", "team") is None
    now = 61.0
    assert await reader.read("http://other", "team") is None
    assert [r.getMessage() for r in caplog.records] == [
        "cannot read evidence from http://pod: RecursionError: whatever it may be "
        "(1 such failures since the last log line)",
        "cannot read evidence from http://other: RecursionError: whatever it may be "
        "(100 such failures since the last log line)",
    ]


async def test_reading_can_be_cancelled(pod: tuple[str, dict[str, Any]]) -> None:
    url, answer = pod
    answer["wait"] = 0.2
    reader = EvidenceReader()
    reading = asyncio.create_task(reader.read(url, "team"))
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
    assert await reader.read(url, "team") is None
    assert asyncio.get_running_loop().time() - started < 0.4
    await reader.close()


@asynccontextmanager
async def hanging(connections: int) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that accepts connections and says nothing. The event: it has so many."""
    reached, open_now = asyncio.Event(), [0]

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now[0] += 1
        if open_now[0] == connections:
            reached.set()
        await reader.read()  # until the other side has had enough
        open_now[0] -= 1
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", reached
    finally:
        server.close()


class Counting(EvidenceReader):
    under_way = most_under_way = 0

    async def _body(self, url: str) -> bytes:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await super()._body(url)
        finally:
            self.under_way -= 1


async def test_namespace_whose_pods_all_hang_holds_up_no_other(pod: tuple[str, dict[str, Any]]) -> None:
    """More models with hanging Pods than there are slots for everybody, and all of them asked first."""
    url, answer = pod
    answer["body"] = answer_with()
    reader, store, told = Counting(timeout_seconds=30.0), Store(), asyncio.Event()
    observer = Observer(store=store, reader=reader, wake=lambda key: told.set())
    async with hanging(connections=16) as (nowhere, reached):
        for number in range(128):
            store.observe(Key("MLModel", "theirs", f"m{number}"), (Observe(uid=f"h{number}", url=nowhere),))
        store.observe(MODEL, (Observe(uid="u", url=url),))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(observer.run())
            async with asyncio.timeout(10):
                await told.wait()
                await reached.wait()
            assert reader.under_way == 16, "the share of one namespace"
            running.cancel()
        await reader.close()


async def test_all_namespaces_together_keep_the_bound_and_slots_are_given_back() -> None:
    reader = Counting(timeout_seconds=0.2, concurrent_reads=4, reads_of_a_namespace=3)
    async with hanging(connections=4) as (nowhere, _):
        assert await asyncio.gather(*(reader.read(nowhere, name) for name in "aaaabbbbcccc")) == [None] * 12
        assert reader.most_under_way == 4
        await reader.close()


async def test_pod_that_is_gone_is_none() -> None:
    reader = EvidenceReader()
    assert await reader.read("http://127.0.0.1:1", "team") is None
    await reader.close()


@pytest.mark.looptime
async def test_last_words_of_a_pod_that_stays_silent_are_dropped_and_its_root_is_told() -> None:
    bench = Bench()
    bench.store.observe(MODEL, (POD,))
    bench.store.put_evidence(POD.uid, evidence(7))
    async with bench.running():
        await asyncio.sleep(4.0)  # two reads
        assert bench.woken == []
        await asyncio.sleep(3.0)
        assert bench.woken == [MODEL]
        assert not bench.store.drop_evidence(POD.uid), "it is gone already"
        bench.reader.says = evidence(7)
        await asyncio.sleep(3.0)
    assert bench.woken == [MODEL, MODEL], "the same words are news again"

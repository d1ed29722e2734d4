"""Running the model: together where that is safe, never at each other's cost, never at health's cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from steeltown_server.engine import Engine
from steeltown_server.model import Model, load
from steeltown_server.request import Call
from steeltown_server.warmup import warm_up


class Job:
    """Records how it ended."""

    def __init__(self, array: np.ndarray, *, name: str = "x", rows: int | None = None, group: Any = ()) -> None:
        self.call = Call({name: array}, ("y",), (False,), array.shape[0] if rows is None else rows, group)
        self.outputs: Sequence[np.ndarray] = ()
        self.finite: bool | None = None
        self.error: str | None = None
        self.submitted = 0
        self.end = asyncio.Event()

    def finish(self, outputs: Sequence[np.ndarray], finite: bool) -> None:
        assert not self.ended
        self.outputs, self.finite = outputs, finite
        self.end.set()

    def fail(self, message: str) -> None:
        assert not self.ended
        self.error = message
        self.end.set()

    late = fail

    @property
    def ended(self) -> bool:
        return self.end.is_set()


class Faulty(Job):
    def finish(self, outputs: Sequence[np.ndarray], finite: bool) -> None:
        raise ZeroDivisionError


class CountingModel:
    """A real model that remembers the rows of each run."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.signature = model.signature
        self.runs: list[int] = []

    def run(self, outputs: Sequence[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.runs.append(len(next(iter(feed.values()))))
        return self._model.run(outputs, feed)


async def run(model: CountingModel, jobs: list[Job], run_seconds: float = 0.0, max_batch_rows: int = 64) -> None:
    engine = Engine(model, max_batch_rows=max_batch_rows, run_seconds=run_seconds)  # type: ignore[arg-type]
    for job in jobs:
        engine.submit(job)
    assert not any(job.ended for job in jobs), "an answer never comes from within submit"
    async with asyncio.timeout(20):
        await asyncio.gather(*(job.end.wait() for job in jobs))
    assert engine.done.jobs == len(jobs)
    engine.close()


@pytest.fixture
def doubling(scaled: Any) -> CountingModel:
    return CountingModel(load(scaled.path, 1))


@pytest.fixture
def looking_up(make_folder: Any, models: Any) -> CountingModel:
    return CountingModel(load(make_folder(models["lookup"]()).path, 1))


def rows(*values: float) -> np.ndarray:
    return np.array([[v, v, v] for v in values], np.float32)


@pytest.mark.parametrize("run_seconds", [0.0, 1.0], ids=["inline", "worker thread"])
async def test_requests_of_one_turn_run_together_and_each_gets_its_own_rows(
    doubling: CountingModel, run_seconds: float
) -> None:
    jobs = [Job(rows(1)), Job(rows(2, 3)), Job(rows(4))]
    await run(doubling, jobs, run_seconds)
    assert doubling.runs == [4]
    assert [job.outputs[0][:, 0].tolist() for job in jobs] == [[2], [4, 6], [8]]


async def test_request_on_the_only_connection_runs_at_once(doubling: CountingModel) -> None:
    engine = Engine(doubling, max_batch_rows=64, run_seconds=0.0)  # type: ignore[arg-type]
    alone = True
    engine.alone = lambda: alone
    first, second = Job(np.ones((1, 3), np.float32)), Job(np.ones((1, 3), np.float32))
    engine.submit(first)
    assert first.ended
    alone = False
    engine.submit(second)
    assert not second.ended
    await asyncio.wait_for(second.end.wait(), 5)
    engine.close()


@pytest.mark.looptime
async def test_batch_waits_for_rows_but_not_for_ever(doubling: CountingModel) -> None:
    """Times are those of a simulated clock."""
    engine = Engine(doubling, max_batch_rows=4, run_seconds=0.0, batch_wait_seconds=10.0)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()

    async def submit(after: float) -> float:
        await asyncio.sleep(after)
        job = Job(np.ones((1, 3), np.float32))
        engine.submit(job)
        await job.end.wait()
        return loop.time()

    start = loop.time()
    ends = await asyncio.gather(*(submit(after) for after in (0, 3, 20, 21, 22, 23, 24)))
    assert [round(end - start) for end in ends] == [10, 10, 23, 23, 23, 23, 34]
    assert doubling.runs == [2, 4, 1]
    engine.close()


async def test_batch_ends_at_the_row_limit_and_at_another_group(doubling: CountingModel) -> None:
    jobs = [Job(rows(1, 2)), Job(rows(3, 4)), Job(rows(5)), Job(rows(6), group=1), Job(rows(7), rows=0)]
    await run(doubling, jobs, max_batch_rows=4)
    assert doubling.runs == [4, 1, 1, 1]
    assert [job.outputs[0][0, 0] for job in jobs] == [2, 6, 10, 12, 14]


@pytest.mark.parametrize("run_seconds", [0.0, 1.0], ids=["inline", "worker thread"])
async def test_request_that_fails_the_model_fails_alone(looking_up: CountingModel, run_seconds: float) -> None:
    jobs = [Job(np.array([i]), name="i") for i in (1, 99, 3)]
    await run(looking_up, jobs, run_seconds)
    assert [[a.tolist() for a in job.outputs] for job in jobs] == [[[10]], [], [[30]]]
    assert "out of data bounds" in str(jobs[1].error)
    assert looking_up.runs == [3, 1, 1, 1]


async def test_fault_in_one_answer_reaches_no_other(doubling: CountingModel) -> None:
    jobs = [Job(rows(1)), Job(rows(2)), Job(rows(3))]
    jobs[1] = Faulty(rows(2))
    await run(doubling, jobs)
    assert [[a[0, 0] for a in job.outputs] for job in jobs] == [[2], [], [6]]
    assert jobs[1].error == "the server could not encode the answer"


async def test_non_finite_run_is_marked(make_folder: Any, models: Any) -> None:
    model = CountingModel(load(make_folder(models["logarithm"]()).path, 1))
    clean, dirty = Job(np.ones((1, 2), np.float32)), Job(-np.ones((1, 2), np.float32), group=1)
    await run(model, [clean, dirty])
    assert (clean.finite, dirty.finite) == (True, False)


@pytest.mark.parametrize(
    ("model", "array", "batches"),
    [
        ("scale", np.array([[1, 2, 3], [4, 5, 6]], np.float32), True),
        ("scale", np.array([[1, 2, 3]], np.float32), False),  # one row alone proves nothing
        ("centred", np.array([[1, 2], [4, 5]], np.float32), False),
    ],
)
def test_only_models_whose_rows_are_independent_are_batched(
    make_folder: Any, models: Any, model: str, array: np.ndarray, batches: bool
) -> None:
    folder = make_folder(models[model](), x=array)
    assert warm_up(load(folder.path, 1), folder.path).batches is batches


def test_concurrent_clients_of_a_dependent_model_get_their_own_answers(
    serve: Any, make_folder: Any, models: Any, body: Any
) -> None:
    server = serve(make_folder(models["centred"](), x=np.array([[1, 2], [4, 5]], np.float32)))
    arrays = [np.array([[i, 0], [i + 2, 1]], np.float32) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda a: server.infer(body(x=a)).json()["outputs"][0]["data"], arrays))
    assert answers == [[-1, -0.5, 1, 0.5]] * 40


def test_health_stays_quick_while_a_slow_model_runs(serve: Any, make_folder: Any, models: Any, row: Any) -> None:
    server = serve(make_folder(models["slow"](200), x=np.array([[1, 2, 3]], np.float32)))
    assert server.logged("golden rows")[0]["runMicroseconds"] > 10_000, "this test needs a slow model"
    runs, checks = 10, 0
    with ThreadPoolExecutor(1) as pool, httpx.Client() as client, httpx.Client(timeout=30) as user:
        url = f"{server.url}/v2/models/m/infer"
        under_way = [pool.submit(user.post, url, json=row) for _ in range(runs)]
        while not under_way[-1].done():
            assert client.get(server.url + "/v2/health/ready").status_code == 200
            checks += 1
    assert all(f.result().json()["outputs"][0]["data"] == [1, 2, 3] for f in under_way)
    assert checks > 5 * runs, "behind the model, at most one or two checks fit between two runs"

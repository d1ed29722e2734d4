"""A run that would not end: it is ended, or else the process; nobody else's health, drain or request hangs on it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from steeltown_server.deadline import RunTooLong, Watch
from steeltown_server.engine import Engine
from steeltown_server.request import Call
from steeltown_server.rpc import inference_pb2 as pb
from steeltown_server.unbounded import unbounded

FOREVER = 1e12
LATE = "the run of the model was ended after 0.5 s, the limit: send less, or raise STEELTOWN_RUN_SECONDS"


def info(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes: list[Any], constants: dict[str, Any] | None = None, **more: Any) -> bytes:
    """From n FP32 [N, 1] to y."""
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    n, y = info("n", TensorProto.FLOAT, ["N", 1]), info("y", TensorProto.FLOAT, ["N", 1])
    graph = helper.make_graph(nodes, "g", [n], [y], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


NUMBER = [
    helper.make_node("ReduceMax", ["n"], ["most"], keepdims=0),
    helper.make_node("Cast", ["most"], ["k"], to=TensorProto.INT64),
]
"""k: the number that was sent."""


def counting_body() -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "one"], ["v2"])],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, ["N", 1])],
        [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )


def counting() -> bytes:
    """y = n, counted up to: as many trips of a loop as the number that was sent says."""
    nodes = [*NUMBER, helper.make_node("Loop", ["k", "", "zero"], ["y"], body=counting_body())]
    return model_of(nodes, {"zero": np.zeros((1, 1), np.float32)})


def multiplying() -> bytes:
    """y = n: by one product of two matrices of n rows and columns, which onnxruntime cannot end in the middle."""
    nodes = [
        *NUMBER,
        helper.make_node("Unsqueeze", ["k", "first"], ["k1"]),
        helper.make_node("Concat", ["k1", "k1"], ["size"], axis=0),
        helper.make_node("Expand", ["one", "size"], ["a"]),
        helper.make_node("MatMul", ["a", "a"], ["b"]),
        helper.make_node("ReduceMax", ["b"], ["m"], keepdims=0),
        helper.make_node("Sub", ["n", "m"], ["d"]),
        helper.make_node("Add", ["d", "m"], ["y"]),
    ]
    return model_of(nodes, {"first": np.array([0]), "one": np.ones((1, 1), np.float32)})


def number(value: float) -> dict[str, Any]:
    return {"inputs": [{"name": "n", "shape": [1, 1], "datatype": "FP32", "data": [value]}]}


@pytest.fixture(scope="module")
def counter(make_folder: Any) -> Any:
    return make_folder(counting(), n=np.array([[3]], np.float32))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_run_that_would_not_end_is_ended_and_answered_504(serve: Any, counter: Any) -> None:
    """With one client on one connection, where short runs happen at once."""
    server = serve(counter, run_seconds=0.5)
    with httpx.Client(base_url=server.url, timeout=10) as client:
        assert client.post("/v2/models/m/infer", json=number(5)).json()["outputs"][0]["data"] == [5]
        started = time.monotonic()
        answer = client.post("/v2/models/m/infer", json=number(FOREVER))
        assert time.monotonic() - started < 5
        assert (answer.status_code, answer.json()) == (504, {"error": LATE})
        assert answer.headers["steeltown-digest"] == server.digest
        for _ in range(20):
            assert client.post("/v2/models/m/infer", json=number(7)).json()["outputs"][0]["data"] == [7]
    assert server.evidence().live.errors == 1
    assert server.process.poll() is None


def test_grpc_call_that_would_not_end_is_deadline_exceeded(serve: Any, counter: Any) -> None:
    server = serve(counter, run_seconds=0.5, grpc_port=0)
    tensor = pb.ModelInferRequest.InferInputTensor(name="n", datatype="FP32", shape=[1, 1])
    request = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[np.float32(FOREVER).tobytes()])
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=10)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, LATE)


def test_others_are_told_at_once_while_health_answers(serve: Any, counter: Any, pool: ThreadPoolExecutor) -> None:
    server = serve(counter, run_seconds=4, max_queue_seconds=0.2)
    stuck = pool.submit(server.infer, number(FOREVER))
    time.sleep(1.0)
    assert not stuck.done()
    started = time.monotonic()
    assert server.get("/v2/health/live").status_code == 200
    assert server.get("/v2/health/ready").status_code == 200
    refused = server.infer(number(1))
    assert time.monotonic() - started < 2, "nobody waits for the run that does not end"
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "a run of the model has taken" in refused.json()["error"]
    assert stuck.result().status_code == 504
    assert server.infer(number(1)).status_code == 200


def test_requests_behind_runs_that_are_ended_do_not_wait_for_all_of_them(
    serve: Any, counter: Any, pool: ThreadPoolExecutor
) -> None:
    server = serve(counter, run_seconds=0.5, max_queue_seconds=30)
    started = time.monotonic()
    answers = [f.result() for f in [pool.submit(server.infer, number(FOREVER)) for _ in range(8)]]
    assert {a.status_code for a in answers} == {504}
    assert time.monotonic() - started < 3.5, "8 runs of half a second would take 4 s"
    assert any("waited longer than 0.5 s" in a.json()["error"] for a in answers)
    assert server.infer(number(1)).status_code == 200


def test_drain_does_not_wait_for_a_run_that_would_not_end(serve: Any, counter: Any, pool: ThreadPoolExecutor) -> None:
    server = serve(counter, run_seconds=1, grace_seconds=20)
    stuck = pool.submit(server.infer, number(FOREVER))
    time.sleep(0.3)
    server.terminate()
    assert server.process.wait(10) == 0
    assert stuck.result().status_code == 504


def test_operator_that_cannot_be_ended_ends_the_process(serve: Any, make_folder: Any, pool: ThreadPoolExecutor) -> None:
    folder = make_folder(multiplying(), n=np.array([[3]], np.float32))
    server = serve(folder, run_seconds=0.4, run_grace_seconds=0.4)
    assert server.infer(number(4)).json()["outputs"][0]["data"] == [4]
    stuck = pool.submit(server.infer, number(8000))
    time.sleep(0.3)
    assert server.get("/v2/health/live").status_code == 200
    told = "a run of the model took longer than 0.4 s and did not end within 0.4 s of being asked to"
    answer = stuck.result()
    assert (answer.status_code, answer.json()) == (504, {"error": told})
    assert server.process.wait(10) == 75
    assert (folder.path / "termination-log").read_text() == told


def test_model_that_is_merely_slow_stays_alive(serve: Any, counter: Any, pool: ThreadPoolExecutor) -> None:
    server = serve(counter, max_queue_seconds=0.05)
    started = time.monotonic()
    slow = pool.submit(server.infer, number(1_000_000))
    while not slow.done():
        assert server.get("/v2/health/live").status_code == 200
    assert slow.result().json()["outputs"][0]["data"] == [1_000_000]
    assert time.monotonic() - started > 0.2, "this test needs a long run"
    assert server.process.poll() is None


class Stubborn:
    """A model whose run lasts until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def run(self, outputs: Sequence[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert self.let_go.wait(20)
        return list(feed.values())


class Late:
    """A model that is ended at its deadline if it is sent a negative number."""

    def run(self, outputs: Sequence[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        (array,) = feed.values()
        if (array < 0).any():
            raise RunTooLong("too long")
        return [array]


class Job:
    def __init__(self, value: float) -> None:
        self.call = Call({"x": np.array([[value]], np.float32)}, ("y",), (False,), 1, ())
        self.submitted = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def finish(self, outputs: Sequence[np.ndarray], finite: bool) -> None:
        self.ended.set_result(str(outputs[0][0, 0]))

    def fail(self, message: str) -> None:
        self.ended.set_result(f"failed: {message}")

    def late(self, message: str) -> None:
        self.ended.set_result(f"late: {message}")


async def test_those_who_shared_a_run_that_was_ended_get_their_answers() -> None:
    engine = Engine(Late(), max_batch_rows=8, run_seconds=1.0)  # type: ignore[arg-type]
    jobs = [Job(value) for value in (1, -1, 3)]
    for job in jobs:
        engine.submit(job)
    assert await asyncio.gather(*(job.ended for job in jobs)) == ["1.0", "late: too long", "3.0"]
    engine.close()


async def test_giving_up_answers_who_is_in_the_run_and_who_is_behind_it() -> None:
    model = Stubborn()
    engine = Engine(model, max_batch_rows=1, run_seconds=1.0)  # type: ignore[arg-type]
    jobs = [Job(1), Job(2)]
    for job in jobs:
        engine.submit(job)
    await asyncio.sleep(0.05)
    engine.give_up("no more")
    assert [job.ended.result() for job in jobs] == ["late: no more"] * 2
    model.let_go.set()
    engine.close()


def test_watch_sees_a_run_that_is_stuck_and_gives_up_once() -> None:
    said: list[str] = []
    watch = Watch(seconds=0.1, grace_seconds=0.1, give_up=said.append)
    options = watch.begin()
    assert not watch.stuck
    deadline = time.monotonic() + 10
    while not watch.stuck:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert options.terminate
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(said) == 1
    watch.end()
    assert not watch.stuck
    watch.close()


def test_watch_leaves_short_runs_alone() -> None:
    """Many, of which none is as long as the deadline, though all of them together are."""
    watch = Watch(seconds=0.2, grace_seconds=0.2, give_up=lambda message: pytest.fail(message))
    end = time.monotonic() + 1.0
    for _ in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
        options = watch.begin()
        time.sleep(0.02)
        watch.end()
        assert not options.terminate
    watch.close()


def local(nodes: list[Any]) -> dict[str, Any]:
    opsets = [helper.make_opsetid("", 17)]
    return {"functions": [helper.make_function("local", "F", ["a"], ["b"], nodes, opsets)]}


def branch(nodes: list[Any], output: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, "branch", [], [info(output, TensorProto.FLOAT, ["N", 1])])


IDENTITY = helper.make_node("Identity", ["n"], ["y"])
SHAPE = helper.make_node("Shape", ["n"], ["s"])


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (counting, "operator Loop takes as long as its data says"),
        (multiplying, "operator Expand makes a tensor as large as 'size' says, which is no constant"),
        (lambda: model_of([SHAPE, helper.make_node("Expand", ["n", "s"], ["y"])]), "operator Expand"),
        (lambda: model_of([IDENTITY]), ""),
        (lambda: model_of([helper.make_node("Expand", ["n", "s"], ["y"])], {"s": np.array([1, 1])}), ""),
        (
            lambda: model_of(
                [
                    helper.make_node("Constant", [], ["c"], value_ints=[1]),
                    helper.make_node("Concat", ["c", "c"], ["s"], axis=0),
                    helper.make_node("Tile", ["n", "s"], ["y"]),
                ]
            ),
            "",
        ),
        (
            lambda: model_of(
                [
                    helper.make_node(
                        "If",
                        ["yes"],
                        ["y"],
                        then_branch=branch([helper.make_node("Identity", ["n"], ["t"])], "t"),
                        else_branch=branch([SHAPE, helper.make_node("Expand", ["n", "s"], ["e"])], "e"),
                    )
                ],
                {"yes": np.array(True)},
            ),
            "operator Expand",
        ),
        (
            lambda: model_of(
                [helper.make_node("F", ["n"], ["y"], domain="local")],
                **local([helper.make_node("Shape", ["a"], ["s"]), helper.make_node("Expand", ["a", "s"], ["b"])]),
            ),
            "operator Expand",
        ),
    ],
    ids=["loop", "sent", "shape", "none", "constant", "computed from constants", "in a branch", "in a function"],
)
def test_cost_that_depends_on_data_is_read_from_the_graph(tmp_path: Path, model: Callable[[], bytes], why: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model())
    onnxruntime.InferenceSession(path)  # it is a model
    found = unbounded(path)
    assert found.startswith(why) if why else not found


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\x3a\x05a", b"\xff" * 20, b"\x07", b"\x3a\x02\x0a\x7f"])
def test_what_cannot_be_read_may_hold_anything(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert unbounded(path).startswith("its graph cannot be read: ")

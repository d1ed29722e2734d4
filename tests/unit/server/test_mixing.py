"""Fault injection: models that mix rows, asked by many clients at once, answer each as if nobody else had asked.

For each model of the zoo a server of its own gets requests of some rows each from many connections at the same time,
with golden rows on which the trial alone might see nothing. Every answer must be the one that ONNX Runtime gives to
that request alone, within the tolerance of golden rows. A bounded number here; `make test-mixing` asks 10,000 times.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from steeltown.contract.golden import Golden
from steeltown_tensors import BY_NAME, Tolerance, excess, from_json

REQUESTS = int(os.environ.get("MIXING_REQUESTS", "400"))
"""For each model."""

CLIENTS, QUESTIONS, MOST_ROWS, COLUMNS = 24, 120, 3, 8
USUAL = Golden(inputs=[], outputs=[])
TOLERANCE = Tolerance(USUAL.atol, USUAL.rtol)

node = helper.make_node
Feed = dict[str, np.ndarray]


def model(nodes: list[Any], **constants: Any) -> bytes:
    """x FP32 [N, 8] to FP32 y."""
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", COLUMNS])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def quantised_dynamically() -> bytes:
    nodes: list[Any] = []
    x = "x"
    for i in range(2):
        nodes += [
            node("DynamicQuantizeLinear", [x], [f"q{i}", f"s{i}", f"z{i}"]),
            node("MatMulInteger", [f"q{i}", "w", f"z{i}"], [f"m{i}"]),
            node("Cast", [f"m{i}"], [f"f{i}"], to=TensorProto.FLOAT),
            node("Mul", [f"f{i}", f"s{i}"], [f"h{i}"]),
            node("Relu", [f"h{i}"], [f"r{i}"]),
        ]
        x = f"r{i}"
    nodes.append(node("Identity", [x], ["y"]))
    return model(nodes, w=np.random.default_rng(7).integers(-127, 127, (COLUMNS, COLUMNS)).astype(np.int8))


def suppressing() -> bytes:
    """The best box of each row, as [row, class, box]: as many as rows, so that a joint run could be parted."""
    made = helper.make_model(
        helper.make_graph(
            [node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["y"])],
            "g",
            [
                helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 5, 4]),
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1, 5]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.INT64, ["M", 3])],
            [
                numpy_helper.from_array(np.array([1]), "most"),
                numpy_helper.from_array(np.array([0.3], np.float32), "overlap"),
                numpy_helper.from_array(np.array([0.0], np.float32), "least"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return bytes(made.SerializeToString())


def summing_in_a_loop() -> bytes:
    """y = x + the sum of all rows, one turn a row."""
    body = helper.make_graph(
        [
            node("Gather", ["x", "i"], ["row"], axis=0),
            node("Add", ["sum", "row"], ["more"]),
            node("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [COLUMNS]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, [COLUMNS]),
        ],
    )
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["turns"]),
        node("Loop", ["turns", "", "none"], ["sum"], body=body),
        node("Add", ["x", "sum"], ["y"]),
    ]
    return model(nodes, zero=np.array(0), none=np.zeros(COLUMNS, np.float32))


def over_rows(*nodes: Any, **constants: Any) -> Callable[[], bytes]:
    return lambda: model(list(nodes), **constants)


MIXERS: dict[str, Callable[[], bytes]] = {
    "mean over rows": over_rows(node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["y"])),
    "softmax over rows": over_rows(node("Softmax", ["x"], ["y"], axis=0)),
    "cumulative sum over rows": over_rows(node("CumSum", ["x", "zero"], ["y"]), zero=np.array(0)),
    "attention over rows": over_rows(
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["y"]),
    ),
    "boxes": suppressing,
    "dynamic quantisation": quantised_dynamically,
    "statistics of the batch": over_rows(
        node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        node("Sub", ["x", "m"], ["c"]),
        node("Mul", ["c", "c"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[0], keepdims=1),
        node("Add", ["v", "small"], ["e"]),
        node("Sqrt", ["e"], ["d"]),
        node("Div", ["c", "d"], ["y"]),
        small=np.float32(1e-3),
    ),
    "layer norm of columns": over_rows(
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("Flatten", ["t"], ["f"], axis=1),
        node("ReduceMean", ["f"], ["m"], axes=[1], keepdims=1),
        node("Sub", ["f", "m"], ["c"]),
        node("Transpose", ["c"], ["y"], perm=[1, 0]),
    ),
    "loop over rows": summing_in_a_loop,
    "sorted rows": over_rows(
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["n"]),
        node("TopK", ["x", "n"], ["y", "i"], axis=0),
        zero=np.array([0]),
        one=np.array([1]),
    ),
    "all values as one": over_rows(
        node("Reshape", ["x", "flat"], ["f"]),
        node("Softmax", ["f"], ["p"], axis=1),
        node("Reshape", ["p", "back"], ["y"]),
        flat=np.array([1, -1]),
        back=np.array([-1, COLUMNS]),
    ),
    "divided by the number of rows": over_rows(
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        node("Div", ["x", "f"], ["y"]),
        zero=np.array(0),
    ),
    "largest of all, if it is large": over_rows(
        node("ReduceMax", ["x"], ["m"], axes=[0, 1], keepdims=1),
        node("Sub", ["m", "bar"], ["above"]),
        node("Relu", ["above"], ["r"]),
        node("Add", ["x", "r"], ["y"]),
        bar=np.float32(2.5),
    ),
}


def boxes(random: np.random.Generator, rows: int) -> Feed:
    corners = random.uniform(0, 1, (rows, 5, 2))
    return {
        "boxes": np.concatenate([corners, corners + random.uniform(0.2, 1, (rows, 5, 2))], axis=2).astype(np.float32),
        "scores": random.uniform(0, 1, (rows, 1, 5)).astype(np.float32),
    }


def table(random: np.random.Generator, rows: int) -> Feed:
    return {"x": random.normal(size=(rows, COLUMNS)).astype(np.float32)}


def tame(feed: Feed) -> Feed:
    """Golden rows that differ, and in which nothing is extreme: the trial alone sees no rare effect."""
    return {name: np.clip(a, -2, 2) for name, a in feed.items()}


@dataclass
class Question:
    """request: all of its bytes. right: answers that were judged before, for most are the same bytes."""

    request: bytes
    alone: dict[str, np.ndarray]
    right: set[bytes] = field(default_factory=set)

    def differs(self, answer: bytes) -> bool:
        if answer in self.right:
            return False
        for tensor in json.loads(answer)["outputs"]:
            expected = self.alone[tensor["name"]]
            got = from_json(tensor, BY_NAME[tensor["datatype"]])
            if got.shape != expected.shape or (excess(got, expected, TOLERANCE) > 1).any():
                return True
        self.right.add(answer)
        return False


async def asked_at_once(port: int, questions: list[Question]) -> int:
    """How many of the answers differ from the request's own, with each connection asking its share one by one."""

    async def client(mine: list[Question]) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        differing = 0
        for question in mine:
            writer.write(question.request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
            differing += question.differs(await reader.readexactly(int(length.split(b":")[1])))
        writer.close()
        return differing

    return sum(await asyncio.gather(*(client(questions[i::CLIENTS]) for i in range(CLIENTS))))


def questions(folder: Any, body: Any, make: Callable[..., Feed]) -> list[Question]:
    """REQUESTS of them, in random order, out of QUESTIONS that differ."""
    random = np.random.default_rng(1)
    feeds = [make(random, int(random.integers(1, MOST_ROWS + 1))) for _ in range(QUESTIONS)]
    kinds = []
    for feed in feeds:
        text = json.dumps(body(**feed)).encode()
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(text)
        kinds.append(Question(head + text, folder.direct(feed)))
    return [kinds[i] for i in random.integers(0, QUESTIONS, REQUESTS)]


@pytest.mark.parametrize("mixer", MIXERS)
async def test_no_answer_depends_on_who_else_asks(serve: Any, make_folder: Any, body: Any, mixer: str) -> None:
    make = boxes if mixer == "boxes" else table
    folder = make_folder(MIXERS[mixer](), **tame(make(np.random.default_rng(0), 16)))
    server = serve(folder, batch_wait_milliseconds=2)
    assert server.logged("requests run one at a time")
    assert await asked_at_once(server.port, questions(folder, body, make)) == 0
    server.terminate()


async def test_clients_do_share_runs_of_a_model_that_keeps_rows_apart(serve: Any, make_folder: Any, body: Any) -> None:
    """Or the zoo would show nothing."""
    dense = model([node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], axis=1)], w=weights(COLUMNS, 4))
    folder = make_folder(dense, **tame(table(np.random.default_rng(0), 16)))
    server = serve(folder, batch_wait_milliseconds=2)
    assert await asked_at_once(server.port, questions(folder, body, table)) == 0
    assert server.metric("steeltown_server_model_runs_total") < 0.5 * REQUESTS

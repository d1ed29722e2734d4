"""Concurrent clients get the answers that each would get alone: rows share a run only where that was proven.

Whatever a model does over its rows (the zoo below), and whatever golden rows it came with, the answer to a request
never depends on who else asks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from steeltown.contract.golden import Golden
from steeltown_server import independence as proof
from steeltown_server.model import load
from steeltown_server.warmup import warm_up
from steeltown_tensors.independence import _changed

COLUMNS = 3
ALIKE = np.zeros((16, COLUMNS), np.float32)
DIFFERING = np.random.default_rng(0).normal(size=(16, COLUMNS)).astype(np.float32)
ONE_COLUMN_AGREES = np.concatenate([DIFFERING[:, :2], np.full((16, 1), 7, np.float32)], axis=1)
FEW_DIFFER = np.concatenate([ALIKE[:14], DIFFERING[:2]])
HARDLY_DIFFERING = (DIFFERING * 1e-6).astype(np.float32)

node = helper.make_node


def model(nodes: list[Any], **constants: np.ndarray | np.generic) -> bytes:
    """x FP32 [N, 3] to y FP32."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", COLUMNS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", None])
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def of_last_column(*mixing: Any, **constants: np.ndarray) -> bytes:
    """`mixing` makes y of `last`, the last column alone."""
    last = node("Slice", ["x", "from", "to", "axis"], ["last"])
    return model([last, *mixing], **{"from": np.array([2]), "to": np.array([3]), "axis": np.array([1])}, **constants)


MIXERS: dict[str, Callable[[], bytes]] = {
    "mean over rows": lambda: model(
        [node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["y"])]
    ),
    "softmax over rows": lambda: model([node("Softmax", ["x"], ["y"], axis=0)]),
    "cumulative sum over rows": lambda: model([node("CumSum", ["x", "zero"], ["y"])], zero=np.array(0)),
    "largest of rows": lambda: model(
        [node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["y"])]
    ),
    "rows backwards": lambda: model(
        [node("Slice", ["x", "from", "to", "axis", "step"], ["y"])],
        **{"from": np.array([-1]), "to": np.array([-(2**31)]), "axis": np.array([0]), "step": np.array([-1])},
    ),
    "mean of the last column": lambda: of_last_column(
        node("ReduceMean", ["last"], ["m"], axes=[0], keepdims=1), node("Sub", ["last", "m"], ["y"])
    ),
    "mean of the difference of two columns": lambda: model(
        [
            node("Slice", ["x", "one", "two", "one"], ["middle"]),
            node("Slice", ["x", "two", "three", "one"], ["last"]),
            node("Sub", ["last", "middle"], ["apart"]),
            node("ReduceMean", ["apart"], ["m"], axes=[0], keepdims=1),
            node("Sub", ["apart", "m"], ["y"]),
        ],
        one=np.array([1]),
        two=np.array([2]),
        three=np.array([3]),
    ),
    "one row for all": lambda: model([node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)], axes=np.array([0])),
}
INDEPENDENT: dict[str, Callable[[], bytes]] = {
    "scaled": lambda: model([node("Mul", ["x", "two"], ["y"])], two=np.float32(2)),
    "softmax over columns": lambda: model([node("Softmax", ["x"], ["y"], axis=1)]),
    "square root of the last column": lambda: of_last_column(node("Sqrt", ["last"], ["y"])),
    "square root of the last column, negated": lambda: of_last_column(
        node("Sub", ["seven", "last"], ["n"]), node("Sqrt", ["n"], ["y"]), seven=np.array([7], np.float32)
    ),
}
GOLDEN = {
    "differ": DIFFERING,
    "agree in one column": ONE_COLUMN_AGREES,
    "are mostly alike": FEW_DIFFER,
    "hardly differ": HARDLY_DIFFERING,
    "agree in two columns": np.concatenate([DIFFERING[:, :1], np.full((16, 2), 7, np.float32)], axis=1),
    "are two": DIFFERING[:2],
}
UNKNOWING = {"are all alike": ALIKE, "are one": DIFFERING[:1]}


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph says nothing, so that the trial has to find out."""
    monkeypatch.setattr("steeltown_server.independence.mixing", lambda _: None)


@pytest.mark.parametrize("golden", [*GOLDEN, *UNKNOWING])
@pytest.mark.parametrize("mixer", MIXERS)
def test_model_that_mixes_rows_is_never_batched(make_folder: Any, mixer: str, golden: str, unjudged: None) -> None:
    folder = make_folder(MIXERS[mixer](), x=(GOLDEN | UNKNOWING)[golden])
    warm = warm_up(load(folder.path, 1), folder.path)
    assert (warm.batches, warm.batch_rows) == (False, 1)
    assert warm.why_not_more


@pytest.mark.parametrize("mixer", MIXERS)
def test_graph_that_mixes_rows_is_never_tried(make_folder: Any, monkeypatch: pytest.MonkeyPatch, mixer: str) -> None:
    folder = make_folder(MIXERS[mixer](), x=DIFFERING)
    monkeypatch.delattr("steeltown_server.independence.trial")
    warm = warm_up(load(folder.path, 1), folder.path)
    assert (warm.batches, warm.batch_rows) == (False, 1)
    assert warm.why_not_more.startswith(("operator ", "an input or an output"))


@pytest.mark.parametrize(
    ("manifest", "rows", "why"),
    [
        ('{"digest": "of version 0.1"}', 50, ""),
        ('{"batching": {"rows": 50, "why": "", "refuted": false}}', 50, ""),
        ('{"batching": {"rows": 64, "why": "", "refuted": false}}', 50, ""),
        ('{"batching": {"rows": 8, "why": "", "refuted": false}}', 8, "finalise tried no more"),
        ('{"batching": {"rows": 8, "why": "it is slow", "refuted": false}}', 8, "finalise tried no more (it is slow)"),
        ('{"batching": {"rows": 1, "why": "row 7 differs", "refuted": true}}', 1, "finalise found: row 7 differs"),
        ('{"batching": {"rows": 0, "why": "", "refuted": false}}', 1, "batching.rows is 0: must be a whole number 1"),
        ('{"batching": {"rows": "8"}}', 1, "batching.rows is '8': must be a whole number"),
        ('{"batching": [8]}', 1, "manifest.batching is of type list: must be a JSON object"),
        ("{", 1, "manifest.json cannot be read"),
        ("[" * 100_000, 1, "manifest.json cannot be read"),
        ("\udcff", 1, "manifest.json cannot be read"),
    ],
)  # fmt: skip
def test_what_finalise_found_holds(make_folder: Any, manifest: str, rows: int, why: str) -> None:
    folder = make_folder(INDEPENDENT["scaled"](), x=DIFFERING)
    (folder.path / "manifest.json").write_text(manifest, errors="surrogateescape")
    warm = warm_up(load(folder.path, 1), folder.path, most_batch_rows=50)
    assert warm.batch_rows == rows
    assert why in warm.why_not_more and bool(why) is bool(warm.why_not_more)


def test_record_of_finalise_does_not_replace_the_trial(make_folder: Any, unjudged: None) -> None:
    folder = make_folder(MIXERS["mean over rows"](), x=DIFFERING)
    (folder.path / "manifest.json").write_text('{"batching": {"rows": 64, "why": "", "refuted": false}}')
    assert not warm_up(load(folder.path, 1), folder.path).batches


@pytest.mark.parametrize("golden", UNKNOWING)
@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_that_do_not_differ_prove_nothing(make_folder: Any, name: str, golden: str) -> None:
    folder = make_folder(INDEPENDENT[name](), x=UNKNOWING[golden])
    warm = warm_up(load(folder.path, 1), folder.path)
    assert not warm.batches
    assert warm.why_not_more.startswith("the golden rows are all alike")
    assert "evaluation data whose rows differ" in warm.why_not_more


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        *(("scaled", golden) for golden in GOLDEN),
        *(("softmax over columns", golden) for golden in GOLDEN),
        ("square root of the last column", "agree in one column"),
        ("square root of the last column, negated", "agree in one column"),
    ],
)
def test_ordinary_model_whose_golden_rows_differ_is_batched(make_folder: Any, name: str, golden: str) -> None:
    folder = make_folder(INDEPENDENT[name](), x=GOLDEN[golden])
    warm = warm_up(load(folder.path, 1), folder.path, most_batch_rows=50)
    assert (warm.batches, warm.batch_rows, warm.why_not_more) == (True, 50, "")


def test_tolerance_wider_than_usual_proves_nothing(make_folder: Any, unjudged: None) -> None:
    """Within 1e9 every model is independent."""
    folder = make_folder(MIXERS["mean over rows"](), x=DIFFERING)
    folder.write_golden(folder.golden() | {"atol": 1e9, "rtol": 1.0})
    assert not warm_up(load(folder.path, 1), folder.path).batches


def test_answers_that_are_all_alike_prove_nothing(make_folder: Any, unjudged: None) -> None:
    """Whether the rows' mean is above 1000, say, which no golden row shows."""
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        node("Sub", ["x", "x"], ["nothing"]),
        node("Add", ["nothing", "m"], ["all"]),
        node("Sub", ["all", "much"], ["above"]),
        node("Relu", ["above"], ["y"]),
    ]
    folder = make_folder(model(nodes, much=np.float32(1000)), x=DIFFERING)
    warm = warm_up(load(folder.path, 1), folder.path)
    assert not warm.batches
    assert warm.why_not_more.startswith("the golden rows all have one answer")


def many_kinds() -> bytes:
    """Text, truth and whole numbers of several sizes, each handed through."""
    kinds = {"t": TensorProto.STRING, "b": TensorProto.BOOL, "u": TensorProto.UINT8, "i": TensorProto.INT64}
    graph = helper.make_graph(
        [node("Identity", [n], [f"{n}_out"]) for n in kinds],
        "g",
        [helper.make_tensor_value_info(n, kind, ["N", 2]) for n, kind in kinds.items()],
        [helper.make_tensor_value_info(f"{n}_out", kind, ["N", 2]) for n, kind in kinds.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_places_that_agree_are_varied_in_every_datatype(make_folder: Any) -> None:
    """At the ends of their range too; the first input differs, so that there is something to go by."""
    feed = {
        "t": np.array([["a", "x"], ["b", "x"]], object),
        "b": np.array([[True, True], [True, False]]),
        "u": np.array([[255, 0], [255, 0]], np.uint8),
        "i": np.full((2, 2), np.iinfo(np.int64).min),
    }
    folder = make_folder(many_kinds(), **feed)
    assert warm_up(load(folder.path, 1), folder.path).batches


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize(
    "rows",
    [
        np.full((3, 1), 1e300),
        np.full((3, 1), np.nan, np.float32),
        np.full((3, 1), 65504, np.float16),
        np.full((3, 1), -np.finfo(np.float64).max),
        np.full((3, 1), -(2**63)),
        np.full((3, 1), 2**64 - 1, np.uint64),
        np.zeros((3, 1), np.uint8),
        np.zeros((3, 1), bool),
        np.array([[""]] * 3, object),
    ],
    ids=str,
)
def test_changed_rows_differ_from_each_other_and_stay_in_their_type(rows: np.ndarray, up: bool) -> None:
    changed = _changed(rows, up=up)
    assert changed.dtype == rows.dtype
    assert changed[0] != changed[1]
    assert changed[0] == changed[2]
    if rows.dtype.kind == "f":
        assert np.isfinite(changed).all()


def lookup() -> bytes:
    """y = table[i], of ten numbers; no other i is taken."""
    i = helper.make_tensor_value_info("i", TensorProto.INT64, ["N", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    table = numpy_helper.from_array(np.arange(10, dtype=np.float32) * 10, "table")
    graph = helper.make_graph([node("Gather", ["table", "i"], ["y"])], "g", [i], [y], [table])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(
    "column",
    [
        [0, 0],
        [9, 9],  # no index above: the one below is taken
        [-10, -10],  # no index below: the one above
        [0, 9],
    ],
)
def test_place_at_the_edge_of_what_a_model_takes_is_varied_inwards(make_folder: Any, column: list[int]) -> None:
    folder = make_folder(lookup(), i=np.array([[1, column[0]], [2, column[1]]]))
    assert warm_up(load(folder.path, 1), folder.path).batches


def test_model_that_takes_one_value_only_says_what_is_missing(make_folder: Any) -> None:
    """-10 and 9 are the table's ends, and no step is good for both."""
    three = np.array([[5, -10, 9], [6, -10, 9]])
    made = onnx.load_from_string(lookup())
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[1].dim_value = 3
    folder = make_folder(made.SerializeToString(), i=three)
    warm = warm_up(load(folder.path, 1), folder.path)
    assert not warm.batches
    assert "agree in places of 'i'" in warm.why_not_more
    assert "out of data bounds" in warm.why_not_more


class Slow:
    """A model whose clock runs: each run takes its rows' seconds."""

    def __init__(self, model: Any, clock: list[float], seconds_per_row: float) -> None:
        self._model, self._clock, self._seconds_per_row = model, clock, seconds_per_row
        self.signature = model.signature
        self.rows_run = 0

    def run(self, outputs: Any, feed: Any) -> Any:
        rows = len(next(iter(feed.values())))
        self.rows_run += rows
        self._clock[0] += rows * self._seconds_per_row
        return self._model.run(outputs, feed)


@pytest.mark.parametrize(("seconds_per_row", "rows"), [(0.0, 64), (0.02, 8), (0.5, 2)])
def test_slow_model_shares_runs_as_large_as_time_allowed_to_prove(
    make_folder: Any, monkeypatch: pytest.MonkeyPatch, seconds_per_row: float, rows: int
) -> None:
    folder = make_folder(INDEPENDENT["scaled"](), x=DIFFERING)
    clock = [0.0]
    monkeypatch.setattr("steeltown_server.independence.time.monotonic", lambda: clock[0])
    slow = Slow(load(folder.path, 1), clock, seconds_per_row)
    golden = Golden.from_json(folder.golden())
    proven = proof.trial(slow, {"x": DIFFERING}, golden, most_rows=64)  # type: ignore[arg-type]
    assert proven.rows == rows
    assert ("within 5 s" in proven.why) is (rows < 64)
    assert clock[0] < max(2 * proof.PROOF_SECONDS, 40 * seconds_per_row)


@pytest.mark.parametrize("golden", ["are all alike", "differ"])
@pytest.mark.parametrize("mixer", ["mean over rows", "softmax over rows", "cumulative sum over rows"])
def test_concurrent_requests_are_answered_as_each_alone(
    serve: Any, make_folder: Any, body: Any, mixer: str, golden: str
) -> None:
    folder = make_folder(MIXERS[mixer](), x=(GOLDEN | UNKNOWING)[golden])
    server = serve(folder)
    assert server.logged("requests run one at a time")
    rows = np.random.default_rng(1).normal(size=(300, COLUMNS)).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: server.infer(body(x=row[None])).json()["outputs"][0]["data"], rows))
    alone = [folder.direct({"x": row[None]})["y"].ravel() for row in rows]
    assert sum(not np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(answers, alone, strict=True)) == 0


def test_ordinary_model_still_shares_runs(serve: Any, make_folder: Any, body: Any) -> None:
    server = serve(make_folder(INDEPENDENT["scaled"](), x=DIFFERING), batch_wait_milliseconds=5)
    assert not server.logged("requests run one at a time")
    rows = np.random.default_rng(1).normal(size=(200, COLUMNS)).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: server.infer(body(x=row[None])).json()["outputs"][0]["data"], rows))
    assert np.allclose(answers, rows * 2)
    assert server.metric("steeltown_server_model_runs_total") < 0.8 * len(rows)

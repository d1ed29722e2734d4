"""Whether a graph keeps rows apart, judged from the file: a zoo that mixes, and what people really export.

Each mixer differs from a model that is batched in one thing. That ordinary models stay batched is half of the
specification, or the judgement would be right about everything and worth nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from steeltown_tensors import drawing, mixing
from steeltown_tensors.onnxfile import read_graph

node = helper.make_node
FLOAT, INT, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def model(
    nodes: list[Any],
    shape: tuple[Any, ...] = ("N", 3),
    kind: int = FLOAT,
    opset: int = 17,
    outputs: tuple[str, ...] = ("y",),
    functions: tuple[Any, ...] = (),
    more: dict[str, tuple[Any, ...]] | None = None,
    **constants: Any,
) -> bytes:
    """x [N, 3] to y, of any type and shape: only the graph is looked at."""
    inputs = [helper.make_tensor_value_info(n, kind, s) for n, s in {"x": shape, **(more or {})}.items()]
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            inputs,
            [helper.make_tensor_value_info(n, FLOAT, None) for n in outputs],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        ),
        functions=functions,
        opset_imports=[
            helper.make_opsetid(d, v) for d, v in (("", opset), ("ai.onnx.ml", 3), ("com.microsoft", 1), ("own", 1))
        ],
        ir_version=8,
    )
    return bytes(made.SerializeToString())


def one(op: str, *more: str, **attributes: Any) -> list[Any]:
    return [node(op, ["x", *more], ["y"], name="it", **attributes)]


def looping() -> bytes:
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Identity", ["x"], ["s"])],
        "body",
        [helper.make_tensor_value_info("i", INT, []), helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("s", FLOAT, None)],
    )
    return model([node("Loop", ["n", ""], ["y"], body=body, name="it")], n=np.array(2))


def of_function(op: str, **attributes: Any) -> bytes:
    body = [node(op, ["a"], ["b"], name="it", **attributes)]
    made = helper.make_function("own", "Mine", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    return model([node("Mine", ["x"], ["y"], domain="own")], functions=(made,))


EYE = np.eye(3, dtype=np.float32)
MIXERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "mean over rows": (lambda: model(one("ReduceMean", axes=[0])), "reduces over the rows"),
    "mean over rows, from behind": (lambda: model(one("ReduceMean", axes=[-2])), "reduces over the rows"),
    "sum over everything": (lambda: model(one("ReduceSum")), "reduces over all axes"),
    "sum over axes that the request says": (
        lambda: model([node("Cast", ["x"], ["a"], to=INT), *one("ReduceSum", "a")]),
        "takes its input 1",
    ),
    "softmax over rows": (lambda: model(one("Softmax", axis=0)), "normalises over the rows"),
    "old softmax over rows": (lambda: model(one("Softmax", axis=0), opset=11), "normalises over the rows"),
    "cumulative sum": (lambda: model(one("CumSum", "k"), k=np.array(0)), "accumulates over the rows"),
    "largest of rows": (lambda: model(one("TopK", "k", axis=0), k=np.array([1])), "sorts the rows"),
    "place of the largest row": (lambda: model(one("ArgMax")), "reduces over the rows"),
    "attention over rows": (
        lambda: model([node("Transpose", ["x"], ["t"]), *one("MatMul", "t")]),
        "holds every row against every other",
    ),
    "product of columns": (
        lambda: model([node("Transpose", ["x"], ["t"]), node("MatMul", ["t", "x"], ["y"], name="it")]),
        "sums over the rows",
    ),
    "differences of all pairs": (
        lambda: model([node("Unsqueeze", ["x", "k"], ["u"]), *one("Sub", "u")], k=np.array([1])),
        "lays the rows of one input across",
    ),
    "rows backwards": (
        lambda: model(one("Slice", "a", "b", "c", "d"), a=[-1], b=[-(2**31)], c=[0], d=[-1]),
        "takes some of the rows",
    ),
    "first row only": (lambda: model(one("Gather", "k", axis=0), k=np.array([0])), "takes some of the rows"),
    "row that another names": (
        lambda: model([node("Cast", ["x"], ["i"], to=INT), *one("Gather", "i")]),
        "lets a row choose among rows",
    ),
    "boxes": (
        lambda: model([node("NonMaxSuppression", ["x", "s"], ["y"], name="it")], ("N", 4, 4), more={"s": ("N", 1, 4)}),
        "drops boxes",
    ),
    "dynamic quantisation": (
        lambda: model([node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], name="it")]),
        "quantise statically",
    ),
    "batch statistics": (
        lambda: model(
            [node("BatchNormalization", ["x", "o", "o", "o", "o"], ["y", "m", "v"], training_mode=1, name="it")],
            o=np.ones(3, np.float32),
        ),
        "is in training mode",
    ),
    "instance statistics over all": (lambda: model(one("MeanVarianceNormalization", axes=[0])), "normalises"),
    "layer statistics from the first axis": (
        lambda: model(one("LayerNormalization", "o", axis=0), o=np.ones((1, 3), np.float32)),
        "normalises over the rows",
    ),
    "loop": (looping, "runs a graph of its own"),
    "random numbers": (
        lambda: model([node("RandomNormalLike", ["x"], ["r"], name="it"), node("Add", ["x", "r"], ["y"])]),
        "draws random numbers",
    ),
    "dropout in training": (lambda: model(one("Dropout", "", "t"), t=np.array(True)), "is in training mode"),
    "rows cut anew": (lambda: model(one("Reshape", "k"), k=np.array([2, -1])), "moves the rows in among"),
    "all in one": (lambda: model(one("Flatten", axis=0)), "has not one row for each row"),
    "rows become steps of time": (
        lambda: model(
            one("LSTM", "w", "r", hidden_size=1),
            ("N", "T", 3),
            w=np.ones((1, 4, 3), np.float32),
            r=np.ones((1, 4, 1), np.float32),
        ),
        "takes the rows for steps in time",
    ),
    "divided by how many there are": (
        lambda: model(
            [
                node("Shape", ["x"], ["s"]),
                node("Gather", ["s", "k"], ["n"]),
                node("Cast", ["n"], ["f"], to=FLOAT, name="it"),
                *one("Div", "f"),
            ],
            k=np.array(0),
        ),
        "calculates with the number of rows",
    ),
    "constant that is as long as a batch": (
        lambda: model(one("Add", "c"), c=np.ones((4, 3), np.float32)),
        "as long as some number of rows",
    ),
    "operator of another domain": (
        lambda: model([node("Strange", ["x"], ["y"], domain="com.microsoft", name="it")]),
        "is not known to keep rows apart",
    ),
    "number of values that are not zero": (lambda: model(one("NonZero")), "as many rows as there are values"),
    "mean in a function": (lambda: of_function("ReduceMean", axes=[0]), "reduces over the rows"),
    "einsum of all pairs": (
        lambda: model([node("Einsum", ["x", "x"], ["y"], equation="ij,kj->ik", name="it")]),
        "holds every row against every other",
    ),
    "indices of a pool over the batch": (
        lambda: model(
            [node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2]), node("Cast", ["i"], ["y"], to=FLOAT, name="it")],
            ("N", 1, 4),
        ),
        "has an input that nothing in front of it makes",
    ),
    "rows side by side": (lambda: model([node("Concat", ["x", "x"], ["y"], axis=0, name="it")]), "puts rows behind"),
    "squeezed where it is one": (lambda: model(one("Squeeze")), "a single row's"),
}


@pytest.mark.parametrize("name", MIXERS)
def test_operator_in_which_rows_meet_is_named(name: str) -> None:
    made, why = MIXERS[name]
    found = mixing(made())
    assert found is not None
    assert why in found.why
    assert (found.node == "it") is bool(found.op)
    assert (drawing(made()) is not None) is (name in ("random numbers", "dropout in training"))


def weights(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def flattened_by(*shaping: Any, shape: tuple[Any, ...] = ("N", 4, 5), **constants: Any) -> bytes:
    """A dense layer behind what `shaping` makes of x as `f`, of 20 values a row."""
    return model([*shaping, node("Gemm", ["f", "w", "b"], ["y"])], shape, w=weights(20, 2), b=weights(2), **constants)


def convolutional() -> bytes:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3]),
        node("BatchNormalization", ["c", "b", "b", "b", "b"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        node("Add", ["p", "p"], ["s"]),
        node("GlobalAveragePool", ["s"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Dropout", ["f"], ["d"]),
        node("Gemm", ["d", "v", "u"], ["l"], transB=1),
        node("Softmax", ["l"], ["y"], axis=1),
    ]
    return model(nodes, ("N", 1, "H", "W"), w=weights(8, 1, 3, 3), b=weights(8), v=weights(2, 8), u=weights(2))


def attentive() -> bytes:
    """One layer of a transformer, as PyTorch writes it, with tokens of any number."""
    split = ["n", "t", "four", "two"]
    nodes = [
        node("Gather", ["table", "x"], ["e"]),
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n0"]),
        node("Gather", ["s", "one"], ["t0"]),
        node("Unsqueeze", ["n0", "axis"], ["n"]),
        node("Unsqueeze", ["t0", "axis"], ["t"]),
        node("Concat", split, ["heads"], axis=0),
        node("Concat", ["n", "t", "eight"], ["joined"], axis=0),
        node("MatMul", ["e", "w"], ["q0"]),
        node("Reshape", ["q0", "heads"], ["q1"]),
        node("Transpose", ["q1"], ["q"], perm=[0, 2, 1, 3]),
        node("Transpose", ["q1"], ["k"], perm=[0, 2, 3, 1]),
        node("MatMul", ["q", "k"], ["scores"]),
        node("Softmax", ["scores"], ["weight"], axis=-1),
        node("MatMul", ["weight", "q"], ["v0"]),
        node("Transpose", ["v0"], ["v1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["v1", "joined"], ["v"]),
        node("Add", ["v", "e"], ["residual"]),
        node("LayerNormalization", ["residual", "scale", "scale"], ["z"], axis=-1),
        node("ReduceMean", ["z"], ["y"], axes=[1], keepdims=0),
    ]
    return model(
        nodes,
        ("N", "T"),
        INT,
        table=weights(30, 8),
        zero=np.array(0),
        one=np.array(1),
        axis=np.array([0]),
        four=np.array([4]),
        two=np.array([2]),
        eight=np.array([8]),
        w=weights(8, 8),
        scale=weights(8),
    )


def recurrent() -> bytes:
    """Batch first outside, time first inside, and a state of zeros for as many rows as there are."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["one", "n1", "two"], ["state"], axis=0),
        node("ConstantOfShape", ["state"], ["h"]),
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "", "", "h", "h"], ["", "last"], hidden_size=2),
        node("Squeeze", ["last", "axis"], ["y"]),
    ]
    return model(
        nodes,
        ("N", "T", 3),
        w=weights(1, 8, 3),
        r=weights(1, 8, 2),
        zero=np.array(0),
        axis=np.array([0]),
        one=np.array([1]),
        two=np.array([2]),
    )


def quantised_statically() -> bytes:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "s", "z"], ["v"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    return model(nodes, s=np.float32(0.1), z=np.uint8(0), w=np.ones((3, 2), np.uint8))


def expanded() -> bytes:
    """A class token in front of each row, the way that PyTorch writes expand(n, -1, -1)."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["n"]),
        node("Concat", ["n", "minus", "minus"], ["wanted"], axis=0),
        node("Equal", ["wanted", "minus3"], ["same"]),
        node("Where", ["same", "ones", "wanted"], ["target"]),
        node("Expand", ["token", "target"], ["t"]),
        node("Concat", ["t", "x"], ["c"], axis=1),
        node("Slice", ["c", "zero", "one", "one"], ["first"]),
        node("Squeeze", ["first", "one"], ["y"]),
    ]
    return model(
        nodes,
        ("N", 4, 5),
        zero=np.array([0]),
        one=np.array([1]),
        minus=np.array([-1]),
        minus3=np.array([-1, -1, -1]),
        ones=np.array([1, 1, 1]),
        token=weights(1, 1, 5),
    )


ORDINARY: dict[str, Callable[[], bytes]] = {
    "dense layers": lambda: model(
        [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["a"]), node("Relu", ["a"], ["y"])],
        w=EYE,
        b=weights(3),
    ),
    "weights turned in the graph": lambda: model(
        [node("Transpose", ["w"], ["t"]), node("MatMul", ["x", "t"], ["y"])], w=weights(2, 3)
    ),
    "softmax over columns": lambda: model(one("Softmax", axis=-1)),
    "old softmax": lambda: model(one("Softmax"), opset=11),
    "mean over columns": lambda: model(one("ReduceMean", axes=[1])),
    "largest column": lambda: model(one("ArgMax", axis=1, keepdims=0)),
    "sorted columns": lambda: model([node("TopK", ["x", "k"], ["y", "i"])], k=np.array([2])),
    "dropout that is off": lambda: model(one("Dropout", "", "t"), t=np.array(False)),
    "batch norm as it was learnt": lambda: model(one("BatchNormalization", "o", "o", "o", "o"), o=weights(3)),
    "flattened": lambda: flattened_by(node("Flatten", ["x"], ["f"], axis=1)),
    "reshaped to -1": lambda: flattened_by(node("Reshape", ["x", "k"], ["f"]), k=[-1, 20]),
    "reshaped to 0": lambda: flattened_by(node("Reshape", ["x", "k"], ["f"]), k=[0, -1]),
    "reshaped by the number of rows": lambda: flattened_by(
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "begin", "end"], ["n"]),
        node("Concat", ["n", "rest"], ["k"], axis=0),
        node("Reshape", ["x", "k"], ["f"]),
        begin=[0],
        end=[1],
        rest=[-1],
    ),
    "channels last": lambda: flattened_by(
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("Reshape", ["t", "k"], ["f"]), k=[-1, 20]
    ),
    "rows taken apart and put together": lambda: flattened_by(
        node("Reshape", ["x", "k"], ["t"]), node("Reshape", ["t", "l"], ["f"]), k=[-1, 5], l=[-1, 20]
    ),
    "convolutional": convolutional,
    "attentive": attentive,
    "recurrent": recurrent,
    "quantised statically": quantised_statically,
    "expanded": expanded,
    "function": lambda: of_function("ReduceMean", axes=[1]),
    "einsum": lambda: model(one("Einsum", "w", equation="ij,jk->ik"), w=EYE),
    "label from a list": lambda: model(
        [
            node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
            node("ArrayFeatureExtractor", ["names", "i"], ["n"], domain="ai.onnx.ml"),
            node("Reshape", ["n", "k"], ["y"]),
        ],
        names=np.array([4, 5, 6]),
        k=[-1],
    ),
    "trees": lambda: model(
        [
            node("TreeEnsembleClassifier", ["x"], ["l", "p"], domain="ai.onnx.ml"),
            node("Cast", ["l"], ["y"], to=INT),
        ]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_export_keeps_its_rows_apart(name: str) -> None:
    assert mixing(ORDINARY[name]()) is None


ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
TRUTH = np.digitize(ROWS.sum(axis=1), [-1, 1])
ESTIMATORS: dict[str, Any] = {
    "logistic regression": LogisticRegression(),
    "forest": RandomForestClassifier(3),
    "boosted trees": GradientBoostingRegressor(n_estimators=3),
    "naive Bayes": GaussianNB(),
    "network": MLPClassifier((5,), solver="lbfgs", max_iter=2000),
    "several targets": MultiOutputRegressor(Ridge()),
}


@pytest.mark.parametrize("words", [False, True], ids=["classes are numbers", "classes are words"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_pipeline_of_scikit_learn_keeps_its_rows_apart(name: str, words: bool) -> None:
    estimator = ESTIMATORS[name]
    classifies = hasattr(estimator, "predict_proba")
    truth = np.array(["low", "middle", "high"])[TRUTH] if words and classifies else TRUTH
    truth = np.column_stack([TRUTH, TRUTH]) if name == "several targets" else truth
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), estimator).fit(ROWS, truth)
    options = {id(estimator): {"zipmap": False}} if classifies else None
    opsets = {"": 17, "ai.onnx.ml": 3}
    types = [("x", FloatTensorType([None, 4]))]
    exported = convert_sklearn(pipeline, initial_types=types, options=options, target_opset=opsets)
    assert mixing(exported.SerializeToString()) is None


@pytest.mark.parametrize(("padding", "apart"), [("##", True), ("fox", False)])
def test_padding_of_texts_is_harmless_unless_it_is_a_word(padding: str, apart: bool) -> None:
    texts = ["the quick fox", "jumps over", "lazy dog here", "fox and dog"]
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [0, 1, 0, 1])
    options = {id(pipeline.steps[-1][1]): {"zipmap": False}}
    types = [("x", StringTensorType([None]))]
    exported = convert_sklearn(pipeline, initial_types=types, options=options, target_opset={"": 17, "ai.onnx.ml": 3})
    tokenizer = next(n for n in exported.graph.node if n.op_type == "Tokenizer")
    next(a for a in tokenizer.attribute if a.name == "pad_value").s = padding.encode()
    assert (mixing(exported.SerializeToString()) is None) is apart


def test_operator_that_draws_is_found_behind_one_that_mixes() -> None:
    nodes = [node("Softmax", ["x"], ["s"], axis=0), node("Dropout", ["s", "", "t"], ["y"], name="it")]
    file = model(nodes, t=np.array(True))
    assert "normalises over the rows" in str(mixing(file))
    assert str(drawing(file)) == "operator Dropout ('it') is in training mode: it drops values at random"


def test_input_without_a_batch_is_named() -> None:
    found = mixing(model(one("Add", "state"), more={"state": (1, 3)}))
    assert str(found).startswith("input 'state': its first axis is not of variable size")


def test_verdict_names_node_operator_and_reason() -> None:
    found = mixing(MIXERS["softmax over rows"][0]())
    assert str(found) == "operator Softmax ('it') normalises over the rows"


def test_only_shapes_that_are_certain_to_keep_rows_whole_pass_where_axes_vary() -> None:
    shaping = node("Reshape", ["x", "k"], ["f"])
    assert mixing(flattened_by(shaping, shape=("N", 7, "T"), k=[-1, 20])) is not None
    assert mixing(flattened_by(shaping, shape=("N", "T"), k=[-1, 20])) is not None
    assert mixing(flattened_by(shaping, shape=("N", 20), k=[-1, 20])) is None


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\xff" * 100, b"not a model", ORDINARY["convolutional"]()[:-7], b"\x3a\x7f"],
    ids=["empty", "no end", "text", "cut", "longer than it is"],
)
def test_what_is_no_model_is_not_batched(damaged: bytes) -> None:
    found = mixing(damaged)
    assert found is not None or read_graph(damaged).nodes == []


def test_functions_that_call_each_other_for_ever_end_the_question() -> None:
    body = [node("Mine", ["a"], ["b"], domain="own")]
    made = helper.make_function("own", "Mine", ["a"], ["b"], body, [helper.make_opsetid("own", 1)])
    found = mixing(model([node("Mine", ["x"], ["y"], domain="own")], functions=(made,)))
    assert "functions call each other" in str(found)


def bombs() -> dict[str, bytes]:
    names = [f"v{i}" for i in range(60)]
    chain = list(pairwise(["s", *names]))
    shape, last = node("Shape", ["x"], ["s"]), node("Reshape", ["x", names[-1]], ["y"])
    constant = node("Constant", [], ["s"], value_ints=[3, 3])
    cast = node("Cast", [names[-1]], ["y"], to=FLOAT)
    return {
        "values that double": model([shape, *(node("Concat", [a, a], [b], axis=0) for a, b in chain), last]),
        "constants that double": model([constant, *(node("Concat", [a, a], [b], axis=0) for a, b in chain), last]),
        "numbers that are squared": model([constant, *(node("Mul", [a, a], [b]) for a, b in chain), last]),
        "axes without end": model(
            [node("Identity", ["x"], ["s"]), *(node("Unsqueeze", [a, "k"], [b]) for a, b in chain), cast], k=[1]
        ),
        "lengths that double": model(
            [node("Identity", ["x"], ["s"]), *(node("Concat", [a, a], [b], axis=1) for a, b in chain), cast]
        ),
        "axes that are many": model(one("ReduceMean", axes=[1] * 100_000)),
        "function that calls itself twice": model(
            [node("F0", ["x"], ["y"], domain="own")],
            functions=tuple(
                helper.make_function(
                    "own",
                    f"F{i}",
                    ["a"],
                    ["b"],
                    [
                        node(f"F{i + 1}", ["a"], [f"c{j}"], domain="own")
                        if i < 6
                        else node("Identity", ["a"], [f"c{j}"])
                        for j in range(20)
                    ]
                    + [node("Identity", ["c0"], ["b"])],
                    [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)],
                )
                for i in range(7)
            ),
        ),
    }


@pytest.mark.parametrize("bomb", bombs())
def test_small_file_that_unfolds_is_judged_in_little_time(bomb: str) -> None:
    started = time.process_time()
    mixing(bombs()[bomb])
    assert time.process_time() - started < 10


def test_function_named_like_an_operator_is_not_followed() -> None:
    body = [node("Identity", ["a"], ["b"])]
    made = helper.make_function("", "ReduceMean", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    assert "both an operator and a function" in str(mixing(model(one("ReduceMean", axes=[0]), functions=(made,))))


@pytest.mark.parametrize("seed", range(20))
def test_bent_file_is_judged_or_refused(seed: int) -> None:
    """Nothing but a verdict comes of it: no exception, no endless loop."""
    random = np.random.default_rng(seed)
    for file in (convolutional(), attentive(), looping(), of_function("Relu")):
        bent = bytearray(file)
        for _ in range(random.integers(1, 6)):
            bent[random.integers(len(bent))] = random.integers(256)
        mixing(bytes(bent))
        mixing(bytes(bent[: random.integers(len(bent))]))


def test_graph_is_read_as_the_library_reads_it() -> None:
    file = convolutional()
    theirs = onnx.load_from_string(file).graph
    ours = read_graph(file)
    assert [(n.op, *n.inputs, *n.outputs) for n in ours.nodes] == [
        (n.op_type, *n.input, *n.output) for n in theirs.node
    ]
    assert {k: c.dims for k, c in ours.constants.items()} == {t.name: tuple(t.dims) for t in theirs.initializer}
    assert ours.nodes[0].integers("kernel_shape") == (3, 3)
    assert ours.inputs[0].dims == ("N", 1, "H", "W")

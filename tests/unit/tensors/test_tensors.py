"""What checker and server both know of tensors: one table, one JSON form, one tolerance."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper
from steeltown.contract.golden import Golden
from steeltown_checker.exporter import Said
from steeltown_checker.goldenrows import violation
from steeltown_checker.model import Model as CheckerModel
from steeltown_server.comparison import first_difference
from steeltown_server.pairs import compare
from steeltown_tensors import BY_NAME, BY_ONNX, DATATYPES, Tolerance, excess, from_json, to_json, worst

TOLERANCE = Tolerance(1e-4, 1e-3)
NAN, INF = float("nan"), float("inf")


def test_every_datatype_is_onnx_s_of_the_same_name() -> None:
    for datatype in DATATYPES:
        element = datatype.onnx.removeprefix("tensor(").removesuffix(")")
        code = onnx.TensorProto.DataType.Value(element.upper())
        assert helper.tensor_dtype_to_np_dtype(code) == datatype.dtype
        assert BY_NAME[datatype.name] is BY_ONNX[datatype.onnx] is datatype


CASES = [
    (1.0, 1.0019, True),
    (1.0, 1.001, False),
    (0.0, 9e-5, False),
    (0.0, 2e-4, True),
    (INF, INF, False),
    (INF, -INF, True),
    (INF, 1e30, True),
    (1e30, INF, True),
    (NAN, NAN, False),
    (1.0, NAN, True),
    (NAN, 1.0, True),
    (1.7e308, -1.7e308, True),
]


@pytest.mark.parametrize(("expected", "got", "differs"), CASES)
def test_tolerance_is_absolute_plus_relative_of_the_expected(expected: float, got: float, differs: bool) -> None:
    found = excess(np.array([got]), np.array([expected]), TOLERANCE)
    assert (float(found[0]) > 1) is differs


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([True, False]), np.array([True, True])),
        (np.array(["a", "b"], object), np.array(["a", "c"], object)),
    ],
)
def test_what_is_no_float_is_equal_or_wrong(expected: np.ndarray, got: np.ndarray) -> None:
    assert excess(got, expected, TOLERANCE).tolist() == [0.0, INF]
    assert worst(got, expected, TOLERANCE) == (INF, 1)
    assert worst(expected, expected, TOLERANCE) == (0.0, 0)


def test_no_tolerance_at_all_wants_equal_floats() -> None:
    exact = Tolerance(0.0, 0.0)
    assert excess(np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.5]), exact).tolist() == [0.0, 0.0, INF]


def test_worst_of_nothing_is_nothing() -> None:
    assert worst(np.zeros(0), np.zeros(0), TOLERANCE) == (0.0, 0)


class Answering(CheckerModel):
    """A model of one input and one output that gives what it is told to."""

    def __init__(self, answer: np.ndarray) -> None:
        self._answer = answer
        port = type("P", (), {"name": "y", "type": "tensor(double)", "shape": [None]})()
        session = type("S", (), {"get_inputs": lambda s: [port], "get_outputs": lambda s: [port]})()
        super().__init__(session, Said())

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": self._answer}


@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=4))
def test_checker_server_and_canary_agree_on_what_agrees(values: list[tuple[float, float]]) -> None:
    """A model that the checker passes is ready in the server."""
    expected, got = (np.array(v, np.float64) for v in zip(*values, strict=True))
    tensor = to_json("y", "FP64", expected)
    golden = Golden(inputs=[tensor], outputs=[tensor])
    size, _ = violation(Answering(got), golden)
    assert (size > 1) is (first_difference("y", expected, got, golden) is not None)
    if size <= 1:
        assert compare({"y": expected}, {"y": got})[1]


@given(st.sampled_from([d for d in DATATYPES if not d.is_bytes]).flatmap(lambda d: hnp.arrays(d.dtype, (2, 3))))
def test_tensor_survives_its_json_form(values: np.ndarray) -> None:
    name = next(d.name for d in DATATYPES if d.dtype == values.dtype)
    raw = json.loads(json.dumps(to_json("x", name, values)))
    found = from_json(raw, BY_NAME[name])
    assert found.dtype == values.dtype
    assert np.array_equal(found, values, equal_nan=values.dtype.kind == "f")


def test_text_and_missing_numbers_have_a_json_form() -> None:
    text = from_json({"shape": [2, 1], "data": ["a", 5]}, BY_NAME["BYTES"])
    assert text.tolist() == [["a"], ["5"]]
    assert np.isnan(from_json({"shape": [1], "data": [None]}, BY_NAME["FP32"])).all()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"shape": [1]}, "data must be a list"),
        ({"shape": [1], "data": "abc"}, "data must be a list"),
        ({"shape": [3], "data": [1, 2]}, "data does not match UINT8 and shape: .*cannot reshape"),
        ({"data": [1]}, "data does not match UINT8 and shape: KeyError"),
        ({"shape": ["x"], "data": [1]}, "data does not match UINT8 and shape"),
        ({"shape": [1], "data": ["x"]}, "data does not match UINT8 and shape"),
        ({"shape": [1], "data": [None]}, "data does not match UINT8 and shape"),
        ({"shape": [1], "data": [300]}, "data does not match UINT8 and shape"),
        ({"shape": [2], "data": [[1], [2]]}, "data does not match UINT8 and shape"),
    ],
)
def test_what_is_no_tensor_is_said(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_json(raw, BY_NAME["UINT8"])

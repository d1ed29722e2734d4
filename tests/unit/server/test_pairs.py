"""How far two answers to one request are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from steeltown_server.counters import Pairing
from steeltown_server.pairs import Pair, compare, tensors


def floats(*values: float) -> dict[str, np.ndarray]:
    return {"y": np.array(values, np.float32)}


@given(hnp.arrays(np.float64, hnp.array_shapes(max_dims=2), elements=st.floats()))
def test_what_is_equal_does_not_differ(array: np.ndarray) -> None:
    """NaN and infinities included: two models that both have none to give agree."""
    assert compare({"y": array}, {"y": array.copy()}) == (0.0, True)


@pytest.mark.parametrize(
    ("live", "canary", "difference", "agreed"),
    [
        (floats(1, 2), floats(1, 2.0001), 5e-5, True),
        (floats(1000), floats(1001), 1 / 1001, True),  # relative above 1
        (floats(1000), floats(1100), 100 / 1100, False),
        (floats(0.001), floats(0.002), 0.001, False),  # absolute below
        (floats(0.5), floats(float("nan")), 1.0, False),
        (floats(float("inf")), floats(1), 1.0, False),
        (floats(1), floats(1, 2), 1.0, False),
        (floats(1), {"z": np.ones(1, np.float32)}, 1.0, False),
        (floats(1), {"y": np.ones(1, np.int64)}, 1.0, False),
        (floats(), floats(), 0.0, True),
        ({"y": np.array([1, 2])}, {"y": np.array([1, 3])}, 1.0, False),
        ({"y": np.array(["a"], object)}, {"y": np.array(["a"], object)}, 0.0, True),
        ({"y": np.array(["a"], object)}, {"y": np.array(["b"], object)}, 1.0, False),
        (floats(1) | {"z": np.array([1])}, floats(1.5) | {"z": np.array([1])}, 1 / 3, False),
    ],
)
def test_worst_element_counts(
    live: dict[str, np.ndarray], canary: dict[str, np.ndarray], difference: float, agreed: bool
) -> None:
    found, within = compare(live, canary)
    assert found == pytest.approx(difference, rel=2e-3)
    assert within is agreed


def test_answers_are_read_in_json_and_binary() -> None:
    outputs: list[dict[str, Any]] = [
        {"name": "f", "shape": [2], "datatype": "FP32", "data": [1.5, 2]},
        {"name": "s", "shape": [1], "datatype": "BYTES", "data": ["é"]},
    ]
    as_json = tensors(orjson.dumps({"outputs": outputs}), None)
    tail = np.array([1.5, 2], np.float32).tobytes() + b"\2\0\0\0\xc3\xa9"
    sizes = [8, 6]
    for output, size in zip(outputs, sizes, strict=True):
        del output["data"]
        output["parameters"] = {"binary_data_size": size}
    head = orjson.dumps({"outputs": outputs})
    as_binary = tensors(head + tail, len(head))
    assert as_json["f"].tolist() == as_binary["f"].tolist() == [1.5, 2]
    assert as_json["s"].tolist() == ["é"]
    assert as_binary["s"].tolist() == [b"\2\0\0\0\xc3\xa9"]


@pytest.mark.parametrize("order", ["live", "canary"])
def test_pair_counts_when_both_are_there_in_any_order(order: str) -> None:
    pairing = Pairing()
    pair = Pair(pairing)
    body = orjson.dumps({"outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": [1]}]})
    first, second = (pair.live, pair.canary) if order == "live" else (pair.canary, pair.live)
    first(body, None)
    assert pairing.compared == 0
    second(body, None)
    assert (pairing.compared, pairing.agreed, pairing.failed) == (1, 1, 0)


def test_answer_that_is_none_is_a_failed_copy() -> None:
    pairing = Pairing()
    pair = Pair(pairing)
    pair.live(b'{"outputs":[]}', None)
    pair.canary(b'{"outputs":[{"name":"y"}]}', None)
    assert (pairing.compared, pairing.failed) == (0, 1)

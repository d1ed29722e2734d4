"""Which ONNX files are models that can be served, and how table columns go into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from steeltown_checker.binding import bind
from steeltown_checker.model import Model, open_model
from steeltown_checker.reasons import Reason, StepFailed


def loaded(workspace: Any, proto: onnx.ModelProto | bytes) -> Model:
    return open_model(workspace.write("model.onnx", proto))


def refusal(workspace: Any, proto: onnx.ModelProto | bytes) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        loaded(workspace, proto)
    return caught.value


def mismatch(model: Model, features: tuple[str, ...], columns: tuple[str, ...] | None) -> str:
    with pytest.raises(StepFailed) as caught:
        bind(model, features, columns)
    assert caught.value.reason is Reason.SIGNATURE_MISMATCH
    return caught.value.message


@pytest.mark.parametrize("garbage", [b"", b"not onnx at all", b"\x08\x08"])
def test_bytes_that_are_no_onnx_are_invalid(garbage: bytes, workspace: Any) -> None:
    assert refusal(workspace, garbage).reason is Reason.MODEL_INVALID


def test_truncated_file_is_invalid(workspace: Any, models: Any) -> None:
    body = models.per_column(("a", "b")).SerializeToString()
    assert refusal(workspace, body[: len(body) // 2]).reason is Reason.MODEL_INVALID


def test_graph_that_the_checker_refuses_is_invalid(workspace: Any, models: Any) -> None:
    proto = models.per_column(("a",))
    proto.graph.node[0].op_type = "NoSuchOperator"
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.MODEL_INVALID
    assert "NoSuchOperator" in failure.message


def test_weights_outside_of_the_file_are_refused(workspace: Any, models: Any) -> None:
    proto = models.matrix([1.0, 2.0])
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.EXTERNAL_DATA
    assert "'w'" in failure.message


@pytest.mark.parametrize(("domain", "version"), [("", 999), ("com.example.custom", 1)])
def test_operators_nobody_knows_are_refused(domain: str, version: int, workspace: Any, models: Any) -> None:
    proto = models.per_column(("a",))
    del proto.opset_import[:]
    proto.opset_import.extend([helper.make_opsetid(domain, version), helper.make_opsetid("ai.onnx.ml", 3)])
    assert refusal(workspace, proto).reason is Reason.OPSET_UNSUPPORTED


def test_valid_graph_that_the_runtime_cannot_load_has_its_own_reason(workspace: Any, models: Any) -> None:
    proto = models.per_column(("a",))
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto.graph.node[0].domain, proto.graph.node[0].op_type = "com.microsoft", "NoSuchContribOperator"
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.MODEL_DOES_NOT_LOAD
    assert "NoSuchContribOperator" in failure.message


def test_columns_are_fed_by_name(workspace: Any, models: Any) -> None:
    model = loaded(workspace, models.per_column(("b", "a"), factor=2))
    rows = pl.DataFrame({"a": [1, 2], "id": ["x", "y"], "b": [0.5, None]})
    feed = bind(model, ("a", "b"), tuple(rows.columns)).feed(rows)
    assert {k: (str(v.dtype), v.shape) for k, v in feed.items()} == {"a": ("float32", (2, 1)), "b": ("float32", (2, 1))}
    answer = model.run(feed)["variable"]
    assert answer[0, 0] == 3.0
    assert np.isnan(answer[1, 0])


def test_matrix_takes_the_features_in_the_order_of_the_task(workspace: Any, models: Any) -> None:
    model = loaded(workspace, models.matrix([1.0, 10.0]))
    rows = pl.DataFrame({"a": [1.0], "b": [2.0], "target": [0]})
    assert model.run(bind(model, ("a", "b"), ("a", "b")).feed(rows))["variable"][0, 0] == 21
    assert model.run(bind(model, ("b", "a"), ("a", "b")).feed(rows))["variable"][0, 0] == 12


def test_signature_mismatch_names_what_is_missing(workspace: Any, models: Any) -> None:
    two = loaded(workspace, models.per_column(("a", "b")))
    assert "no feature for input 'b'" in mismatch(two, ("a",), ("a", "b"))
    assert "no input for feature 'c'" in mismatch(two, ("a", "b", "c"), ("a", "b", "c"))
    assert "no column for input 'b'" in mismatch(two, ("a", "b"), ("a",))
    wide = loaded(workspace, models.matrix([1.0, 2.0]))
    assert "2 columns, the task has 3 features" in mismatch(wide, ("a", "b", "c"), ("a", "b", "c"))
    assert "is missing feature 'b'" in mismatch(wide, ("a", "b"), ("a", "c"))


def test_columns_beside_the_features_do_not_disturb(workspace: Any, models: Any) -> None:
    model = loaded(workspace, models.per_column(("a", "b")))
    assert bind(model, (), ("id", "a", "b", "note")).columns == ("a", "b")


def test_fixed_batch_is_refused(workspace: Any, models: Any) -> None:
    model = loaded(workspace, models.matrix([1.0, 2.0], batch=1))
    assert "fixed batch size of 1" in mismatch(model, ("a", "b"), None)


def test_text_for_a_number_is_a_mismatch(workspace: Any, models: Any) -> None:
    model = loaded(workspace, models.per_column(("a",)))
    rows = pl.DataFrame({"a": ["x"]})
    with pytest.raises(StepFailed, match=r"SignatureMismatch: input 'a' takes FP32, column 'a' of the data is String"):
        bind(model, ("a",), ("a",)).feed(rows)


def test_map_output_is_refused_with_the_remedy(workspace: Any) -> None:
    node = helper.make_node("ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    output = onnx.ValueInfoProto(name="probabilities", type=helper.make_sequence_type_proto(kind))
    source = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 2])
    proto = helper.make_model(
        helper.make_graph([node], "g", [source], [output]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
    )
    proto.ir_version = 8
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.SIGNATURE_MISMATCH
    assert "zipmap=False" in failure.message

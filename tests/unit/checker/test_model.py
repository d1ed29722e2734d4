"""Which ONNX files are models that can be served, and how table columns go into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper
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


def outside(name: str = "secret") -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def inside() -> onnx.TensorProto:
    return helper.make_tensor("i", TensorProto.FLOAT, [1], [1.0])


def sparse(values: onnx.TensorProto, indices: onnx.TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[4])


def branch(**more: Any) -> onnx.GraphProto:
    return onnx.GraphProto(name="branch", **more)


def call(**attributes: Any) -> onnx.NodeProto:
    node = onnx.NodeProto(op_type="Any", output=["o"])
    node.attribute.add(name="attribute", **attributes)
    return node


EXTERNAL: dict[str, dict[str, Any]] = {
    "initializer": {"graph": {"initializer": [outside()]}},
    "second initializer": {"graph": {"initializer": [inside(), outside()]}},
    "values of a sparse initializer": {"graph": {"sparse_initializer": [sparse(outside(), inside())]}},
    "indices of a sparse initializer": {"graph": {"sparse_initializer": [sparse(inside(), outside())]}},
    "attribute": {"graph": {"node": [call(t=outside())]}},
    "attribute of tensors": {"graph": {"node": [call(tensors=[inside(), outside()])]}},
    "sparse attribute": {"graph": {"node": [call(sparse_tensor=sparse(outside(), inside()))]}},
    "attribute of sparse tensors": {"graph": {"node": [call(sparse_tensors=[sparse(inside(), outside())])]}},
    "graph of a node": {"graph": {"node": [call(g=branch(initializer=[outside()]))]}},
    "graphs of a node": {"graph": {"node": [call(graphs=[branch(), branch(initializer=[outside()])])]}},
    "graph within a graph": {"graph": {"node": [call(g=branch(node=[call(g=branch(node=[call(t=outside())]))]))]}},
    "sparse, in a graph": {"graph": {"node": [call(g=branch(sparse_initializer=[sparse(outside(), inside())]))]}},
    "node of a function": {"functions": [{"name": "f", "node": [call(t=outside())]}]},
    "graph in a function": {"functions": [{"name": "f", "node": [call(g=branch(initializer=[outside()]))]}]},
    "default of a function": {"functions": [{"name": "f", "attribute_proto": [{"name": "a", "t": outside()}]}]},
    "training": {"training_info": [{"algorithm": branch(initializer=[outside()])}]},
}


@pytest.mark.parametrize("parts", EXTERNAL.values(), ids=EXTERNAL.keys())
def test_data_outside_of_the_file_is_refused_wherever_it_is_named(parts: Any, workspace: Any, models: Any) -> None:
    proto = models.per_column(("a",))
    proto.MergeFrom(onnx.ModelProto(**parts))
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.EXTERNAL_DATA
    assert "'secret'" in failure.message


def test_operators_nobody_knows_are_refused_by_name(workspace: Any, models: Any) -> None:
    proto = models.per_column(("a",))
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    proto.graph.node[0].domain, proto.graph.node[0].name = "com.example", "first"
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.OPSET_UNSUPPORTED
    assert f"operator {proto.graph.node[0].op_type!r} of domain 'com.example' (node 'first')" in failure.message


def test_opset_of_an_operator_that_is_newer_than_any_known_is_refused(workspace: Any, models: Any) -> None:
    proto = models.per_column(("a",))
    next(o for o in proto.opset_import if not o.domain).version = 999
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.OPSET_UNSUPPORTED
    assert "unsupported opset 999 (operator" in failure.message


@pytest.mark.parametrize("version", [1, 99])
@pytest.mark.parametrize(
    "domains",
    [
        ["com.example"],
        ["ai.onnx.training", "ai.onnx.preview.training", "com.microsoft.experimental", "org.pytorch.aten"],
        ["com.ms.internal.nhwc", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml"],
    ],
)
def test_domain_that_is_imported_and_not_used_is_no_matter(
    domains: list[str], version: int, workspace: Any, models: Any
) -> None:
    proto = models.per_column(("a",))
    proto.opset_import.extend(helper.make_opsetid(domain, version) for domain in domains)
    assert [p.name for p in loaded(workspace, proto).inputs] == ["a"]


@pytest.mark.parametrize(
    ("domain", "operator"), [("ai.onnx.ml", "Binarizer"), ("com.microsoft", "Gelu"), ("", "Neg"), ("ai.onnx", "Neg")]
)
def test_operator_of_a_version_that_nobody_knows_is_refused(domain: str, operator: str, workspace: Any) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1]) for n in "xy")
    graph = helper.make_graph([helper.make_node(operator, "x", "y", domain=domain)], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    opsets = [o for o in opsets if o.domain != domain] + [helper.make_opsetid(domain, 99)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert refusal(workspace, proto).reason in (Reason.OPSET_UNSUPPORTED, Reason.MODEL_DOES_NOT_LOAD)


def test_model_with_functions_of_its_own_runs(workspace: Any) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.layers", 1)]
    twice = helper.make_function("my.layers", "Twice", ["a"], ["b"], [helper.make_node("Add", "aa", "b")], opsets[:1])
    body = [
        helper.make_node("Twice", "c", "e", domain="my.layers"),
        helper.make_node("Twice", "e", "d", domain="my.layers"),
    ]
    four = helper.make_function("my.layers", "Four", ["c"], ["d"], body, opsets)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Four", "x", "y", domain="my.layers")], "g", [x], [y])
    proto = helper.make_model(graph, opset_imports=opsets, functions=[twice, four], ir_version=8)
    assert loaded(workspace, proto).run({"x": np.array([[3]], np.float32)})["y"].tolist() == [[12]]


def test_custom_operator_within_a_function_is_refused(workspace: Any) -> None:
    opsets = [helper.make_opsetid("my.layers", 1), helper.make_opsetid("com.example", 1)]
    body = [helper.make_node("Foreign", "a", "b", domain="com.example")]
    f = helper.make_function("my.layers", "F", ["a"], ["b"], body, opsets[1:])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("F", "x", "y", domain="my.layers")], "g", [x], [y])
    failure = refusal(workspace, helper.make_model(graph, opset_imports=opsets, functions=[f], ir_version=8))
    assert failure.reason is Reason.OPSET_UNSUPPORTED
    assert "'Foreign' of domain 'com.example'" in failure.message


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_file_that_the_runtime_itself_saved_answers_as_before(level: str, tmp_path: Path, workspace: Any) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 6, 6])
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert len(onnx.load(tmp_path / "saved.onnx").opset_import) > 2
    rows = np.random.default_rng(1).normal(size=(2, 8, 8, 8)).astype(np.float32)
    got = loaded(workspace, (tmp_path / "saved.onnx").read_bytes()).run({"x": rows})["y"]
    np.testing.assert_allclose(got, session.run(None, {"x": rows})[0], rtol=1e-4, atol=1e-5)


def identity(kind: int, shape: Any = ("N", 2), out: Any = ("N", 2)) -> onnx.ModelProto:
    x, y = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, out)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (
            identity(TensorProto.BFLOAT16),
            "input 'x' is tensor(bfloat16), the protocol has no bfloat16: cast it to float32",
        ),
        (
            identity(TensorProto.FLOAT8E4M3FN),
            "input 'x' is tensor(float8e4m3fn), the protocol has no such element type",
        ),
        (identity(TensorProto.FLOAT, None), "input 'x' has no shape: state it when exporting"),
    ],
)
def test_tensor_that_cannot_be_served_is_refused_by_its_name_with_the_remedy(
    proto: onnx.ModelProto, message: str, workspace: Any
) -> None:
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.SIGNATURE_MISMATCH
    assert message in failure.message


def test_float16_is_served(workspace: Any) -> None:
    model = loaded(workspace, identity(TensorProto.FLOAT16))
    assert [p.to_json() for p in model.inputs] == [{"name": "x", "datatype": "FP16", "shape": [-1, 2]}]


def test_output_without_a_shape_has_that_of_its_answers(workspace: Any) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    shape = helper.make_tensor_value_info("s", TensorProto.INT64, ["R"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "s"], ["y"])], "g", [x, shape], [y])
    model = loaded(workspace, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    model.run({"x": np.ones((3, 2), np.float32), "s": np.array([3, 2, 1])})
    assert model.outputs[0].to_json() == {"name": "y", "datatype": "FP32", "shape": [-1, -1, -1]}


def test_locale_that_is_not_there_is_refused_with_those_that_are(workspace: Any) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.STRING, [n]) for n in "xy")
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", locale="xx_XX.UTF-8")
    proto = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    failure = refusal(workspace, proto)
    assert failure.reason is Reason.MODEL_DOES_NOT_LOAD
    assert "xx_XX.UTF-8" in failure.message
    assert failure.message.endswith("the locales there are: C.UTF-8, en_US.UTF-8")


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


def test_fixed_batch_is_bound_as_it_is(workspace: Any, models: Any) -> None:
    model = loaded(workspace, models.matrix([1.0, 2.0], batch=4))
    binding = bind(model, ("a", "b"), ("a", "b"))
    assert (binding.fixed_rows, binding.columns) == (4, ("a", "b"))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "the model has no inputs, so no table can be read into it: leave out task and evaluation data"),
        ({"a": ["N", 1], "b": []}, "input 'b' is a scalar, no column of a table: leave out task"),
        ({"a": ["N", 1], "b": [2, 1]}, "inputs a FP32[-1, 1] and b FP32[2, 1] differ in their first dimension"),
    ],
)
def test_signature_that_no_table_fits_is_refused_where_there_is_a_table(
    shapes: dict[str, Any], message: str, workspace: Any
) -> None:
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1, 1], [1.0])
    nodes = [helper.make_node("Sum", [*shapes, "one"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])]
    proto = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, [one]), ir_version=8)
    proto.opset_import[0].version = 17
    model = loaded(workspace, proto)
    assert message in mismatch(model, ("a", "b"), ("a", "b"))
    assert bind(model, (), None).columns == tuple(shapes)


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

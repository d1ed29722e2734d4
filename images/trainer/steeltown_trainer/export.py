"""A fitted pipeline becomes an ONNX file that is the same for the same pipeline, byte by byte.

Inputs are named as the columns, whatever characters they hold: conversion runs on f0, f1, ... and the graph is
renamed afterwards, because the converter would rewrite such names. Beside the model goes fidelity.json: rows
and scikit-learn's own answers to them, so that `finalise` can see whether the export changed the model.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import numpy as np
import onnx
import polars as pl
import skl2onnx
from skl2onnx.common import tree_ensemble
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.pipeline import Pipeline
from steeltown.contract.golden import Golden
from steeltown.contract.plans import TaskType

from .dataset import Dataset

TARGET_OPSET: Final = {"": 18, "ai.onnx.ml": 3}
FIDELITY_ROWS: Final = 32
PRODUCER: Final = "steeltown-trainer"


def to_onnx(pipeline: Pipeline, dataset: Dataset, task: TaskType) -> onnx.ModelProto:
    """Inputs: one [N, 1] float32 or string tensor per feature. Outputs: label and probabilities, or variable."""
    kinds = [
        (f"f{i}", (StringTensorType if f.is_text else FloatTensorType)([None, 1]))
        for i, f in enumerate(dataset.features)
    ]
    estimator = pipeline.named_steps["estimator"]
    options = {id(estimator): {"zipmap": False}} if task is TaskType.CLASSIFICATION else None
    _accept_integers_only()
    proto: onnx.ModelProto = skl2onnx.to_onnx(
        pipeline, name="steeltown", initial_types=kinds, options=options, target_opset=TARGET_OPSET
    )
    _rename(proto.graph, {f"f{i}": f.name for i, f in enumerate(dataset.features)})
    proto.producer_name, proto.producer_version, proto.doc_string = PRODUCER, "", ""
    del proto.metadata_props[:]
    if task is TaskType.CLASSIFICATION:
        classes = json.dumps([str(c) for c in pipeline.classes_.tolist()], ensure_ascii=False)
        proto.metadata_props.add(key="classes", value=classes)
    onnx.checker.check_model(proto)
    return proto


def encode(proto: onnx.ModelProto) -> bytes:
    return bytes(proto.SerializeToString(deterministic=True))


def fidelity(pipeline: Pipeline, dataset: Dataset, task: TaskType) -> Golden:
    """Rows spread over the data, and the pipeline's own answers; a missing number is null."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, FIDELITY_ROWS).astype(np.int64))
    frame = dataset.frame(rows)
    inputs = [_input(f.name, frame[f"f{i}"], f.is_text) for i, f in enumerate(dataset.features)]
    return Golden(inputs=inputs, outputs=_outputs(pipeline, frame, task, {f.name for f in dataset.features}))


def _outputs(pipeline: Pipeline, frame: pl.DataFrame, task: TaskType, taken: set[str]) -> list[dict[str, Any]]:
    if task is TaskType.REGRESSION:
        values = pipeline.predict(frame).reshape(-1, 1)
        return [_tensor(_free("variable", taken), "FP32", values.shape, values.ravel().tolist())]
    labels, probabilities = pipeline.predict(frame), pipeline.predict_proba(frame)
    datatype = "BYTES" if labels.dtype == object else "INT64"
    return [
        _tensor(_free("label", taken), datatype, labels.shape, labels.tolist()),
        _tensor(_free("probabilities", taken), "FP32", probabilities.shape, probabilities.ravel().tolist()),
    ]


def _input(name: str, values: pl.Series, is_text: bool) -> dict[str, Any]:
    data = values.to_list()
    if not is_text:
        data = [None if math.isnan(v) else v for v in data]
    return _tensor(name, "BYTES" if is_text else "FP32", (len(data), 1), data)


def _tensor(name: str, datatype: str, shape: tuple[int, ...], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def _free(name: str, taken: set[str]) -> str:
    """An ONNX graph has one space of names: a feature called `label` pushes the output aside."""
    while name in taken:
        name += "_"
    return name


def _rename(graph: onnx.GraphProto, inputs: dict[str, str]) -> None:
    taken = set(inputs.values())
    values = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    values |= {name for node in graph.node for name in (*node.input, *node.output)}
    new = {name: inputs.get(name) or (_free(name, taken) if name else name) for name in values}
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]


def _accept_integers_only() -> None:
    """protobuf 7.34 refuses the False that skl2onnx 1.20 writes for the leaves of histogram boosting."""
    original = tree_ensemble.add_node
    if getattr(original, "accepts_integers_only", False):
        return

    def add_node(*arguments: Any, nodes_missing_value_tracks_true: Any = 0, **named: Any) -> None:
        original(*arguments, nodes_missing_value_tracks_true=int(nodes_missing_value_tracks_true), **named)

    add_node.accepts_integers_only = True  # type: ignore[attr-defined]
    tree_ensemble.add_node = add_node

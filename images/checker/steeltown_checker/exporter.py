"""What an exporter wrote into an ONNX file about its classes: read from the graph, before any row is run.

Exporters say it in different places. skl2onnx and the converters of LightGBM and XGBoost leave the classes in the
attributes of a classifier node, or in a table from which the label is taken by the number of the largest column; their
zipmap "columns" gives each class an output of its own, cut out of one tensor. PyTorch and Keras say nothing, so people
write the metadata `classes` themselves. Each output is followed back through operators that keep its columns as they
are; where the trail ends without a word, nothing is known, and nothing is made up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

METADATA_KEY: Final = "classes"
MOST_CLASSES: Final = 1 << 17
CLASSIFIERS: Final = ("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier")
_LABEL_ATTRIBUTES: Final = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")
_RESHAPES: Final = ("Flatten", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze")
_SQUASHES: Final = ("Normalizer", "Sigmoid", "Softmax")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an output comes from.

    classes: of its values, or of the columns of `tensor`, in their order; empty where the file does not say.
    numbered: its values are numbers of columns, as ArgMax gives them. tensor, column: it is this one column of that
    tensor; None: it is all of it. raw: what a linear classifier computes before any link function.
    """

    classes: tuple[str, ...] = ()
    numbered: bool = False
    tensor: str = ""
    column: int | None = None
    raw: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """All that a file says. metadata: its `classes`, in the order of the columns; problem: what is wrong with them.

    labels, scores: of each output, read as the one and as the other.
    """

    metadata: tuple[str, ...] = ()
    problem: str = ""
    labels: Mapping[str, Origin] = field(default_factory=dict)
    scores: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the model; empty where the file does not say."""
        found = (origin.classes for origins in (self.labels, self.scores) for origin in origins.values())
        return self.metadata or next((classes for classes in found if classes), ())


def said(proto: onnx.ModelProto) -> Said:
    graph = _Graph(proto.graph)
    names = [output.name for output in proto.graph.output]
    metadata, problem = _metadata(proto)
    return Said(
        metadata=metadata,
        problem=problem,
        labels={name: graph.label(name) for name in names},
        scores={name: graph.scores(name) for name in names},
    )


def word(value: Any) -> str:
    """The name of a class as text; a whole number is written as such, true is 1, whatever the type."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def fault(classes: Iterable[str]) -> str:
    """Why these cannot be the names of columns, "" if they can."""
    listed = list(classes)
    if len(listed) < 2:
        return f"{len(listed)} names, at least two are required"
    if len(listed) > MOST_CLASSES:
        return f"{len(listed)} names, at most {MOST_CLASSES} are supported"
    seen: set[str] = set()
    for name in listed:
        if name in seen:
            return f"{name!r} twice"
        seen.add(name)
    return ""


def _metadata(proto: onnx.ModelProto) -> tuple[tuple[str, ...], str]:
    text = next((entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY), None)
    if text is None:
        return (), ""
    try:
        listed = json.loads(text)
        if not isinstance(listed, list) or not all(isinstance(name, str | int | float) for name in listed):
            raise ValueError("no list of names")
        classes = tuple(word(name) for name in listed)
        "".join(classes).encode()
        if trouble := fault(classes):
            raise ValueError(trouble)
    except (ValueError, OverflowError, RecursionError) as error:
        why = str(error) if type(error) is ValueError else "no JSON"
        return (), (
            f"metadata {METADATA_KEY!r} of the file is {text[:40]!r} ({why}): write a JSON list of distinct names in "
            'the order of the probabilities, such as ["no", "yes"]'
        )
    return classes, ""


class _Graph:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._producer = {name: node for node in graph.node for name in node.output if name}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def label(self, name: str) -> Origin:
        node, at, _ = self._source(name, (*_RESHAPES, "Transpose"))
        if node is None:
            return Origin()
        if node.op_type in CLASSIFIERS and at == node.output[0]:
            return Origin(classes=_class_labels(node))
        if node.op_type in ("ArrayFeatureExtractor", "Gather") and len(node.input) == 2:
            return Origin(classes=_words(self._constant(node.input[0])))
        return Origin(numbered=node.op_type == "ArgMax")

    def scores(self, name: str) -> Origin:
        node, at, squashed = self._source(name, (*_RESHAPES, *_SQUASHES))
        tensor, column = name, None if node is None else self._chosen(node)
        if node is not None and column is not None:
            tensor = node.input[0]
            node, at, before = self._source(tensor, (*_RESHAPES, *_SQUASHES))
            squashed = squashed or before
        if node is None or node.op_type not in CLASSIFIERS or at != node.output[-1] or len(node.output) < 2:
            return Origin(tensor=tensor, column=column)
        raw = not squashed and node.op_type == "LinearClassifier" and _is_raw(node)
        return Origin(classes=_class_labels(node), tensor=tensor, column=column, raw=raw)

    def _source(self, name: str, passing: tuple[str, ...]) -> tuple[onnx.NodeProto | None, str, bool]:
        """The node before `name` that is not `passing`, its output, and whether something squashes on the way."""
        squashed = False
        while (node := self._producer.get(name)) is not None and node.op_type in passing and node.input:
            squashed = squashed or node.op_type in _SQUASHES
            name = node.input[0]
        return node, name, squashed

    def _chosen(self, node: onnx.NodeProto) -> int | None:
        """The number of the one column that a node takes out of its first input."""
        numbers = [self._number(name) for name in node.input[1:]]
        if not numbers or None in numbers or (numbers[0] or 0) < 0:
            return None
        axes = [a.i for a in node.attribute if a.name == "axis"]
        if node.op_type == "ArrayFeatureExtractor" or (node.op_type == "Gather" and axes in ([1], [-1])):
            return numbers[0]
        first, *more = numbers
        following = (first or 0) + 1
        if node.op_type == "Slice" and more in ([following, 1], [following, -1], [following, 1, 1], [following, -1, 1]):
            return first
        return None

    def _number(self, name: str) -> int | None:
        """The one whole number of a constant, None if it is anything else."""
        values = self._constant(name)
        if values is None or values.size != 1 or values.dtype.kind != "i":
            return None
        return int(values.reshape(-1)[0])

    def _constant(self, name: str) -> Any:
        """The values of a small constant, None if there is none of that name that can be read."""
        tensor = self._constants.get(name)
        node = self._producer.get(name)
        if tensor is None and node is not None and node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensor = attribute.t
                elif attribute.name in ("value_int", "value_ints", "value_strings"):
                    return np.array(onnx.helper.get_attribute_value(attribute)).reshape(-1)
        if tensor is None or np.prod(tensor.dims, dtype=np.float64) > MOST_CLASSES:
            return None
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError):  # text that is no UTF-8, fewer values than the shape says
            return None


def _words(values: Any) -> tuple[str, ...]:
    classes = () if values is None else tuple(word(v) for v in values.reshape(-1).tolist())
    return () if fault(classes) else classes


def _class_labels(node: onnx.NodeProto) -> tuple[str, ...]:
    for attribute in node.attribute:
        if attribute.name in _LABEL_ATTRIBUTES and (attribute.strings or attribute.ints):
            classes = tuple(word(v) for v in (attribute.strings or attribute.ints))
            return () if fault(classes) else classes
    return ()


def _is_raw(node: onnx.NodeProto) -> bool:
    links = [a.s for a in node.attribute if a.name == "post_transform"]
    return links in ([], [b"NONE"])

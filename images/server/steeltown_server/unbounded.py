"""Whether a run's cost can be told from the size of its inputs, read from the model's graph.

A loop takes as many trips as its input says, and an operator that is given a size makes a tensor of that size. Where
these come from a request, the time that golden rows took says nothing of the next request, and no run of such a model
may happen on the event loop. A size that is a constant of the model is bounded by the model; one computed from a
shape is not, since a tensor without elements may have any.

The file is read as protobuf wire format, of which this takes a few fields: the server has no library for ONNX files,
and needs none of their weights.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

LOOPS: Final = frozenset(
    ("Loop", "Scan", "SequenceMap", "ImageDecoder", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch")
)
SIZES: Final[Mapping[str, tuple[int, ...]]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "ExpandDims": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 2, 3),
    "Tile": (1, 2),
    "Upsample": (1,),
}
"""Operators of all domains -> the inputs that say how large the output is."""

MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE_INITIALIZER = 1, 5, 15
FUNCTION_NODE = 7
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 6, 11
TENSOR_NAME = 8
SPARSE_VALUES = 1
DEEPEST: Final = 64


def unbounded(model: Path) -> str:
    """What makes the cost of a run depend on data, for a person; "" if nothing does. A file that cannot be read that
    way counts as one that may hold anything."""
    try:
        with model.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _of_model(memoryview(content))
    except (ValueError, IndexError, OSError) as error:
        return f"its graph cannot be read: {error}"


def _of_model(model: memoryview) -> str:
    for field, part in _fields(model):
        if field == MODEL_GRAPH and (why := _of_graph(part, frozenset(), 0)):
            return why
        if field == MODEL_FUNCTIONS:
            nodes = [node for number, node in _fields(part) if number == FUNCTION_NODE]
            if why := _of_nodes(nodes, frozenset(), 0):
                return why
    return ""


def _of_graph(graph: memoryview, outer: frozenset[str], depth: int) -> str:
    """outer: constants of the graphs around it."""
    if depth > DEEPEST:
        return f"it has graphs in graphs, more than {DEEPEST} deep"
    nodes: list[memoryview] = []
    constants = set(outer)
    for field, part in _fields(graph):
        if field == GRAPH_NODE:
            nodes.append(part)
        elif field == GRAPH_INITIALIZER:
            constants.add(_last(part, TENSOR_NAME))
        elif field == GRAPH_SPARSE_INITIALIZER:
            constants.update(_last(values, TENSOR_NAME) for n, values in _fields(part) if n == SPARSE_VALUES)
    return _of_nodes(nodes, frozenset(constants), depth)


def _of_nodes(nodes: list[memoryview], outer: frozenset[str], depth: int) -> str:
    """In their order, which is that of computation."""
    constants = {"", *outer}
    for node in nodes:
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: list[memoryview] = []
        operator = ""
        for field, part in _fields(node):
            if field == NODE_INPUT:
                inputs.append(_text(part))
            elif field == NODE_OUTPUT:
                outputs.append(_text(part))
            elif field == NODE_OPERATOR:
                operator = _text(part)
            elif field == NODE_ATTRIBUTE:
                attributes.append(part)
        if operator in LOOPS:
            return f"operator {operator} takes as long as its data says"
        for place in SIZES.get(operator, ()):
            if place < len(inputs) and inputs[place] not in constants:
                return f"operator {operator} makes a tensor as large as {inputs[place]!r} says, which is no constant"
        if operator == "If":
            for branch in _branches(attributes):
                if why := _of_graph(branch, frozenset(constants), depth + 1):
                    return why
        elif constants.issuperset(inputs):
            constants.update(outputs)
    return ""


def _branches(attributes: list[memoryview]) -> Iterator[memoryview]:
    for attribute in attributes:
        for field, part in _fields(attribute):
            if field in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                yield part


def _last(message: memoryview, field: int) -> str:
    """Of a field that is there twice the last one counts, as in every reader of protobuf."""
    found = ""
    for number, part in _fields(message):
        if number == field:
            found = _text(part)
    return found


def _text(part: memoryview) -> str:
    return bytes(part).decode("utf-8", "replace")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of the fields that have a length; the others are stepped over. ValueError, IndexError."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 2:
            length, at = _varint(message, at)
            if length > end - at:
                raise ValueError("a field is longer than what holds it")
            yield key >> 3, message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind == 5:
            at += 4
        elif kind == 1:
            at += 8
        else:
            raise ValueError(f"unknown wire type {kind}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")

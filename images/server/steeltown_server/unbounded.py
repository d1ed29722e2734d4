"""Whether a run's cost can be told from the size of its inputs, read from the model's graph.

A loop takes as many trips as its input says, and an operator that is given a size makes a tensor of that size. Where
these come from a request, the time that golden rows took says nothing of the next request, and no run of such a model
may happen on the event loop. A size that is a constant of the model is bounded by the model; one computed from a
shape is not, since a tensor without elements may have any.

Of the file's fields this takes a few, graphs within nodes among them; weights are stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from steeltown_tensors.onnxfile import fields, message, text

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
    for field, part in fields(model):
        if field == MODEL_GRAPH and (why := _of_graph(message(part), frozenset(), 0)):
            return why
        if field == MODEL_FUNCTIONS:
            nodes = [message(node) for number, node in fields(message(part)) if number == FUNCTION_NODE]
            if why := _of_nodes(nodes, frozenset(), 0):
                return why
    return ""


def _of_graph(graph: memoryview, outer: frozenset[str], depth: int) -> str:
    """outer: constants of the graphs around it."""
    if depth > DEEPEST:
        return f"it has graphs in graphs, more than {DEEPEST} deep"
    nodes: list[memoryview] = []
    constants = set(outer)
    for field, part in fields(graph):
        if field == GRAPH_NODE:
            nodes.append(message(part))
        elif field == GRAPH_INITIALIZER:
            constants.add(_last(message(part), TENSOR_NAME))
        elif field == GRAPH_SPARSE_INITIALIZER:
            found = (message(values) for n, values in fields(message(part)) if n == SPARSE_VALUES)
            constants.update(_last(values, TENSOR_NAME) for values in found)
    return _of_nodes(nodes, frozenset(constants), depth)


def _of_nodes(nodes: list[memoryview], outer: frozenset[str], depth: int) -> str:
    """In their order, which is that of computation."""
    constants = {"", *outer}
    for node in nodes:
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: list[memoryview] = []
        operator = ""
        for field, part in fields(node):
            if field == NODE_INPUT:
                inputs.append(text(part))
            elif field == NODE_OUTPUT:
                outputs.append(text(part))
            elif field == NODE_OPERATOR:
                operator = text(part)
            elif field == NODE_ATTRIBUTE:
                attributes.append(message(part))
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
        for field, part in fields(attribute):
            if field in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                yield message(part)


def _last(encoded: memoryview, field: int) -> str:
    """Of a field that is there twice the last one counts, as in every reader of protobuf."""
    found = ""
    for number, part in fields(encoded):
        if number == field:
            found = text(part)
    return found

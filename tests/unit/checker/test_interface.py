"""What users of a model rely on: every kind of difference, in the words of a reviewer, and which of them break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown_checker.interface import Interface, Tensor, compare, of_manifest
from steeltown_checker.reasons import Reason, StepFailed


def tensors(text: str) -> tuple[Tensor, ...]:
    """From "age FP32 -1,1; city BYTES -1"."""
    found = []
    for each in filter(None, (t.strip() for t in text.split(";"))):
        name, datatype, *shape = each.split(" ")
        dimensions = tuple(int(d) for d in shape[0].split(",")) if shape else ()
        found.append(Tensor(name=name, datatype=datatype, shape=dimensions))
    return tuple(found)


INPUTS = "age INT64 -1,1; city BYTES -1,1"
OUTPUTS = "label INT64 -1; probability FP32 -1,3"


def interface(inputs: str = INPUTS, outputs: str = OUTPUTS, **more: Any) -> Interface:
    return Interface(inputs=tensors(inputs), outputs=tensors(outputs), **more)


LIVE = interface(classes=("a", "b", "c"))
MATRIX = interface("X FP32 -1,2", columns=("age", "city"))
DAYS = tuple(f"d{i}" for i in range(12))

BREAKING: dict[str, tuple[Interface, Interface, tuple[str, ...]]] = {
    "same": (LIVE, LIVE, ()),
    # names
    "output removed": (
        LIVE,
        replace(LIVE, outputs=LIVE.outputs[:1]),
        ("output 'probability' (FP32 [-1,3]) is gone",),
    ),
    "output renamed": (
        LIVE,
        replace(LIVE, outputs=tensors("label INT64 -1; probabilities FP32 -1,3")),
        ("output 'probability' (FP32 [-1,3]) is gone, 'probabilities' stands in its place",),
    ),
    "another output in its place": (
        LIVE,
        replace(LIVE, outputs=tensors("label INT64 -1; score FP32 -1")),
        ("output 'probability' (FP32 [-1,3]) is gone",),
    ),
    "input removed": (
        LIVE,
        replace(LIVE, inputs=LIVE.inputs[1:]),
        ("input 'age' (INT64 [-1,1]) is gone",),
    ),
    "input renamed": (
        LIVE,
        replace(LIVE, inputs=tensors("years INT64 -1,1; city BYTES -1,1")),
        (
            "input 'age' (INT64 [-1,1]) is gone, 'years' stands in its place",
            "input 'years' (INT64 [-1,1]) is new and required: requests of today do not have it",
        ),
    ),
    "input added": (
        LIVE,
        replace(LIVE, inputs=tensors(f"{INPUTS}; income FP32 -1,1")),
        ("input 'income' (FP32 [-1,1]) is new and required: requests of today do not have it",),
    ),
    # datatypes
    "input of another type": (
        LIVE,
        replace(LIVE, inputs=tensors("age FP32 -1,1; city BYTES -1,1")),
        ("input 'age' changed from INT64 to FP32",),
    ),
    "output of another type": (
        LIVE,
        replace(LIVE, outputs=tensors("label BYTES -1; probability FP32 -1,3")),
        ("output 'label' changed from INT64 to BYTES",),
    ),
    "another type and shape": (
        LIVE,
        replace(LIVE, outputs=tensors("label INT64 -1; probability FP64 -1,2")),
        ("output 'probability' changed from FP32 [-1,3] to FP64 [-1,2]",),
    ),
    # shapes: inputs may become wider, outputs narrower
    "input narrowed": (
        LIVE,
        replace(LIVE, inputs=tensors("age INT64 1,1; city BYTES -1,1")),
        ("input 'age' changed from [-1,1] to [1,1]",),
    ),
    "input of another size": (
        interface("X FP32 -1,4"),
        interface("X FP32 -1,5"),
        ("input 'X' changed from [-1,4] to [-1,5]",),
    ),
    "input of another rank": (
        LIVE,
        replace(LIVE, inputs=tensors("age INT64 -1; city BYTES -1,1")),
        ("input 'age' changed from [-1,1] to [-1]",),
    ),
    "input widened": (interface("X FP32 1,4"), interface("X FP32 -1,-1"), ()),
    "output widened": (
        LIVE,
        replace(LIVE, outputs=tensors("label INT64 -1; probability FP32 -1,-1")),
        ("output 'probability' changed from [-1,3] to [-1,-1]",),
    ),
    "output narrowed": (interface(outputs="y FP32 -1,-1"), interface(outputs="y FP32 -1,2"), ()),
    "output of another rank": (
        interface(outputs="y FP32 -1"),
        interface(outputs="y FP32 -1,1"),
        ("output 'y' changed from [-1] to [-1,1]",),
    ),
    "scalar": (interface("s FP32"), interface("s FP32 1"), ("input 's' changed from [] to [1]",)),
    # order
    "inputs in another order": (
        LIVE,
        replace(LIVE, inputs=LIVE.inputs[::-1]),
        ("inputs changed their order from 'age', 'city' to 'city', 'age'",),
    ),
    "outputs in another order": (
        LIVE,
        replace(LIVE, outputs=LIVE.outputs[::-1]),
        ("outputs changed their order from 'label', 'probability' to 'probability', 'label'",),
    ),
    "output before others": (
        LIVE,
        replace(LIVE, outputs=tensors(f"score FP32 -1; {OUTPUTS}")),
        ("output 'score' (FP32 [-1]) is new and moves others: put it after them",),
    ),
    "output at the end": (LIVE, replace(LIVE, outputs=tensors(f"{OUTPUTS}; score FP32 -1")), ()),
    "columns in another order": (
        MATRIX,
        replace(MATRIX, columns=("city", "age")),
        ("columns of the input changed from 'age', 'city' to 'city', 'age'",),
    ),
    "columns that nobody named": (MATRIX, replace(MATRIX, columns=()), ()),
    "columns named for the first time": (replace(MATRIX, columns=()), MATRIX, ()),
    # classes
    "classes in another order": (
        LIVE,
        replace(LIVE, classes=("a", "c", "b")),
        ("classes changed from 'a', 'b', 'c' to 'a', 'c', 'b'",),
    ),
    "class added": (
        LIVE,
        replace(LIVE, classes=("a", "b", "c", "d")),
        ("classes changed from 'a', 'b', 'c' to 'a', 'b', 'c', 'd'",),
    ),
    "classes not stated any more": (LIVE, replace(LIVE, classes=()), ()),
    "classes stated for the first time": (replace(LIVE, classes=()), LIVE, ()),
    "many classes": (
        replace(LIVE, classes=DAYS),
        replace(LIVE, classes=(*DAYS[:5], *DAYS[:4:-1])),
        ("classes changed from ..., 'd5', 'd6', 'd7', 'd8' and 3 more to ..., 'd11', 'd10', 'd9', 'd8' and 3 more",),
    ),
    # what strangers call their tensors
    "long name": (
        interface(outputs=f"{'n' * 4096} FP32 -1"),
        interface(outputs=""),
        (f"output '{'n' * 60}...' (FP32 [-1]) is gone",),
    ),
    "line in a name": (
        interface(outputs="a\nb FP32 -1"),
        interface(outputs=""),
        ("output 'a\\nb' (FP32 [-1]) is gone",),
    ),
    "many dimensions": (
        interface(outputs=f"y FP32 {','.join('1' * 20)}"),
        interface(outputs=""),
        ("output 'y' (FP32 [1,1,1,1,1,1,1,1,...]) is gone",),
    ),
}


@pytest.mark.parametrize(("live", "candidate", "lines"), BREAKING.values(), ids=BREAKING)
def test_what_breaks(live: Interface, candidate: Interface, lines: tuple[str, ...]) -> None:
    assert compare(live, candidate).breaking == lines


@pytest.mark.parametrize(
    ("outputs", "lines"),
    [
        (OUTPUTS, ()),
        (
            f"{OUTPUTS}; score FP32 -1; why BYTES -1",
            ("output 'score' (FP32 [-1]) is new", "output 'why' (BYTES [-1]) is new"),
        ),
        (f"score FP32 -1; {OUTPUTS}", ()),
    ],
)
def test_what_is_added(outputs: str, lines: tuple[str, ...]) -> None:
    assert compare(LIVE, replace(LIVE, outputs=tensors(outputs))).notes == lines


def test_classes_that_are_not_stated_any_more_are_told() -> None:
    notes = ("classes are no longer stated, so 'a', 'b', 'c' could not be compared",)
    assert compare(LIVE, replace(LIVE, classes=())).notes == notes


def test_thousands_of_inputs_are_compared_in_no_time() -> None:
    many = tuple(Tensor(name=f"c{i}", datatype="FP32", shape=(-1, 1)) for i in range(4096))
    renamed = tuple(replace(t, name=f"n{t.name}") for t in many)
    found = compare(Interface(inputs=many, outputs=()), Interface(inputs=renamed, outputs=()))
    assert len(found.breaking) == 2 * 4096


PORT = {"name": "X", "datatype": "FP32", "shape": [-1, 2]}
MANIFEST: dict[str, Any] = {
    "digest": "sha256:ab",
    "signature": {"inputs": [PORT], "outputs": [PORT | {"name": "y", "shape": [-1]}]},
    "classes": ["no", "yes"],
    "task": {"type": "Classification", "target": "late", "features": ["a", "b"]},
}


def signature(**port: Any) -> dict[str, Any]:
    return {"signature": {"inputs": [PORT | port], "outputs": []}}


@pytest.mark.parametrize(
    ("changed", "columns"),
    [
        ({}, ("a", "b")),
        ({"task": None}, ()),
        (signature(shape=[-1, 1]), ()),  # one column by its own name: the order of features means nothing
        (signature(shape=[-1]), ()),
        ({"signature": {"inputs": [PORT, PORT | {"name": "Z"}], "outputs": []}}, ()),
    ],
)
def test_manifest_is_read(changed: dict[str, Any], columns: tuple[str, ...]) -> None:
    found = of_manifest(MANIFEST | changed)
    assert (found.inputs[0].name, found.classes, found.columns) == ("X", ("no", "yes"), columns)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"signature": None}, "manifest.signature is null: must be a JSON object"),
        ({"signature": {"outputs": []}, "classes": [1]}, "manifest.classes is 1: must be a list of at most"),
        ({"classes": "no"}, "manifest.classes is 'no': must be a list of at most"),
        ({"classes": ["\ud800"]}, "manifest.classes is"),
        ({"task": {"features": "a"}}, "manifest.task.features is 'a': must be a list of at most"),
        (
            signature(shape=None),
            "manifest.signature.inputs[0].shape is null: must be a list of at most 64 whole numbers",
        ),
        (signature(shape=[-2]), "manifest.signature.inputs[0].shape[0] is -2: must be a whole number -1.."),
        (signature(shape=[1] * 65), "manifest.signature.inputs[0].shape is of type list"),
        (signature(name="n" * 4097), "manifest.signature.inputs[0].name"),
        (signature(datatype=7), "manifest.signature.inputs[0].datatype is 7"),
        (
            {"signature": {"inputs": [PORT, PORT], "outputs": []}},
            "manifest.signature.inputs has two tensors of one name",
        ),
    ],
)
def test_manifest_that_cannot_be_read_is_refused_by_field(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(StepFailed) as refused:
        of_manifest(MANIFEST | changed)
    assert refused.value.reason is Reason.MANIFEST_INVALID
    assert f"sha256:ab: {message}" in refused.value.message

"""What is known of a tensor before a model runs, and how a rule asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from .onnxfile import Constant, Node


class Size(Enum):
    """The number of rows, or a multiple of it that does not depend on the rows."""

    ROWS = "rows"


ROWS: Final = Size.ROWS
Entry = int | Size | None
"""A whole number in a shape; None: not known, but the same for any number of rows."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of a tensor, whatever a request brings.

    dims: per axis its length, None for one that is not known; None where not even their number is.
    rows: the axis that is the batch, or a multiple of it, row by row; None: the tensor is the same for all rows.
    values: of few whole numbers what they are. counted: it depends on how many rows there are.
    pad: the text that fills up rows of texts to the longest of the batch.
    """

    dims: tuple[int | None, ...] | None
    rows: int | None = None
    values: tuple[Entry, ...] | None = None
    counted: bool = False
    pad: str | None = None

    @property
    def rank(self) -> int:
        """Doubt where it is not known."""
        if self.dims is None:
            raise Doubt("the shape of an input is not known")
        return len(self.dims)

    @property
    def batched(self) -> bool:
        return self.rows is not None


class Doubt(Exception):
    """Why rows may meet in an operator."""


class Random(Doubt):
    """The operator draws numbers."""


NOWHERE: Final = -1
"""The batch axis of what has none, so that rules can be asked about constants too."""

LARGE: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Call:
    """One use of an operator. variable: inputs of the model have axes of any length behind the first."""

    node: Node
    inputs: Sequence[Fact | None]
    opset: int
    variable: bool

    @property
    def data(self) -> Fact:
        return self.at(0)

    @property
    def rows(self) -> int:
        """The batch axis of the first input, NOWHERE if no input has one; Doubt where only another has."""
        if self.data.rows is not None:
            return self.data.rows
        if any(f is not None and f.batched for f in self.inputs):
            raise Doubt("has a first input that is the same for all rows, and another that is not")
        return NOWHERE

    def at(self, index: int) -> Fact:
        fact = self.get(index)
        if fact is None:
            raise Doubt(f"has no input {index}")
        return fact

    def get(self, index: int) -> Fact | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def axis(self, default: int, rank: int | None = None) -> int:
        return axis_of(self.node.integer("axis", default), self.data.rank if rank is None else rank)

    def numbers(self, index: int, attribute: str) -> tuple[int, ...] | None:
        """Known whole numbers of an input or, in older versions, an attribute; None if neither is there."""
        fact = self.get(index)
        if fact is None:
            return self.node.integers(attribute)
        if fact.values is None or not all(isinstance(v, int) for v in fact.values):
            raise Doubt(f"has {attribute} that are not known before it runs")
        return tuple(v for v in fact.values if isinstance(v, int))


def of_constant(constant: Constant) -> Fact:
    values: tuple[Entry, ...] | None = constant.values
    short = constant.dims is not None and len(constant.dims) <= 1
    return Fact(constant.dims, values=values if short else None)


def axis_of(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Doubt("has an axis that its input does not have")
    return axis % rank

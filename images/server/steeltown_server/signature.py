"""What the model takes and gives, in the terms of the protocol: datatypes, names, shapes.

A `Signature` is made once from the session; every request is checked against it before it may
wait beside others, so that a run can fail only for what the model does, never for what one client sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from steeltown_tensors import BY_ONNX, DATATYPES, Array, Datatype, dimension_name

VARIABLE: Final = -1
LARGEST_DIM: Final = 2**31 - 1


class BadRequest(Exception):
    """The client's mistake: 400, with a message that names the tensor, what was expected and what came."""


class TooLarge(Exception):
    """413: the request is, or unfolds to, more than a limit that the message names."""


class UnservableModel(Exception):
    """The model has inputs or outputs that the protocol cannot carry."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. dims: VARIABLE where any size goes. symbols: the model's names of variable dims."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    symbols: tuple[str | None, ...]

    @classmethod
    def of(cls, name: str, onnx_type: str, shape: Sequence[int | str | None]) -> TensorSpec:
        """UnservableModel for sequences, maps and element types that the protocol does not know."""
        datatype = BY_ONNX.get(onnx_type)
        if datatype is None:
            raise UnservableModel(
                f"{name!r} is a {onnx_type}; the Open Inference Protocol carries tensors of "
                f"{', '.join(d.name for d in DATATYPES)} (cast it at the edge of the graph; a scikit-learn classifier: "
                "export with zipmap=False)"
            )
        return cls(
            name=name,
            datatype=datatype,
            dims=tuple(d if isinstance(d, int) and d >= 0 else VARIABLE for d in shape),
            symbols=tuple(dimension_name(d) for d in shape),
        )

    @cached_property
    def has_variable_first_axis(self) -> bool:
        return bool(self.dims) and self.dims[0] == VARIABLE

    def of_rank(self, rank: int) -> TensorSpec:
        return replace(self, dims=(VARIABLE,) * rank, symbols=(None,) * rank)

    def metadata(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype.name, "shape": list(self.dims)}

    def check_shape(self, shape: Sequence[int]) -> None:
        if len(shape) != len(self.dims):
            raise self._shape_error(shape, f"{len(self.dims)} dimensions")
        for want, got in zip(self.dims, shape, strict=True):
            if got != want if want != VARIABLE else not 0 <= got <= LARGEST_DIM:
                raise self._shape_error(shape, "-1 means any size")

    def _shape_error(self, shape: Sequence[int], hint: str) -> BadRequest:
        return BadRequest(f"input {self.name!r}: expected shape {list(self.dims)} ({hint}), got {list(shape)}")


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model, in the model's order."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.outputs)

    def with_answers(self, answers: Mapping[str, Array]) -> Signature:
        """An output without a shape looks like a scalar: its answer says how many dimensions it has."""
        outputs = {n: s if s.dims else s.of_rank(answers[n].ndim) for n, s in self.outputs.items()}
        return replace(self, outputs=outputs)

    @cached_property
    def may_batch(self) -> bool:
        """Every input and output has a variable first axis: necessary for running requests together, not sufficient."""
        return bool(self.inputs) and all(
            s.has_variable_first_axis for s in (*self.inputs.values(), *self.outputs.values())
        )

    @cached_property
    def has_fixed_rows(self) -> bool:
        """Beyond the first axis every input has one shape only, so any two requests can be concatenated."""
        return all(VARIABLE not in s.dims[1:] for s in self.inputs.values())

    @cached_property
    def _shared_symbols(self) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
        places: dict[str, list[tuple[str, int]]] = {}
        for spec in self.inputs.values():
            for axis, symbol in enumerate(spec.symbols):
                if symbol is not None:
                    places.setdefault(symbol, []).append((spec.name, axis))
        return tuple((symbol, tuple(where)) for symbol, where in places.items() if len(where) > 1)

    def check_symbols(self, feed: Mapping[str, Array]) -> None:
        """Dimensions that the model gives one name must have one size (onnxruntime does not check)."""
        for symbol, places in self._shared_symbols:
            sizes = [feed[name].shape[axis] for name, axis in places]
            if len(set(sizes)) > 1:
                got = ", ".join(f"{name!r} axis {axis} is {n}" for (name, axis), n in zip(places, sizes, strict=True))
                raise BadRequest(f"dimension {symbol!r} must have the same size in all inputs, got {got}")

"""Binding table columns to a model's inputs.

Two signatures are understood: one input per column, named as the column (what the built-in trainer exports),
and one 2-D float input whose columns are the features in the task's order (what most other exporters make). Either may
have a fixed number of rows. Anything else is a SignatureMismatch that names what is missing, found before any row is
run; but where there is no table to bind, any signature is as good as another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from steeltown_tensors import Array

from .model import Model, Port
from .reasons import Reason, StepFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """columns: the table columns that the model reads, in order. matrix: they form one 2-D input."""

    inputs: tuple[Port, ...]
    columns: tuple[str, ...]
    matrix: bool

    @property
    def text_columns(self) -> tuple[str, ...]:
        return () if self.matrix else tuple(p.name for p in self.inputs if p.is_text)

    @property
    def whole_columns(self) -> tuple[str, ...]:
        """Columns whose input type has no word for a missing value."""
        return () if self.matrix else tuple(p.name for p in self.inputs if not (p.is_text or p.is_float))

    @property
    def fixed_rows(self) -> int | None:
        """Rows that every run must have, if the model says so."""
        return self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else None

    def feed(self, rows: pl.DataFrame) -> dict[str, Array]:
        if self.matrix:
            port = self.inputs[0]
            values = [_values(rows[c], port) for c in self.columns]
            return {port.name: np.column_stack(values).astype(port.dtype, copy=False)}
        return {p.name: _shaped(_values(rows[p.name], p), p) for p in self.inputs}


def bind(model: Model, features: Sequence[str], columns: Sequence[str] | None) -> Binding:
    """features: the task's, empty if it names none. columns: of the evaluation data less the target, or None."""
    ports = model.inputs
    known = tuple(features) or columns
    if known is None:  # nothing to compare with: the model's own names are the columns
        return Binding(inputs=ports, columns=tuple(p.name for p in ports), matrix=is_matrix(ports))
    _require_rows(ports)
    if is_matrix(ports) and not (len(known) == 1 and ports[0].name == known[0]):
        width = ports[0].shape[1]
        if width is not None and width != len(known):
            raise _mismatch(
                f"input {ports[0].name!r} has {width} columns, the task has {len(known)} features: {_list(known)}"
            )
        if columns is not None:
            _require(known, columns, "the evaluation data is missing feature")
        return Binding(inputs=ports, columns=tuple(known), matrix=True)
    for port in ports:
        if len(port.shape) > 2 or (len(port.shape) == 2 and port.shape[1] not in (1, None)):
            raise _mismatch(f"input {port.name!r} has shape {list(port.shape)}: must be [N, 1], one input per column")
    names = tuple(p.name for p in ports)
    _require(names, known, "no feature for input")
    if features:
        _require(features, names, "the model has no input for feature")
    if columns is not None:
        _require(names, columns, "the evaluation data has no column for input")
    return Binding(inputs=ports, columns=names, matrix=False)


def _require_rows(ports: Sequence[Port]) -> None:
    """One number of rows in all inputs, free or fixed."""
    remedy = "leave out task and evaluation data, or give every input one row per row of the table"
    if not ports:
        raise _mismatch(f"the model has no inputs, so no table can be read into it: {remedy}")
    for port in ports:
        if not port.shape:
            raise _mismatch(f"input {port.name!r} is a scalar, no column of a table: {remedy}")
        if port.shape[0] != ports[0].shape[0]:
            raise _mismatch(f"inputs {ports[0]} and {port} differ in their first dimension: {remedy}")


def is_matrix(ports: Sequence[Port]) -> bool:
    """Whether the model takes all its columns as one 2-D float input."""
    return len(ports) == 1 and ports[0].is_float and len(ports[0].shape) == 2 and ports[0].shape[1] != 1


def _values(column: pl.Series, port: Port) -> Array:
    """One column in the input's type. Missing values: NaN in floats, "" in text."""
    if port.is_text:
        return np.array(column.cast(pl.String).fill_null("").to_list(), dtype=object)
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise _mismatch(
            f"input {port.name!r} takes {port.datatype}, column {column.name!r} of the data is {column.dtype}"
        )
    if port.is_float:
        wide = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        with np.errstate(over="ignore"):
            return wide.astype(port.dtype)
    return column.cast(pl.Float64 if column.dtype.is_float() else pl.Int64).to_numpy().astype(port.dtype)


def _shaped(values: Array, port: Port) -> Array:
    return values if len(port.shape) == 1 else values.reshape(-1, 1)


def _require(wanted: Sequence[str], there: Sequence[str], complaint: str) -> None:
    gone = [name for name in wanted if name not in set(there)]
    if gone:
        raise _mismatch(f"{complaint} {_list(gone)}; found {_list(there)}")


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:8])
    return (shown or "none") + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _mismatch(message: str) -> StepFailed:
    return StepFailed(Reason.SIGNATURE_MISMATCH, message)

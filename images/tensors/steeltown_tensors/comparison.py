"""When two tensors are the same answer, within the tolerance that golden rows carry.

Two machines may make slightly different floats of one model; texts, truth and whole numbers are the same or wrong. NaN
where a number was expected is wrong (a comparison with NaN is false, so it must be asked for); NaN where NaN was
expected is right, and so are equal infinities.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .datatypes import Array


class Tolerance(NamedTuple):
    """A value y matches the expected e when |y - e| <= absolute + relative * |e|."""

    absolute: float
    relative: float


def excess(got: Array, expected: Array, tolerance: Tolerance) -> Array:
    """Per element |y - e| / (absolute + relative * |e|), of arrays of one shape; above 1 it does not match.

    0 where both are equal, infinity where they cannot be compared or must be equal. In float64, so that the tolerance
    itself does not round.
    """
    if expected.dtype.kind != "f" or got.dtype.kind != "f":
        return np.where(np.asarray(got == expected, bool), 0.0, np.inf)
    y, e = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        size = np.abs(y - e) / (tolerance.absolute + tolerance.relative * np.abs(e))
    return np.where((y == e) | (np.isnan(y) & np.isnan(e)), 0.0, np.where(np.isnan(size), np.inf, size))


def worst(got: Array, expected: Array, tolerance: Tolerance) -> tuple[float, int]:
    """The largest excess, and its index in row-major order; (0, 0) of nothing."""
    if not got.size:
        return 0.0, 0
    size = excess(got, expected, tolerance)
    return float(size.max()), int(np.argmax(size))


def first_difference(name: str, expected: Array, got: Array, tolerance: Tolerance) -> str | None:
    """A sentence about the first element of `got` that does not match, None if all match."""
    if expected.shape != got.shape:
        return f"output {name!r}: expected shape {list(expected.shape)}, got {list(got.shape)}"
    wrong = excess(got, expected, tolerance) > 1
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"output {name!r} at {list(index)}: expected {expected[index]}, got {got[index]}"

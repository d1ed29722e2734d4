"""The sentence about a model that does not answer as it should, for whoever has to find out why."""

from __future__ import annotations

import numpy as np
from steeltown.contract.golden import Golden
from steeltown_tensors import Array, Tolerance, excess


def first_difference(name: str, expected: Array, got: Array, golden: Golden) -> str | None:
    """A sentence about the first element of `got` that does not match, None if all match."""
    if expected.shape != got.shape:
        return f"output {name!r}: expected shape {list(expected.shape)}, got {list(got.shape)}"
    wrong = excess(got, expected, Tolerance(golden.atol, golden.rtol)) > 1
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"output {name!r} at {list(index)}: expected {expected[index]}, got {got[index]}"

"""Whether a model answered as it should, within the tolerance that golden rows carry.

Two machines may make slightly different floats of one model; texts and whole numbers are the same or wrong. A NaN
where a number was expected is a mismatch (a comparison with NaN is false, so it must be asked for).
"""

from __future__ import annotations

import numpy as np
from steeltown.contract.golden import Golden

from .signature import Array


def first_difference(name: str, expected: Array, got: Array, golden: Golden) -> str | None:
    """A sentence about the first element of `got` that does not match, None if all match."""
    if expected.shape != got.shape:
        return f"output {name!r}: expected shape {list(expected.shape)}, got {list(got.shape)}"
    if expected.dtype.kind == "f":
        # In float64, so that the tolerance itself does not round; equal infinities match, as NaN matches NaN.
        e, g = expected.astype(np.float64), got.astype(np.float64)
        with np.errstate(invalid="ignore"):
            close = np.abs(g - e) <= golden.atol + golden.rtol * np.abs(e)
        wrong = ~((close & np.isfinite(g) & np.isfinite(e)) | (e == g) | (np.isnan(e) & np.isnan(g)))
    else:
        wrong = np.asarray(expected != got)
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"output {name!r} at {list(index)}: expected {expected[index]}, got {got[index]}"

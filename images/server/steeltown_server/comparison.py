"""The sentence about a model that does not answer as it should, for whoever has to find out why."""

from __future__ import annotations

from steeltown.contract.golden import Golden
from steeltown_tensors import Array, Tolerance
from steeltown_tensors import first_difference as difference


def first_difference(name: str, expected: Array, got: Array, golden: Golden) -> str | None:
    """A sentence about the first element of `got` that does not match, None if all match."""
    return difference(name, expected, got, Tolerance(golden.atol, golden.rtol))

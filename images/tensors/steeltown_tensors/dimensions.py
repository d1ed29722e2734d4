"""Names of dimensions: what a model says of sizes that it does not fix.

Two dimensions of one name have one size. Exporters write placeholders where they know nothing of a size, and several of
these are independent, so a placeholder is no name.
"""

from __future__ import annotations

from typing import Final

PLACEHOLDERS: Final = frozenset(("", "?", "*", "-1", "none", "unk", "unknown"))
"""In small letters."""


def dimension_name(dimension: int | str | None) -> str | None:
    """The name of a dimension as onnxruntime gives it, None if it has none."""
    named = isinstance(dimension, str) and dimension.strip().lower() not in PLACEHOLDERS
    return str(dimension) if named else None

"""The JSON form of a tensor in golden rows: that of the Open Inference Protocol v2, with flat data in row-major order.

A golden file may hold what a request may not: FP16 as numbers, and NaN (as NaN or null) for a missing value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .datatypes import Array, Datatype


def to_json(name: str, datatype: str, values: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist()}


def from_json(raw: Mapping[str, Any], datatype: Datatype) -> Array:
    """The tensor in this datatype. ValueError says what does not fit."""
    data = raw.get("data")
    if not isinstance(data, list):
        raise ValueError("data must be a list")
    try:
        if datatype.is_float:
            data = [float("nan") if v is None else float(v) for v in data]
        elif datatype.is_bytes:
            data = [str(v) for v in data]
        values = np.empty(len(data), datatype.dtype)
        values[:] = data
        return values.reshape([int(d) for d in raw["shape"]])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"data does not match {datatype.name} and shape: {error!r}") from None

"""Golden rows: a few inputs and the outputs that the model gave for them when it was made.

`finalise` writes them beside the model; the server answers them while it warms up and becomes ready only
if it answers as in training. Tensors use the JSON form of the Open Inference Protocol v2, so a golden file
is also a request that anyone can paste.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """inputs, outputs: lists of {"name", "shape", "datatype", "data"} (flat, row-major data).

    A value y matches the expected e when |y - e| <= atol + rtol * |e|; strings and integers match exactly.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    atol: float = 1e-4
    rtol: float = 1e-3

    def to_json(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "outputs": self.outputs, "atol": self.atol, "rtol": self.rtol}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Golden:
        return cls(
            inputs=list(raw["inputs"]),
            outputs=list(raw["outputs"]),
            atol=float(raw.get("atol", 1e-4)),
            rtol=float(raw.get("rtol", 1e-3)),
        )

"""Golden rows: a few inputs and the outputs that the model gave for them when it was made.

`finalise` writes them beside the model; the server answers them while it warms up and becomes ready only
if it answers as in training. Tensors use the JSON form of the Open Inference Protocol v2, so a golden file
is also a request that anyone can paste.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from . import strict

_MAX_TENSORS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A value y matches the expected e when |y - e| <= atol + rtol * |e|; strings and integers match exactly.

    inputs, outputs: lists of {"name", "shape", "datatype", "data"} (flat, row-major data).
    atol, rtol: absolute and relative tolerance.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    atol: float = 1e-4
    rtol: float = 1e-3

    def to_json(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "outputs": self.outputs, "atol": self.atol, "rtol": self.rtol}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Golden:
        """ValueError names what is wrong. The tensors themselves are judged by whoever has the model."""
        fields = strict.object_of(raw, "golden")
        return cls(
            inputs=[dict(t.raw) for t in fields.each("inputs", _MAX_TENSORS)],
            outputs=[dict(t.raw) for t in fields.each("outputs", _MAX_TENSORS)],
            atol=fields.number("atol", 1e-4, least=0.0),
            rtol=fields.number("rtol", 1e-3, least=0.0),
        )

"""The table of datatypes: where the protocol's names (FP32), ONNX Runtime's (tensor(float)), numpy's and JSON's meet.

What is not in it cannot be served: sequences, maps, and element types for which the Open Inference Protocol v2 has no
name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Datatype:
    """name: in the protocol. onnx: element type of onnxruntime. element: JSON type, None where JSON has no form."""

    name: str
    onnx: str
    dtype: np.dtype[Any]
    element: type | None
    is_bytes: bool = field(init=False)
    is_float: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_bytes", self.dtype.kind == "O")  # asked for several times a request
        object.__setattr__(self, "is_float", self.dtype.kind == "f")

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


DATATYPES: Final = tuple(
    Datatype(name, f"tensor({onnx})", np.dtype(dtype), element)
    for name, onnx, dtype, element in (
        ("BOOL", "bool", np.bool_, bool),
        ("UINT8", "uint8", np.uint8, int),
        ("UINT16", "uint16", np.uint16, int),
        ("UINT32", "uint32", np.uint32, int),
        ("UINT64", "uint64", np.uint64, int),
        ("INT8", "int8", np.int8, int),
        ("INT16", "int16", np.int16, int),
        ("INT32", "int32", np.int32, int),
        ("INT64", "int64", np.int64, int),
        ("FP16", "float16", np.float16, None),
        ("FP32", "float", np.float32, float),
        ("FP64", "double", np.float64, float),
        ("BYTES", "string", object, str),
    )
)
BY_ONNX: Final = {d.onnx: d for d in DATATYPES}
BY_NAME: Final = {d.name: d for d in DATATYPES}

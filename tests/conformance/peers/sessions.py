"""onnxruntime sessions of the suite's models for the peers' runtimes. MODELS: the folder that models.py wrote."""

import os
from pathlib import Path

import numpy as np
import onnxruntime

FOLDER = Path(os.environ["MODELS"])
DATATYPES = {
    "tensor(bool)": "BOOL",
    **{f"tensor({u}int{bits})": f"{u}int{bits}".upper() for u in ("u", "") for bits in (8, 16, 32, 64)},
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


def names() -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob("*/model.onnx"))


def session(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(FOLDER / name / "model.onnx")


def describe(ports: list) -> list[dict]:
    """As the protocol's metadata have it: -1 for a variable dimension."""
    shapes = [[d if isinstance(d, int) else -1 for d in port.shape] for port in ports]
    return [{"name": p.name, "datatype": DATATYPES[p.type], "shape": s} for p, s in zip(ports, shapes, strict=True)]


def text(array: np.ndarray) -> np.ndarray:
    """Strings as onnxruntime wants them; other arrays as they are."""
    if array.dtype.kind not in "OSU":
        return array
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in array.ravel()]
    return np.array(words, dtype=object).reshape(array.shape)

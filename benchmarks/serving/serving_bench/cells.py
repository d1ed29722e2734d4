"""Models, requests and cells: the same for every server.

A cell is one kind of request sent in one way. Four small models, since this measures servers and not onnxruntime: with
large ones all servers look alike (README.md has the arithmetic). Models come from scikit-learn with a fixed seed;
request values have six decimals, as a feature store would send them.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime

from . import wire

Kind = Literal["json", "binary", "grpc"]
Tensors = dict[str, np.ndarray]

INPUT: Final = "X"
COLUMNS: Final = {"logreg": 20, "rf": 20, "gb": 20, "mlp": 784}
RECIPE: Final = "2"  # part of the models' folder name: a changed recipe makes new ones
TRAINING_ROWS: Final = 4000


@dataclass(frozen=True, kw_only=True)
class Cell:
    """`connections` is how many requests are in flight in the closed loop."""

    name: str
    title: str
    model: str
    kind: Kind
    rows: int
    connections: int


CELLS: Final = {
    cell.name: cell
    for cell in (
        Cell(name="logreg-c1", title="logreg JSON c=1", model="logreg", kind="json", rows=1, connections=1),
        Cell(name="logreg-c8", title="logreg JSON c=8", model="logreg", kind="json", rows=1, connections=8),
        Cell(name="logreg-c64", title="logreg JSON c=64", model="logreg", kind="json", rows=1, connections=64),
        Cell(name="logreg-grpc", title="logreg gRPC c=8", model="logreg", kind="grpc", rows=1, connections=8),
        Cell(name="rf-c8", title="rf JSON c=8", model="rf", kind="json", rows=1, connections=8),
        Cell(name="gb-c8", title="gb JSON c=8", model="gb", kind="json", rows=1, connections=8),
        Cell(name="mlp-json", title="mlp JSON c=8", model="mlp", kind="json", rows=1, connections=8),
        Cell(name="mlp-binary", title="mlp binary c=8", model="mlp", kind="binary", rows=1, connections=8),
        Cell(name="mlp-json-32", title="mlp 32 rows JSON c=8", model="mlp", kind="json", rows=32, connections=8),
    )
}
OPEN_LOOP_CELL: Final = CELLS["logreg-c8"]  # its request, at rates instead of with connections


@dataclass(frozen=True)
class Payload:
    """A request's bytes. header_bytes: length of the JSON part of a binary body, else 0."""

    body: bytes
    header_bytes: int = 0

    @property
    def headers(self) -> dict[str, str]:
        if self.header_bytes:
            return {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(self.header_bytes),
            }
        return {"Content-Type": "application/json"}


def features(model: str, rows: int, seed: int = 1) -> np.ndarray:
    """Six decimals, so that JSON and binary requests carry the same numbers."""
    values = np.random.default_rng(seed).random((rows, COLUMNS[model]))
    return values.round(6).astype(np.float32)


def payload(cell: Cell, seed: int = 1) -> Payload:
    array = features(cell.model, cell.rows, seed)
    if cell.kind == "grpc":
        return Payload(wire.infer_request(cell.model, INPUT, array))
    tensor: dict[str, Any] = {"name": INPUT, "shape": list(array.shape), "datatype": "FP32"}
    if cell.kind == "binary":
        tensor["parameters"] = {"binary_data_size": array.nbytes}
        request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        header = json.dumps(request, separators=(",", ":")).encode()
        return Payload(header + array.tobytes(), len(header))
    tensor["data"] = [round(float(value), 6) for value in array.ravel()]
    return Payload(json.dumps({"inputs": [tensor]}).encode())


def model_folders(cache_folder: Path) -> Path:
    """A folder with <model>/model.onnx and <model>/golden.json, made if it is not there."""
    target = cache_folder / f"bench-serving-models-{RECIPE}"
    for name in COLUMNS:
        if not (target / name / "golden.json").exists():
            (target / name).mkdir(parents=True, exist_ok=True)
            (target / name / "model.onnx").write_bytes(_fit(name))
            _write_golden(target / name, features(name, 4, seed=0))
    return target


def digest(folder: Path) -> str:
    return "sha256:" + hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()


@cache
def session(model_file: Path) -> onnxruntime.InferenceSession:
    """Set up as every server here sets up its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])


def direct(model_file: Path, array: np.ndarray) -> Tensors:
    """What onnxruntime says, without any server."""
    runtime = session(model_file)
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(names, {INPUT: array}), strict=True))


def _write_golden(folder: Path, array: np.ndarray) -> None:
    def tensor(name: str, value: np.ndarray) -> dict[str, Any]:
        datatype = {"float32": "FP32", "int64": "INT64"}[str(value.dtype)]
        return {"name": name, "shape": list(value.shape), "datatype": datatype, "data": value.ravel().tolist()}

    outputs = direct(folder / "model.onnx", array)
    golden = {
        "inputs": [tensor(INPUT, array)],
        "outputs": [tensor(name, value) for name, value in outputs.items()],
    }
    (folder / "golden.json").write_text(json.dumps(golden))


def _fit(name: str) -> bytes:
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if name == "mlp":
        random = np.random.default_rng(0)
        x, y = random.random((2000, COLUMNS["mlp"]), dtype=np.float32), random.integers(0, 10, 2000)
    else:
        x, y = make_classification(TRAINING_ROWS, COLUMNS[name], n_informative=12, n_classes=2, random_state=0)
        x = x.astype(np.float32)
    estimator = {
        "logreg": LogisticRegression(max_iter=500),
        "rf": RandomForestClassifier(100, max_depth=8, random_state=0),
        "gb": GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0),
        "mlp": MLPClassifier((512,), max_iter=3, random_state=0),
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mlp does not converge, nor need it
        estimator.fit(x, y)
    # Outputs as tensors: servers cannot carry the sequence of maps that zipmap makes.
    proto = to_onnx(estimator, x[:1], options={id(estimator): {"zipmap": False}}, target_opset=17)
    return bytes(proto.SerializeToString())

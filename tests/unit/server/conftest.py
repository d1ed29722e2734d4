"""Real parts: models written with onnx.helper, and the server as its own process on loopback.

Every expectation about numbers comes from onnxruntime called directly on the same file. A test starts a server
with `serve(folder, ...)` and gets a `Server`. Fixtures live as long as their module, so that tests can share a server
where none can disturb the next; servers are ended, and their logs checked for surprises, with the module.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from steeltown.contract.evidence import Evidence

V2_NAMES = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "int64": "INT64",
    "int32": "INT32",
    "uint8": "UINT8",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "bool": "BOOL",
    "object": "BYTES",
}
START_SECONDS = 30
SOURCES = ("/operator", "/images/server", "/images/http2", "/images/tensors")
"""Of the server's process, as in its image."""


def info(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Mapping[str, Any] | None = None) -> bytes:
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    built = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def scale(factor: float = 2.0) -> bytes:
    """y = factor * x, three columns."""
    return graph(
        [helper.make_node("Mul", ["x", "f"], ["y"])],
        [info("x", TensorProto.FLOAT, ["N", 3])],
        [info("y", TensorProto.FLOAT, ["N", 3])],
        {"f": np.float32(factor)},
    )


def logarithm() -> bytes:
    """y = log(x): -inf at 0, NaN below. z = x."""
    return graph(
        [helper.make_node("Log", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["z"])],
        [info("x", TensorProto.FLOAT, ["N", 2])],
        [info("y", TensorProto.FLOAT, ["N", 2]), info("z", TensorProto.FLOAT, ["N", 2])],
    )


def lookup() -> bytes:
    """y = table[i]: onnxruntime fails at run time when i is outside 0..9."""
    return graph(
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [info("i", TensorProto.INT64, ["N"])],
        [info("y", TensorProto.FLOAT, ["N"])],
        {"table": np.arange(10, dtype=np.float32) * 10},
    )


def classifier() -> bytes:
    """label INT64 [N] and probabilities FP32 [N, 2] of four columns, as an exported classifier has them."""
    return graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        [info("x", TensorProto.FLOAT, ["N", 4])],
        [info("label", TensorProto.INT64, ["N"]), info("probabilities", TensorProto.FLOAT, ["N", 2])],
        {"w": np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)},
    )


def centred() -> bytes:
    """y = x - mean of x over the rows: every row depends on the others, though all first axes are variable."""
    return graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        [info("x", TensorProto.FLOAT, ["N", 2])],
        [info("y", TensorProto.FLOAT, ["N", 2])],
    )


def mirror(**columns: int) -> bytes:
    """One output `<name>_out` = one input `<name>` of each given element type, shape [N, 2]."""
    return graph(
        [helper.make_node("Identity", [n], [f"{n}_out"]) for n in columns],
        [info(n, kind, ["N", 2]) for n, kind in columns.items()],
        [info(f"{n}_out", kind, ["N", 2]) for n, kind in columns.items()],
    )


def slow(layers: int = 60, width: int = 1200) -> bytes:
    """Some tens of milliseconds a run."""
    weights = np.eye(width, dtype=np.float32)
    names = ["h0", *(f"h{i + 1}" for i in range(layers))]
    nodes = [helper.make_node("Pad", ["x", "pads"], ["h0"])]
    nodes += [helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    nodes.append(helper.make_node("Slice", [names[-1], "from", "to", "axis"], ["y"]))
    constants = {
        "w": weights,
        "pads": np.array([0, 0, 0, width - 3]),
        "from": np.array([0]),
        "to": np.array([3]),
        "axis": np.array([1]),
    }
    return graph(
        nodes,
        [info("x", TensorProto.FLOAT, ["N", 3])],
        [info("y", TensorProto.FLOAT, ["N", 3])],
        constants,
    )


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """The JSON form of a tensor."""
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": V2_NAMES[str(array.dtype)],
        "data": array.ravel().tolist(),
    }


@dataclass
class Folder:
    """A model folder as `fetch` leaves it, and onnxruntime on the same file."""

    path: Path
    digest: str
    feed: dict[str, np.ndarray]

    def direct(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = onnxruntime.InferenceSession(str(self.path / "model.onnx"))
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    def golden(self) -> dict[str, Any]:
        golden: dict[str, Any] = json.loads((self.path / "golden.json").read_text())
        return golden

    def write_golden(self, golden: Mapping[str, Any]) -> None:
        (self.path / "golden.json").write_text(json.dumps(golden))


def environment_of(folder: Folder, **more: Any) -> dict[str, str]:
    """Of a server for this folder; None leaves a variable out."""
    values = {
        "MODEL_NAME": "m",
        "MODEL_VERSION": "m-v1",
        "MODEL_DIGEST": folder.digest,
        "MODEL_DIR": folder.path,
        "TERMINATION_LOG": folder.path / "termination-log",
        "HOST": "127.0.0.1",
        "PORT": 0,
        "GRPC_PORT": "off",
        "GRPC_CONNECTION_AGE_SECONDS": 0.5,
        "DRAIN_SECONDS": 0.1,
    }
    values |= {k.upper(): v for k, v in more.items()}
    return {f"STEELTOWN_{k}": str(v) for k, v in values.items() if v is not None}


@dataclass
class Server:
    process: subprocess.Popen[str]
    digest: str
    folder: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    grpc_port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path)

    def infer(self, body: Any = None, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v2/models/m/infer", json=body, timeout=30, **more)

    def evidence(self) -> Evidence:
        return Evidence.from_json(self.get("/steeltown/evidence").json())

    def metric(self, name: str) -> float:
        """Sum over the labels."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith((name + "{", name + " ")))

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if message in line["msg"]]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Folder]:
    """make_folder(model bytes, **golden input arrays)."""

    def make(model: bytes, **feed: np.ndarray) -> Folder:
        path = tmp_path_factory.mktemp("model")
        (path / "model.onnx").write_bytes(model)
        (path / "termination-log").touch()
        folder = Folder(path, "sha256:" + hashlib.sha256(model).hexdigest(), feed)
        if feed:
            outputs = folder.direct(feed)
            folder.write_golden(
                {
                    "inputs": [tensor(n, a) for n, a in feed.items()],
                    "outputs": [tensor(n, a) for n, a in outputs.items()],
                }
            )
        return folder

    return make


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Server]]:
    """Starts a process and does not wait for it. Keyword arguments are environment variables less STEELTOWN_."""
    started: list[tuple[Server, threading.Thread]] = []

    def start(folder: Folder, **environment: Any) -> Server:
        env = {k: v for k, v in os.environ.items() if not k.startswith("STEELTOWN_")}
        env |= environment_of(folder, **environment)
        env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p.endswith(SOURCES))
        process = subprocess.Popen(
            [sys.executable, "-m", "steeltown_server"],
            env=env,
            cwd=folder.path,
            stdout=subprocess.PIPE,
            text=True,
        )
        server = Server(process, folder.digest, folder.path)
        ports: queue.Queue[int] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                entry = json.loads(line)
                server.lines.append(entry)
                if entry["msg"] == "serving":
                    server.grpc_port = entry["grpcPort"] or 0
                    ports.put(entry["port"])
            ports.put(0)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        server.ports = ports  # type: ignore[attr-defined]
        started.append((server, reader))
        return server

    yield start
    for server, reader in started:
        server.process.kill()
        server.process.wait()
        reader.join(5)
        # The field sets a fault apart from a setting that the server refuses to start with.
        assert not [line for line in server.logged("cannot ") if "error" in line], "the server met a fault of its own"


@pytest.fixture(scope="module")
def serve(launch: Callable[..., Server]) -> Callable[..., Server]:
    """Starts a server and waits until it listens."""

    def start(folder: Folder, **environment: Any) -> Server:
        server = launch(folder, **environment)
        server.port = server.ports.get(timeout=START_SECONDS)  # type: ignore[attr-defined]
        assert server.port, f"the server ended: {server.lines}"
        return server

    return start


@pytest.fixture(scope="session")
def models() -> dict[str, Callable[..., bytes]]:
    """The small models by name, for tests that do not care how they are made."""
    return {
        "scale": scale,
        "logarithm": logarithm,
        "lookup": lookup,
        "centred": centred,
        "classifier": classifier,
        "mirror": mirror,
        "slow": slow,
    }


@pytest.fixture
def scaled(make_folder: Callable[..., Folder]) -> Folder:
    """y = 2 x with two golden rows."""
    return make_folder(scale(), x=np.array([[1, 2, 3], [4, 5, 6]], np.float32))


def request_for(**feed: np.ndarray) -> dict[str, Any]:
    return {"inputs": [tensor(n, a) for n, a in feed.items()]}


@pytest.fixture(scope="session")
def environment() -> Callable[..., dict[str, str]]:
    return environment_of


@pytest.fixture(scope="session")
def body() -> Callable[..., dict[str, Any]]:
    """body(x=array, ...): the JSON request with these inputs."""
    return request_for


@pytest.fixture(scope="session")
def row() -> dict[str, Any]:
    """A valid request for `scaled`, answered [2, 4, 6]."""
    return request_for(x=np.array([[1, 2, 3]], np.float32))

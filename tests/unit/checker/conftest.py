"""A run's folders below tmp_path, tables and small ONNX models to put into them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from steeltown.contract.plans import Source
from steeltown.contract.reports import StepReport
from steeltown_checker import __main__ as checker


@dataclass(frozen=True)
class Workspace:
    """Runs steps as the operator would: a plan and folders in the environment, the report read back."""

    root: Path

    @property
    def env(self) -> dict[str, str]:
        return {
            "STEELTOWN_INPUT_DIR": str(self.root / "input"),
            "STEELTOWN_OUTPUT_DIR": str(self.root / "output"),
            "STEELTOWN_EVALUATION_DIR": str(self.root / "evaluation"),
            "STEELTOWN_PARAMS_FILE": str(self.root / "input/params.json"),
            "STEELTOWN_RESULT_FILE": str(self.root / "output/result.json"),
            "STEELTOWN_STATUS_FILE": str(self.root / "output/status.json"),
            "STEELTOWN_FAILURE_FILE": str(self.root / "output/failure"),
            "STEELTOWN_MODEL_DIR": str(self.root / "model"),
            "STEELTOWN_TERMINATION_LOG": str(self.root / "termination-log"),
            "STEELTOWN_ALLOWED_SOURCES": f"file://{self.root},https://",
        }

    @property
    def store(self) -> str:
        return f"file://{self.root}/store"

    def step(self, name: str, plan: Any, **env: str) -> tuple[int, StepReport]:
        text = plan if isinstance(plan, str) else plan.to_json()
        code = checker.main([name], {**self.env, "STEELTOWN_PLAN": text, **env})
        return code, self.report()

    def process(self, module: str, *arguments: str, plan: Any = None, **env: str) -> int:
        """The real entry point in a process of its own; its exit code."""
        path = os.pathsep.join(
            p for p in sys.path if p.endswith(("/operator", "/images/checker", "/images/tensors", "/images/trainer"))
        )
        full = {**os.environ, "PYTHONPATH": path, **self.env, "STEELTOWN_PLAN": plan.to_json() if plan else "", **env}
        return subprocess.run([sys.executable, "-m", module, *arguments], env=full, check=False).returncode

    def report(self) -> StepReport:
        report = StepReport.decode((self.root / "termination-log").read_text())
        assert report is not None
        return report

    def source(self, path: Path) -> Source:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Source(uri=f"file://{path}", digest=f"sha256:{digest}")

    def write(self, name: str, content: pl.DataFrame | bytes | str | onnx.ModelProto) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pl.DataFrame):
            (content.write_parquet if name.endswith(".parquet") else content.write_csv)(path)
        elif isinstance(content, onnx.ModelProto):
            path.write_bytes(content.SerializeToString())
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def trained(
        self, model: onnx.ModelProto | bytes, result: Any = None, evaluation: pl.DataFrame | None = None
    ) -> Path:
        """As after `train`: a model, a result and, if given, evaluation rows."""
        self.write("output/result.json", json.dumps(result or {"schemaVersion": 1}))
        if evaluation is not None:
            self.write("evaluation/data.parquet", evaluation)
        return self.write("output/model/model.onnx", model)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def flights() -> Callable[..., pl.DataFrame]:
    """rows -> a table with numbers, gaps, text and a boolean; `late` depends on them, `minutes` more smoothly."""

    def make(rows: int, seed: int = 0) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        delay = random.normal(0, 20, rows)
        carrier = random.choice(["AA", "UA", "DL"], rows)
        wet = random.random(rows) < 0.3
        minutes = delay + 8 * wet + 10 * (carrier == "AA") + random.normal(0, 5, rows)
        gaps = pl.Series(np.arange(rows) % 11 == 5)
        return pl.DataFrame({"dep delay": delay, "carrier": carrier, "wet": wet, "minutes": minutes}).with_columns(
            pl.when(gaps).then(None).otherwise(pl.col("dep delay")).alias("dep delay"), late=pl.col("minutes") > 5
        )

    return make


def _value(name: str, kind: int = TensorProto.FLOAT, shape: tuple[Any, ...] = (None, 1)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: list[onnx.NodeProto], inputs: Any, outputs: Any, weights: Any = ()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


@dataclass(frozen=True)
class Models:
    """Small ONNX models by hand, so that each has exactly one peculiarity."""

    @staticmethod
    def per_column(names: tuple[str, ...], *, factor: float = 1.0, op: str = "") -> onnx.ModelProto:
        """y = factor * sum of the columns, then `op` (Log, ...). Inputs [N, 1] float, output `variable` [N, 1]."""
        nodes = [helper.make_node("Sum", list(names), ["sum"]), helper.make_node("Mul", ["sum", "factor"], ["scaled"])]
        nodes.append(helper.make_node(op or "Identity", ["scaled"], ["variable"]))
        weight = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
        return _model(nodes, [_value(n) for n in names], [_value("variable")], [weight])

    @staticmethod
    def matrix(weights: list[float], *, width: Any = None, batch: Any = None) -> onnx.ModelProto:
        """y = x @ weights for one input x of [batch, width]."""
        node = helper.make_node("MatMul", ["x", "w"], ["variable"])
        weight = helper.make_tensor("w", TensorProto.FLOAT, [len(weights), 1], weights)
        shape = (batch, len(weights) if width is None else width)
        return _model([node], [_value("x", shape=shape)], [_value("variable", shape=(batch, 1))], [weight])

    @staticmethod
    def average_of_batch() -> onnx.ModelProto:
        """A row's answer depends on the rows beside it."""
        mean = helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1)
        nodes = [mean, helper.make_node("Sub", ["x", "mean"], ["variable"])]
        return _model(nodes, [_value("x")], [_value("variable")])

    @staticmethod
    def noisy(names: tuple[str, ...]) -> onnx.ModelProto:
        """The sum of the columns and a random number."""
        nodes = [
            helper.make_node("Sum", list(names), ["sum"]),
            helper.make_node("RandomNormalLike", ["sum"], ["noise"], scale=0.5),
            helper.make_node("Add", ["sum", "noise"], ["variable"]),
        ]
        return _model(nodes, [_value(n) for n in names], [_value("variable")])

    @staticmethod
    def dropping(names: tuple[str, ...]) -> onnx.ModelProto:
        """The sum of the columns, half of them dropped at random: exported in training mode."""
        nodes = [
            helper.make_node("Sum", list(names), ["sum"]),
            helper.make_node("Dropout", ["sum", "ratio", "training"], ["variable"], name="dropout"),
        ]
        weights = [
            helper.make_tensor("ratio", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("training", TensorProto.BOOL, [], [True]),
        ]
        return _model(nodes, [_value(n) for n in names], [_value("variable")], weights)

    @staticmethod
    def scores(name: str, *, labels: tuple[str, ...] = ()) -> onnx.ModelProto:
        """sigmoid of one column as a probability [N, 1]; with `labels` as two probabilities of these classes."""
        nodes = [helper.make_node("Sigmoid", [name], ["p"])]
        if not labels:
            return _model([helper.make_node("Sigmoid", [name], ["p"])], [_value(name)], [_value("p")])
        nodes += [
            helper.make_node("Sub", ["one", "p"], ["q"]),
            helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
        ]
        one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        model = _model(nodes, [_value(name)], [_value("probabilities", shape=(None, 2))], [one])
        model.metadata_props.add(key="classes", value=json.dumps(labels))
        return model


@pytest.fixture
def models() -> Models:
    return Models()


Answer = Callable[[str, bytes], tuple[int, Mapping[str, str], bytes]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts HTTP servers on loopback; answer(path, body) -> (status, headers, body)."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Server(ThreadingHTTPServer):
            request_queue_size = 256  # with the usual 5, a connection of a burst waits for its second SYN, 1 s later

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes) -> None:
                status, headers, answered = answer(self.path, body)
                self.wfile.write(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {len(answered)}\r\n".encode()
                    + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode()
                    + b"\r\n"
                    + answered
                )
                self.close_connection = headers.get("Connection") == "close"

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = Server(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()

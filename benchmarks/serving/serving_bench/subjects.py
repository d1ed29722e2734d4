"""The servers under test: how each is started, and what it offers.

Every process serves one model, as ours does. "default" is a peer as it is shipped, "tuned" what its documentation
offers to make it faster on one core: no worker processes, no gzip, no metrics, no latency log. All run with one
onnxruntime thread.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .cells import Cell, digest
from .environments import PEERS, REPOSITORY, SERVING, programs

ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ORT_NUM_THREADS"), "1"
)
SOURCES: Final = os.pathsep.join(
    str(REPOSITORY / each) for each in ("operator", "images/server", "images/http2", "images/tensors")
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one process runs. folder: empty, its own. grpc: whether this start is to be asked over gRPC."""

    models: Path
    model: str
    folder: Path
    http_port: int
    grpc_port: int
    metrics_port: int
    grpc: bool


@dataclass(frozen=True)
class Launch:
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A server as the table names it.

    infers: False for the echo, whose answers are no inferences. kinds: requests it can be asked.
    lock: its environment in peers/, None for our own.
    """

    name: str
    title: str
    launch: Callable[[Place], Launch]
    kinds: frozenset[str]
    lock: str | None = None
    infers: bool = True

    def offers(self, cell: Cell) -> bool:
        return cell.kind in self.kinds


def environment_of(place: Place, launch: Launch) -> dict[str, str]:
    """The caller's environment less what would decide for a server, and what all servers are told."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STEELTOWN_", "PYTHON", "PIP_", "MLSERVER_"))}
    common = {"MODELS": str(place.models), "MODEL": place.model, "HOME": str(place.folder), "DO_NOT_TRACK": "1"}
    return {**kept, **ONE_THREAD, **common, **launch.environment}


def _steeltown(grpc: bool) -> Callable[[Place], Launch]:
    return lambda place: _steeltown_at(place, str(place.grpc_port) if grpc else "off")


def _steeltown_at(place: Place, grpc_port: str) -> Launch:
    folder = place.models / place.model
    settings = {
        "MODEL_NAME": place.model,
        "MODEL_VERSION": f"{place.model}-v1",
        "MODEL_DIGEST": digest(folder),
        "MODEL_DIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": str(place.http_port),
        "GRPC_PORT": grpc_port,
        "INTRA_OP_THREADS": "1",
        "DRAIN_SECONDS": "0",
        "GRACE_SECONDS": "1",
        "TERMINATION_LOG": str(place.folder / "termination-log"),
    }
    environment = {f"STEELTOWN_{name}": value for name, value in settings.items()}
    return Launch([sys.executable, "-m", "steeltown_server"], {**environment, "PYTHONPATH": SOURCES})


def _echo(place: Place) -> Launch:
    return Launch([sys.executable, str(SERVING / "echo_server.py"), str(place.http_port)], {"PYTHONPATH": SOURCES})


def _mlserver(tuned: bool) -> Callable[[Place], Launch]:
    def launch(place: Place) -> Launch:
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "http_port": place.http_port,
            "grpc_port": place.grpc_port,
            "metrics_port": place.metrics_port,
        }
        if tuned:
            settings |= {"parallel_workers": 0, "debug": False, "gzip_enabled": False, "metrics_endpoint": None}
        (place.folder / "settings.json").write_text(json.dumps(settings))
        model = {"name": place.model, "implementation": "mlserver_onnx.OnnxModel"}
        (place.folder / "model-settings.json").write_text(json.dumps(model))
        command = [str(programs("mlserver") / "mlserver"), "start", str(place.folder)]
        return Launch(command, {"PYTHONPATH": str(PEERS)})

    return launch


def _kserve(tuned: bool) -> Callable[[Place], Launch]:
    def launch(place: Place) -> Launch:
        command = [str(programs("kserve") / "python"), str(PEERS / "kserve_onnx.py")]
        command += ["--http_port", str(place.http_port), "--grpc_port", str(place.grpc_port)]
        if tuned:
            command += ["--enable_latency_logging", "false", "--configure_logging", "false", "--event_loop", "uvloop"]
            command += [] if place.grpc else ["--enable_grpc", "false"]
        return Launch(command)

    return launch


def _fastapi(place: Place) -> Launch:
    command = [str(programs("fastapi") / "uvicorn"), "fastapi_onnx:app", "--app-dir", str(PEERS)]
    return Launch([*command, "--host", "127.0.0.1", "--port", str(place.http_port), "--log-level", "warning"])


OURS: Final = "steeltown"
OURS_HTTP: Final = "steeltown-http"
ECHO: Final = "echo"
_ALL: Final = frozenset(("json", "binary", "grpc"))
_HTTP_JSON: Final = frozenset(("json",))

SUBJECTS: Final = {
    subject.name: subject
    for subject in (
        Subject(name=OURS, title="Steeltown", launch=_steeltown(grpc=True), kinds=_ALL),
        Subject(
            name=OURS_HTTP,
            title="Steeltown, gRPC off",
            launch=_steeltown(grpc=False),
            kinds=_ALL - {"grpc"},
        ),
        Subject(
            name="mlserver-tuned",
            title="MLServer tuned",
            launch=_mlserver(tuned=True),
            kinds=_ALL - {"binary"},  # it answers binary bodies with errors
            lock="mlserver",
        ),
        Subject(
            name="mlserver",
            title="MLServer default",
            launch=_mlserver(tuned=False),
            kinds=_ALL - {"binary"},
            lock="mlserver",
        ),
        Subject(name="kserve-tuned", title="KServe tuned", launch=_kserve(tuned=True), kinds=_ALL, lock="kserve"),
        Subject(name="kserve", title="KServe default", launch=_kserve(tuned=False), kinds=_ALL, lock="kserve"),
        Subject(name="fastapi", title="FastAPI", launch=_fastapi, kinds=_HTTP_JSON, lock="fastapi"),
        Subject(name=ECHO, title="bare HTTP", launch=_echo, kinds=_ALL - {"grpc"}, infers=False),
    )
}

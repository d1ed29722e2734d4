"""The server under test: one that somebody runs, named by URL, or ours, started from source once a model.

Variables: STEELTOWN_CONFORMANCE_URL (http://host:port), STEELTOWN_CONFORMANCE_GRPC (host:port),
STEELTOWN_CONFORMANCE_MODEL (the one model of the set that the server has; unset, it has them all) and
STEELTOWN_CONFORMANCE_LEVELS (MUST,SHOULD at a URL, STEELTOWN too for ours). STEELTOWN_CONFORMANCE_WORKERS is of ours:
processes on one port, which must not be told from one.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from steeltown_testing.conformance import models
from steeltown_testing.conformance.wire import Body, send

REPOSITORY = Path(__file__).resolve().parents[4]
BODY_LIMIT_BYTES = 4 << 20
HEADER_LIMIT_BYTES = 8 << 10
VERSION = "m-v1"
PREFIX = "STEELTOWN_CONFORMANCE_"


@dataclass(frozen=True)
class Target:
    """grpc: host:port, "" where none is known. version: "" where the server names none."""

    url: str
    grpc: str
    model: str
    version: str

    def path(self, template: str) -> str:
        return template.format(m=self.model, v=self.version)


def variable(name: str, default: str = "") -> str:
    return os.environ.get(PREFIX + name, default)


def levels() -> set[str]:
    return set(variable("LEVELS", "MUST,SHOULD" if variable("URL") else "MUST,SHOULD,STEELTOWN").split(","))


def named_by_url(model: str) -> Target:
    """The server at STEELTOWN_CONFORMANCE_URL; its version is the last that its metadata lists."""
    url = variable("URL").rstrip("/")
    metadata = send(url, "GET", f"/v2/models/{model}", Body(b""))
    versions = metadata.json.get("versions") if metadata.status == 200 else None
    return Target(url, variable("GRPC"), model, versions[-1] if versions else "")


@contextmanager
def started_from_source(model: str, folder: Path) -> Iterator[Target]:
    """Our server with this model on loopback, ended afterwards."""
    path = models.write(folder, model)
    process = subprocess.Popen(
        [sys.executable, "-m", "steeltown_server"], env=_environment(model, path), cwd=path,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            entry = json.loads(line)
            if entry["msg"] == "serving":
                yield Target(f"http://127.0.0.1:{entry['port']}", f"127.0.0.1:{entry['grpcPort']}", model, VERSION)
                return
        raise AssertionError(f"the server ended: {lines}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the group: it may have workers
        process.wait()
        process.stdout.close()


def _environment(model: str, path: Path) -> Mapping[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("STEELTOWN_")}
    digest = hashlib.sha256((path / "model.onnx").read_bytes()).hexdigest()
    ours = {
        "MODEL_NAME": model,
        "MODEL_VERSION": VERSION,
        "MODEL_DIGEST": f"sha256:{digest}",
        "MODEL_DIR": path,
        "TERMINATION_LOG": path / "termination-log",
        "HOST": "127.0.0.1",
        "PORT": 0,
        "GRPC_PORT": 0,
        "BODY_LIMIT_BYTES": BODY_LIMIT_BYTES,
        "HEADER_LIMIT_BYTES": HEADER_LIMIT_BYTES,
        "WORKERS": variable("WORKERS", "1"),
    }
    sources = os.pathsep.join(
        str(REPOSITORY / part) for part in ("operator", "images/server", "images/http2", "images/tensors")
    )
    return own | {f"STEELTOWN_{k}": str(v) for k, v in ours.items()} | {"PYTHONPATH": sources}

"""What the process is told by its environment, read once and checked before anything else happens.

A server that starts with a wrong setting is found hours later; so every variable is parsed here, and the first
one that is missing or malformed ends the process with exit code 64 and a sentence that names it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from steeltown.contract.files import MODEL_DIR, Env
from steeltown.contract.reports import TERMINATION_LOG
from steeltown.contract.version import check_version

N = TypeVar("N", int, float)
D = TypeVar("D")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


WORKER: Final = "STEELTOWN_WORKER"
"""How the process that starts workers tells each of them what it is."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several processes on the port. group: a name that only they share."""

    index: int
    count: int
    group: str

    @classmethod
    def from_text(cls, text: str) -> Worker | None:
        if not text:
            return None
        index, count, group = text.split("/")
        return cls(int(index), int(count), group)

    def to_text(self) -> str:
        return f"{self.index}/{self.count}/{self.group}"


class UsageError(Exception):
    """The environment is wrong; the message names the variable and what it must read."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one server process.

    model_name, model_version, model_digest: what clients may ask for, and the sha256 that the file must have.
    model_dir: holds model.onnx and golden.json, brought by `fetch`.
    route_file: downward API file with the route to a canary; None where no rollout can reach this process.
    termination_log: where the reason of a failed start goes; written only if it exists, as the kubelet makes it.
    host, port: "" listens on every address of the pod; port 0 takes a free one and logs it.
    load_seconds: from the start to the answered golden rows; a model that takes longer is refused.
    drain_seconds: after SIGTERM, how long to go on serving so that endpoints and kube-proxy learn of it.
    grace_seconds: from SIGTERM to the end, whatever is still in flight; below terminationGracePeriodSeconds.
    body_limit_bytes, header_limit_bytes: what one request may make the process hold.
    json_limit_bytes: of the JSON part of a request, which takes many times its size before it is tensors.
    held_limit_bytes: bodies of all requests that are not answered yet; None = a quarter of the cgroup's memory limit,
      at most 256 MiB.
    max_connections: beyond, a connection is told so and closed.
    request_timeout_seconds: from a request's first byte to its last.
    run_seconds: of one run of the model; then it is ended. None = 30 s, or ten times what one row took at the start if
      that is longer.
    run_grace_seconds: from there to the end of the process, if the run does not end.
    max_queue_seconds: a request that would wait longer for the model is answered 503 at once.
    idle_timeout_seconds: a connection on which nothing happens is closed; above the usual 60 s of proxies, so
      that the proxy closes first and never writes into a closing connection.
    worker: what this process is among them, None: the only one, or the one that starts them.
    workers: processes on the port; 0 = one per whole CPU of the cgroup's limit, as far as memory allows.
    intra_op_threads: of onnxruntime, in each worker; None = the cgroup's CPU limit, shared among them.
    max_batch_rows: rows that run together; more gains little and makes the first one wait.
    grpc_port: of the gRPC front end, 0 as for port; None (the word off) = none, which saves what protobuf costs.
    grpc_timeout_seconds: how long a call waits whose client has set no deadline.
    grpc_connection_age_seconds: then a client is told to open another connection, so that load reaches new Pods.
    batch_wait_milliseconds: how long the first request of a batch waits for others; 0: only those of the same turn of
      the event loop run together, and nobody waits.
    canary_in_flight: requests that may wait for the canary; beyond, the live model answers at once.
    """

    model_name: str
    model_version: str
    model_digest: str
    model_dir: Path = Path(MODEL_DIR)
    route_file: Path | None = None
    termination_log: Path = Path(TERMINATION_LOG)
    host: str = ""
    port: int = 8080
    load_seconds: float = 300.0
    drain_seconds: float = 3.0
    grace_seconds: float = 20.0
    body_limit_bytes: int = 64 << 20
    header_limit_bytes: int = 16 << 10
    json_limit_bytes: int = 16 << 20
    held_limit_bytes: int | None = None
    max_connections: int = 10_000
    request_timeout_seconds: float = 60.0
    run_seconds: float | None = None
    run_grace_seconds: float = 10.0
    max_queue_seconds: float = 1.0
    idle_timeout_seconds: float = 75.0
    workers: int = 0
    worker: Worker | None = None
    intra_op_threads: int | None = None
    max_batch_rows: int = 64
    grpc_port: int | None = 9000
    grpc_timeout_seconds: float = 60.0
    grpc_connection_age_seconds: float = 60.0
    batch_wait_milliseconds: float = 0.0
    canary_in_flight: int = 64

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """UsageError names the first variable that is missing or malformed."""
        try:
            check_version(environment)
        except ValueError as error:
            raise UsageError(str(error)) from None
        read = _Reader(environment)
        digest = read.required(Env.MODEL_DIGEST)
        if not DIGEST.fullmatch(digest):
            raise UsageError(f"invalid {Env.MODEL_DIGEST.value} {digest!r}: must be sha256:<64 hex digits>")
        route_file = environment.get(Env.ROUTE_FILE, "")
        return cls(
            model_name=read.required(Env.MODEL_NAME),
            model_version=read.required(Env.MODEL_VERSION),
            model_digest=digest,
            model_dir=Path(read.required(Env.MODEL_DIR)),
            route_file=Path(route_file) if route_file else None,
            termination_log=Path(environment.get("STEELTOWN_TERMINATION_LOG", TERMINATION_LOG)),
            host=environment.get("STEELTOWN_HOST", cls.host),
            port=read.number(Env.PORT, cls.port, int, 0),
            load_seconds=read.number("STEELTOWN_LOAD_SECONDS", cls.load_seconds, float, 0.01),
            drain_seconds=read.number("STEELTOWN_DRAIN_SECONDS", cls.drain_seconds, float, 0),
            grace_seconds=read.number("STEELTOWN_GRACE_SECONDS", cls.grace_seconds, float, 0),
            body_limit_bytes=read.number("STEELTOWN_BODY_LIMIT_BYTES", cls.body_limit_bytes, int, 1),
            header_limit_bytes=read.number("STEELTOWN_HEADER_LIMIT_BYTES", cls.header_limit_bytes, int, 256),
            json_limit_bytes=read.number("STEELTOWN_JSON_LIMIT_BYTES", cls.json_limit_bytes, int, 1),
            held_limit_bytes=read.number("STEELTOWN_HELD_LIMIT_BYTES", 0, int, 0) or None,
            max_connections=read.number("STEELTOWN_MAX_CONNECTIONS", cls.max_connections, int, 1),
            request_timeout_seconds=read.number(
                "STEELTOWN_REQUEST_TIMEOUT_SECONDS", cls.request_timeout_seconds, float, 0.1
            ),
            run_seconds=read.number("STEELTOWN_RUN_SECONDS", cls.run_seconds, float, 0.01),
            run_grace_seconds=read.number("STEELTOWN_RUN_GRACE_SECONDS", cls.run_grace_seconds, float, 0.01),
            max_queue_seconds=read.number("STEELTOWN_MAX_QUEUE_SECONDS", cls.max_queue_seconds, float, 0.001),
            idle_timeout_seconds=read.number("STEELTOWN_IDLE_TIMEOUT_SECONDS", cls.idle_timeout_seconds, float, 0.1),
            workers=read.number("STEELTOWN_WORKERS", cls.workers, int, 0),
            worker=Worker.from_text(environment.get(WORKER, "")),
            intra_op_threads=read.number("STEELTOWN_INTRA_OP_THREADS", 0, int, 0) or None,
            max_batch_rows=read.number("STEELTOWN_MAX_BATCH_ROWS", cls.max_batch_rows, int, 1),
            grpc_port=read.port_or_off(Env.GRPC_PORT, cls.grpc_port),
            grpc_timeout_seconds=read.number("STEELTOWN_GRPC_TIMEOUT_SECONDS", cls.grpc_timeout_seconds, float, 0.001),
            grpc_connection_age_seconds=read.number(
                "STEELTOWN_GRPC_CONNECTION_AGE_SECONDS", cls.grpc_connection_age_seconds, float, 0.01
            ),
            batch_wait_milliseconds=read.number(
                "STEELTOWN_BATCH_WAIT_MILLISECONDS", cls.batch_wait_milliseconds, float, 0
            ),
            canary_in_flight=read.number("STEELTOWN_CANARY_IN_FLIGHT", cls.canary_in_flight, int, 1),
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    environment: Mapping[str, str]

    def required(self, name: Env) -> str:
        value = self.environment.get(name, "")
        if not value:
            raise UsageError(f"{name.value} is not set: the operator sets it on the server's container")
        return value

    def port_or_off(self, name: str, default: int | None) -> int | None:
        return None if self.environment.get(name) == "off" else self.number(name, default, int, 0)

    def number(self, name: str, default: D, kind: Callable[[str], N], least: float) -> N | D:
        text = self.environment.get(name, "")
        if not text:
            return default
        try:
            value = kind(text)
        except ValueError:
            raise UsageError(f"invalid {name!s} {text!r}: must be a number") from None
        if not least <= value < math.inf:
            raise UsageError(f"invalid {name!s} {text!r}: must be at least {least}")
        return value

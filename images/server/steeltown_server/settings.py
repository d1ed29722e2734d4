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
from typing import TypeVar

from steeltown.contract.files import MODEL_DIR, Env
from steeltown.contract.reports import TERMINATION_LOG

N = TypeVar("N", int, float)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


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
    drain_seconds: after SIGTERM, how long to go on serving so that endpoints and kube-proxy learn of it.
    grace_seconds: from SIGTERM to the end, whatever is still in flight; below terminationGracePeriodSeconds.
    body_limit_bytes, header_limit_bytes: what one request may make the process hold.
    idle_timeout_seconds: a connection on which nothing happens is closed; above the usual 60 s of proxies, so
      that the proxy closes first and never writes into a closing connection.
    intra_op_threads: of onnxruntime; None = from the cgroup CPU limit.
    max_batch_rows: rows that run together; more gains little and makes the first one wait.
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
    drain_seconds: float = 3.0
    grace_seconds: float = 20.0
    body_limit_bytes: int = 64 << 20
    header_limit_bytes: int = 16 << 10
    idle_timeout_seconds: float = 75.0
    intra_op_threads: int | None = None
    max_batch_rows: int = 64
    canary_in_flight: int = 64

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """UsageError names the first variable that is missing or malformed."""
        read = _Reader(environment)
        digest = read.required(Env.MODEL_DIGEST)
        if not DIGEST.fullmatch(digest):
            raise UsageError(f"{Env.MODEL_DIGEST.value} must read sha256:<64 hex digits>, got {digest!r}")
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
            drain_seconds=read.number("STEELTOWN_DRAIN_SECONDS", cls.drain_seconds, float, 0),
            grace_seconds=read.number("STEELTOWN_GRACE_SECONDS", cls.grace_seconds, float, 0),
            body_limit_bytes=read.number("STEELTOWN_BODY_LIMIT_BYTES", cls.body_limit_bytes, int, 1),
            header_limit_bytes=read.number("STEELTOWN_HEADER_LIMIT_BYTES", cls.header_limit_bytes, int, 256),
            idle_timeout_seconds=read.number("STEELTOWN_IDLE_TIMEOUT_SECONDS", cls.idle_timeout_seconds, float, 0.1),
            intra_op_threads=read.number("STEELTOWN_INTRA_OP_THREADS", 0, int, 0) or None,
            max_batch_rows=read.number("STEELTOWN_MAX_BATCH_ROWS", cls.max_batch_rows, int, 1),
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

    def number(self, name: str, default: N, kind: Callable[[str], N], least: float) -> N:
        text = self.environment.get(name, "")
        if not text:
            return default
        try:
            value = kind(text)
        except ValueError:
            raise UsageError(f"{name!s} must be a number, got {text!r}") from None
        if not least <= value < math.inf:
            raise UsageError(f"{name!s} must be at least {least}, got {text!r}")
        return value

"""The operator as a process, and what the API server noted about its requests.

Nothing here knows what the operator should do: a test starts it, acts as a user, and reads the cluster.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from steeltown_testing.environment import KIND_AUDIT_LOG, KIND_KUBECONFIG, REPOSITORY, tool
from steeltown_testing.kubectl import Kubectl, eventually

USER_AGENT = "steeltown-operator"
READS = ("get", "list", "watch")
LEASE = "steeltown-operator"
Obj = dict[str, Any]


def install_resources(config: str) -> None:
    """The CustomResourceDefinitions, served."""
    everywhere = Kubectl(config=config)
    everywhere.run("apply", "--server-side", "--force-conflicts", "-k", str(REPOSITORY / "crds"))
    everywhere.wait("crd/mlmodels.steeltown.dev", "condition=Established")
    everywhere.wait("crd/trainingruns.steeltown.dev", "condition=Established")
    eventually(lambda: everywhere.attempt("get", "mlmodels,trainingruns").returncode == 0)


class OperatorProcess:
    """`python -m steeltown` for one namespace, which also holds its Lease."""

    def __init__(self, config: str, namespace: str, log: Path, *, identity: str = "operator") -> None:
        flags = {
            "kubeconfig": config,
            "namespaces": namespace,
            "lease-namespace": namespace,
            "lease-name": LEASE,
            "identity": identity,
            "http-host": "127.0.0.1",
            "http-port": "0",
            "trainer-image": "trainer.invalid/trainer:1",
            "checker-image": "checker.invalid/checker:1",
            "server-image": "server.invalid/server:1",
        }
        command = [sys.executable, "-m", "steeltown", *(f"--{name}={value}" for name, value in flags.items())]
        self.log = log
        with log.open("wb") as stream:
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "operator")}
            self._process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)

    def says(self, text: str) -> bool:
        """Whether its log holds the text. Fails if the process has ended."""
        assert self._process.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def terminate(self) -> float:
        """SIGTERM; returns the seconds that it took to end with code 0."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=30)
        assert code == 0, f"exit code {code}: {self.log.read_text()}"
        return time.monotonic() - started

    def clear_away(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(config: str, namespace: str, log: Path, *, identity: str = "operator") -> Iterator[OperatorProcess]:
    """An operator that leads or stands by, gone afterwards."""
    process = OperatorProcess(config, namespace, log, identity=identity)
    try:
        eventually(lambda: process.says("serving metrics"), seconds=30)
        yield process
    finally:
        process.clear_away()


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the operator's, as the audit log has it."""

    at: datetime
    verb: str
    resource: str
    name: str
    code: int


class AuditLog:
    """What the operator asked for in one namespace since this object was made."""

    def __init__(self, config: str, namespace: str) -> None:
        embedded = tool("tests/cluster", "audit-log", "--control-plane")
        self._path = KIND_AUDIT_LOG if config == str(KIND_KUBECONFIG) else Path(embedded)
        self._start, self._namespace = self._path.stat().st_size, namespace

    def requests(self) -> list[Request]:
        with self._path.open("rb") as stream:
            stream.seek(self._start if self._start <= self._path.stat().st_size else 0)  # it may have been rotated
            lines = [line for line in stream.read().splitlines() if self._namespace.encode() in line]
        events = [json.loads(line) for line in lines if line.endswith(b"}")]
        return [_request(e) for e in events if e.get("userAgent") == USER_AGENT and "objectRef" in e]

    def writes(self) -> list[Request]:
        """Without those that hold the Lease."""
        return [r for r in self.requests() if r.verb not in READS and r.resource != "leases"]


def _request(event: Obj) -> Request:
    what = event["objectRef"]
    return Request(
        at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        verb=event["verb"],
        resource=what["resource"] + (f"/{what['subresource']}" if "subresource" in what else ""),
        name=what.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
    )


def every_version(kubectl: Kubectl, plural: str, *, since: str) -> list[Obj]:
    """All that the objects of a kind have been after resourceVersion `since`, in order: the server replays it."""
    path = f"/apis/steeltown.dev/v1alpha1/namespaces/{kubectl.namespace}/{plural}"
    raw = kubectl.run("get", "--raw", f"{path}?watch=1&resourceVersion={since}&timeoutSeconds=2")
    events = [json.loads(line) for line in raw.splitlines() if line]
    assert not [e for e in events if e["type"] == "ERROR"], events
    return [e["object"] for e in events]

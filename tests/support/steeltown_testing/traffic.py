"""Starts and reads the users of `traffic_client` in a namespace."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steeltown_testing.installation import images
from steeltown_testing.kubectl import Kubectl, eventually

CLIENT = Path(__file__).with_name("traffic_client.py")


@dataclass(frozen=True)
class Totals:
    """What the users have seen so far. digests: answers by the digest of the model that gave them."""

    sent: int
    ok: int
    failed: int
    failures: dict[str, int]
    digests: dict[str, int]
    p99_milliseconds: float | None


class Traffic:
    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._kubectl, self._name = kubectl, name
        self.last: Totals | None = None

    def totals(self) -> Totals:
        lines = self._kubectl.run("logs", self._name, "--tail=1").strip().splitlines()
        if not lines:
            return Totals(0, 0, 0, {}, {}, None)
        return _totals(json.loads(lines[-1]))

    def stop(self) -> Totals:
        """Let what is in flight end, and return the last word."""
        if self.last is None:
            stop = ("exec", self._name, "--", "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
            self._kubectl.run(*stop)
            line = eventually(self._final, seconds=30)
            self.last = _totals(json.loads(line))
            self._kubectl.run("delete", "pod", self._name, "--wait=false", "--grace-period=1")
        return self.last

    def _final(self) -> str:
        text = self._kubectl.run("logs", self._name, "--tail=1").strip()
        return text if '"final": true' in text else ""


@contextmanager
def traffic(kubectl: Kubectl, model: str, bodies: Sequence[dict[str, Any]], *, rate: float = 100) -> Iterator[Traffic]:
    """Constant load on a model's Service while the block runs."""
    name = f"users-of-{model}-{uuid.uuid4().hex[:6]}"
    script = {"client.py": CLIENT.read_text(), "bodies.json": json.dumps(list(bodies))}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": script},
        _pod(kubectl, name, model, rate),
    )
    kubectl.wait(f"pod/{name}", "condition=Ready", seconds=60)
    users = Traffic(kubectl, name)
    try:
        yield users
    finally:
        kubectl.run("delete", "pod", name, "--wait=false", "--grace-period=1", "--ignore-not-found")


def _pod(kubectl: Kubectl, name: str, model: str, rate: float) -> dict[str, Any]:
    env = {
        "TRAFFIC_HOST": f"{model}.{kubectl.namespace}.svc",
        "TRAFFIC_PATH": f"/v2/models/{model}/infer",
        "TRAFFIC_RATE": str(rate),
        "TRAFFIC_BODIES": "/script/bodies.json",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "users",
                    "image": images()["server"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "/script/client.py"],
                    "env": [{"name": k, "value": v} for k, v in env.items()],
                    "volumeMounts": [{"name": "script", "mountPath": "/script"}],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
            "volumes": [{"name": "script", "configMap": {"name": name}}],
        },
    }


def _totals(raw: dict[str, Any]) -> Totals:
    return Totals(raw["sent"], raw["ok"], raw["failed"], raw["failures"], raw["digests"], raw["p99Milliseconds"])

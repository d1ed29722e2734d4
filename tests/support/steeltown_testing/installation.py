"""Steeltown installed on a cluster as a platform team installs it: manifests, an overlay with image names, an S3 store.

Used by the demo and by the end-to-end tests, so that both try the same thing a user does.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from steeltown_testing.environment import REPOSITORY, kubectl_program
from steeltown_testing.kubectl import Kubectl, Obj, eventually, namespace

OVERLAY = REPOSITORY / "build" / "overlay"
STORE = "s3://steeltown"
SECRET = "steeltown-storage"
KEYS = {
    "AWS_ACCESS_KEY_ID": "steeltown",
    "AWS_SECRET_ACCESS_KEY": "steeltown-try-out",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://s3.steeltown-storage.svc",
    "AWS_ALLOW_HTTP": "true",
}


def images() -> dict[str, str]:
    """Role -> image, as images/build.py wrote them."""
    path = REPOSITORY / "build" / "images.json"
    if not path.exists():
        raise AssertionError("build/images.json is missing: run `make images`")
    found: dict[str, str] = json.loads(path.read_text())
    return found


def write_overlay(names: dict[str, str]) -> Path:
    """A kustomization of manifests/overlays/cluster with these images; what a GitOps repository would hold."""
    env = [
        {"name": f"STEELTOWN_{role.upper()}_IMAGE", "value": names[role]} for role in ("trainer", "checker", "server")
    ]
    container = {"name": "operator", "image": names["operator"], "env": env}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "steeltown-operator", "namespace": "steeltown-system"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    OVERLAY.mkdir(parents=True, exist_ok=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../manifests/overlays/cluster"],
        "patches": [{"patch": json.dumps(patch)}],
    }
    (OVERLAY / "kustomization.yaml").write_text(json.dumps(kustomization, indent=2) + "\n")
    return OVERLAY


def install(kubectl: Kubectl) -> None:
    """Operator and store, ready. Can be repeated; a changed image rolls out."""
    overlay = write_overlay(images())
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(overlay))
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(REPOSITORY / "manifests/storage"))
    for kind in ("mlmodels", "trainingruns"):
        kubectl.wait(f"crd/{kind}.steeltown.dev", "condition=Established")
    for space, name in (("steeltown-system", "steeltown-operator"), ("steeltown-storage", "s3")):
        kubectl.run("-n", space, "rollout", "status", f"deployment/{name}", "--timeout=180s", timeout=200)


@contextmanager
def team(config: str, prefix: str = "team") -> Iterator[Kubectl]:
    """A model team's namespace with the Secret that opens the store."""
    with namespace(config, prefix) as kubectl:
        give_access(kubectl)
        yield kubectl


def give_access(kubectl: Kubectl) -> None:
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": KEYS})


@dataclass(frozen=True)
class Bucket:
    """The store as a data team sees it: put a file, get its address and digest."""

    store: S3Store

    def put(self, key: str, content: bytes) -> dict[str, str]:
        obstore.put(self.store, key, content)
        return {"uri": f"{STORE}/{key}", "digest": "sha256:" + hashlib.sha256(content).hexdigest()}


@contextmanager
def bucket(kubectl: Kubectl) -> Iterator[Bucket]:
    """Reach the cluster's store from here, through a port that kubectl forwards."""
    with forwarded(kubectl, "steeltown-storage", "service/s3", 80) as port:
        url = f"http://127.0.0.1:{port}"
        store = S3Store(
            "steeltown",
            endpoint=url,
            access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region=KEYS["AWS_REGION"],
            client_options={"allow_http": True},
        )
        yield Bucket(store)


@contextmanager
def forwarded(kubectl: Kubectl, space: str, resource: str, port: int) -> Iterator[int]:
    """A local port that leads to `resource`, while the block runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = probe.getsockname()[1]
    command = [
        kubectl_program(),
        "--kubeconfig",
        kubectl.config,
        "-n",
        space,
        "port-forward",
        resource,
        f"{local}:{port}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))
    try:
        eventually(lambda: _open(local) or process.poll() is not None, seconds=20)
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(f"kubectl port-forward ended: {process.stderr.read().decode()}")
        yield local
    finally:
        process.terminate()
        process.wait(timeout=10)


def _open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def condition(obj: Obj, kind: str) -> dict[str, Any]:
    """One condition of an object, {} if it is not there."""
    found = (c for c in (obj.get("status") or {}).get("conditions", []) if c["type"] == kind)
    return next(found, {})

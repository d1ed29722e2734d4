"""The cluster that demo and tests use: kind where Docker answers, else the embedded one.

`python -m steeltown_testing.environment` starts it, builds and loads the images that have changed, and prints the
path of its kubeconfig. `STEELTOWN_KUBECONFIG` names another cluster instead: whoever sets it also brings the
images there (`python3 images/build.py --load none` builds them and names them).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
KIND_KUBECONFIG = REPOSITORY / "build" / "kind.kubeconfig"
KIND_AUDIT_LOG = REPOSITORY / "build" / "kind-audit" / "audit.log"
KIND_NAME = "steeltown"


def start() -> str:
    """A cluster with our images in it; returns the path of its kubeconfig."""
    if given := os.environ.get("STEELTOWN_KUBECONFIG"):
        return given
    if docker_answers():
        return _start_kind()
    tool("tests/cluster", "up")
    tool("images/build.py", "--load", "embedded")
    return tool("tests/cluster", "kubeconfig")


@cache
def kubeconfig(*, control_plane: bool = False) -> str:
    """Of the cluster that is there: the one given, the embedded one, or kind. A control plane needs no pods."""
    if given := os.environ.get("STEELTOWN_KUBECONFIG"):
        return given
    embedded = Path(tool("tests/cluster", "kubeconfig", *(["--control-plane"] if control_plane else [])))
    if embedded.exists() or not KIND_KUBECONFIG.exists():
        return str(embedded)
    return str(KIND_KUBECONFIG)


def audit_log() -> Path:
    """The API server's own record of who did what, in the cluster of `kubeconfig()`."""
    if kubeconfig() == str(KIND_KUBECONFIG):
        return KIND_AUDIT_LOG
    return Path(tool("tests/cluster", "audit-log"))


@cache
def kubectl_program() -> str:
    bundled = Path(tool("tests/cluster", "bin")) / "kubectl"
    return str(bundled) if bundled.exists() else "kubectl"


def docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def tool(path: str, *arguments: str) -> str:
    """One of the repository's own tools: its progress is shown, the last line of its answer returned."""
    command = [sys.executable, str(REPOSITORY / path), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{path} {' '.join(arguments)} failed: see above")
    return (done.stdout.strip().splitlines() or [""])[-1]


def _start_kind() -> str:
    if not shutil.which("kind"):
        sys.exit("Docker answers but kind is missing: install kind, or stop Docker to use the embedded cluster")
    KIND_KUBECONFIG.parent.mkdir(exist_ok=True)
    names = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True).stdout.split()
    if KIND_NAME not in names:
        create = ["kind", "create", "cluster", "--name", KIND_NAME, "--config", "kind-config.yaml", "--wait=120s"]
        subprocess.run(create, cwd=REPOSITORY, check=True)
    export = ["kind", "export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", str(KIND_KUBECONFIG)]
    subprocess.run(export, check=True, capture_output=True)
    tool("images/build.py", "--load", "kind")
    image = tool("tests/cluster", "image", "versitygw", "--engine", "docker")
    subprocess.run(["kind", "load", "docker-image", image, "--name", KIND_NAME], check=True)
    return str(KIND_KUBECONFIG)


if __name__ == "__main__":
    print(start())

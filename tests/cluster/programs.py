"""Builds the cluster's programs from source, because a machine may have Go's module proxy and no image registry.

Each folder under `programs/` is a small Go module whose go.mod and go.sum are committed: Go verifies every source
against go.sum, so what is built is what was reviewed, the upstream version being the one that go.mod requires.
Kubernetes takes minutes to compile, so the results live in the cache, in a folder named after a hash of all that
decides the result (module files, flags, Go version). A build goes to a temporary folder that is renamed when it is
complete: an interrupted build leaves nothing that looks finished, and a lock keeps two commands from building twice.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import layout
from progress import Problem, step

MODULES = Path(__file__).resolve().parent / "programs"
_MINIMUM_GO = (1, 21)  # the first Go that fetches the toolchain a go.mod asks for

_KUBERNETES = {name: f"k8s.io/kubernetes/cmd/{name}" for name in (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "kubeadm",
)}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Module:
    """One folder of `programs/`: the upstream module it requires, and program name -> Go package to build.

    `linker_flags` may use {version}, {major} and {minor} of the upstream version.
    """

    name: str
    upstream: str
    packages: dict[str, str]
    linker_flags: str = ""

    @property
    def folder(self) -> Path:
        return MODULES / self.name


_VERSION = "-X k8s.io/component-base/version"
KUBERNETES = Module(
    "kubernetes",
    "k8s.io/kubernetes",
    _KUBERNETES,
    f"{_VERSION}.gitVersion={{version}} {_VERSION}.gitMajor={{major}} {_VERSION}.gitMinor={{minor}}",
)
ETCD = Module("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"})
COREDNS = Module("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"})
LOCAL_PATH = Module(
    "local-path-provisioner",
    "github.com/rancher/local-path-provisioner",
    {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
    "-X main.VERSION={version}",
)
VERSITYGW = Module(
    "versitygw",
    "github.com/versity/versitygw",
    {"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
    "-X main.Version={version}",
)
PAUSE = Module("pause", "", {"pause": "."})
H2SPEC = Module("h2spec", "github.com/summerwind/h2spec", {"h2spec": "github.com/summerwind/h2spec/cmd/h2spec"})
"""Not of the cluster: the tests of HTTP/2."""

ALL = (KUBERNETES, ETCD, COREDNS, LOCAL_PATH, VERSITYGW, PAUSE)
_SLOW = {"kube-apiserver": "about 4 min on 2 cores, once"}


def version(module: Module) -> str:
    """The upstream version, as the module's go.mod requires it; "1" for a program of our own."""
    if not module.upstream:
        return "1"
    text = (module.folder / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s*{re.escape(module.upstream)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise Problem(f"{module.folder}/go.mod does not require {module.upstream}: run `go mod tidy` there")
    return found.group(1)


def key(module: Module) -> str:
    """Twelve hex digits that change with anything that changes the built programs."""
    digest = hashlib.sha256()
    for path in sorted(module.folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{_linker_flags(module)}\0{go_version(module)}\0{sorted(module.packages.items())}".encode())
    return digest.hexdigest()[:12]


@functools.cache
def folder(module: Module) -> Path:
    """The folder of the module's programs, building them when the cache has none."""
    target = layout.cache_root() / "programs" / f"{module.name}-{version(module)}-{key(module)}"
    if target.is_dir():
        return target
    with _alone(target.parent):
        if not target.is_dir():
            _build(module, target)
    return target


def go_version(module: Module) -> str:
    """The Go version and platform that would build the module (a go.mod may ask for a newer one than is installed)."""
    return _go(["env", "GOVERSION", "GOARCH"], module.folder, capture=True)


def _build(module: Module, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for program, package in module.packages.items():
        with step(f"building {program} {version(module)}", announce=_SLOW.get(program, "")):
            _go(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", _linker_flags(module),
                 "-o", str(part / program), package], module.folder)  # fmt: skip
    part.rename(target)


def _linker_flags(module: Module) -> str:
    full = version(module)
    numbers = [*full.removeprefix("v").split("."), ""]
    return f"-s -w {module.linker_flags.format(version=full, major=numbers[0], minor=numbers[1])}".strip()


def _go(arguments: list[str], where: Path, *, capture: bool = False) -> str:
    environment = os.environ | {"CGO_ENABLED": "0", "GOOS": "linux", "GOWORK": "off"}
    try:
        done = subprocess.run(["go", *arguments], cwd=where, env=environment, text=True, capture_output=True)
    except FileNotFoundError:
        raise Problem("Go is not installed (or not on PATH): install Go 1.26 or later") from None
    if done.returncode != 0:
        _complain_about_old_go()
        raise Problem(f"`go {arguments[0]}` failed in {where}:\n{(done.stderr or done.stdout)[-3000:]}")
    return " ".join(done.stdout.split()) if capture else ""


def _complain_about_old_go() -> None:
    said = subprocess.run(["go", "version"], text=True, capture_output=True).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    if found and (int(found.group(1)), int(found.group(2))) < _MINIMUM_GO:
        raise Problem(f"{said.strip()} is too old to build Kubernetes {version(KUBERNETES)}: install Go 1.26 or later")


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """One builder at a time on this machine; the second waits and then finds the first one's result."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

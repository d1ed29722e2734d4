"""What this machine must have before anything starts: packages, an address, free ports.

Everything is found out, not configured. A missing Debian package is installed; a missing thing that cannot be
installed from here becomes one sentence that names what to install. Ports are checked before anything is touched,
because a port in use means that another cluster runs here and its network rules must not be disturbed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from progress import Problem, step

# Command -> the Debian package that brings it.
_PACKAGE_OF_COMMAND = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "ethtool": "ethtool",
    "socat": "socat",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "mount": "mount",
}
_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_LETTING_GO_SECONDS = 1.0  # a program that was just killed holds its ports a moment longer
_CNI_PACKAGE = "containernetworking-plugins"


def extend_path() -> None:
    """Debian keeps iptables and its like in /usr/sbin, which is not on everybody's PATH."""
    known = os.environ.get("PATH", "").split(":")
    os.environ["PATH"] = ":".join([*known, *(p for p in ("/usr/local/sbin", "/usr/sbin", "/sbin") if p not in known)])


def require_root() -> None:
    """A node makes network bridges, mounts and cgroups, which only root may."""
    if os.geteuid() != 0:
        raise Problem(
            "the full cluster needs root: its node makes network namespaces, mounts and cgroups.\n"
            "Run it with sudo, or use `up --control-plane` (the API without a node), which needs no root."
        )


def install_packages() -> None:
    """Installs the Debian packages that the node lacks; does nothing when all is there."""
    missing = _missing_packages()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Problem(f"this machine has no apt-get; install the equivalents of: {' '.join(missing)}")
    with step(f"installing {' '.join(missing)}"):
        _apt_get("update", "-qq")
        _apt_get("install", "-y", "-qq", "--no-install-recommends", *missing)
    still_missing = _missing_packages()
    if still_missing:
        raise Problem(f"apt-get did not bring {' '.join(still_missing)}; install them by hand")


def cni_folder() -> Path:
    """Where the container network plugins are."""
    for folder in _CNI_FOLDERS:
        if (folder / "bridge").exists():
            return folder
    raise Problem(f"no container network plugins in {', '.join(map(str, _CNI_FOLDERS))}: install {_CNI_PACKAGE}")


def containerd_version() -> str:
    """Such as "1.6.20", or "" when containerd is not installed."""
    try:
        said = subprocess.run(["containerd", "--version"], text=True, capture_output=True).stdout
    except FileNotFoundError:
        return ""
    found = re.search(r" v?(\d+\.\d+\.\d+)", said)
    return found.group(1) if found else ""


def address() -> str | None:
    """This machine's own IPv4 address: that of the default route, else the first that is not loopback."""
    route = _ip("route", "get", "192.0.2.255")
    found = re.search(r"\bsrc (\d+\.\d+\.\d+\.\d+)", route)
    if found and not found.group(1).startswith("127."):
        return found.group(1)
    found = re.search(r"\binet (\d+\.\d+\.\d+\.\d+)", _ip("address", "show", "up", "scope", "global"))
    return found.group(1) if found else None


def busy_ports(ports: Iterable[int]) -> list[int]:
    """Those of the ports that some process listens on, at any address."""
    return [port for port in ports if not _free(port)]


def refuse_busy_ports(ports: Iterable[int]) -> None:
    """Raises when something that is not ours has a port: most likely another Kubernetes cluster."""
    deadline = time.monotonic() + _LETTING_GO_SECONDS
    while (busy := busy_ports(ports)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if busy:
        owners = "\n".join(f"  port {port}: {_owner(port)}" for port in busy)
        raise Problem(
            "refusing to start: another cluster (or program) that this command did not start has the ports\n"
            f"{owners}\nStop it with the tool that started it, or use it through its own kubeconfig."
        )


def _missing_packages() -> list[str]:
    missing = {package for command, package in _PACKAGE_OF_COMMAND.items() if shutil.which(command) is None}
    if not any((folder / "bridge").exists() for folder in _CNI_FOLDERS):
        missing.add(_CNI_PACKAGE)
    return sorted(missing)


def _apt_get(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *arguments], env=environment, text=True, capture_output=True)
    if done.returncode != 0:
        raise Problem(f"`apt-get {' '.join(arguments)}` failed:\n{(done.stderr or done.stdout)[-2000:]}")


def _ip(*arguments: str) -> str:
    try:
        return subprocess.run(["ip", "-4", *arguments], text=True, capture_output=True).stdout
    except FileNotFoundError:
        return ""


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that lingers in TIME_WAIT is free
        try:
            probe.bind(("", port))
            probe.listen(1)  # SO_REUSEADDR lets a bind beside a socket that does not listen succeed
        except OSError:
            return False
    return True


def _owner(port: int) -> str:
    try:
        listing = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], text=True, capture_output=True).stdout
    except FileNotFoundError:
        listing = ""
    found = re.search(r'"([^"]+)",pid=(\d+)', listing)
    return f"{found.group(1)} (pid {found.group(2)})" if found else "a program of another user"

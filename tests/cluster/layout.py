"""Where everything lives and which ports it takes: the two shapes of the cluster as plain values.

The full cluster has a node and runs pods; the control plane alone has none and serves tests that need the API only.
They use different ports, folders and service ranges, so both can run at once. All that a cluster writes is under its
one state folder, and what is expensive to make (programs, wheels) is in a cache that outlives clusters and checkouts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

POD_CIDR = "10.244.0.0/16"
NODE_NAME = "node-1"
NODE_POD_CIDR = "10.244.0.0/24"
BRIDGE = "steel0"
NETWORK_NAME = "steeltown"
CLUSTER_DNS_ADDRESS = "10.96.0.10"

KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248
PROXY_HEALTH_PORT = 10256
PROXY_METRICS_PORT = 10249


@dataclass(frozen=True)
class Layout:
    """One cluster's state folder, ports and ranges."""

    name: str
    state: Path
    has_node: bool
    service_cidr: str
    first_service_address: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    controllers_port: int
    scheduler_port: int

    @property
    def kubeconfig(self) -> Path:
        return self.state / "admin.conf"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def pids(self) -> Path:
        return self.state / "pids"

    @property
    def started(self) -> Path:
        """A marker written when `up` has finished: a folder without it is what an interrupted start left."""
        return self.state / "started"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd" / "run" / "containerd.sock"

    @property
    def ports(self) -> tuple[int, ...]:
        """Every TCP port that the cluster listens on."""
        plane = (self.api_port, self.etcd_port, self.etcd_peer_port, self.controllers_port, self.scheduler_port)
        node = (KUBELET_PORT, KUBELET_HEALTH_PORT, PROXY_HEALTH_PORT, PROXY_METRICS_PORT)
        return plane + node if self.has_node else plane


def cache_root() -> Path:
    """The folder for what is expensive to make; safe to delete, shared by all checkouts of this user."""
    chosen = os.environ.get("STEELTOWN_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "steeltown"


def state_root() -> Path:
    """The folder that holds both clusters' state folders."""
    chosen = os.environ.get("STEELTOWN_STATE")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/steeltown")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state").absolute() / "steeltown"


def full_cluster() -> Layout:
    """One node that runs pods, on the ports that Kubernetes is known by."""
    return Layout(
        name="cluster",
        state=state_root() / "cluster",
        has_node=True,
        service_cidr="10.96.0.0/16",
        first_service_address="10.96.0.1",
        api_port=6443,
        etcd_port=2379,
        etcd_peer_port=2380,
        controllers_port=10257,
        scheduler_port=10259,
    )


def control_plane() -> Layout:
    """The API and its controllers without a node, on loopback."""
    return Layout(
        name="control-plane",
        state=state_root() / "control-plane",
        has_node=False,
        service_cidr="10.97.0.0/16",
        first_service_address="10.97.0.1",
        api_port=16443,
        etcd_port=12379,
        etcd_peer_port=12380,
        controllers_port=20257,
        scheduler_port=20259,
    )

"""What runs in the cluster from the start: access rules, names (CoreDNS) and the default StorageClass.

The manifests are ordinary YAML under `addons/`; the few values that depend on this machine or on a version are filled
in when they are applied.
"""

from __future__ import annotations

import string
from pathlib import Path

import system_images
from controlplane import kubectl
from layout import CLUSTER_DNS_ADDRESS, Layout

_MANIFESTS = Path(__file__).resolve().parent / "addons"
_DEPLOYMENTS = {"kube-system": "coredns", "local-path-storage": "local-path-provisioner"}


def grant_access(cluster: Layout) -> None:
    """Binds the administrators' group; needs the one kubeconfig that has full rights without RBAC."""
    kubectl(cluster.state / "super-admin.conf", "apply", "--server-side", "-f", str(_MANIFESTS / "access.yaml"))


def apply(cluster: Layout) -> None:
    """Applies CoreDNS and the StorageClass; `wait` tells when they serve."""
    manifests = [(_MANIFESTS / name).read_text() for name in ("coredns.yaml", "local-path.yaml")]
    filled = string.Template("---\n".join(manifests)).safe_substitute(_values(cluster))
    kubectl(cluster.kubeconfig, "apply", "--server-side", "-f", "-", stdin=filled)


def wait(cluster: Layout) -> None:
    """Returns when the node is ready and both deployments are available."""
    kubectl(cluster.kubeconfig, "wait", "--for=condition=Ready", "node", "--all", "--timeout=120s")
    for namespace, deployment in _DEPLOYMENTS.items():
        kubectl(cluster.kubeconfig, "rollout", "status", f"deployment/{deployment}", f"--namespace={namespace}",
                "--timeout=120s")  # fmt: skip


def _values(cluster: Layout) -> dict[str, str]:
    return {
        "CLUSTER_DNS_ADDRESS": CLUSTER_DNS_ADDRESS,
        "COREDNS_IMAGE": system_images.STATIC["coredns"].name,
        "LOCAL_PATH_IMAGE": system_images.STATIC["local-path-provisioner"].name,
        "DEBIAN_IMAGE": system_images.DEBIAN,
        "VOLUMES": str(cluster.state / "volumes"),
    }

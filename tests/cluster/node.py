"""The node: containerd, kubelet and kube-proxy, with every file of theirs in the state folder.

The flags that differ from a usual node each have a reason: images cannot be pulled again, so nothing may collect them;
the machine may be a small virtual one without the right to lower oom scores and with the old cgroup hierarchy; and
nothing outside the state folder is configured, so that a stop leaves the machine as it was.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import machine
import probes
import processes
import programs
from layout import (
    BRIDGE,
    CLUSTER_DNS_ADDRESS,
    KUBELET_HEALTH_PORT,
    KUBELET_PORT,
    NETWORK_NAME,
    NODE_NAME,
    NODE_POD_CIDR,
    POD_CIDR,
    PROXY_HEALTH_PORT,
    PROXY_METRICS_PORT,
    Layout,
)
from processes import Started
from progress import Problem

PROGRAMS = ("containerd", "kubelet", "kube-proxy")
PAUSE_IMAGE = "localhost/steeltown/pause:1"
_SOCKET_PATH_LIMIT = 100  # a Unix socket's path may have 107 bytes, and containerd appends ".ttrpc"


def start_containerd(cluster: Layout) -> Started:
    """Starts the container runtime and returns when its socket answers."""
    if len(str(cluster.containerd_socket)) > _SOCKET_PATH_LIMIT:
        raise Problem(f"the state folder's path is too long for a socket; set STEELTOWN_STATE shorter: {cluster.state}")
    folder = cluster.state / "containerd"
    folder.mkdir()
    (folder / "config.toml").write_text(_containerd_config(cluster, machine.cni_folder()))
    networks = cluster.state / "cni"
    networks.mkdir()
    (networks / "10-bridge.conflist").write_text(json.dumps(_network(cluster), indent=2))
    started = processes.start(cluster, "containerd", ["containerd", f"--config={folder / 'config.toml'}"])
    processes.wait_until(
        lambda: probes.socket_ok(cluster.containerd_socket), "containerd's socket", seconds=60, needs=[started]
    )
    return started


def start_kubelet(cluster: Layout, address: str) -> Started:
    """Starts the kubelet, which registers the node."""
    (cluster.state / "resolv.conf").write_text("")  # pods see the cluster's names, not the search list of the machine
    config = cluster.state / "kubelet.yaml"
    config.write_text(_kubelet_config(cluster))
    return processes.start(cluster, "kubelet", [
        str(programs.folder(programs.KUBERNETES) / "kubelet"),
        f"--config={config}",
        f"--kubeconfig={cluster.state / 'kubelet.conf'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={address}",
        f"--root-dir={cluster.state / 'kubelet'}",
        f"--cert-dir={cluster.state / 'kubelet' / 'pki'}",
        "--v=1",
    ])  # fmt: skip


def start_proxy(cluster: Layout) -> Started:
    """Starts kube-proxy in iptables mode (its nftables mode wants a newer nft than Debian 12 has)."""
    config = cluster.state / "kube-proxy.yaml"
    config.write_text(_proxy_config(cluster))
    return processes.start(cluster, "kube-proxy", [
        str(programs.folder(programs.KUBERNETES) / "kube-proxy"), f"--config={config}", "--v=1"
    ])  # fmt: skip


def allow_forwarding() -> None:
    """Pods reach each other and services only when the kernel forwards and bridged packets pass iptables."""
    if shutil.which("modprobe"):  # fails where the modules are built in, which is as good
        subprocess.run(["modprobe", "-a", "br_netfilter", "overlay"], capture_output=True)
    for name in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        path = Path("/proc/sys") / name.replace(".", "/")
        try:
            if path.read_text().strip() != "1":
                path.write_text("1")
        except OSError as error:
            raise Problem(f"cannot set {name}=1 ({error.strerror}), without which pods have no network") from None


def healthy(cluster: Layout) -> dict[str, bool]:
    """Program -> whether it answers that it is well."""
    return {
        "containerd": probes.socket_ok(cluster.containerd_socket),
        "kubelet": probes.http_ok(KUBELET_HEALTH_PORT, "/healthz"),
        "kube-proxy": probes.http_ok(PROXY_HEALTH_PORT, "/healthz"),
    }


def _containerd_config(cluster: Layout, cni: Path) -> str:
    folder = cluster.state / "containerd"
    unused = ("internal.v1.opt", "nri.v1.nri", "snapshotter.v1.aufs", "snapshotter.v1.btrfs",
              "snapshotter.v1.devmapper", "snapshotter.v1.zfs")  # fmt: skip
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{folder / "root"}"
state = "{folder / "run"}"
disabled_plugins = [{", ".join(f'"io.containerd.{name}"' for name in unused)}]

[grpc]
  address = "{cluster.containerd_socket}"

[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE an oom score cannot be lowered, and runc dies trying.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[{cri}.cni]
  bin_dir = "{cni}"
  conf_dir = "{cluster.state / "cni"}"

[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
  Root = "{folder / "runc"}"
"""


def _network(cluster: Layout) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(cluster.state / "cni" / "leases"),
            "ranges": [[{"subnet": NODE_POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": NETWORK_NAME, "plugins": [bridge, ports]}


def _kubelet_config(cluster: Layout) -> str:
    return f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
port: {KUBELET_PORT}
healthzPort: {KUBELET_HEALTH_PORT}
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {cluster.pki / "ca.crt"}}}
authorization: {{mode: Webhook}}
containerRuntimeEndpoint: unix://{cluster.containerd_socket}
podLogsDir: {cluster.logs / "pods"}
volumePluginDir: {cluster.state / "volume-plugins"}
resolvConf: {cluster.state / "resolv.conf"}
clusterDomain: cluster.local
clusterDNS: [{CLUSTER_DNS_ADDRESS}]
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
# An image that is collected cannot be pulled again: collect none, and evict only when the machine is about to stop.
imageGCHighThresholdPercent: 100
evictionHard: {{nodefs.available: "1%", imagefs.available: "1%", memory.available: 100Mi}}
serializeImagePulls: false
maxPods: 200
"""


def _proxy_config(cluster: Layout) -> str:
    return f"""\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {{kubeconfig: {cluster.state / "kube-proxy.conf"}}}
clusterCIDR: {POD_CIDR}
hostnameOverride: {NODE_NAME}
healthzBindAddress: 0.0.0.0:{PROXY_HEALTH_PORT}
metricsBindAddress: 127.0.0.1:{PROXY_METRICS_PORT}
conntrack: {{maxPerCore: 0, min: 0}}  # the kernel's table size is the machine's business
"""

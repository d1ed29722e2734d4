"""etcd, API server, controllers and scheduler: the part that both shapes of the cluster share.

kubeadm makes certificates and kubeconfigs (its phases can be called alone), the programs run as plain processes.
Order matters in one place: controllers and scheduler exit for good when an RBAC object that the API server creates
after its start is not there yet, so they wait for /readyz.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from pathlib import Path

import probes
import processes
import programs
from layout import NODE_NAME, POD_CIDR, Layout
from processes import Started
from progress import Problem

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_HERE = Path(__file__).resolve().parent
_LOOPBACK = "127.0.0.1"
_START_SECONDS = 120.0  # for a machine that is busy with something else; an idle one takes 3


def advertised(cluster: Layout, machine_address: str | None) -> str:
    """The address that the API server says it has.

    Pods reach it there, so the full cluster needs the machine's own. Without a node nobody uses it, but kubeadm
    refuses loopback: a documentation address serves on a machine that has no other.
    """
    if machine_address:
        return machine_address
    if cluster.has_node:
        raise Problem("this machine has no IPv4 address besides loopback: pods could not reach the API server")
    return str(ipaddress.IPv4Address("192.0.2.1"))


def make_certificates(cluster: Layout, address: str) -> None:
    """Certificates in `<state>/pki` and the kubeconfigs in `<state>/*.conf`."""
    config = cluster.state / "kubeadm.yaml"
    config.write_text(_kubeadm_config(cluster, address))
    _kubeadm("init", "phase", "certs", "all", "--config", str(config))
    _kubeadm("init", "phase", "kubeconfig", "all", "--config", str(config), "--kubeconfig-dir", str(cluster.state))
    for path in cluster.state.glob("*.conf"):  # controllers on this machine use the same endpoint as everybody
        path.write_text(re.sub(r"server: https://\S+", f"server: {_endpoint(cluster, address)}", path.read_text()))
    proxy = _kubeadm("kubeconfig", "user", "--config", str(config), "--client-name", "system:kube-proxy")
    (cluster.state / "kube-proxy.conf").write_text(
        re.sub(r"server: https://\S+", f"server: {_endpoint(cluster, address)}", proxy)
    )
    (cluster.state / "kube-proxy.conf").chmod(0o600)


def start_etcd(cluster: Layout) -> Started:
    """Starts the store. It does not wait for the disk: this cluster's data is not meant to survive the machine."""
    client, peer = f"http://{_LOOPBACK}:{cluster.etcd_port}", f"http://{_LOOPBACK}:{cluster.etcd_peer_port}"
    return processes.start(cluster, "etcd", [
        str(programs.folder(programs.ETCD) / "etcd"),
        f"--data-dir={cluster.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        "--unsafe-no-fsync",
    ])  # fmt: skip


def compact(cluster: Layout) -> None:
    """Drops the history that the store keeps, as an API server does every five minutes.

    Objects stay; a list continued from an older version, or a watch resumed there, is answered 410 Expired.
    """
    try:
        newest = probes.post_json(cluster.etcd_port, "/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        probes.post_json(cluster.etcd_port, "/v3/kv/compaction", {"revision": newest})
    except OSError as error:
        raise Problem(f"etcd of the {cluster.name} did not compact: {error}") from error


def start_api_server(cluster: Layout, address: str) -> Started:
    """Starts the API server; `wait_for_api` tells when it answers."""
    pki = cluster.pki
    where = [] if cluster.has_node else [f"--bind-address={_LOOPBACK}", "--endpoint-reconciler-type=none"]
    shutil.copyfile(_HERE / "audit-policy.yaml", cluster.state / "audit-policy.yaml")
    return processes.start(cluster, "kube-apiserver", [
        _program("kube-apiserver"),
        f"--etcd-servers=http://{_LOOPBACK}:{cluster.etcd_port}",
        f"--advertise-address={address}",
        f"--secure-port={cluster.api_port}",
        *where,
        f"--service-cluster-ip-range={cluster.service_cidr}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-allowed-names=front-proxy-client",
        f"--audit-policy-file={cluster.state / 'audit-policy.yaml'}",
        f"--audit-log-path={cluster.logs / 'audit.log'}",
        "--audit-log-maxsize=500",
        "--audit-log-maxbackup=1",
        "--v=1",
    ])  # fmt: skip


def wait_for_api(cluster: Layout, needs: list[Started]) -> None:
    """Returns when the API server is ready to serve."""
    processes.wait_until(
        lambda: probes.https_ok(cluster.api_port, "/readyz"),
        "the API server answering /readyz",
        seconds=_START_SECONDS,
        needs=needs,
    )


def start_controllers(cluster: Layout) -> Started:
    """Starts kube-controller-manager; only once the API server is ready."""
    config, pki = cluster.state / "controller-manager.conf", cluster.pki
    nodes = ["--allocate-node-cidrs=true", f"--cluster-cidr={POD_CIDR}"] if cluster.has_node else []
    return processes.start(cluster, "kube-controller-manager", [
        _program("kube-controller-manager"),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={_LOOPBACK}",
        f"--secure-port={cluster.controllers_port}",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials",
        f"--flex-volume-plugin-dir={cluster.state / 'volume-plugins'}",
        f"--service-cluster-ip-range={cluster.service_cidr}",
        *nodes,
        "--leader-elect=false",
        "--v=1",
    ])  # fmt: skip


def start_scheduler(cluster: Layout) -> Started:
    """Starts kube-scheduler; only once the API server is ready."""
    config = cluster.state / "scheduler.conf"
    return processes.start(cluster, "kube-scheduler", [
        _program("kube-scheduler"),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={_LOOPBACK}",
        f"--secure-port={cluster.scheduler_port}",
        "--leader-elect=false",
        "--v=1",
    ])  # fmt: skip


def healthy(cluster: Layout) -> dict[str, bool]:
    """Program -> whether it answers that it is well."""
    return {
        "etcd": probes.http_ok(cluster.etcd_port, "/health"),
        "kube-apiserver": probes.https_ok(cluster.api_port, "/readyz"),
        "kube-controller-manager": probes.https_ok(cluster.controllers_port, "/healthz"),
        "kube-scheduler": probes.https_ok(cluster.scheduler_port, "/healthz"),
    }


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    """Runs kubectl and returns what it prints; a refusal becomes a Problem with its message."""
    command = [_program("kubectl"), f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, text=True, capture_output=True)
    if done.returncode != 0:
        raise Problem(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _program(name: str) -> str:
    return str(programs.folder(programs.KUBERNETES) / name)


def _endpoint(cluster: Layout, address: str) -> str:
    return f"https://{address if cluster.has_node else _LOOPBACK}:{cluster.api_port}"


def _kubeadm(*arguments: str) -> str:
    done = subprocess.run([_program("kubeadm"), *arguments], text=True, capture_output=True)
    if done.returncode != 0:
        raise Problem(f"kubeadm {' '.join(arguments[:4])} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _kubeadm_config(cluster: Layout, address: str) -> str:
    return f"""\
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {programs.version(programs.KUBERNETES)}
certificatesDir: {cluster.pki}
controlPlaneEndpoint: {_endpoint(cluster, address).removeprefix("https://")}
encryptionAlgorithm: ECDSA-P256
networking: {{serviceSubnet: {cluster.service_cidr}, podSubnet: {POD_CIDR}}}
apiServer: {{certSANs: ["{_LOOPBACK}", localhost, "{cluster.first_service_address}"]}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: {cluster.api_port}}}
nodeRegistration: {{name: {NODE_NAME}, criSocket: "unix://{cluster.containerd_socket}"}}
"""

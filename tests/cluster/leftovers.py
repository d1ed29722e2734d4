"""Takes a cluster away: after `down`, after a crash and after a reboot alike, so that one way is always the tested one.

Everything is found by what marks it as ours: programs by their records, containers by their ids under the state
folder, mounts by their place, the bridge by its name, packet filter rules by the chains that kube-proxy, kubelet and
our network made. Containers go first, since they hold the rest. The state folder goes last, and only when nothing is
mounted in it any more: deleting through a mount would delete what is mounted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import machine
import processes
from layout import BRIDGE, KUBELET_PORT, NETWORK_NAME, PROXY_HEALTH_PORT, Layout
from progress import Problem

_CGROUPS = Path("/sys/fs/cgroup")
_CONTAINER_LOG_LINKS = Path("/var/log/containers")  # the kubelet makes links here whatever its settings say
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")  # and a socket here
_SETTLE_SECONDS = 10.0


def stop_programs(cluster: Layout) -> None:
    """Ends everything that runs: containers first, so that nothing restarts them, then the control plane."""
    alive = processes.alive(cluster)
    processes.stop(started for name, started in alive.items() if name in ("kubelet", "kube-proxy"))
    if cluster.has_node:
        processes.stop(started for name, started in alive.items() if name == "containerd")
        _end_containers(cluster)
    processes.stop(alive.values())


def remove_traces(cluster: Layout) -> None:
    """Removes what stopped programs leave in the kernel and on disk. Call `stop_programs` first."""
    if not cluster.state.exists():
        return
    if cluster.has_node:
        _unmount_below(cluster.state)
        _remove_bridge()
        if not machine.busy_ports((KUBELET_PORT, PROXY_HEALTH_PORT)):  # else the rules are another cluster's
            for program in ("iptables", "ip6tables"):
                _remove_rules(program)
            _remove_cgroups()
            _remove_device_socket()
        _remove_log_links(cluster)
    if _mounts_below(cluster.state):
        raise Problem(f"still mounted, so not deleted: {', '.join(map(str, _mounts_below(cluster.state)))}")
    shutil.rmtree(cluster.state)


def _end_containers(cluster: Layout) -> None:
    """Kills the processes of our containers, then the shims that watch them, until none is left."""
    run = cluster.state / "containerd" / "run"
    tasks = run / "io.containerd.runtime.v2.task" / "k8s.io"
    bundles = [path for path in tasks.iterdir() if path.is_dir()] if tasks.is_dir() else []
    ids = {bundle.name for bundle in bundles}
    deadline = time.monotonic() + _SETTLE_SECONDS
    while pids := _pids_in_containers(ids) + _shims(cluster):
        if time.monotonic() > deadline:
            raise Problem(f"containers do not end: pids {pids}")
        for pid in pids:
            processes.send(pid, signal.SIGKILL)
        time.sleep(0.05)
    for bundle in bundles:
        _remove_shim_socket(bundle)


def _pids_in_containers(ids: set[str]) -> list[int]:
    """Processes whose cgroup is named after one of the containers: its first process and all it ever forked."""
    return [pid for pid in _all_pids() if ids.intersection(_cgroup_names(pid)) and not processes.ended(pid)]


def _cgroup_names(pid: int) -> list[str]:
    return re.split(r"[/\n]", _read(Path(f"/proc/{pid}/cgroup")))


def _shims(cluster: Layout) -> list[int]:
    socket = str(cluster.containerd_socket)
    return [pid for pid in _all_pids() if _is_shim(processes.command_line(pid), socket)]


def _is_shim(command: list[str], socket: str) -> bool:
    return bool(command) and "containerd-shim" in Path(command[0]).name and socket in command


def _remove_shim_socket(bundle: Path) -> None:
    """A shim's socket has a fixed place outside the state folder; a killed shim leaves it behind."""
    address = _read(bundle / "address").strip().removeprefix("unix://")
    if address:
        Path(address).unlink(missing_ok=True)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _mounts_below(folder: Path) -> list[Path]:
    """Mount points in the folder, innermost first."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    plain = [re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), place) for place in places]
    return sorted((Path(p) for p in plain if p.startswith(f"{folder}/")), key=lambda p: len(p.parts), reverse=True)


def _unmount_below(folder: Path) -> None:
    for _ in range(3):  # mounts may be stacked on one place
        for place in _mounts_below(folder):
            subprocess.run(["umount", "--lazy", "--no-canonicalize", str(place)], capture_output=True)


def _remove_bridge() -> None:
    if Path("/sys/class/net", BRIDGE).exists():
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)


def _remove_rules(program: str) -> None:
    """Deletes our chains and the rules that jump to them, and leaves every other rule in place."""
    if shutil.which(f"{program}-save") is None:
        return
    saved = subprocess.run([f"{program}-save"], text=True, capture_output=True).stdout
    for table, lines in _tables(saved).items():
        commands = _deletions(lines)
        if commands:
            script = "\n".join([f"*{table}", *commands, "COMMIT", ""])
            subprocess.run([f"{program}-restore", "--noflush"], input=script, text=True, capture_output=True)


def _tables(saved: str) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            tables[line[1:]] = lines = []
        elif line.startswith((":", "-A ")):
            lines.append(line)
    return tables


def _deletions(lines: list[str]) -> list[str]:
    """iptables-restore commands that take our chains out of one table: jumps to them, their rules, themselves."""
    ours = _our_chains(lines)
    jumps = [
        f"-D {line.removeprefix('-A ')}"
        for line in lines
        if line.startswith("-A ") and line.split()[1] not in ours and ours.intersection(line.split())
    ]
    return [*jumps, *(f"-F {chain}" for chain in sorted(ours)), *(f"-X {chain}" for chain in sorted(ours))]


def _our_chains(lines: list[str]) -> set[str]:
    chains = {line.split()[0][1:] for line in lines if line.startswith(":")}
    comment = f'name: \\"{NETWORK_NAME}\\"'
    network = {line.split()[1] for line in lines if line.startswith("-A CNI-") and comment in line}
    return {chain for chain in chains if chain.startswith("KUBE-")} | network


def _remove_cgroups() -> None:
    """Removes the kubelet's cgroup trees; a cgroup that still has a process stays (rmdir refuses)."""
    for top in (*_CGROUPS.glob("kubepods"), *_CGROUPS.glob("*/kubepods")):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _remove_log_links(cluster: Layout) -> None:
    if not _CONTAINER_LOG_LINKS.is_dir():
        return
    for link in _CONTAINER_LOG_LINKS.iterdir():
        if link.is_symlink() and str(link.readlink()).startswith(f"{cluster.state}/"):
            link.unlink()
    with contextlib.suppress(OSError):  # the folder may be somebody's whose links are in it
        _CONTAINER_LOG_LINKS.rmdir()


def _remove_device_socket() -> None:
    (_DEVICE_PLUGINS / "kubelet.sock").unlink(missing_ok=True)
    for folder in (_DEVICE_PLUGINS, _DEVICE_PLUGINS.parent):
        with contextlib.suppress(OSError):  # not there, or not empty and so not only ours
            folder.rmdir()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

"""Up, down and status: the order in which the parts come and go.

`up` leads from any state to a running cluster. Healthy: nothing to do. Running but not healthy: it waits, since a busy
machine answers late, and only then starts afresh. Left over from a crash: cleared away first. Somebody else's: refused
before anything is touched. Work that waits for different things (compiling, downloading, starting) runs side by side.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import addons
import controlplane
import leftovers
import machine
import node
import processes
import programs
import system_images
from layout import Layout
from progress import Problem, say, step

_PATIENCE_SECONDS = 30.0


def up(cluster: Layout) -> None:
    """Starts the cluster, or returns at once when it runs."""
    if cluster.has_node:
        machine.require_root()
    with _alone(cluster):
        if _well(cluster):
            say(f"{cluster.name}: already up")
            return
        if cluster.has_node:
            machine.install_packages()
        with step(f"{cluster.name}: up, all in all"):
            _prepare(cluster)
            _clear(cluster)
            try:
                _start(cluster)
            except BaseException:
                leftovers.stop_programs(cluster)  # logs stay in the state folder until the next up or down
                raise


def down(cluster: Layout) -> None:
    """Stops what `up` started and removes all that it left."""
    if cluster.has_node:
        machine.require_root()
    with _alone(cluster):
        if not cluster.state.exists():
            say(f"{cluster.name}: not up")
            return
        with step(f"{cluster.name}: down"):
            leftovers.stop_programs(cluster)
            leftovers.remove_traces(cluster)


def status(cluster: Layout) -> tuple[bool, str]:
    """Whether the cluster is healthy, and a table of its programs for people."""
    answers = _answers(cluster)
    records = processes.recorded(cluster)
    rows = [_row(name, records.get(name), answered) for name, answered in answers.items()]
    healthy = cluster.started.exists() and all(answers.values()) and all(name in records for name in answers)
    lines = [f"{cluster.name}: {'healthy' if healthy else 'not healthy'}", *rows, f"  kubeconfig {cluster.kubeconfig}"]
    return healthy, "\n".join(lines)


def require_up(cluster: Layout) -> None:
    """Raises unless `up` has finished and the container runtime answers."""
    if not cluster.started.exists() or not node.healthy(cluster)["containerd"]:
        raise Problem(f"the {cluster.name} is not up: start it with `python3 tests/cluster up`")


def _prepare(cluster: Layout) -> None:
    """Makes what is missing in the caches: programs, and the images that a node needs."""
    if not cluster.has_node:
        _build_control_plane()
        return
    with ThreadPoolExecutor() as pool:
        debian = pool.submit(system_images.make_debian)  # waits for the network while the compiler has the processors
        _build_control_plane()
        debian.result()
    system_images.make_all()


def _build_control_plane() -> None:
    programs.folder(programs.KUBERNETES)
    programs.folder(programs.ETCD)


def _clear(cluster: Layout) -> None:
    """Makes room: our own remains go, and a port that is still taken afterwards is somebody else's."""
    if cluster.state.exists():
        say(f"{cluster.name}: clearing what an earlier start left")
    leftovers.stop_programs(cluster)
    machine.refuse_busy_ports(cluster.ports)
    leftovers.remove_traces(cluster)


def _start(cluster: Layout) -> None:
    cluster.state.mkdir(parents=True)
    cluster.state.chmod(0o755)
    address = controlplane.advertised(cluster, machine.address())
    with ThreadPoolExecutor() as pool:
        loaded = pool.submit(_start_runtime, cluster) if cluster.has_node else None
        with step("starting the control plane"):
            _start_control_plane(cluster, address)
        if loaded:
            with step("starting the node"):
                _start_node(cluster, address, loaded)
    cluster.started.touch()


def _start_runtime(cluster: Layout) -> None:
    """Starts containerd and fills it, so that no pod ever asks for an image that is not there yet."""
    node.allow_forwarding()
    node.start_containerd(cluster)
    system_images.load(cluster, system_images.make_all())


def _start_control_plane(cluster: Layout, address: str) -> None:
    etcd = controlplane.start_etcd(cluster)
    controlplane.make_certificates(cluster, address)
    api_server = controlplane.start_api_server(cluster, address)
    controlplane.wait_for_api(cluster, [etcd, api_server])
    started = [controlplane.start_controllers(cluster), controlplane.start_scheduler(cluster)]
    addons.grant_access(cluster)
    processes.wait_until(
        lambda: all(controlplane.healthy(cluster).values()), "a healthy control plane", seconds=60, needs=started
    )


def _start_node(cluster: Layout, address: str, images_loaded: Future[None]) -> None:
    processes.wait_until(  # the kubelet exits when it finds no runtime
        lambda: images_loaded.done() or node.healthy(cluster)["containerd"], "the container runtime", seconds=60
    )
    started = [node.start_proxy(cluster), node.start_kubelet(cluster, address)]
    images_loaded.result()
    addons.apply(cluster)
    processes.wait_until(lambda: all(node.healthy(cluster).values()), "a healthy node", seconds=60, needs=started)
    addons.wait(cluster)


def _well(cluster: Layout) -> bool:
    """Whether the cluster is up; patient with one whose programs all run but do not answer."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while cluster.started.exists():
        if all(_answers(cluster).values()):
            return True
        dead = [name for name, started in processes.recorded(cluster).items() if not started.alive()]
        if dead or time.monotonic() > deadline:
            say(f"{cluster.name}: {', '.join(dead) or 'something'} {'ended' if dead else 'does not answer'}")
            return False
        time.sleep(0.5)
    return False


def _answers(cluster: Layout) -> dict[str, bool]:
    """Program -> whether our own process runs and says that it is well."""
    alive = processes.alive(cluster)
    if not alive:
        names = (*controlplane.PROGRAMS, *(node.PROGRAMS if cluster.has_node else ()))
        return dict.fromkeys(names, False)
    answers = controlplane.healthy(cluster) | (node.healthy(cluster) if cluster.has_node else {})
    return {name: well and name in alive for name, well in answers.items()}


def _row(name: str, started: processes.Started | None, answered: bool) -> str:
    if started is None or not started.alive():
        state = "not running"
    else:
        state = f"pid {started.pid}, {'well' if answered else 'does not answer (yet)'}"
    return f"  {name:<24} {_version(name):<10} {state}"


def _version(name: str) -> str:
    if name == "containerd":
        return machine.containerd_version()
    return programs.version(programs.ETCD if name == "etcd" else programs.KUBERNETES)


@contextmanager
def _alone(cluster: Layout) -> Iterator[None]:
    """One command at a time for a cluster; the lock outlives the state folder that commands make and remove."""
    cluster.state.parent.mkdir(parents=True, exist_ok=True)
    with cluster.state.with_name(f".{cluster.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

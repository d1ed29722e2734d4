"""Copies an image from buildah's store into containerd, and of a changed image only what changed.

Role images share most of their hundreds of megabytes, and a change of code makes a few small layers. For such an image
buildah writes into an OCI layout in which every layer that containerd has already stands as an empty file of the right
name and size (sparse, so it takes neither time nor disk): buildah takes these for copied and writes the new layers
only. An image that is new as a whole goes through a pipe, uncompressed, which is faster and gives its layers the names
by which they are recognised next time.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from layout import Layout
from progress import Problem

_FEW_LAYERS = 3  # what a change of code makes: two copies of sources and their bytecode


def copy(cluster: Layout, name: str, environment: dict[str, str]) -> None:
    """Brings the image into containerd under the same name; `environment` is what buildah needs."""
    sizes = _contents(cluster)
    inspect = ["buildah", "inspect", "--type=image", "--format={{range .OCIv1.RootFS.DiffIDs}}{{.}} {{end}}", name]
    layers = _run(inspect, environment).split()
    present = {layer: sizes[layer] for layer in layers if layer in sizes}
    if present and len(layers) - len(present) <= _FEW_LAYERS:
        _copy_changes(cluster, name, present, environment)
    else:
        _copy_all(cluster, name, environment)


def ctr(cluster: Layout) -> list[str]:
    """The start of a ctr command that speaks to the cluster's containerd about the kubelet's images."""
    return ["ctr", f"--address={cluster.containerd_socket}", "--namespace=k8s.io"]


def _copy_all(cluster: Layout, name: str, environment: dict[str, str]) -> None:
    export = ["buildah", "push", "--quiet", name, f"docker-archive:/dev/stdout:{name}"]
    with subprocess.Popen(export, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as exporting:
        importing = [*ctr(cluster), "images", "import", "-"]
        imported = subprocess.run(importing, stdin=exporting.stdout, capture_output=True)
        if exporting.stdout:
            exporting.stdout.close()  # or an export whose reader has failed would wait for ever
        said = exporting.stderr.read() if exporting.stderr else b""
    if exporting.returncode or imported.returncode:
        raise Problem(f"copying {name} into the cluster failed: {(said + imported.stderr).decode().strip()[-2000:]}")


def _copy_changes(cluster: Layout, name: str, present: dict[str, int], environment: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=cluster.state) as folder:
        image, archive = Path(folder) / "image", Path(folder) / "image.tar"
        stand_ins = {_stand_in(image / "blobs" / "sha256", layer, size) for layer, size in present.items()}
        _run(["buildah", "push", "--quiet", name, f"oci:{image}:{name}"], environment)
        with tarfile.open(archive, "w") as tar:
            for path in image.rglob("*"):
                if path.is_file() and path not in stand_ins:
                    tar.add(path, arcname=str(path.relative_to(image)))
        _run([*ctr(cluster), "images", "import", str(archive)])


def _stand_in(folder: Path, layer: str, size: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / layer.removeprefix("sha256:")
    with path.open("wb") as file:
        file.truncate(size)
    return path


def _contents(cluster: Layout) -> dict[str, int]:
    """Digest -> size in bytes of everything that containerd stores."""
    raw = _run([*ctr(cluster), "content", "ls", "--quiet"]).split()
    store = cluster.state / "containerd" / "root" / "io.containerd.content.v1.content" / "blobs"
    paths = {digest: store / digest.replace(":", "/") for digest in raw}
    return {digest: path.stat().st_size for digest, path in paths.items() if path.exists()}


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    if done.returncode != 0:
        raise Problem(f"`{' '.join(command[:4])} ...` failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout

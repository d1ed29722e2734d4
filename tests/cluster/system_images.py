"""The images that the cluster itself needs, made here because there may be no image registry to pull them from.

Most hold one static program from `programs/` and nothing else. The base image `debian:trixie-slim` is debootstrapped
from the machine's own package mirror under the name that it has on Docker Hub, so that a Containerfile that builds on
it works unchanged where Docker Hub is at hand. Every image carries a label with a hash of what it was made from: the
same hash means that there is nothing to do, in the image store and in the cluster alike.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import programs
import transfer
from layout import Layout
from progress import Problem, step

DEBIAN = "docker.io/library/debian:trixie-slim"
_SUITE = "trixie"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LABEL = "dev.steeltown.inputs"
_IMAGE_ID_LABEL = "dev.steeltown.image-id"

# What debian:*-slim leaves out, and what belongs to the machine that ran debootstrap.
_LEFT_OUT = (
    "var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*.log", "var/log/apt", "usr/share/doc/*", "usr/share/man/*",
    "usr/share/info/*", "usr/share/locale/*", "etc/apt/sources.list", "etc/resolv.conf", "etc/hostname",
)  # fmt: skip
_DPKG_CONFIG = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
"""
_APT_CONFIG = """\
APT::Install-Recommends "false";
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
"""


@dataclass(frozen=True, eq=False)
class StaticImage:
    """An image with one static program as its entry point and an empty /tmp."""

    module: programs.Module
    user: str = "65532:65532"

    @property
    def program(self) -> str:
        return next(iter(self.module.packages))

    @property
    def name(self) -> str:
        return f"localhost/steeltown/{self.module.name}:{programs.version(self.module)}"


STATIC = {image.module.name: image for image in (
    StaticImage(programs.PAUSE),
    StaticImage(programs.COREDNS, user="0:0"),  # binds port 53: root with that one capability, as upstream runs it
    StaticImage(programs.LOCAL_PATH),
    StaticImage(programs.VERSITYGW),
)}  # fmt: skip


def make_all() -> list[str]:
    """Makes what is missing in buildah's store; returns the images that a cluster starts with, soonest needed first."""
    return [*(make_static(image) for image in STATIC.values()), make_debian()]


def make_static(image: StaticImage, engine: str = "buildah") -> str:
    """Makes a static program's image with buildah or docker, unless the store has it; returns its name."""
    binary = programs.folder(image.module) / image.program
    inputs = hashlib.sha256(f"{binary.parent.name}\0{image.user}\0".encode()).hexdigest()[:12]
    if _label(engine, image.name) == inputs:
        return image.name
    with step(f"making image {image.name}"), tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "rootfs" / "tmp").mkdir(parents=True)
        (context / "rootfs" / "tmp").chmod(0o1777)
        shutil.copy2(binary, context / "rootfs" / image.program)
        (context / "Containerfile").write_text(
            "FROM scratch\n"
            "COPY rootfs/ /\n"
            f'LABEL {_LABEL}="{inputs}"\n'
            'ENV PATH="/"\n'
            f"USER {image.user}\n"
            f'ENTRYPOINT ["/{image.program}"]\n'
        )
        _build(engine, image.name, context)
    return image.name


def make_debian() -> str:
    """Makes the base image in buildah's store, unless it is there; returns its name."""
    recipe = hashlib.sha256("\0".join([_SUITE, *_LEFT_OUT, _DPKG_CONFIG, _APT_CONFIG]).encode()).hexdigest()[:12]
    if _label("buildah", DEBIAN) == recipe:
        return DEBIAN
    mirrors = _debian_mirrors()
    if not mirrors:
        return _pull_debian()
    with step(f"making image {DEBIAN}", announce="about 1 min, once"), tempfile.TemporaryDirectory() as folder:
        root, context = Path(folder) / "root", Path(folder) / "context"
        context.mkdir()
        _debootstrap(root, mirrors[0])
        _slim(root, mirrors)
        with tarfile.open(context / "root.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            tar.add(root, arcname=".")  # a tar keeps owners and modes, which COPY would flatten
        (context / "Containerfile").write_text(
            f'FROM scratch\nADD root.tar /\nLABEL {_LABEL}="{recipe}"\nCMD ["bash"]\n'
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        )
        _build("buildah", DEBIAN, context)
    return DEBIAN


def load(cluster: Layout, names: list[str]) -> None:
    """Copies images from buildah's store into the cluster, leaving out those that are there already."""
    present = _loaded(cluster)
    for name in names:
        image_id = _inspect("buildah", name, "id")
        if not image_id:
            raise Problem(f"buildah's store has no image {name}: build it first (`buildah images` lists what there is)")
        if present.get(name) != image_id:
            with step(f"loading {name}"):
                transfer.copy(cluster, name, _environment())
                _run(*transfer.ctr(cluster), "images", "label", name, f"{_IMAGE_ID_LABEL}={image_id}")


def _loaded(cluster: Layout) -> dict[str, str]:
    """Image name -> id in buildah's store, of the images in the cluster that came from there."""
    found = {}
    for line in _run(*transfer.ctr(cluster), "images", "ls").splitlines()[1:]:
        name, *_, labels = line.split()
        pairs = dict(pair.partition("=")[::2] for pair in labels.split(","))
        if _IMAGE_ID_LABEL in pairs:
            found[name] = pairs[_IMAGE_ID_LABEL]
    return found


def _debian_mirrors() -> list[str]:
    """Repository addresses that this machine's apt uses for its own Debian release: the archive first, then others.

    Empty on a machine that is not Debian, whose mirror has no trixie.
    """
    if shutil.which("apt-get") is None or shutil.which("debootstrap") is None:
        return []
    release = _os_release()
    if release.get("ID") != "debian":
        return []
    codename = release.get("VERSION_CODENAME", "")
    listing = _run("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages")
    by_release = dict(reversed([line.split(maxsplit=1) for line in listing.splitlines() if " " in line]))
    wanted = (codename, f"{codename}-security")
    return [by_release[name] for name in wanted if name in by_release] if codename in by_release else []


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _pull_debian() -> str:
    with step(f"pulling {DEBIAN}"):
        try:
            _run("buildah", "pull", "--quiet", DEBIAN)
        except Problem as error:
            raise Problem(
                f"cannot make {DEBIAN}: apt here has no Debian archive to debootstrap from, and pulling failed: {error}"
            ) from error
    return DEBIAN


def _debootstrap(root: Path, mirror: str) -> None:
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--keyring={_KEYRING}", _SUITE, str(root), mirror],
        text=True,
        capture_output=True,
    )
    if done.returncode != 0:
        raise Problem(f"debootstrap from {mirror} failed:\n{(done.stderr + done.stdout)[-2000:]}")


def _slim(root: Path, mirrors: list[str]) -> None:
    for pattern in _LEFT_OUT:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(_DPKG_CONFIG)
    (root / "etc/apt/apt.conf.d/docker-slim").write_text(_APT_CONFIG)
    suites = [f"{_SUITE} {_SUITE}-updates", f"{_SUITE}-security"]
    stanzas = [
        f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n"
        for mirror, suite in zip(mirrors, suites, strict=False)
    ]
    (root / "etc/apt/sources.list.d/debian.sources").write_text("\n".join(stanzas))


def _build(engine: str, name: str, context: Path) -> None:
    _run(engine, "build", "--quiet", "--tag", name, "--file", str(context / "Containerfile"), str(context))


def _label(engine: str, name: str) -> str:
    return _inspect(engine, name, "label")


def _inspect(engine: str, name: str, what: str) -> str:
    """An image's id or inputs label, or "" when the store has no such image."""
    if engine == "buildah":
        paths = {"id": "{{.FromImageID}}", "label": f'{{{{index .OCIv1.Config.Labels "{_LABEL}"}}}}'}
        command = ["buildah", "inspect", "--type=image", f"--format={paths[what]}", name]
    else:
        paths = {"id": "{{.Id}}", "label": f'{{{{index .Config.Labels "{_LABEL}"}}}}'}
        command = [engine, "image", "inspect", f"--format={paths[what]}", name]
    done = subprocess.run(command, env=_environment(), text=True, capture_output=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(*command: str) -> str:
    done = subprocess.run(command, env=_environment(), text=True, capture_output=True)
    if done.returncode != 0:
        raise Problem(f"`{' '.join(command[:4])} ...` failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def _environment() -> dict[str, str]:
    # chroot isolation: a build needs no container runtime and none of the rights that one would need
    return {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot"} | dict(os.environ)

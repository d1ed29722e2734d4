"""Builds the images of the roles (operator, trainer, checker, server) and brings them into a cluster.

    python3 images/build.py [--load embedded|kind|none] [ROLE ...]

An image is named after what goes into it: the tag is a hash of its Containerfile, its requirements, the files listed in
its `inputs` and the image below it. So nothing is built when nothing changed, a changed image has a new name (which is
what makes Kubernetes roll it out), and one that is already there needs no asking when it was made.

Wheels are downloaded on the host, once for each requirements file, and mounted into the build: a build then needs no
package index and no credentials, hashes in the requirements decide what is accepted, and a change of code does not
install anything again. Builds run one after the other, since compiling bytecode uses all processors, while the
downloads of the next images go on. Only the standard library is used, since this runs before any environment is made.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "tests" / "cluster"
DEBIAN = "docker.io/library/debian:trixie-slim"
PYTHON_VERSION = "3.13"  # what DEBIAN has
_NEWEST_GLIBC = 41  # 2.41, what DEBIAN has
_PREFIX = "localhost/steeltown"
_FIXED_TIME = 1_600_000_000  # every staged file's, so that a fresh checkout finds the layers of an old one


class Problem(Exception):
    """The build cannot go on; the message says what the reader should do."""


@dataclass(frozen=True)
class Engine:
    """What builds and stores images: buildah for the embedded cluster, docker for kind."""

    command: str

    def image_id(self, name: str) -> str:
        """The image's id, or "" when the store has no image of that name."""
        inspect = {
            "buildah": ["buildah", "inspect", "--type=image", "--format={{.FromImageID}}", name],
            "docker": ["docker", "image", "inspect", "--format={{.Id}}", name],
        }
        done = subprocess.run(inspect[self.command], env=_environment(), text=True, capture_output=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    def build(self, name: str, context: Path, **arguments: str) -> None:
        """Builds `Containerfile` of the context; earlier builds' layers are used again where they still fit."""
        own = ["--layers", "--network=host"] if self.command == "buildah" else []
        given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        _run([self.command, "build", "--quiet", *own, *given, f"--tag={name}",
              f"--file={context / 'Containerfile'}", str(context)])  # fmt: skip

    def provide_debian(self) -> None:
        """Makes sure that the store has the base image."""
        if self.command == "buildah":
            _run([sys.executable, str(CLUSTER), "image", "debian"], show=True)
        elif not self.image_id(DEBIAN):
            _run(["docker", "pull", "--quiet", DEBIAN])


@dataclass(frozen=True)
class Role:
    """A folder under `images/` with a Containerfile, a list of inputs and hash-pinned requirements."""

    name: str
    folder: Path

    @property
    def containerfile(self) -> Path:
        return self.folder / "Containerfile"

    @property
    def requirements(self) -> Path:
        return self.folder / "requirements.txt"

    def staged(self) -> dict[str, Path]:
        """Path in the build context -> file; wheels come beside these."""
        files = {"Containerfile": self.containerfile, f"images/{self.name}/requirements.txt": self.requirements}
        for line in (self.folder / "inputs").read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                files |= _files_below(line.strip(), f"{self.folder / 'inputs'}")
        return files


def build(roles: list[Role], engine: Engine) -> dict[str, str]:
    """Builds what is missing and returns role -> image name."""
    with _alone(), ThreadPoolExecutor(max_workers=2) as pool:
        python = _build_python(engine)
        names = {role.name: f"{_PREFIX}/{role.name}:{_hash(role.staged(), python)}" for role in roles}
        missing = [role for role in roles if not engine.image_id(names[role.name])]
        wheels = {role.name: pool.submit(provide_wheels, role.requirements) for role in missing}
        for role in missing:
            _build_role(role, names[role.name], python, wheels[role.name], engine)
    return names


def provide_wheels(requirements: Path) -> Path:
    """The folder of the requirements' wheels (and of pip's own) in the cache, downloaded when it is not there."""
    pip_requirements = ROOT / "images" / "python" / "pip.txt"
    platforms = _platforms()
    digest = hashlib.sha256("\0".join([PYTHON_VERSION, *platforms]).encode())
    digest.update(requirements.read_bytes() + b"\0" + pip_requirements.read_bytes())
    target = _cache() / "wheels" / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with _step(f"downloading wheels for {requirements.parent.name}"):
        _run([*_pip(), "download", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps",
              "--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON_VERSION}",
              *(f"--platform={name}" for name in platforms), f"--dest={part}",
              f"--requirement={requirements}", f"--requirement={pip_requirements}"])  # fmt: skip
    part.rename(target)
    return target


def load_embedded(names: list[str]) -> None:
    """Copies the images into the embedded cluster, which must be up."""
    _run([sys.executable, str(CLUSTER), "load-image", *names], show=True)


def load_kind(names: list[str]) -> None:
    """Copies the images, and the S3 server's that the manifests use, into the kind cluster."""
    store = _run([sys.executable, str(CLUSTER), "image", "versitygw", "--engine=docker"]).strip()
    cluster = os.environ.get("KIND_CLUSTER_NAME", "steeltown")
    with _step("loading images into kind"):
        _run(["kind", "load", "docker-image", f"--name={cluster}", *names, store])


def _build_python(engine: Engine) -> str:
    """The image under all roles: Python and nothing else."""
    engine.provide_debian()
    files = {"Containerfile": ROOT / "images" / "python" / "Containerfile"}
    name = f"{_PREFIX}/python:{_hash(files, engine.image_id(DEBIAN))}"
    if not engine.image_id(name):
        with _step(f"building {name}"), _context(files, None) as context:
            engine.build(name, context)
    return name


def _build_role(role: Role, name: str, python: str, wheels: Future[Path], engine: Engine) -> None:
    folder = wheels.result()
    with _step(f"building {name}"), _context(role.staged(), folder) as context:
        engine.build(name, context, PYTHON_IMAGE=python)


@contextlib.contextmanager
def _context(files: dict[str, Path], wheels: Path | None) -> Iterator[Path]:
    """A folder with exactly the files (and wheels) that a build may see; in the cache, so that wheels are links."""
    _cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="context-") as folder:
        context = Path(folder)
        for place, source in files.items():
            (context / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, context / place)
            (context / place).chmod(0o755 if os.access(source, os.X_OK) else 0o644)
        if wheels:
            shutil.copytree(wheels, context / "wheels", copy_function=os.link)
        for path in (context, *context.rglob("*")):
            path.chmod(0o755 if path.is_dir() else path.stat().st_mode & 0o777)
            os.utime(path, (_FIXED_TIME, _FIXED_TIME))
        yield context


def _hash(files: dict[str, Path], below: str) -> str:
    """Twelve hex digits of the staged files (places, contents, executable bits) and of the image below."""
    digest = hashlib.sha256(f"{below}\0".encode())
    for place, source in sorted(files.items()):
        content = hashlib.sha256(source.read_bytes()).hexdigest()
        digest.update(f"{place}\0{os.access(source, os.X_OK)}\0{content}\0".encode())
    return digest.hexdigest()[:12]


def _files_below(place: str, named_in: str) -> dict[str, Path]:
    """Path relative to the repository -> file, for a file or all files of a folder, without bytecode."""
    path = ROOT / place
    if path.is_file():
        return {place: path}
    if not path.is_dir():
        raise Problem(f"{named_in} names {place}, which is neither a file nor a folder of the repository")
    files = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".pyc")
    return {str(file.relative_to(ROOT)): file for file in files}


def _roles(images: Path, wanted: list[str]) -> list[Role]:
    there = {path.parent.name: Role(path.parent.name, path.parent) for path in sorted(images.glob("*/inputs"))}
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise Problem(f"no such role: {', '.join(unknown)} (there are: {', '.join(there) or 'none'})")
    roles = [there[name] for name in wanted] if wanted else list(there.values())
    for role in roles:
        for path in (role.containerfile, role.requirements):
            if not path.is_file():
                raise Problem(f"the role {role.name} has no {path}")
    return roles


def _platforms() -> list[str]:
    """The wheel platforms that DEBIAN can run, newest first. pip on another Debian would only think of its own."""
    machine = platform.machine()
    return [f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC, 4, -1)] + [f"manylinux2014_{machine}"]


def _pip() -> list[str]:
    """A command that runs pip: this Python's, or that of a small environment made for it."""
    if _succeeds([sys.executable, "-m", "pip", "--version"]):
        return [sys.executable, "-m", "pip"]
    python = _cache() / "pip" / "bin" / "python3"
    if not _succeeds([str(python), "-m", "pip", "--version"]):
        try:
            _run([sys.executable, "-m", "venv", "--clear", str(_cache() / "pip")])
        except Problem as problem:
            raise Problem("this Python has no pip and cannot make an environment: install python3-venv") from problem
    return [str(python), "-m", "pip"]


def _engine(load: str) -> Engine:
    if load == "embedded":
        return Engine("buildah")
    if _succeeds(["docker", "info"]):
        return Engine("docker")
    if load == "kind":
        raise Problem("`docker info` does not answer: images for kind are built with Docker; start or install it")
    return Engine("buildah")


def _write_list(names: dict[str, str], path: Path) -> None:
    """Writes role -> image, keeping roles that were not asked for this time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(known | names, indent=2, sort_keys=True) + "\n")
    part.replace(path)


def _run(command: list[str], *, show: bool = False) -> str:
    """Runs a command; a failure becomes a Problem with the end of what it said. `show` lets its stderr through."""
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
        )
    except FileNotFoundError:
        raise Problem(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        said = "" if show else f":\n{(done.stdout + done.stderr).strip()[-4000:]}"
        raise Problem(f"`{' '.join(command[:4])} ...` failed{said}")
    return done.stdout


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, env=_environment()).returncode == 0
    except FileNotFoundError:
        return False


def _environment() -> dict[str, str]:
    environment = {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot"} | dict(os.environ)
    environment.pop("PIP_FIND_LINKS", None)  # a folder of local wheels would add files that the hashes do not know
    return environment


def _cache() -> Path:
    chosen = os.environ.get("STEELTOWN_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "steeltown"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One build at a time on this machine; the second finds what the first has made."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / ".images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{what} ... {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 images/build.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("roles", nargs="*", metavar="ROLE", help="folders of images/ (default: all with `inputs`)")
    parser.add_argument("--load", choices=["embedded", "kind", "none"], default="none", help="into which cluster")
    parser.add_argument("--images-dir", type=Path, default=ROOT / "images", help="where the roles' folders are")
    parser.add_argument("--list", type=Path, default=ROOT / "build" / "images.json", help="file to write names to")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Builds, loads, prints role -> image as JSON; returns the exit code."""
    options = _parse(arguments)
    try:
        names = build(_roles(options.images_dir, options.roles), _engine(options.load))
        loaders = {"embedded": load_embedded, "kind": load_kind}
        if options.load in loaders:
            loaders[options.load](list(names.values()))
        _write_list(names, options.list)
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(names, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())

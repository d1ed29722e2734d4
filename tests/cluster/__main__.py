"""A real Kubernetes cluster on this machine, started by one command: `python3 tests/cluster up`.

Run as a folder, with nothing but the standard library, because it comes before any environment is made. The folder
itself is then the first entry of the import path, so its modules import each other by their plain names.
"""

from __future__ import annotations

import argparse
import sys

import controlplane
import layout
import lifecycle
import machine
import programs
import system_images
from progress import Problem, say


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 tests/cluster", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("up", "start the cluster, or do nothing when it runs"),
        ("down", "stop it and remove its state"),
        ("status", "tell what runs; exit code 0 if and only if it is healthy"),
        ("kubeconfig", "print the path of its kubeconfig"),
        ("audit-log", "print the path of the API server's audit log"),
        ("compact", "drop the history of its objects, as an API server does every five minutes"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--control-plane", action="store_true", help="the API and its controllers without a node")
    commands.add_parser("bin", help="print the folder of kubectl and the other Kubernetes programs")
    load = commands.add_parser("load-image", help="copy images from buildah's store into the cluster")
    load.add_argument("names", nargs="+", metavar="NAME")
    image = commands.add_parser("image", help="make an image that the cluster or the manifests need; print its name")
    image.add_argument("name", choices=["debian", *system_images.STATIC])
    image.add_argument("--engine", choices=["buildah", "docker"], default="buildah")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "bin":
            print(programs.folder(programs.KUBERNETES))
            return 0
        case "image":
            return _image(options.name, options.engine)
        case "load-image":
            cluster = layout.full_cluster()
            lifecycle.require_up(cluster)
            system_images.load(cluster, options.names)
            return 0
    return _lifecycle(options.command, layout.control_plane() if options.control_plane else layout.full_cluster())


def _image(name: str, engine: str) -> int:
    if engine == "buildah":
        machine.install_packages()
    if name == "debian":
        print(system_images.make_debian())
    else:
        print(system_images.make_static(system_images.STATIC[name], engine))
    return 0


def _lifecycle(command: str, cluster: layout.Layout) -> int:
    match command:
        case "up":
            lifecycle.up(cluster)
            print(cluster.kubeconfig)
        case "down":
            lifecycle.down(cluster)
        case "kubeconfig":
            print(cluster.kubeconfig)
        case "audit-log":
            print(cluster.logs / "audit.log")
        case "compact":
            controlplane.compact(cluster)
        case "status":
            healthy, table = lifecycle.status(cluster)
            print(table)
            return 0 if healthy else 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    machine.extend_path()
    try:
        return _run(_parse(arguments))
    except Problem as problem:
        say(f"error: {problem}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())

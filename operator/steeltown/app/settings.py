"""Everything that can be set, each with the reason why one would.

A setting is a flag (`--resync-seconds`) or an environment variable (`STEELTOWN_RESYNC_SECONDS`), the flag
wins. What is not here is meant not to be set: the timings that hold leadership and watches together were
chosen to fit each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..contract import sources
from ..core.policy import Policy

ENV_PREFIX: Final = "STEELTOWN_"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _sources(text: str) -> str:
    try:
        sources.places(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _setting(default: Any, why: str, *, parse: Callable[[str], Any] = str, env: str = "") -> Any:
    return field(default=default, metadata={"why": why, "parse": parse, "env": env})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See each field's text; `--help` shows the same."""

    namespaces: tuple[str, ...] = _setting(
        (),
        "comma-separated namespaces to watch; none = all namespaces, which requires a ClusterRole",
        parse=_names,
    )
    kubeconfig: str = _setting(
        "", "path to a kubeconfig; none = the Pod's service account, or the default kubeconfig outside of a cluster"
    )
    workers: int = _setting(
        8,
        "maximum number of concurrent reconciles; mostly bound by the API server, so it may exceed the number of cores",
        parse=int,
    )
    lease_name: str = _setting("steeltown-operator", "name of the Lease used for leader election")
    lease_namespace: str = _setting(
        "default", "namespace of the Lease and of the seal Secret: the operator's own", env="POD_NAMESPACE"
    )
    identity: str = _setting("", "prefix of the holder identity in the Lease; none = the host name", env="POD_NAME")
    http_host: str = _setting("", "address on which /metrics, /healthz and /readyz are served; none = all addresses")
    http_port: int = _setting(
        8080, "port on which /metrics, /healthz and /readyz are served; 0 = any free port", parse=int
    )
    resync_seconds: float = _setting(
        600.0,
        "seconds between full lists of all kinds, which find events missed by watches; one list request per kind",
        parse=float,
    )
    seal_secret: str = _setting(
        "steeltown-seal",
        "Secret in the Lease's namespace that holds the key for sealed records; created on first start. Back it up",
    )
    log_level: str = _setting("INFO", "log level: DEBUG, INFO, WARNING or ERROR")
    trainer_image: str = _setting("", "image of the built-in trainer")
    checker_image: str = _setting("", "image of the checker, which checks data and models and runs load checks")
    server_image: str = _setting("", "image of the model server")
    artifact_store: str = _setting("s3://steeltown", "default URI of the artifact store")
    storage_secret: str = _setting(
        "steeltown-storage", "default name of the Secret, in each model's namespace, with the credentials of the store"
    )
    allowed_sources: str = _setting(
        sources.DEFAULT_SOURCES,
        "comma-separated schemes, buckets, hosts and folders that data and imports may come from, such as "
        "s3://data,https://data.example.com/public; folders of the container (file:///data) only if named",
        parse=_sources,
    )

    @classmethod
    def read(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
        """Exits with a message on a setting that cannot be."""
        parser = argparse.ArgumentParser(
            prog="steeltown", description="The Steeltown operator. Every flag can be set by STEELTOWN_<FLAG>."
        )
        for each in dataclasses.fields(cls):
            value = environ.get(ENV_PREFIX + each.name.upper(), environ.get(each.metadata["env"], ""))
            # argparse parses a default that is a string as if it had been given.
            parser.add_argument(
                f"--{each.name.replace('_', '-')}",
                type=each.metadata["parse"],
                default=value or each.default,
                help=f"{each.metadata['why']} (default: {value or each.default or 'none'})".replace("%", "%%"),
            )
        settings = cls(**vars(parser.parse_args(arguments)))
        if settings.workers < 1 or settings.resync_seconds <= 0:
            parser.error("--workers must be at least 1 and --resync-seconds must be greater than 0")
        return settings

    def holder(self) -> str:
        """Unique to this process: a restarted pod is another candidate than the one it replaces."""
        return f"{self.identity or socket.gethostname()}_{uuid.uuid4().hex[:8]}"

    def check_images(self) -> None:
        """Raises ValueError that names what is missing."""
        self.policy(b"")

    def policy(self, seal_key: bytes) -> Policy:
        """Raises ValueError that names what is missing."""
        images = {name: getattr(self, name) for name in ("trainer_image", "checker_image", "server_image")}
        for name, image in images.items():
            if not image:
                raise ValueError(f"set --{name.replace('_', '-')} or {ENV_PREFIX}{name.upper()}")
        return Policy(
            **images,
            seal_key=seal_key,
            artifact_store=self.artifact_store,
            storage_secret=self.storage_secret,
            allowed_sources=self.allowed_sources,
        )

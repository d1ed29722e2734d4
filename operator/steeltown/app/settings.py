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

from ..core.policy import Policy

ENV_PREFIX: Final = "STEELTOWN_"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _setting(default: Any, why: str, *, parse: Callable[[str], Any] = str, env: str = "") -> Any:
    return field(default=default, metadata={"why": why, "parse": parse, "env": env})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See each field's text; `--help` shows the same."""

    namespaces: tuple[str, ...] = _setting(
        (),
        "serve only these namespaces (comma-separated); none = the whole cluster, which needs a ClusterRole",
        parse=_names,
    )
    kubeconfig: str = _setting("", "path of a kubeconfig; none = the pod's service account, else kubectl's default")
    workers: int = _setting(
        8, "concurrent reconciles: they wait for the API server most of the time, so more than cores", parse=int
    )
    lease_name: str = _setting("steeltown-operator", "operators that share this Lease take turns")
    lease_namespace: str = _setting("default", "where the Lease is: the operator's own namespace", env="POD_NAMESPACE")
    identity: str = _setting("", "prefix of the holder's name in the Lease; none = the host name", env="POD_NAME")
    http_host: str = _setting("", "address for /metrics, /healthz and /readyz; none = all of the pod's")
    http_port: int = _setting(8080, "port for the same; 0 = any free one", parse=int)
    resync_seconds: float = _setting(
        600.0,
        "list everything again this often to find what a watch has missed; each costs one list per kind",
        parse=float,
    )
    seal_secret: str = _setting(
        "steeltown-seal",
        "Secret in the Lease's namespace that holds the key of the records; made at the first start. Back it up",
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    trainer_image: str = _setting("", "image of the built-in trainer")
    checker_image: str = _setting("", "image that checks data and models and runs load checks")
    server_image: str = _setting("", "image that serves models")
    artifact_store: str = _setting(
        "s3://steeltown", "where models and reports are kept unless an object says otherwise"
    )
    storage_secret: str = _setting(
        "steeltown-storage", "name of the Secret, in each model's namespace, that opens the store"
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
            parser.error("--workers and --resync-seconds must be positive")
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
            **images, seal_key=seal_key, artifact_store=self.artifact_store, storage_secret=self.storage_secret
        )

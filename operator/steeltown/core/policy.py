"""What the platform team decides once for the whole operator; planners get it as an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..contract.sources import DEFAULT_SOURCES


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Images of the roles, the default artifact store, and the key that records are sealed with.

    storage_secret: name of the Secret, in each model's namespace, that opens the store.
    seal_key: see `seal`. Never shown. allowed_sources: of data and imports, see `contract.sources`.
    """

    trainer_image: str
    checker_image: str
    server_image: str
    seal_key: bytes = field(repr=False)
    artifact_store: str = "s3://steeltown"
    storage_secret: str = "steeltown-storage"
    allowed_sources: str = DEFAULT_SOURCES

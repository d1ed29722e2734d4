"""What the platform team decides once for the whole operator; planners get it as an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Images of the roles and the default artifact store.

    storage_secret: name of the Secret, in each model's namespace, that opens the store.
    """

    trainer_image: str
    checker_image: str
    server_image: str
    artifact_store: str = "s3://steeltown"
    storage_secret: str = "steeltown-storage"

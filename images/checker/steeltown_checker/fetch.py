"""`fetch`: bring a model and its golden rows from the store to where a server finds them, verified.

The manifest is read first, because only its presence says that the upload was complete; every file is then
held against the digest that the manifest gives, and the model against the digest that was asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steeltown.contract import files
from steeltown.contract.plans import FetchPlan, Source
from steeltown.contract.reports import StepReport

from . import plans, store
from .environment import Environment
from .reasons import Reason, StepFailed


def run(environment: Environment) -> StepReport:
    plan = plans.read(FetchPlan, environment.plan)
    artifacts = store.ArtifactStore(plan.store)
    manifest = read_manifest(artifacts, plan.digest)
    prefix = files.model_prefix(plan.digest)
    limit = environment.max_artifact_bytes
    sizes = {
        name: fetch_file(artifacts, manifest, prefix, name, environment.model_dir / name, limit)
        for name in (files.GOLDEN_OBJECT, files.MODEL_OBJECT)
    }
    (environment.model_dir / files.MANIFEST_OBJECT).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return StepReport(
        reason=Reason.MODEL_FETCHED,
        message=f"fetched {plan.digest} to {environment.model_dir}",
        digest=plan.digest,
        uri=artifacts.uri(f"{prefix}/{files.MODEL_OBJECT}"),
        size_bytes=sizes[files.MODEL_OBJECT],
    )


def read_manifest(artifacts: store.ArtifactStore, digest: str) -> dict[str, Any]:
    """The manifest of a model; StepFailed if there is none or it is not about `digest`."""
    key = f"{files.model_prefix(store.checked_digest(digest))}/{files.MANIFEST_OBJECT}"
    try:
        manifest = artifacts.read_json(key)
    except ValueError as error:
        raise StepFailed(Reason.MANIFEST_INVALID, f"{artifacts.uri(key)}: {error}") from error
    if manifest is None:
        raise StepFailed(
            Reason.MANIFEST_MISSING,
            f"{artifacts.uri(key)} not found: the store has no complete model of this digest; create a new TrainingRun",
        )
    if manifest.get("digest") != digest:
        raise StepFailed(
            Reason.MANIFEST_INVALID,
            f"{artifacts.uri(key)} describes {manifest.get('digest')!r} instead of {digest}: the store was modified "
            "manually",
        )
    return manifest


def fetch_file(
    artifacts: store.ArtifactStore,
    manifest: dict[str, Any],
    prefix: str,
    name: str,
    target: Path,
    limit_bytes: int,
) -> int:
    """Fetch one file of a manifest and verify it; its size in bytes."""
    try:
        expected = str(manifest["files"][name]["digest"])
    except (KeyError, TypeError) as error:
        raise StepFailed(
            Reason.MANIFEST_INVALID, f"the manifest of {artifacts.uri(prefix)} does not list {name}"
        ) from error
    if name == files.MODEL_OBJECT and expected != manifest["digest"]:
        raise StepFailed(
            Reason.MANIFEST_INVALID,
            f"the manifest of {artifacts.uri(prefix)} lists {name} as {expected}, but describes {manifest['digest']}",
        )
    return store.fetch(Source(uri=artifacts.uri(f"{prefix}/{name}"), digest=expected), target, limit_bytes=limit_bytes)

"""Putting a model into the store so that a reader sees either all of it or nothing.

Objects are content-addressed and the manifest comes last, written only if it is not there. Two runs that
made the same bytes may publish at the same time: the first golden rows that the model really answers stay,
and the second run's manifest then says the same as the first's. Before all this each run leaves its reference,
which keeps the model from being collected. A manifest changes once only: when a later run shows that rows may not be
batched.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from steeltown.contract import files, strict
from steeltown.contract.batching import Batching
from steeltown.contract.golden import Golden
from steeltown.contract.plans import Task

from . import goldenrows, references
from .model import Model
from .reasons import Reason, StepFailed
from .store import MAX_DOCUMENT_BYTES, ArtifactStore

log = logging.getLogger(__name__)

CREATED_BY: Final = "steeltown-checker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """reference: of the run, see `references`. digest, size_bytes: of the model file at `path`. batching: what was
    found, if it was asked."""

    run: str
    reference: str
    path: Path
    digest: str
    size_bytes: int
    model: Model
    golden: Golden
    task: Task | None
    batching: Batching | None = None


def publish(artifacts: ArtifactStore, new: Publication) -> str:
    """Upload what is not there yet; the URI of model.onnx."""
    prefix = files.model_prefix(new.digest)
    model_key, manifest_key = f"{prefix}/{files.MODEL_OBJECT}", f"{prefix}/{files.MANIFEST_OBJECT}"
    references.leave(artifacts, new.digest, new.reference)
    earlier = _manifest(artifacts, manifest_key, new.digest)
    if earlier is not None and _complete(artifacts, prefix, earlier):
        log.info("%s is already published", new.digest)
        if new.batching is not None and new.batching.refuted and _rows(earlier) != 1:
            body = json.dumps(earlier | {"batching": new.batching.to_json()}, indent=1, sort_keys=True).encode()
            artifacts.put(manifest_key, body)  # rows of this run show what those of the earlier one did not
        return artifacts.uri(model_key)
    artifacts.put_file(model_key, new.path)
    golden = _settle_golden(artifacts, f"{prefix}/{files.GOLDEN_OBJECT}", new)
    referenced = earlier is None or earlier.get("referenced") is True
    body = json.dumps(manifest_of(new, golden, referenced=referenced), indent=1, sort_keys=True).encode()
    if earlier is not None:  # its files were removed by hand: it must describe the ones that were just written
        artifacts.put(manifest_key, body)
    elif not artifacts.create(manifest_key, body) and _manifest(artifacts, manifest_key, new.digest) is None:
        raise StepFailed(
            Reason.MANIFEST_INVALID,
            f"{artifacts.uri(manifest_key)} describes another model: the store was modified manually; remove it",
        )
    return artifacts.uri(model_key)


def manifest_of(new: Publication, golden: bytes, *, referenced: bool) -> dict[str, Any]:
    """referenced: there is none of version 0.1, whose runs left no reference."""
    return {
        "schemaVersion": 1,
        "digest": new.digest,
        "run": new.run,
        "createdBy": CREATED_BY,
        "referenced": referenced,
        **promised(new.model, new.task),
        **({} if new.batching is None else {"batching": new.batching.to_json()}),
        "files": {
            files.MODEL_OBJECT: {"digest": new.digest, "sizeBytes": new.size_bytes},
            files.GOLDEN_OBJECT: {
                "digest": f"sha256:{hashlib.sha256(golden).hexdigest()}",
                "sizeBytes": len(golden),
            },
        },
    }


def promised(model: Model, task: Task | None) -> dict[str, Any]:
    """The part of a manifest that users of the model rely on; see `interface`."""
    return {
        "task": None if task is None else {"type": task.type, "target": task.target, "features": list(task.features)},
        "classes": list((task.outputs.classes if task and task.outputs else ()) or model.said.classes),
        "signature": {
            "inputs": [p.to_json() for p in model.inputs],
            "outputs": [p.to_json() for p in model.outputs],
        },
    }


def _rows(manifest: dict[str, Any]) -> Any:
    """That may share a run, as an earlier run found; None if it did not say."""
    recorded = manifest.get("batching")
    return recorded.get("rows") if isinstance(recorded, dict) else None


def _settle_golden(artifacts: ArtifactStore, key: str, new: Publication) -> bytes:
    """The golden rows in the store, ours or those of an earlier run of the same model."""
    body = goldenrows.encode(new.golden)
    if artifacts.create(key, body):
        return body
    there = artifacts.read(key)
    if there is not None and _answers(new.model, there):
        return there
    artifacts.put(key, body)
    return body


def _answers(model: Model, body: bytes) -> bool:
    try:
        size, _ = goldenrows.violation(
            model, Golden.from_json(strict.parse(body, "golden.json", max_bytes=MAX_DOCUMENT_BYTES))
        )
    except (ValueError, KeyError, TypeError, AttributeError, StepFailed):
        return False
    return size <= 1


def _complete(artifacts: ArtifactStore, prefix: str, manifest: dict[str, Any]) -> bool:
    listed = manifest.get("files")
    names = (files.MODEL_OBJECT, files.GOLDEN_OBJECT)
    return isinstance(listed, dict) and all(
        name in listed and artifacts.size(f"{prefix}/{name}") == listed[name].get("sizeBytes") for name in names
    )


def _manifest(artifacts: ArtifactStore, key: str, digest: str) -> dict[str, Any] | None:
    """A manifest about this model, None if there is none or it is about something else."""
    try:
        manifest = artifacts.read_json(key)
    except ValueError:
        return None
    return manifest if manifest is not None and manifest.get("digest") == digest else None

"""Names of children: deterministic, so that a restarted operator finds what it made, and never too long."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any


def short_hash(*parts: Any) -> str:
    """Ten characters that stand for `parts` (JSON-able); a letter first, so that it may begin a name."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return "h" + hashlib.sha256(text.encode()).hexdigest()[:9]


def version_id(run: str, digest: str) -> str:
    """Label value that names one version; a run deleted and made again under the same name is another version."""
    return short_hash(run, digest)


def deployment_name(model: str, version: str) -> str:
    return f"{model}-{version}"


def baseline_name(model: str) -> str:
    return f"{model}-baseline"


def canary_name(model: str) -> str:
    return f"{model}-canary"


def load_check_name(model: str, rollout: str, attempt: int) -> str:
    return f"{model}-load-{rollout[1:7]}-{attempt}"


def collect_name(model: str, uids: Sequence[str], attempt: int) -> str:
    return f"{model}-collect-{short_hash(*uids)}-{attempt % 1000}"


def store_reference(namespace: str, run: str, uid: str) -> str:
    """What a run is called among those who need the model that it made. A run made again under its name is another."""
    return f"{namespace}.{run}.{uid}"


def run_name(model: str, number: int) -> str:
    return f"{model}-v{number}"


def training_job_name(run: str) -> str:
    return f"{run}-run"

"""runs/<namespace>/<run>/report.json: all that is known about a run, without the limit of a termination message."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

from steeltown.contract.reports import StepReport

from .environment import Environment
from .reasons import StepFailed
from .store import ArtifactStore

log = logging.getLogger(__name__)


def write_report(
    artifacts: ArtifactStore, run: str, report: StepReport, result: dict[str, Any] | None, environment: Environment
) -> None:
    """Never decides how the run ends: the verdict is in the termination message already."""
    document = {
        "schemaVersion": 1,
        "run": run,
        "reason": report.reason,
        "message": report.message,
        "digest": report.digest,
        "uri": report.uri,
        "sizeBytes": report.size_bytes,
        "checks": [c.to_json() for c in report.checks],
        "metrics": [m.to_json() for m in report.metrics],
        "result": result,
        "profile": _profile(environment),
    }
    try:
        body = json.dumps(_jsonable(document), indent=1, ensure_ascii=False, allow_nan=False).encode()
        artifacts.put(f"runs/{run}/report.json", body)
    except (StepFailed, ValueError, RecursionError) as failure:
        log.warning("failed to store the report of run %s: %s", run, failure)


def _profile(environment: Environment) -> Any:
    try:
        return json.loads(environment.profile_file.read_bytes())
    except (OSError, ValueError):
        return None


def _jsonable(value: Any) -> Any:
    """NaN and infinity as text: a trainer may report them, and JSON has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_jsonable(v) for v in value]
    return value

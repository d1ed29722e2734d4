"""`collect`: take away the references of runs that are not kept any more, and with its last reference a model.

The order of its requests is what makes it safe, see `references`: the mark, the own reference, then the look at the
others, and only then the objects, the manifest first, so that no reader ever sees half of a model. An attempt that died
is known by its mark and is finished by the next. What cannot be told from references alone is kept, and said.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final

from steeltown.contract import files
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.files import ExitCode
from steeltown.contract.plans import CollectItem, CollectPlan
from steeltown.contract.reports import StepReport

from . import plans
from .environment import Environment
from .reasons import Reason, StepFailed
from .references import COLLECT_SECONDS, Clock, checked_reference
from .store import ArtifactStore, checked_digest

OBJECTS: Final = (files.MANIFEST_OBJECT, files.GOLDEN_OBJECT, files.MODEL_OBJECT)
"""In the order in which they go: without a manifest there is no model."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the objects of one item."""

    removed: bool
    message: str


def run(environment: Environment) -> StepReport:
    plan = plans.read(CollectPlan, environment.plan)
    for item in plan.items:
        checked_digest(item.digest)
        checked_reference(item.reference)
    artifacts = ArtifactStore(plan.store)
    fates = [(item, collect(artifacts, item, token=secrets.token_hex(8))) for item in plan.items]
    removed = sum(fate.removed for _, fate in fates)
    return StepReport(
        reason=Reason.COLLECTED,
        message=f"removed the artifacts of {removed} of {len(fates)} runs from the store",
        checks=tuple(Check(name=i.reference, verdict=Verdict.PASS, message=fate.message) for i, fate in fates),
    )


def collect(artifacts: ArtifactStore, item: CollectItem, *, token: str, clock: Clock = time.monotonic) -> Fate:
    """token: names this attempt."""
    reference = f"{files.reference_prefix(item.digest)}/{item.reference}"
    own = f"{files.collecting_prefix(item.digest)}/{item.reference}"
    earlier = artifacts.keys(own)
    if not earlier and artifacts.size(reference) is None:
        return Fate(False, "kept: no reference of this run in the store, so other references cannot be ruled out")
    artifacts.create(files.COLLECTED_STORE, b"")
    mark, begun = f"{own}/{token}", clock()
    artifacts.put(mark, b"")
    artifacts.delete(reference)
    fate = _without(artifacts, item.digest, resumed=bool(earlier), begun=begun, clock=clock)
    for key in (*earlier, mark):
        artifacts.delete(key)
    return fate


def _without(artifacts: ArtifactStore, digest: str, *, resumed: bool, begun: float, clock: Clock) -> Fate:
    """Now that the own reference is gone. resumed: an earlier attempt may have removed the manifest."""
    prefix = files.model_prefix(digest)
    others = artifacts.keys(files.reference_prefix(digest))
    if others:
        shown = others[0].rpartition("/")[2]
        return Fate(False, f"kept: other references remain ({len(others)}), such as {shown}")
    try:
        manifest = artifacts.read_json(f"{prefix}/{files.MANIFEST_OBJECT}")
    except ValueError:
        return Fate(False, "kept: cannot read their manifest")
    if manifest is None and not resumed:
        return Fate(False, "no manifest found: already removed, or never stored completely")
    if manifest is not None and manifest.get("referenced") is not True:
        return Fate(False, "kept: stored by version 0.1, whose runs left no references")
    for name in OBJECTS:
        if clock() - begun > COLLECT_SECONDS:
            message = f"the store responds too slowly to remove {artifacts.uri(prefix)} safely: retrying later"
            raise StepFailed(Reason.STORE_UNAVAILABLE, message, ExitCode.TRANSIENT)
        artifacts.delete(f"{prefix}/{name}")
    return Fate(True, "removed")

"""The durable facts, and nothing else: who is live and by what evidence, how a rollout ended, how a run ended.

    the Service of a model    annotation `record`    LiveRecord    who is live, who was before, promoted or not
    a TrainingRun             annotation `outcome`   Outcome       how the rollout of its version ended
    a TrainingRun             annotation `result`    run_result    its final status
    a Job or Deployment       annotation `seal`      made_here     that the operator made it, with this content

Each is sealed (see `seal`) and bound to the object it is about, so a copy, an edit or a forgery opens as nothing.
Everything else that a status says is computed from these; whoever needs one of these facts reads it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from pydantic import ValidationError

from ..api.mlmodel import MLModelStatus, RolloutFinding
from ..api.trainingrun import TrainingRunSpec, TrainingRunStatus
from . import seal
from .naming import short_hash, version_id
from .plan import Annotate, Obj
from .policy import Policy
from .program import program

RECORD_ANNOTATION: Final = "steeltown.dev/record"
OUTCOME_ANNOTATION: Final = "steeltown.dev/outcome"
RESULT_ANNOTATION: Final = "steeltown.dev/result"
SEAL_ANNOTATION: Final = "steeltown.dev/seal"
RETRY_ANNOTATION: Final = "steeltown.dev/retry"
"""A user's verb on a TrainingRun: any value that differs from that of its last rejection asks for another rollout."""

PROMOTED: Final = "Promoted"
ROLLED_BACK: Final = "RolledBack"
WITHDRAWN: Final = "Withdrawn"
SUPERSEDED: Final = "Superseded"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a model: the run that made it and the digest of what it made."""

    run: str
    digest: str

    @cached_property
    def id(self) -> str:
        return version_id(self.run, self.digest)

    def to_json(self) -> dict[str, str]:
        return {"run": self.run, "digest": self.digest}

    @classmethod
    def from_json(cls, raw: Any) -> Version | None:
        if not isinstance(raw, dict):
            return None
        run, digest = raw.get("run"), raw.get("digest")
        return cls(run=run, digest=digest) if isinstance(run, str) and isinstance(digest, str) else None


# --- who is live -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecord:
    """What the Service of a model says about the version that it selects.

    promoted: live by evidence, not as the newest experiment. created: creation time of its run, so that deleting the
    run makes nothing older look newer. rows: that it was trained on. switches: how often the live version has changed
    up to now.
    """

    live: Version
    promoted: bool = False
    previous: Version | None = None
    created: str = ""
    rows: int | None = None
    switches: int = 0

    def annotation(self, root: Obj, policy: Policy) -> dict[str, str]:
        payload: dict[str, Any] = {"live": self.live.to_json(), "switches": self.switches}
        if self.promoted:
            payload["promoted"] = True
        if self.previous:
            payload["previous"] = self.previous.to_json()
        if self.created:
            payload["created"] = self.created
        if self.rows is not None:
            payload["rows"] = self.rows
        return {RECORD_ANNOTATION: seal.sealed(policy.seal_key, _about("live", root), payload)}


def live_record(root: Obj, service: Obj | None, status: MLModelStatus, policy: Policy) -> LiveRecord | None:
    """Who is live, as the Service's record says it; where that is gone or not ours, as the status last said it.

    A record with fewer switches than the status has seen is one of long ago that somebody put back.
    """
    if service is not None and belongs(service, root):
        raw = seal.opened(policy.seal_key, _about("live", root), _annotations(service).get(RECORD_ANNOTATION))
        found = _live_from(raw) if raw is not None else None
        if found is not None and found.switches >= status.switches:
            return found
    known = status.versions.live
    if known is None:
        return None
    before = status.versions.previous
    return LiveRecord(
        live=Version(run=known.run, digest=known.digest),
        promoted=known.promoted,
        previous=Version(run=before.run, digest=before.digest) if before else None,
        created=known.created or "",
        rows=known.rows,
        switches=status.switches,
    )


def _live_from(raw: Mapping[str, Any]) -> LiveRecord | None:
    live = Version.from_json(raw.get("live"))
    switches = raw.get("switches")
    if live is None or not isinstance(switches, int):
        return None
    return LiveRecord(
        live=live,
        promoted=raw.get("promoted") is True,
        previous=Version.from_json(raw.get("previous")),
        created=str(raw.get("created", "")),
        rows=rows if isinstance(rows := raw.get("rows"), int) else None,
        switches=switches,
    )


def belongs(child: Obj, root: Obj) -> bool:
    """Of this very model, or of none: a backup tool restores children without owners."""
    uids = [o.get("uid") for o in child["metadata"].get("ownerReferences") or () if o.get("controller")]
    return not uids or root["metadata"]["uid"] in uids


# --- how a rollout ended ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the rollout of a version ended; written onto its TrainingRun, so it outlives every status.

    result: Promoted, RolledBack (rejected) or Withdrawn (promotion was no longer asked for: not rejected, not served).
    retry: value of the run's `steeltown.dev/retry` at the time; another value makes a rejection void.
    """

    result: str
    digest: str
    reason: str
    message: str
    retry: str = ""
    findings: tuple[RolloutFinding, ...] = ()

    def annotate(self, run: Obj, policy: Policy) -> Annotate:
        payload: dict[str, Any] = {
            "result": self.result,
            "digest": self.digest,
            "reason": self.reason,
            "message": self.message,
            "findings": [f.dump() for f in self.findings],
        }
        if self.retry:
            payload["retry"] = self.retry
        return _annotate(run, OUTCOME_ANNOTATION, seal.sealed(policy.seal_key, _about_run("outcome", run), payload))


def outcome(run: Obj, policy: Policy) -> Outcome | None:
    text = _annotations(run).get(OUTCOME_ANNOTATION)
    if not text:
        return None
    raw = seal.opened(policy.seal_key, _about_run("outcome", run), text)
    if raw is None:
        return None
    try:
        return Outcome(
            result=str(raw["result"]),
            digest=str(raw["digest"]),
            reason=str(raw["reason"]),
            message=str(raw["message"]),
            retry=str(raw.get("retry", "")),
            findings=tuple(RolloutFinding.model_validate(f) for f in raw["findings"]),
        )
    except (KeyError, TypeError, ValidationError):
        return None


def retry_of(run: Obj) -> str:
    return str(_annotations(run).get(RETRY_ANNOTATION, ""))[:63]


# --- how a run ended -------------------------------------------------------------------------------------------------


def keep_result(run: Obj, final: Obj, policy: Policy) -> Annotate:
    """The final status of a run, without what is long: a restored backup has it when status and Job are lost."""
    told = [{**c, "message": c["message"][:200]} for c in final["conditions"]]
    kept = {k: v for k, v in final.items() if k not in ("checks", "log")} | {"conditions": told}
    return _annotate(run, RESULT_ANNOTATION, seal.sealed(policy.seal_key, _about_run("result", run), kept))


def has_result(run: Obj) -> bool:
    """A sealed result stands on the run, by whomever: cheap, for every run at every resync."""
    return f'"{seal.SEAL}"' in _annotations(run).get(RESULT_ANNOTATION, "")


def run_result(run: Obj, policy: Policy) -> TrainingRunStatus | None:
    """The final status as the annotation remembers it; None unless the operator wrote it about exactly this spec."""
    text = _annotations(run).get(RESULT_ANNOTATION)
    raw = seal.opened(policy.seal_key, _about_run("result", run), text) if text else None
    if raw is None:
        return None
    try:
        status = TrainingRunStatus.model_validate(raw)
    except ValidationError:
        return None
    return status if status.completion_time else None


# --- that a Job or Deployment is ours --------------------------------------------------------------------------------


def sealed_child(child: Obj, policy: Policy) -> Obj:
    """The Job or Deployment as it will be written, with the seal of its content."""
    notes = {**_annotations(child), SEAL_ANNOTATION: seal.seal(policy.seal_key, _about_child(child), _essence(child))}
    return {**child, "metadata": {**child["metadata"], "annotations": notes}}


def seal_of(child: Obj) -> str:
    return str(_annotations(child).get(SEAL_ANNOTATION, ""))


def made_here(child: Obj, root: Obj, policy: Policy, *, witness: str | None = None) -> bool:
    """The operator made this Job or Deployment, for exactly this root, and it runs what it was made for.

    An owner reference says whose it claims to be: whoever creates or edits one writes that, and its template.
    witness: the seal as the status of the root remembers it, for a Job that a hand took the annotation off.
    """
    if _controller_uid(child) != root["metadata"]["uid"]:
        return False
    try:
        return seal.seal(policy.seal_key, _about_child(child), _essence(child)) in (seal_of(child), witness)
    except (KeyError, TypeError, AttributeError):
        return False


def same_program(child: Obj, written: Obj | None) -> bool:
    """It runs what the operator would write under its name: second witness of a Deployment that has lost its seal."""
    try:
        return written is not None and _essence(child) == _essence(written)
    except (KeyError, TypeError, AttributeError):
        return False


def _about_child(child: Obj) -> tuple[str, ...]:
    meta = child["metadata"]
    return child["kind"].lower(), meta["namespace"], meta["name"], str(_controller_uid(child))


def _essence(child: Obj) -> Any:
    """What it runs, and what that is measured against; of a Deployment also as which version."""
    template = child["spec"]["template"]
    given = template.get("metadata") or {}
    notes = _of_ours(given.get("annotations"))
    if child["kind"] == "Deployment":
        return [notes, program(template["spec"]), _of_ours(given.get("labels"))]
    return [notes, program(template["spec"])]


def _of_ours(given: Mapping[str, str] | None) -> dict[str, str]:
    return {k: v for k, v in (given or {}).items() if k.startswith("steeltown.dev/")}


# --- shared ----------------------------------------------------------------------------------------------------------


def _about(kind: str, root: Obj) -> tuple[str, ...]:
    return kind, root["metadata"]["namespace"], root["metadata"]["name"]


def _about_run(kind: str, run: Obj) -> tuple[str, ...]:
    """Of a run its whole spec: what was measured holds for no other. Defaults that a later CRD adds change nothing."""
    return (*_about(kind, run), spec_hash(run))


def spec_hash(run: Obj) -> str:
    try:
        spec = TrainingRunSpec.model_validate(run["spec"])
    except (ValidationError, KeyError):
        return ""
    return short_hash(spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True))


def _annotate(run: Obj, name: str, text: str) -> Annotate:
    meta = run["metadata"]
    return Annotate(run["kind"], meta["namespace"], meta["name"], meta["uid"], {name: text})


def _annotations(obj: Obj) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def _controller_uid(obj: Obj) -> str | None:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((o.get("uid") for o in owners if o.get("controller")), None)

"""Which TrainingRuns are kept no longer, and how they go: first out of the store, then out of the cluster.

    beyond a limit, and not needed -> Job `collect` takes references and objects away -> the run is deleted

A run is needed if any decision could ask for it, so removing the others changes nothing but what is listed. Runs that
left nothing in the store (failed ones, those of version 0.1) are deleted at once. While the brake is on, a rollout is
in flight or no live version is known it is only said what would go. See docs/adr/015.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ..api.conditions import Reason, parse_time
from ..api.mlmodel import Retention
from ..contract.files import MODEL_OBJECT, model_prefix
from ..contract.plans import CollectItem, CollectPlan
from . import record
from .children.jobs import collect_job, reference_of
from .children.serving import ServingSpec
from .naming import collect_name
from .new_runs import of_template
from .observed.collecting import Collecting, Going, annotation
from .observed.jobs import REPORT_GRACE
from .observed.model import ObservedModel, Run
from .observed.trust import controller_uid
from .plan import TRAINING_RUN, Action, Create, Delete, EventNote, Obj, target
from .policy import Policy

KEPT_SECONDS: Final = 3600.0
"""Younger runs stay, whatever the limits: time to look at what has just ended, or has just been restored."""
BATCH: Final = 8
"""So many go at a time: their report fits into a termination message."""
SHOWN: Final = 10
"""So many names are told, at most as many as `Retention` holds."""
AGAIN_SECONDS: Final = 600.0
"""A Job that failed is made again after so long. Never sooner than the store may still carry out its requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """What to do, and what to say about it. retention: None where nothing is to go."""

    actions: tuple[Action, ...] = ()
    retention: Retention | None = None
    events: tuple[EventNote, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """A run that may go. because: the field and the limit that it is beyond."""

    run: Run
    because: str


def expire(world: ObservedModel, serving: ServingSpec, policy: Policy) -> Expiry:
    found, wait = expired(world)
    going = _present(world)
    names = [*(g.run for g in going), *(e.run.name for e in found)]
    if hold := _hold(world):
        return Expiry(retention=_retention(names, hold))
    if world.collecting is not None:
        return _collecting(world, world.collecting, going, names, serving, policy)
    if not found:
        return Expiry(requeue_after=wait)
    return _begin(world, found, serving, policy)


# --- which -----------------------------------------------------------------------------------------------------------


def expired(world: ObservedModel) -> tuple[list[Expired], float | None]:
    """(what may go, oldest first; seconds until more may, None = time alone changes nothing)."""
    beyond = _beyond(world)
    if not beyond:
        return [], None
    needed = _needed(world)
    served = {world.selected}
    free = [
        Expired(run, because)
        for run, because in beyond
        if run.name not in needed
        and "deletionTimestamp" not in run.obj["metadata"]
        and (run.version is None or (world.live is not None and run.version.id not in served))
        and (run.version is None or world.deployment(run.version) is None)
    ]
    left = {e.run.name: KEPT_SECONDS - _age_seconds(e.run, world.now) for e in free}
    old = [e for e in free if left[e.run.name] <= 0]
    waits = [s for s in left.values() if s > 0]
    return sorted(old, key=lambda e: e.run.order), max(1.0, min(waits)) if waits else None


def _beyond(world: ObservedModel) -> list[tuple[Run, str]]:
    """Runs with more newer ones of their kind than the limit keeps, and that limit."""
    spec, owner = world.spec, world.root["metadata"]["uid"]
    limit = spec.training.history_limit if spec.training else None
    if limit is None and spec.history_limit is None:
        return []
    finished = [r for r in world.runs.values() if r.finished]
    made = [r for r in finished if controller_uid(r.obj) == owner] if limit else []
    kinds: tuple[tuple[str, int | None, list[Run]], ...] = (
        ("spec.training.historyLimit.succeeded", limit.succeeded if limit else None, [r for r in made if r.version]),
        ("spec.training.historyLimit.failed", limit.failed if limit else None, [r for r in made if not r.version]),
        ("spec.historyLimit", spec.history_limit, finished),
    )
    out: dict[str, tuple[Run, str]] = {}
    for field, most, runs in kinds:
        if most is not None and len(runs) > most:
            for run in sorted(runs, key=lambda r: r.order, reverse=True)[most:]:
                out.setdefault(run.name, (run, f"{field} {most}"))
    return list(out.values())


def _needed(world: ObservedModel) -> frozenset[str]:
    """Names of runs that a decision, now or after a roll-back, could ask for."""
    runs = world.runs.values()
    first = (
        world.newest_eligible,
        _newest(r for r in runs if r.finished),
        _newest(r for r in runs if r.version),
        _newest(r for r in runs if of_template(world, r)),
    )
    return frozenset(
        [
            *(v.run for v in (world.live, world.previous) if v),
            *(r.name for r in first if r),
            *([world.rollout.run] if world.rollout else ()),
            *([world.spec.abort] if world.spec.abort else ()),
        ]
    )


def _newest(runs: Iterable[Run]) -> Run | None:
    return max(runs, key=lambda r: r.order, default=None)


def _age_seconds(run: Run, now: datetime) -> float:
    """Since it was created here, or ended. A time that cannot be read is now."""
    stamps = (run.obj["metadata"].get("creationTimestamp"), run.status.get("completionTime"))
    try:
        return min((now - parse_time(str(s))) / timedelta(seconds=1) for s in stamps if s)
    except ValueError:
        return 0.0


def _hold(world: ObservedModel) -> str:
    """Why nothing goes now."""
    if world.spec.frozen:
        return "spec.frozen is true: nothing is removed until it is false"
    if world.rollout is not None:
        return f"a rollout of {world.rollout.run} is in flight: nothing is removed until it has ended"
    return ""


# --- how -------------------------------------------------------------------------------------------------------------


def _begin(world: ObservedModel, found: list[Expired], serving: ServingSpec, policy: Policy) -> Expiry:
    batch, later = found[:BATCH], found[BATCH:]
    stored = tuple(g for e in batch if (g := _going(world, e, serving, policy)))
    uids = {g.uid for g in stored}
    unstored = [e for e in batch if e.run.obj["metadata"]["uid"] not in uids]
    deletes = tuple(_delete(world, e.run.name, e.run.obj["metadata"]["uid"]) for e in unstored)
    events = tuple(_removed(e.run.name, _digest(e.run), e.because, _UNTOLD) for e in unstored)
    job = _job(world, stored, 0, serving, policy) if stored else None
    made = (Create(job),) if job else ()
    names = [*(g.run for g in stored), *(e.run.name for e in later)]
    return Expiry(
        actions=(*deletes, *made),
        retention=_retention(names, _at_work(job) if job else None),
        events=events,
    )


def _going(world: ObservedModel, one: Expired, serving: ServingSpec, policy: Policy) -> Going | None:
    """With what it left in the store, as its sealed result tells; None if that tells of nothing there.

    The reference of a run that was restored is that of another one, which may still be there in another cluster.
    """
    result = record.run_result(one.run.obj, policy)
    made = result.artifact if result else None
    if made is None or made.reference != reference_of(one.run.obj) or made.digest != _digest(one.run):
        return None
    if made.uri != f"{serving.store}/{model_prefix(made.digest)}/{MODEL_OBJECT}":
        return None
    return Going(
        run=one.run.name,
        uid=one.run.obj["metadata"]["uid"],
        digest=made.digest,
        reference=made.reference,
        because=one.because,
    )


def _collecting(
    world: ObservedModel,
    c: Collecting,
    going: list[Going],
    names: list[str],
    serving: ServingSpec,
    policy: Policy,
) -> Expiry:
    view, meta = c.view, c.view.job["metadata"]
    told = view.step_report("collect") is not None
    if not view.over or (not told and view.awaits_pod(world.now)):
        again = REPORT_GRACE.total_seconds() if view.over else None
        return Expiry(retention=_retention(names, _at_work(view.job)), requeue_after=again)
    done = Delete("Job", world.namespace, meta["name"], meta["uid"])
    if view.complete:
        report = view.step_report("collect")
        fates = {check.name: check.message for check in report.checks} if report else {}
        deletes = tuple(_delete(world, g.run, g.uid) for g in going)
        notes = tuple(_removed(g.run, g.digest, g.because, fates.get(g.reference, "not told")) for g in going)
        left = [n for n in names if n not in {g.run for g in going}]
        after = tuple(target(d) for d in deletes)
        return Expiry(actions=(*deletes, replace(done, after=after)), events=notes, retention=_retention(left))
    return _failed(world, c, names, done, serving, policy)


def _failed(
    world: ObservedModel, c: Collecting, names: list[str], done: Delete, serving: ServingSpec, policy: Policy
) -> Expiry:
    """The runs stay until an attempt has succeeded: a store that is down delays, and nothing is lost."""
    failed = c.view.failed or {}
    report = c.view.step_report("collect")
    told = report.message if report else str(failed.get("message", "its Pod left no report"))
    left = AGAIN_SECONDS - (world.now - parse_time(str(failed["lastTransitionTime"]))).total_seconds()
    if left > 0:
        message = f"their objects were not removed, which is tried again after {AGAIN_SECONDS:.0f} s: {told}"
        shown = _retention(names, message)
        note = EventNote(type="Warning", reason=Reason.COLLECT_FAILED, message=message[:1000])
        news = (note,) if shown != world.status.retention else ()
        return Expiry(retention=shown, events=news, requeue_after=left)
    job = _job(world, c.going, c.attempt + 1, serving, policy)
    again = Create(job)
    return Expiry(
        actions=(again, replace(done, after=(target(again),))),
        retention=_retention(names, _at_work(job)),
    )


def _present(world: ObservedModel) -> list[Going]:
    """Runs of the Job that collects that are still in the cluster."""
    return [g for g in world.collecting.going if g.uid in world.leaving] if world.collecting else []


def _job(world: ObservedModel, going: tuple[Going, ...], attempt: int, serving: ServingSpec, policy: Policy) -> Obj:
    items = tuple(CollectItem(digest=g.digest, reference=g.reference) for g in going)
    return collect_job(
        world.root,
        world.name,
        collect_name(world.name, [g.uid for g in going], attempt),
        CollectPlan(store=serving.store, items=items),
        collects=annotation(going, attempt),
        secret=serving.secret,
        policy=policy,
    )


# --- telling ---------------------------------------------------------------------------------------------------------

_UNTOLD: Final = "kept: no record says that this very run left them in the model's store"


def _digest(run: Run) -> str:
    return run.version.digest if run.version else ""


def _delete(world: ObservedModel, name: str, uid: str) -> Delete:
    return Delete(TRAINING_RUN, world.namespace, name, uid)


def _removed(run: str, digest: str, because: str, fate: str) -> EventNote:
    made = f"{digest}, whose objects in the store: {fate}" if digest else "it made no model"
    return EventNote(type="Normal", reason=Reason.REMOVED, message=f"{run} is beyond {because}: {made}")


def _at_work(job: Obj) -> str:
    return f"Job {job['metadata']['name']} takes them out of the store first"


def _retention(names: list[str], message: str | None = None) -> Retention | None:
    if not names:
        return None
    return Retention(expired=len(names), next=names[:SHOWN], message=message[:1000] if message else None)

"""Which TrainingRuns are kept no longer, and how they go: first out of the store, then out of the cluster.

    beyond a limit, and not needed -> Job `collect` takes references and objects away -> the run is deleted

A run is needed if any decision could ask for it, so removing the others changes nothing but what is listed. Runs that
left nothing in the store (failed ones, those of version 0.1) are deleted at once. While the brake is on, a rollout is
in flight or no live version is known it is only said what would go. See docs/adr/015.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from ..api.conditions import Reason, parse_time, rfc3339
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
from .plan import TRAINING_RUN, Action, Create, Delete, EventNote, Explain, Obj, target
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
    explain: tuple[Explain, ...] = ()


@dataclass(frozen=True, slots=True)
class Expired:
    """A run that may go. because: the field and the limit that it is beyond."""

    run: Run
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """may_go: the first SHOWN, oldest first. total: of runs that are to go, those of the last hour included.

    wait_seconds: until more may go, None = time alone changes nothing.
    """

    may_go: tuple[Expired, ...] = ()
    total: int = 0
    wait_seconds: float | None = None


def expire(world: ObservedModel, serving: ServingSpec, policy: Policy) -> Expiry:
    found, going = expired(world), _present(world)
    names = [*(g.run for g in going), *(e.run.name for e in found.may_go)]
    total = len(going) + found.total
    if hold := _hold(world):
        return Expiry(retention=_retention(names, total, hold))
    if world.collecting is not None:
        return _collecting(world, world.collecting, names, total, serving, policy)
    if not found.may_go:
        return Expiry(requeue_after=found.wait_seconds)
    return _begin(world, found, serving, policy)


# --- which -----------------------------------------------------------------------------------------------------------


def expired(world: ObservedModel) -> Found:
    """With thousands of runs beyond a new limit only as many are looked into as go next."""
    beyond = _beyond(world)
    if not beyond:
        return Found()
    needed, old = _needed(world), rfc3339(world.now - timedelta(seconds=KEPT_SECONDS))
    free = [e for e in beyond if e.run.name not in needed and (e.run.version is None or world.live is not None)]
    may_go: list[Expired] = []
    young: list[str] = []
    for each in sorted(free, key=lambda e: e.run.order):
        since = _since(each.run)
        if since > old:
            young.append(since)
        elif not _in_use(world, each.run):
            may_go.append(each)
            if len(may_go) == SHOWN:
                break
    next_one = min((s for s in young if s != _NEVER), default=None)
    wait = None
    if next_one is not None:
        wait = max(1.0, KEPT_SECONDS - (world.now - parse_time(next_one)).total_seconds())
    return Found(may_go=tuple(may_go), total=len(free), wait_seconds=wait)


def _beyond(world: ObservedModel) -> list[Expired]:
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
    out: dict[str, Expired] = {}
    for field, most, runs in kinds:
        if most is not None and len(runs) > most:
            because = f"{field} {most}"
            for run in sorted(runs, key=lambda r: r.order, reverse=True)[most:]:
                out.setdefault(run.name, Expired(run, because))
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


def _since(run: Run) -> str:
    """When it was created here or ended, whichever came last: RFC 3339 as the API server writes it, so that texts
    compare as times do. What is no such time is never long ago."""
    stamps = [str(s) for s in (run.obj["metadata"].get("creationTimestamp"), run.status.get("completionTime"))]
    return max(stamps) if all(map(_TIME.fullmatch, stamps)) else _NEVER


_NEVER: Final = "~"
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def _in_use(world: ObservedModel, run: Run) -> bool:
    """Somebody deletes it already, or its version still has Pods, or is selected, whatever records say."""
    if "deletionTimestamp" in run.obj["metadata"]:
        return True
    version = run.version
    return version is not None and (version.id == world.selected or world.deployment(version) is not None)


def _hold(world: ObservedModel) -> str:
    """Why nothing goes now."""
    if world.spec.frozen:
        return "paused by spec.frozen"
    if world.rollout is not None:
        return f"waiting for the rollout of {world.rollout.run} to finish"
    return ""


# --- how -------------------------------------------------------------------------------------------------------------


def _begin(world: ObservedModel, found: Found, serving: ServingSpec, policy: Policy) -> Expiry:
    batch, later = found.may_go[:BATCH], found.may_go[BATCH:]
    stored = tuple(g for e in batch if (g := _going(world, e, serving, policy)))
    uids = {g.uid for g in stored}
    unstored = [e for e in batch if e.run.obj["metadata"]["uid"] not in uids]
    deletes = tuple(_delete(world, e.run.name, e.run.obj["metadata"]["uid"]) for e in unstored)
    events = tuple(_removed(e.run.name, _digest(e.run), e.because, _UNTOLD) for e in unstored)
    job = _job(world, stored, 0, serving, policy) if stored else None
    names = [*(g.run for g in stored), *(e.run.name for e in later)]
    return Expiry(
        actions=(*deletes, *((Create(job),) if job else ())),
        retention=_retention(names, found.total - len(deletes), _at_work(job) if job else None),
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
    world: ObservedModel, c: Collecting, names: list[str], total: int, serving: ServingSpec, policy: Policy
) -> Expiry:
    view, meta = c.view, c.view.job["metadata"]
    report = view.step_report("collect")
    if not view.over or (report is None and view.awaits_pod(world.now)):
        again = REPORT_GRACE.total_seconds() if view.over else view.explain_in_seconds(world.now)
        told = _at_work(view.job) + (f": {view.obstacle.message}" if view.obstacle else "")
        return Expiry(retention=_retention(names, total, told), requeue_after=again, explain=view.explain(world.now))
    done = Delete("Job", world.namespace, meta["name"], meta["uid"])
    if not view.complete:
        return _failed(world, c, names, total, done, serving, policy)
    going = _present(world)
    fates = {check.name: check.message for check in report.checks} if report else {}
    deletes = tuple(_delete(world, g.run, g.uid) for g in going)
    notes = tuple(
        _removed(g.run, g.digest, g.because, fates.get(g.reference, "unknown (not in the report)")) for g in going
    )
    after = tuple(target(d) for d in deletes)
    return Expiry(
        actions=(*deletes, replace(done, after=after)),
        events=notes,
        retention=_retention(names[len(going) :], total - len(going)),
    )


def _failed(
    world: ObservedModel,
    c: Collecting,
    names: list[str],
    total: int,
    done: Delete,
    serving: ServingSpec,
    policy: Policy,
) -> Expiry:
    """The runs stay until an attempt has succeeded: a store that is down delays, and nothing is lost."""
    failed = c.view.failed or {}
    report = c.view.step_report("collect")
    told = report.message if report else str(failed.get("message", "its Pod left no report"))
    if report is None and (blocked := c.view.kept_from_starting):
        told = f"{told}: {blocked.message}"
    left = AGAIN_SECONDS - (world.now - parse_time(str(failed["lastTransitionTime"]))).total_seconds()
    if left > 0:
        message = f"failed to remove their artifacts, retrying after {AGAIN_SECONDS:.0f} s: {told}"
        shown = _retention(names, total, message)
        note = EventNote(type="Warning", reason=Reason.COLLECT_FAILED, message=message[:1000])
        news = (note,) if shown != world.status.retention else ()
        return Expiry(retention=shown, events=news, requeue_after=left, explain=c.view.explain(world.now))
    job = _job(world, c.going, c.attempt + 1, serving, policy)
    again = Create(job)
    return Expiry(
        actions=(again, replace(done, after=(target(again),))),
        retention=_retention(names, total, _at_work(job)),
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

_UNTOLD: Final = "kept: no record that this run stored them"


def _digest(run: Run) -> str:
    return run.version.digest if run.version else ""


def _delete(world: ObservedModel, name: str, uid: str) -> Delete:
    return Delete(TRAINING_RUN, world.namespace, name, uid)


def _removed(run: str, digest: str, because: str, fate: str) -> EventNote:
    made = f"artifacts of {digest}: {fate}" if digest else "no artifacts"
    return EventNote(type="Normal", reason=Reason.REMOVED, message=f"deleted {run} (beyond {because}); {made}")


def _at_work(job: Obj) -> str:
    return f"waiting for Job {job['metadata']['name']} to remove their artifacts from the store"


def _retention(names: list[str], total: int, message: str | None = None) -> Retention | None:
    if not names:
        return None
    return Retention(expired=total, next=names[:SHOWN], message=message[:1000] if message else None)

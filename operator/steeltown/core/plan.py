"""The vocabulary between deciding and doing: a planner reads a `Snapshot` and returns a `Plan`.

A plan is a difference: it holds only what must change, so a plan without actions and without status is
the fixed point, and a reconcile that finds it makes no request. The worker executes `actions` in order,
then `status`; every prefix must leave the cluster safe, since the operator may die between any two of them.
An action that the API server refuses stops none of the others, unless they say with `after` that they come
to nothing, or do harm, without it: a quota must not keep a rollback from taking its traffic back.
A plan either records an intent (`status` with `locked`, no actions) or carries out what is already
recorded (actions, and a status that mirrors them). That split is what makes every crash recoverable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ..contract.evidence import Evidence

Obj = dict[str, Any]
"""A Kubernetes object as decoded JSON. Treated as immutable everywhere."""

MLMODEL: Final = "MLModel"
TRAINING_RUN: Final = "TrainingRun"


class Key(NamedTuple):
    """Names one root object, the unit of reconciliation."""

    kind: str
    namespace: str
    name: str


class Target(NamedTuple):
    """Names one object that an action touches."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a complete intent (every field the operator owns on that object).

    force: take fields over from other managers. Without it a conflict is a refusal: an object that the
    operator did not make is never adopted, only one that it knows is repaired.
    after: see `Action`.
    """

    body: Obj
    force: bool = True
    after: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Restore:
    """Merge patch of what the Pods of a Deployment run, with its uid as precondition.

    For what an apply leaves standing: fields and elements of lists that somebody else has put beside those of `body`,
    the intent.
    """

    body: Obj
    uid: str
    after: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    """POST. An existing object of that name is left as it is: for what must happen at most once (I7)."""

    body: Obj
    after: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE with the uid as precondition, in the background. An object that is gone is success."""

    kind: str
    namespace: str
    name: str
    uid: str
    after: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotate:
    """Merge patch of annotations (None removes one), with the uid as precondition."""

    kind: str
    namespace: str
    name: str
    uid: str
    annotations: Mapping[str, str | None]
    after: tuple[Target, ...] = ()


Action = Apply | Restore | Create | Delete | Annotate
"""One write. after: targets of earlier actions of the same plan that must have succeeded in this pass.

One of those refused, still waiting after a refusal, or itself left out for such a reason: this one is left out too.
A target that no earlier action of the plan has stands as it should, and holds up nothing.
"""


def target(action: Action) -> Target:
    if isinstance(action, Apply | Restore | Create):
        metadata = action.body["metadata"]
        return Target(action.body["kind"], metadata["namespace"], metadata["name"])
    return Target(action.kind, action.namespace, action.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNote:
    """A Kubernetes Event about the root. type: Normal or Warning. Equal notes are counted, not repeated."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """A pod whose evidence endpoint is to be read while the plan that asks for it stands."""

    uid: str
    url: str  # base URL of the server in the pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """An object of ours whose controller gets nowhere: why, its Events tell."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now.

    status: the whole status intended, None = as it is. locked: write it only over the root's
    resourceVersion of the snapshot; a conflict drops the plan and reconciles again.
    requeue_after: seconds until time alone may change the plan; None = never.
    observe: pods to read evidence from every few seconds until another plan says otherwise.
    explain: objects whose Events are to be looked into, now and then, until another plan says otherwise.
    """

    actions: tuple[Action, ...] = ()
    status: Obj | None = None
    locked: bool = False
    events: tuple[EventNote, ...] = ()
    requeue_after: float | None = None
    observe: tuple[Observe, ...] = ()
    explain: tuple[Explain, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server (or an admission webhook behind it) refused an action; message is its own."""

    target: Target
    message: str


WATCH_SECONDS: Final = 60.0
"""How long a process must have watched before it lets a deadline pass: it may have been away, or the clock jumped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a planner may know: a root, what belongs to it, and what its pods say. All of it read-only.

    members: kind -> name -> object, of the root's namespace: everything that carries the root's label,
    for an MLModel also its TrainingRuns, for a TrainingRun also its MLModel and that model's Service.
    evidence: by pod uid, the newest read; only from pods that an earlier plan asked to observe.
    causes: by uid, the newest warning about an object that an earlier plan asked to explain.
    refusals: what the last attempt to carry out a plan met.
    watched_seconds: for how long this process has been deciding, by a clock that never jumps. After an absence, or a
    jump of the wall clock, a deadline that seems long past has not been watched yet.
    """

    root: Obj
    members: Mapping[str, Mapping[str, Obj]] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    causes: Mapping[str, str] = field(default_factory=dict)
    watched_seconds: float = float("inf")
    refusals: tuple[Refusal, ...] = ()

    def of_kind(self, kind: str) -> Mapping[str, Obj]:
        return self.members.get(kind, {})

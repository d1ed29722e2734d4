"""Which roots an object concerns: the one mapping from watch events to work.

Children carry labels that name their root, Pods and ReplicaSets inherit them from their templates, so no chain of
owner references (Pod -> ReplicaSet -> Deployment -> MLModel) has to be walked to find whom to wake. A label only
wakes: anybody can write one, so whether an object is ours is for the planners to tell from that chain.
"""

from __future__ import annotations

from typing import Final

from .plan import MLMODEL, TRAINING_RUN, Key, Obj

MODEL_LABEL: Final = "steeltown.dev/model"
RUN_LABEL: Final = "steeltown.dev/run"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "steeltown"

ROOT_KINDS: Final = (MLMODEL, TRAINING_RUN)
CHILD_KINDS: Final = ("Deployment", "ReplicaSet", "Service", "Job", "Pod")


def roots(obj: Obj) -> tuple[Key, ...]:
    """The roots to reconcile when `obj` changes.

    An MLModel concerns itself; its unfinished TrainingRuns are added by the Store, which knows them.
    """
    metadata = obj["metadata"]
    namespace, name, labels = metadata["namespace"], metadata["name"], metadata.get("labels") or {}
    if obj["kind"] == MLMODEL:
        return (Key(MLMODEL, namespace, name),)
    if obj["kind"] == TRAINING_RUN:
        model = ((obj.get("spec") or {}).get("modelRef") or {}).get("name")
        own = Key(TRAINING_RUN, namespace, name)
        return (own, Key(MLMODEL, namespace, model)) if model else (own,)
    if MODEL_LABEL not in labels and (named := _named_by_its_owner(obj)):
        return (Key(named[0], namespace, named[1]),)
    if RUN_LABEL in labels:
        return (Key(TRAINING_RUN, namespace, labels[RUN_LABEL]),)
    if MODEL_LABEL in labels:
        return (Key(MLMODEL, namespace, labels[MODEL_LABEL]),)
    return ()


def _named_by_its_owner(obj: Obj) -> tuple[str, str] | None:
    """(kind, name) of the root of an object that a hand took our labels off.

    A ReplicaSet is named after its Deployment, that after the model. A wrong guess costs a look: what an object is
    trusted for is told by uids.
    """
    metadata = obj["metadata"]
    if obj["kind"] == "ReplicaSet":
        return (MLMODEL, metadata["name"].rsplit("-", 2)[0]) if metadata["name"].count("-") >= 2 else None
    owners = metadata.get("ownerReferences") or ()
    return next(((o["kind"], o["name"]) for o in owners if o.get("controller") and o.get("kind") in ROOT_KINDS), None)

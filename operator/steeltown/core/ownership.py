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
    return tuple(dict.fromkeys((*_named_by_its_labels(namespace, labels), *_named_by_its_owner(obj))))


def _named_by_its_labels(namespace: str, labels: dict[str, str]) -> tuple[Key, ...]:
    if RUN_LABEL in labels:
        return (Key(TRAINING_RUN, namespace, labels[RUN_LABEL]),)
    if MODEL_LABEL in labels:
        return (Key(MLMODEL, namespace, labels[MODEL_LABEL]),)
    return ()


def _named_by_its_owner(obj: Obj) -> tuple[Key, ...]:
    """Whatever a hand has done to our labels: the root that controls the object.

    A ReplicaSet without them is named after its Deployment, that after the model. A wrong guess costs a look: what an
    object is trusted for is told by uids.
    """
    metadata = obj["metadata"]
    namespace = metadata["namespace"]
    if obj["kind"] == "ReplicaSet":
        if MODEL_LABEL in (metadata.get("labels") or {}) or metadata["name"].count("-") < 2:
            return ()
        return (Key(MLMODEL, namespace, metadata["name"].rsplit("-", 2)[0]),)
    owners = metadata.get("ownerReferences") or ()
    return tuple(
        Key(owner["kind"], namespace, owner["name"])
        for owner in owners
        if owner.get("controller") and owner.get("kind") in ROOT_KINDS
    )

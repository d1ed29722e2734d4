"""Which roots an object concerns: the one mapping from watch events to work.

Children carry labels that name their root, Pods and ReplicaSets inherit them from their templates, so no chain of
owner references (Pod -> ReplicaSet -> Deployment -> MLModel) has to be walked to find whom to wake. A label only
wakes: anybody can write one, so whether an object is ours is for the planners to tell from that chain. And anybody can
take one off, so whom the next owner names is woken as well.
"""

from __future__ import annotations

from typing import Final

from .naming import training_job_name
from .plan import MLMODEL, TRAINING_RUN, Key, Obj

MODEL_LABEL: Final = "steeltown.dev/model"
RUN_LABEL: Final = "steeltown.dev/run"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "steeltown"

ROOT_KINDS: Final = (MLMODEL, TRAINING_RUN)
_OF_RUN: Final = training_job_name("")
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
    """Whatever a hand has done to our labels: the root that controls the object, or its controller.

    A ReplicaSet is named after its Deployment, that after the model; a Job after its run, or its model and three words
    more. A wrong guess costs a look: what an object is trusted for is told by uids.
    """
    metadata = obj["metadata"]
    namespace = metadata["namespace"]
    if obj["kind"] == "ReplicaSet":
        return _without_last(namespace, metadata["name"], 2)
    owner: Obj = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), {})
    kind, name = owner.get("kind"), owner.get("name", "")
    if kind == "Job" and obj["kind"] == "Pod":
        run = name.removesuffix(_OF_RUN)
        return (Key(TRAINING_RUN, namespace, run),) if run != name else _without_last(namespace, name, 3)
    return (Key(kind, namespace, name),) if kind in ROOT_KINDS and name else ()


def _without_last(namespace: str, name: str, words: int) -> tuple[Key, ...]:
    return (Key(MLMODEL, namespace, name.rsplit("-", words)[0]),) if name.count("-") >= words else ()

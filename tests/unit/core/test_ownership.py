"""Whom an object concerns: by its labels, and by its owner where a hand took the labels off."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.core.ownership import MODEL_LABEL, RUN_LABEL, roots
from steeltown.core.plan import Key, Obj

MODEL, RUN = Key("MLModel", "team", "m"), Key("TrainingRun", "team", "m-v1")
AB = Key("MLModel", "team", "a-b")
OF_MODEL, OF_RUN = {MODEL_LABEL: "m"}, {MODEL_LABEL: "m", RUN_LABEL: "m-v1"}


def owner(kind: str, name: str, *, controller: bool | None = True) -> Obj:
    found: Obj = {"kind": kind, "name": name, "uid": f"uid-of-{name}"}
    return found if controller is None else {**found, "controller": controller}


def obj(kind: str, name: str, labels: dict[str, str] | None = None, *owners: Obj, **more: Any) -> Obj:
    meta: Obj = {"name": name, "namespace": "team"}
    if labels is not None:
        meta["labels"] = labels
    if owners:
        meta["ownerReferences"] = list(owners)
    return {"kind": kind, "metadata": meta, **more}


CASES: dict[str, tuple[Obj, tuple[Key, ...]]] = {
    # by labels
    "a model": (obj("MLModel", "m"), (MODEL,)),
    "a run": (obj("TrainingRun", "m-v1", spec={"modelRef": {"name": "m"}}), (RUN, MODEL)),
    "a run of no model": (obj("TrainingRun", "m-v1"), (RUN,)),
    "a child of the model": (obj("Deployment", "m-h1", OF_MODEL), (MODEL,)),
    "a child of the run": (obj("Job", "m-v1-run", OF_RUN), (RUN,)),
    "a child of the run by its own label alone": (obj("Pod", "p", {RUN_LABEL: "m-v1"}), (RUN,)),
    "a stranger": (obj("Deployment", "theirs", {"app": "theirs"}), ()),
    "labels of one model, the controller another": (
        obj("Deployment", "m-h1", OF_MODEL, owner("MLModel", "other")),
        (MODEL, Key("MLModel", "team", "other")),
    ),
    "labels that say what the owner says": (obj("Deployment", "m-h1", OF_MODEL, owner("MLModel", "m")), (MODEL,)),
    "a Job that lost the label of its run": (
        obj("Job", "m-v1-run", OF_MODEL, owner("TrainingRun", "m-v1")),
        (MODEL, RUN),
    ),
    "a Job with the label of another run": (
        obj("Job", "m-v1-run", {**OF_MODEL, RUN_LABEL: "m-v9"}, owner("TrainingRun", "m-v1")),
        (Key("TrainingRun", "team", "m-v9"), RUN),
    ),
    "a Pod of a Job that lost the label of its run": (
        obj("Pod", "m-v1-run-x", OF_MODEL, owner("Job", "m-v1-run")),
        (MODEL, RUN),
    ),
    "a Pod of a load check without labels": (obj("Pod", "p", {}, owner("Job", "a-b-load-h12345-0")), (AB,)),
    "a Pod of somebody's Job": (obj("Pod", "p", {"app": "x"}, owner("Job", "theirs")), ()),
    "labels of a run on what a model controls": (obj("Job", "m-load", OF_RUN, owner("MLModel", "m")), (RUN, MODEL)),
    # by the owner
    "a Deployment without labels": (obj("Deployment", "m-h1", None, owner("MLModel", "m")), (MODEL,)),
    "a Deployment with labels of somebody else": (
        obj("Deployment", "m-h1", {"app": "x"}, owner("MLModel", "m")),
        (MODEL,),
    ),
    "a Job of a run without labels": (obj("Job", "m-v1-run", {}, owner("TrainingRun", "m-v1")), (RUN,)),
    "an owner beside the one that controls": (
        obj("Service", "m", {}, owner("MLModel", "other", controller=None), owner("MLModel", "m")),
        (MODEL,),
    ),
    "an owner that does not control": (obj("Service", "m", {}, owner("MLModel", "m", controller=False)), ()),
    "an owner that is no root": (obj("Pod", "p", {}, owner("ReplicaSet", "m-h1-abc")), ()),
    "an owner that says nothing": (obj("Pod", "p", {}, {"controller": True}), ()),
    "the label of the run is left": (
        obj("Job", "j", {RUN_LABEL: "m-v1"}, owner("TrainingRun", "m-v2")),
        (RUN, Key("TrainingRun", "team", "m-v2")),
    ),
    # of a ReplicaSet by its name
    "a ReplicaSet without labels": (obj("ReplicaSet", "m-h1-abc", {}, owner("Deployment", "m-h1")), (MODEL,)),
    "a ReplicaSet of a model with dashes": (
        obj("ReplicaSet", "flight-delay-h1-abc", {}, owner("Deployment", "flight-delay-h1")),
        (Key("MLModel", "team", "flight-delay"),),
    ),
    "a ReplicaSet with labels": (obj("ReplicaSet", "m-h1-abc", OF_MODEL), (MODEL,)),
    "a ReplicaSet that is named otherwise": (obj("ReplicaSet", "web-abc", {}, owner("Deployment", "web")), ()),
    "a ReplicaSet of one word": (obj("ReplicaSet", "web"), ()),
}


@pytest.mark.parametrize(("found", "concerned"), CASES.values(), ids=CASES)
def test_object_wakes_those_whom_it_concerns(found: Obj, concerned: tuple[Key, ...]) -> None:
    assert roots(found) == concerned

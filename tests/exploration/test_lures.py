"""Pods that carry our labels and the best of evidence, and are not ours by their controllers, or by what they run.

Behind a canary that fails every request a lure answers all of them, and what it is asked about the canary it praises.
In no phase does that carry the version on: it is never promoted, and once the lure has gone it is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from steeltown.core.plan import Obj, Target
from steeltown_testing.explore.cluster import controller_uid
from steeltown_testing.explore.nature import LURE, Behaviour, of_run
from steeltown_testing.explore.scenarios import GOOD_A, cleared_of_strangers, rolling_out
from steeltown_testing.explore.schedule import MODEL, Explorer

LURED_TICKS = 40
WEAK = {"loading": "slow", "load checking": "slow", "first step": "failing", "baking": "latefailing"}
"""What is wrong with the version, by the phase that would show it: the lure is there from this phase on."""


def of_candidate(x: Explorer) -> Obj:
    return next(p for p in x.cluster.of_kind("Pod") if of_run("m-v2")(p))


def of_live(x: Explorer) -> Obj:
    return next(p for p in x.cluster.of_kind("Pod") if of_run("m-v1")(p))


def of_baseline(x: Explorer) -> Obj:
    return next((p for p in x.cluster.of_kind("Pod") if of_run("m-v1", "baseline")(p)), of_live(x))


LIKE: dict[str, Callable[[Explorer], Obj]] = {
    "the candidate": of_candidate,
    "the live version": of_live,
    "the baseline": of_baseline,
}


def nobodys(x: Explorer, like: Obj) -> list[Obj]:
    return []


def claims_our_controller(x: Explorer, like: Obj) -> list[Obj]:
    references: list[Obj] = like["metadata"]["ownerReferences"]
    return references


def claims_the_model(x: Explorer, like: Obj) -> list[Obj]:
    assert x.model is not None
    named = {"apiVersion": x.model["apiVersion"], "kind": "MLModel", "name": MODEL}
    return [{**named, "uid": x.model["metadata"]["uid"], "controller": True}]


IN_PLACE = "in the place of ours"
"""kubectl set image: a Pod of ours runs what somebody else has made."""
OWNERS = {
    "nobody's": nobodys,
    "under our ReplicaSet": claims_our_controller,
    "under the model": claims_the_model,
    IN_PLACE: claims_our_controller,
}


def put_lure(x: Explorer, like: Obj, owner: str) -> Target:
    """Its labels, its digest, its name for itself, and the image of somebody else."""
    (server,) = like["spec"]["containers"]
    if owner == IN_PLACE:
        x.cluster.set_spec(like, lambda spec: {**spec, "containers": [{**server, "image": LURE}]})
        return Target("Pod", "team", like["metadata"]["name"])
    owners = OWNERS[owner](x, like)
    labels = dict(like["metadata"]["labels"])
    if not owners:
        labels.pop("pod-template-hash", None)  # else it would be adopted, and go with what is too many
    made = x.cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "lure", "namespace": "team", "labels": labels, "ownerReferences": owners},
            "spec": {**like["spec"], "containers": [{**server, "image": LURE}]},
            "status": {},
        }
    )
    assert controller_uid(made) == (owners[0]["uid"] if owners else None)
    return Target("Pod", "team", "lure")


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("like", LIKE)
@pytest.mark.parametrize("phase", [phase for phase in WEAK if phase != "baking"])
def test_lure_carries_no_version_on(phase: str, like: str, owner: str) -> None:
    """Fails when a Pod is believed for its labels, or for a reference to a controller that anybody can write."""
    x = rolling_out(phase, Behaviour(WEAK[phase], "b"))
    original = LIKE[like](x)
    where = put_lure(x, original, owner)
    for _ in range(LURED_TICKS):
        x.go(1)
        assert x.live == "m-v1"
        assert x.promoted_digest == GOOD_A.model_digest
    x.cluster.remove(where)
    cleared_of_strangers(x).until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=80).settle()
    assert x.live == "m-v1"


@pytest.mark.parametrize("owner", OWNERS)
def test_lure_carries_no_version_through_the_bake(owner: str) -> None:
    """Fails when its counts make up for those of the Pods that fail."""
    x = rolling_out("baking", Behaviour(WEAK["baking"], "b"))
    original = of_candidate(x)
    where = put_lure(x, original, owner)
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=80)
    x.cluster.remove(where)
    x.settle()
    assert x.live == "m-v1"

"""Restores: a backup tool makes the objects again, in an order of its own, with other uids and other creation times.

What comes back is spec, labels and annotations; status, uids and times are lost or new, owners name what is gone or
nobody. An older version must never take the place of the one that was live, whatever was made first, and nothing counts
for promotion that cannot be shown.
"""

from __future__ import annotations

import random
from functools import cache

import pytest
from steeltown.api.base import API_VERSION
from steeltown.core.plan import Obj, Target
from steeltown_testing.explore import records
from steeltown_testing.explore.nature import Behaviour
from steeltown_testing.explore.scenarios import (
    GOOD_A,
    GOOD_B,
    GOOD_C,
    When,
    begun,
    create,
    edit,
    live_is,
    retrain,
    template,
)
from steeltown_testing.explore.schedule import MODEL, Explorer

CHILDREN = ("Service", "Deployment", "Job")
FIRST = {
    "model first": ("MLModel", "TrainingRun", *CHILDREN),
    "runs first": ("TrainingRun", "MLModel", *CHILDREN),
    "children first": ("Job", "Deployment", "Service", "TrainingRun", "MLModel"),
}
ROOTS = {"model first": ("MLModel", "TrainingRun"), "runs first": ("TrainingRun", "MLModel")}
ORDERS = pytest.mark.parametrize("first", ROOTS)
STATUS = pytest.mark.parametrize("status", [True, False], ids=["with status", "without status"])
SEEDS = (1, 2, 3)
FAILING = Behaviour("failing", "b")


@cache
def numbered() -> Explorer:
    """m-v1, m-v2 and m-v3 were promoted one after the other."""
    x = begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v2"))
    retrain(GOOD_C).act(x)
    return x.until(live_is("m-v3")).settle()


def _rolled_out(name: str) -> When:
    return lambda x: x.outcome(name)[0] != "" and x.rollout is None and x.settled()


@cache
def named() -> Explorer:
    """Runs with names that say nothing about their order: omega, then kappa, then alpha."""
    x = begun(create(GOOD_A), edit(training=None)).until(lambda x: not x.pending and live_is("m-v1")(x))
    for name, behaviour in (("omega", GOOD_B), ("kappa", FAILING), ("alpha", GOOD_C)):
        spec = {"modelRef": {"name": MODEL}, **template(behaviour)}
        meta = {"name": name, "namespace": x.cluster.namespace}
        x.cluster.put({"apiVersion": API_VERSION, "kind": "TrainingRun", "metadata": meta, "spec": spec})
        x.until(_rolled_out(name))
    assert x.live == "alpha"
    return x.settle()


def restore(
    x: Explorer,
    *,
    kinds: tuple[str, ...],
    order: random.Random | None = None,
    seconds_between: int = 0,
    status: bool,
    owned: bool = False,
) -> None:
    """Everything is lost; the kinds come back one after the other. What exists by then is left alone.

    order: shuffles each kind, None: newest first. owned: with the references to owners of old, which the garbage
    collector finds to be gone.
    """
    saved = [o for kind in kinds for o in _shuffled(x.cluster.of_kind(kind), order)]
    for target in list(x.cluster.objects):
        x.cluster.remove(target)
    x.was_serving = False
    x.go(1)
    for obj in saved:
        meta = obj["metadata"]
        kept = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
        if owned and "ownerReferences" in meta:
            kept["ownerReferences"] = meta["ownerReferences"]
        if x.cluster.get(obj["kind"], meta["name"]) is not None:
            continue
        body = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
        x.cluster.put({**body, "metadata": kept, **({"status": obj["status"]} if status and "status" in obj else {})})
        x.go(seconds_between)


def _shuffled(objects: list[Obj], order: random.Random | None) -> list[Obj]:
    if order is None:
        return sorted(objects, key=lambda o: int(o["metadata"]["resourceVersion"]), reverse=True)
    objects = list(objects)
    order.shuffle(objects)
    return objects


def never_serves(x: Explorer, *digests: str, ticks: int = 60) -> None:
    """Not for one tick is any of them served to all."""
    for _ in range(ticks):
        x.go(1)
        serving = {e["value"] for p in x.nature.endpoints(MODEL) for e in p["spec"]["containers"][0]["env"]}
        assert not serving & set(digests), x.told()


@STATUS
@ORDERS
def test_model_and_runs_restored_in_any_order_the_version_that_was_live_is_live_again(first: str, status: bool) -> None:
    """Fails when the order in which a tool makes objects decides which version is the newest."""
    x = numbered().fork()
    restore(x, kinds=ROOTS[first], status=status)
    x.settle(within=300)
    assert (x.live, x.promoted_digest) == ("m-v3", GOOD_C.model_digest)


@STATUS
@pytest.mark.parametrize("first", FIRST)
def test_objects_restored_with_owners_that_are_gone_are_made_anew(first: str, status: bool) -> None:
    """Fails when what the garbage collector is about to take counts for anything."""
    x = numbered().fork()
    restore(x, kinds=FIRST[first], status=status, owned=True)
    never_serves(x, GOOD_A.model_digest, GOOD_B.model_digest, ticks=30)
    x.settle(within=300)
    assert x.promoted_digest == GOOD_C.model_digest
    model = x.model or {"metadata": {}}
    owners = {r["uid"] for run in x.cluster.of_kind("TrainingRun") for r in run["metadata"]["ownerReferences"]}
    assert owners == {model["metadata"]["uid"]}


@STATUS
@pytest.mark.parametrize("first", FIRST)
def test_children_restored_without_owners_are_taken_up_and_serve_on(first: str, status: bool) -> None:
    """Fails when an orphan of one's own is not taken up, or an older version is served beside it."""
    x = numbered().fork()
    restore(x, kinds=FIRST[first], status=status)
    never_serves(x, GOOD_A.model_digest, GOOD_B.model_digest, ticks=40)
    assert x.condition("Ready")[:2] == ("True", "Promoted")
    assert (x.live, x.promoted_digest) == ("m-v3", GOOD_C.model_digest)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("between", [0, 1], ids=["within a second", "over seconds"])
@STATUS
@ORDERS
def test_restored_in_a_shuffled_order_no_older_version_takes_the_place_of_the_newest(
    first: str, status: bool, between: int, seed: int
) -> None:
    """Fails when runs are ordered by their creation time: what is restored last is taken for the newest."""
    x = numbered().fork()
    edit(training=None).act(x)  # a template would train its version anew, and so hide what was taken for the newest
    x.settle()
    restore(x, kinds=ROOTS[first], order=random.Random(seed), seconds_between=between, status=status)
    if first == "runs first" or not between:  # else an older one may have been all there was for a while
        never_serves(x, GOOD_A.model_digest, GOOD_B.model_digest, ticks=40)
    x.settle(within=300)
    assert x.promoted_digest == GOOD_C.model_digest


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("between", [0, 1], ids=["within a second", "over seconds"])
@ORDERS
def test_restored_runs_whose_names_say_nothing_keep_their_order(first: str, between: int, seed: int) -> None:
    """Fails when nothing but name and creation time tells which version was live, or which was rejected."""
    x = named().fork()
    restore(x, kinds=ROOTS[first], order=random.Random(seed), seconds_between=between, status=False)
    if not between:  # else an older one may have been all there was for a while
        never_serves(x, GOOD_B.model_digest)
    x.settle(within=300)
    assert x.live == "alpha"
    assert FAILING.model_digest not in x.promoted


def test_runs_alone_restored_beside_a_model_that_serves_change_nothing() -> None:
    """Fails when an old run that comes back is newer than the live one, because it was created later."""
    x = numbered().fork()
    for name in ("m-v1", "m-v2"):
        run = x.cluster.get("TrainingRun", name)
        assert run is not None
        meta = {key: run["metadata"][key] for key in ("name", "namespace", "labels", "annotations", "ownerReferences")}
        x.cluster.remove(Target("TrainingRun", x.cluster.namespace, name))
        x.go(2)
        x.cluster.put({**{k: v for k, v in run.items() if k != "status"}, "metadata": meta})
    selector = x.selector
    for _ in range(40):
        x.go(1)
        assert x.selector == selector
    x.settle()
    assert x.live == "m-v3"


def test_live_run_restored_under_another_uid_stays_live() -> None:
    """Fails when a new creation time makes the live version a candidate for its own place."""
    x = numbered().fork()
    run = x.cluster.get("TrainingRun", "m-v3")
    assert run is not None
    meta = {key: run["metadata"][key] for key in ("name", "namespace", "labels", "annotations", "ownerReferences")}
    x.cluster.remove(Target("TrainingRun", x.cluster.namespace, "m-v3"))
    x.cluster.put({**{k: v for k, v in run.items() if k != "status"}, "metadata": meta})
    selector = x.selector
    for _ in range(40):
        x.go(1)
        assert x.selector == selector
    x.settle()
    assert (x.live, x.promoted_digest) == ("m-v3", GOOD_C.model_digest)


def test_rejected_version_that_is_restored_is_not_tried_again_on_users() -> None:
    """Fails when the status is all that knows about a rejection."""
    x = begun(create(GOOD_A), retrain(FAILING)).until(lambda x: x.outcome("m-v2")[0] == "RolledBack").settle()
    then = x.tick
    restore(x, kinds=ROOTS["model first"], status=False)
    x.settle(within=300)
    assert x.live == "m-v1"
    assert [weight for tick, digest, weight in x.routed if tick >= then and digest == FAILING.model_digest] == []
    assert records.live_run(x.cluster.get("Service", MODEL)) == "m-v1"

"""Names that are taken: objects of somebody else where a rollout needs its own, before it begins or in its middle.

Such an object is never taken over, and nothing that is reached through it counts. What is refused holds up only what
needs it: users are served, a rollback takes its traffic back. The status names the object, and once it is deleted the
rollout goes on and ends as it would have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from steeltown.core.naming import baseline_name, canary_name, deployment_name
from steeltown.core.plan import Obj, Target
from steeltown.core.record import Version
from steeltown_testing.explore.nature import LURE, Behaviour
from steeltown_testing.explore.scenarios import (
    GOOD_A,
    GOOD_B,
    PHASES,
    RETRY_SECONDS,
    begun,
    cleared_of_strangers,
    create,
    edit,
    live_is,
    retrain,
    rolling_out,
)
from steeltown_testing.explore.schedule import MODEL, Explorer

TAKEN_TICKS = 20
HARSH: dict[str, Any] = {"onInconclusive": "Rollback", "progressDeadlineSeconds": 10}
"""The model that forgives least: what is inconclusive after ten seconds is rolled back."""

CANDIDATE = deployment_name(MODEL, Version(run="m-v2", digest=GOOD_B.model_digest).id)
NAMES = {
    "canary's Service": Target("Service", "team", canary_name(MODEL)),
    "baseline's Service": Target("Service", "team", baseline_name(MODEL)),
    "baseline's Deployment": Target("Deployment", "team", baseline_name(MODEL)),
    "candidate's Deployment": Target("Deployment", "team", CANDIDATE),
}
BEFORE_SHIFTING = ("before it begins", "loading", "load checking")
NEEDED = {
    "canary's Service": (*BEFORE_SHIFTING, "first step", "second step"),
    "baseline's Service": BEFORE_SHIFTING,
    "baseline's Deployment": ("before it begins", "loading"),
    "candidate's Deployment": (*BEFORE_SHIFTING, "first step", "second step", "promoting"),
}
"""Phases in which the rollout cannot do without the object: it waits, and says for what."""


def at(phase: str, candidate: Behaviour = GOOD_B) -> Explorer:
    if phase == "before it begins":
        return begun(create(GOOD_A, **HARSH), retrain(candidate)).until(live_is("m-v1"))
    return rolling_out(phase, candidate, **HARSH)


def server(x: Explorer, digest: str) -> Obj:
    """A Pod's spec that claims to serve `digest`."""
    spec: Obj = x.nature.selected(MODEL)[0]["spec"]
    (container,) = spec["containers"]
    env = [{**e, "value": digest} if e["value"].startswith("sha256:") else e for e in container["env"]]
    return {**spec, "containers": [{**container, "image": LURE, "env": env}]}


def their_own(x: Explorer, where: Target) -> Obj:
    """Something that has nothing to do with the model, but for its name."""
    labels = {"app": "theirs"}
    if where.kind == "Service":
        lure = {"name": "lure", "namespace": where.namespace, "labels": labels}
        x.cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": lure, **_running(x)})
        return {"apiVersion": "v1", "metadata": {"labels": {}}, "spec": {"selector": labels, "ports": []}}
    template = {"metadata": {"labels": labels}, "spec": server(x, GOOD_B.model_digest)}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "metadata": {"labels": labels}, "spec": spec}


def _running(x: Explorer) -> Obj:
    return {"spec": server(x, GOOD_B.model_digest), "status": {}}


def lookalike(x: Explorer, where: Target) -> Obj:
    """With all labels of ours, but of another controller."""
    owner = x.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "team"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": owner["metadata"]["uid"]}
    theirs = their_own(x, where)
    track = "baseline" if where.name == baseline_name(MODEL) else "serving"
    run, digest = ("m-v1", GOOD_A.model_digest) if track == "baseline" else ("m-v2", GOOD_B.model_digest)
    version = Version(run=run, digest=digest).id
    labels = {"steeltown.dev/model": MODEL, "steeltown.dev/version": version, "steeltown.dev/track": track}
    meta = {"labels": labels, "ownerReferences": [{**reference, "controller": True}]}
    spec = theirs["spec"]
    if where.kind == "Deployment":
        template = {**spec["template"], "metadata": {"labels": labels}}
        spec = {**spec, "selector": {"matchLabels": labels}, "template": template}
    return {**theirs, "metadata": meta, "spec": spec}


THEIRS: dict[str, Callable[[Explorer, Target], Obj]] = {"their own": their_own, "a lookalike": lookalike}


def take(x: Explorer, where: Target, whose: str) -> Obj:
    """Ours, if it is there, is deleted; theirs is there in the same moment."""
    theirs = THEIRS[whose](x, where)
    x.cluster.remove(where)
    named = {"name": where.name, "namespace": where.namespace}
    return x.cluster.put({**theirs, "kind": where.kind, "metadata": {**theirs["metadata"], **named}})


def give_back(x: Explorer, where: Target) -> None:
    x.cluster.remove(where)
    x.cluster.remove(Target("Pod", where.namespace, "lure"))


def words(x: Explorer) -> str:
    return " ".join(c.message for c in x.status.conditions)


ROWS = [
    (name, phase, whose)
    for name in NAMES
    for phase in ("before it begins", *PHASES)
    for whose in THEIRS
    if (name, phase) != ("candidate's Deployment", "baking")  # the live version's by then
]


@pytest.mark.parametrize(("name", "phase", "whose"), ROWS)
def test_name_that_is_taken_holds_the_rollout_up_and_is_told(name: str, phase: str, whose: str) -> None:
    """Fails when theirs is overwritten, is measured for ours, or costs the version its turn."""
    x, where = at(phase), NAMES[name]
    theirs = take(x, where, whose)
    x.go(TAKEN_TICKS)
    known = x.cluster.objects[where]
    assert (known["spec"], known["metadata"]["uid"]) == (theirs["spec"], theirs["metadata"]["uid"])
    if phase in NEEDED[name]:
        assert x.live == "m-v1"
        assert f"{where.kind} {where.name}" in words(x)
    assert x.outcome("m-v2")[0] != "RolledBack"
    give_back(x, where)
    cleared_of_strangers(x).until(live_is("m-v2"), within=120).settle()
    assert (x.promoted_digest, x.outcome("m-v2")[0]) == (GOOD_B.model_digest, "Promoted")
    assert x.nature.failed == 0


@pytest.mark.parametrize("whose", THEIRS)
@pytest.mark.parametrize("phase", ["before it begins", "loading", "load checking"])
@pytest.mark.parametrize("name", ["canary's Service", "baseline's Service"])
def test_what_a_load_check_measures_through_a_service_of_somebody_else_is_no_evidence(
    name: str, phase: str, whose: str
) -> None:
    """Fails when a Service that leads to a stranger's Pod carries a slow version through its load check."""
    x, where = at(phase, Behaviour("slow", "b")), NAMES[name]
    take(x, where, whose)
    for _ in range(TAKEN_TICKS):
        x.go(1)
        shown = (x.rollout or {}).get("findings") or ()
        assert not [f for f in shown if (f["type"], f["status"]) == ("ServingPerformance", "True")]
        assert x.outcome("m-v2")[0] == ""
    give_back(x, where)
    x.until(lambda x: x.outcome("m-v2")[0] == "RolledBack", within=60).settle()
    assert x.live == "m-v1"


@pytest.mark.parametrize("whose", THEIRS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", NAMES)
def test_rollback_takes_its_traffic_back_whatever_name_is_taken(name: str, phase: str, whose: str) -> None:
    """Fails when a child that is refused stops the route, the record or the end of a rollback (I6)."""
    x, where = at(phase), NAMES[name]
    if (name, phase) == ("candidate's Deployment", "baking"):
        x.grace(RETRY_SECONDS)  # a hand took the Deployment that serves
    take(x, where, whose)
    x.go(1)
    edit(abort="m-v2").act(x)
    x.go(x.abort_ticks + 1)
    assert not any(route.weight for route in x._routes().values())
    x.until(lambda x: x.rollout is None, within=60)
    assert x.outcome("m-v2") == ("RolledBack", "Aborted")
    assert (x.live, where in x.cluster.objects) == ("m-v1", True)
    x.settle()

"""Users' hands on what the operator keeps: annotations, labels, records, children, and names used again.

Whatever a hand does, what the Service selects stays (I11), and a record that is lost comes back from what the cluster
still shows. Further down hands act at random, by seed, in the middle of every scenario: the invariants of
`explore.schedule` hold at every moment, and with the hands off the model comes to rest with its users served.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from functools import cache

import pytest
from steeltown.api.base import API_VERSION
from steeltown.api.mlmodel import Phase
from steeltown.contract.evidence import ROUTE_ANNOTATION
from steeltown.core.children.serving import VERSION_LABEL
from steeltown.core.ownership import RUN_LABEL
from steeltown.core.plan import Obj, Target
from steeltown.core.record import Version
from steeltown_testing.explore import records
from steeltown_testing.explore.cluster import OURS, controller_uid
from steeltown_testing.explore.nature import Behaviour, Trouble, of_run, trained_by
from steeltown_testing.explore.scenarios import (
    GOOD_A,
    GOOD_B,
    GOOD_C,
    PHASES,
    SCENARIOS,
    begun,
    cleared_of_strangers,
    create,
    edit,
    found,
    live_is,
    retrain,
    rolling_out,
    template,
)
from steeltown_testing.explore.schedule import MODEL, Explorer, Scenario

SEED = int(os.environ.get("STEELTOWN_EXPLORE_SEED", "20260101"))
HANDS = int(os.environ.get("STEELTOWN_EXPLORE_HANDS", "3"))
"""Schedules of random hands for each scenario."""

FAILING = Behaviour("failing", "b")
ROOTS = ("MLModel", "TrainingRun")
MEND_TICKS = 3
"""The operator mends what a hand has done to a child within so many ticks."""


@cache
def _in_production() -> Explorer:
    return begun(create(GOOD_A), retrain(GOOD_B)).until(live_is("m-v2")).settle()


def in_production() -> Explorer:
    """m-v2 is live after m-v1, by evidence."""
    return _in_production().fork()


at = rolling_out


def rolls_out(x: Explorer, run: str) -> bool:
    return x.rollout is not None and x.rollout["run"] == run


def where(obj: Obj) -> Target:
    return Target(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def without(x: Explorer, obj: Obj, *keys: str, field: str = "annotations") -> None:
    left = {k: v for k, v in (obj["metadata"].get(field) or {}).items() if k not in keys}
    x.cluster.set_metadata(obj, **{field: left})


def annotate(x: Explorer, obj: Obj, key: str, value: str) -> None:
    x.cluster.set_metadata(obj, annotations={**(obj["metadata"].get("annotations") or {}), key: value})


def serving(x: Explorer) -> str:
    """The run whose Deployment the Service selects."""
    for run in x.cluster.of_kind("TrainingRun"):
        if any(of_run(run["metadata"]["name"])(p) for p in x.nature.selected(MODEL) if controller_uid(p)):
            return str(run["metadata"]["name"])
    return ""


# --- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["status kept", "status lost"])
@pytest.mark.parametrize("which", ["each", "all"])
def test_record_taken_off_the_service_comes_back_and_the_live_version_stays(which: str, status: str) -> None:
    """Fails when the annotations alone decide who is live: without `live` the Deployment that serves is deleted."""
    notes = records.notes(found(in_production(), "Service"))
    assert notes
    for taken in [tuple(notes)] if which == "all" else [(key,) for key in notes]:
        x = in_production()
        before, selector = x.final(), x.selector
        uids = {d["metadata"]["uid"] for d in x.cluster.of_kind("Deployment")}
        without(x, found(x, "Service"), *taken)
        if status == "status lost" and x.model:
            x.cluster.set_status(x.model, {"observedGeneration": -1})
        x.go(MEND_TICKS).settle()
        assert x.selector == selector, taken
        assert {d["metadata"]["uid"] for d in x.cluster.of_kind("Deployment")} == uids, taken
        assert (x.live, x.promoted_digest) == ("m-v2", GOOD_B.model_digest), taken
        assert x.status.stage == "Production", taken
        if status == "status kept":
            assert x.final()["deployments"] == before["deployments"], taken


@pytest.mark.parametrize("phase", PHASES)
def test_record_taken_off_the_service_in_a_rollout_moves_no_traffic_by_itself(phase: str) -> None:
    """Fails when a lost record makes the candidate, or nobody, the live version."""
    notes = records.notes(found(at(phase), "Service"))
    assert notes
    for key in notes:
        x = at(phase)
        without(x, found(x, "Service"), key)
        x.settle()
        assert x.live in ("m-v1", "m-v2"), key
        assert serving(x) == x.live, key


def _of_another(x: Explorer, key: str, now: str) -> str:
    """What stands there on another object; else the name of another run."""
    values = sorted({v for o in x.cluster.objects.values() for f in NOTES if (v := _noted(o, f).get(key, now)) != now})
    return values[0] if values else "m-v1"


def _noted(obj: Obj, field: str) -> dict[str, str]:
    return obj["metadata"].get(field) or {}


NOTES = ("annotations", "labels")
CHANGES: dict[str, Callable[[Explorer, str, str], str | None]] = {
    "taken off": lambda x, key, now: None,
    "emptied": lambda x, key, now: "",
    "set to another's": _of_another,
    "garbled": lambda x, key, now: "-_{",
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("change", CHANGES)
def test_any_one_label_or_annotation_of_ours_changed_on_any_object_ends_well(change: str, phase: str) -> None:
    """Fails when one hand on one object makes the operator delete, forget or twice make what it has."""
    start, broken, alike = at(phase), [], set()
    for target, obj in list(start.cluster.objects.items()):
        for field in NOTES:
            for key, now in [(k, v) for k, v in _noted(obj, field).items() if k.startswith(OURS)]:
                one_of = (target.kind, key, *sorted(v for k, v in _noted(obj, "labels").items() if k.startswith(OURS)))
                value = CHANGES[change](start, key, now)
                if one_of in alike or value == now:  # Pods of one ReplicaSet: one of them is enough
                    continue
                alike.add(one_of)
                x = start.fork()
                if target.kind == "Pod":  # without its label it is one fewer that the Service selects
                    x.grace(MEND_TICKS)
                notes = {**_noted(obj, field), key: value}
                x.cluster.set_metadata(obj, **{field: {k: v for k, v in notes.items() if v is not None}})
                try:
                    x.settle()
                    assert x.promoted_digest in (GOOD_A.model_digest, GOOD_B.model_digest)
                    assert serving(x) == x.live
                except AssertionError as error:
                    broken.append(f"{key} of {target.kind}/{target.name}: {str(error)[:300]}")
    assert alike
    assert not broken, "\n".join(broken)


def test_run_is_compared_with_the_live_version_also_when_the_models_status_is_lost() -> None:
    """Fails when who is live is read from a projection: the run is then compared with nothing."""
    x = in_production()
    assert x.model is not None
    retrain(GOOD_C).act(x)
    x.cluster.set_status(x.model, {"observedGeneration": -1})
    x.until(lambda x: x.cluster.get("Job", "m-v3-run") is not None, within=5)
    assert _plan(x, "finalise")["live"]["digest"] == GOOD_B.model_digest


def test_rows_that_a_run_needs_stay_the_same_when_the_live_run_is_deleted() -> None:
    """Fails when the rows of the live version are read from a TrainingRun that a hand may delete."""
    x = in_production()
    edit(objectives=_objectives_with_ratio(x), training=None).act(x)
    x.settle()
    x.cluster.remove(where(found(x, "TrainingRun", "m-v2")))
    x.go(3)
    assert x.live == "m-v2"
    run_by_hand(x, "trial", GOOD_C)
    x.until(lambda x: x.cluster.get("Job", "trial-run") is not None, within=5)
    assert _plan(x, "prepare", job="trial-run").get("minRows") == 500


def _objectives_with_ratio(x: Explorer) -> Obj:
    assert x.model is not None
    return {**x.model["spec"]["objectives"], "data": {"rows": {"minRatioToLive": "0.5"}}}


def _plan(x: Explorer, step: str, job: str = "m-v3-run") -> Obj:
    spec = found(x, "Job", job)["spec"]["template"]["spec"]
    container = next(c for c in (*spec["initContainers"], *spec["containers"]) if c["name"] == step)
    plan: Obj = json.loads(next(e["value"] for e in container["env"] if e["name"] == "STEELTOWN_PLAN"))
    return plan


@pytest.mark.parametrize("label", ["taken off", "changed"])
@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_run_goes_on_when_a_hand_takes_its_label_off_what_works_for_it(kind: str, label: str) -> None:
    """Fails when a child is found by its label alone: the run ends for good as JobDeleted, or as ResultMissing."""
    x = begun(create(GOOD_A)).until(live_is("m-v1"))
    x.nature.trouble(Trouble.BUSY, trained_by("trial"))
    run_by_hand(x, "trial", GOOD_B)
    x.go(3)
    (child,) = [o for o in x.cluster.of_kind(kind) if trained_by("trial")(o)]
    kept = {k: v for k, v in child["metadata"]["labels"].items() if k != RUN_LABEL}
    x.cluster.set_metadata(child, labels=kept if label == "taken off" else {**kept, RUN_LABEL: "theirs"})
    x.nature.heal()
    x.until(live_is("trial")).settle()
    assert x.nature.trained[found(x, "TrainingRun", "trial")["metadata"]["uid"]] == 1


# --- names used again ------------------------------------------------------------------------------------------------


def run_by_hand(x: Explorer, name: str, behaviour: Behaviour) -> Obj:
    """Somebody's own TrainingRun, a trial perhaps."""
    assert x.model is not None
    spec = {"modelRef": {"name": MODEL}, **template(behaviour)}
    meta = {"name": name, "namespace": x.cluster.namespace}
    return x.cluster.put({"apiVersion": API_VERSION, "kind": "TrainingRun", "metadata": meta, "spec": spec})


@pytest.mark.parametrize("moment", ["while its Pod works", "when it has just ended", "after its rollout"])
def test_run_made_again_under_the_same_name_trains_under_its_own_job(moment: str) -> None:
    """Fails when a Job is known by its name alone: the new run takes over what the old one has made."""
    x = begun(create(GOOD_A)).until(live_is("m-v1"))
    if moment == "while its Pod works":
        x.nature.trouble(Trouble.BUSY, trained_by("trial"))
    first = run_by_hand(x, "trial", GOOD_B)
    if moment == "while its Pod works":
        x.go(3)
        x.nature.heal()
    elif moment == "when it has just ended":
        x.until(lambda x: bool((found(x, "TrainingRun", "trial").get("status") or {}).get("completionTime")))
    else:
        x.until(live_is("trial"))
    second = x.cluster.recreate(first, spec={**first["spec"], **template(GOOD_C)})
    x.settle()
    run = found(x, "TrainingRun", "trial")
    assert run["metadata"]["uid"] == second["metadata"]["uid"]
    assert run["status"]["artifact"]["digest"] == GOOD_C.model_digest
    assert x.nature.trained[second["metadata"]["uid"]] == 1
    assert (x.live, x.promoted_digest) == ("trial", GOOD_C.model_digest)


def test_model_made_again_before_collection_has_to_earn_its_promotion() -> None:
    """Fails when the new model takes the old one's Service and runs for its own: it begins as Promoted."""
    x = in_production()
    assert x.model is not None
    x.was_serving = False  # who deletes a model ends its serving
    x.promoted.clear()
    new = x.cluster.recreate(x.model)
    for _ in range(4):
        x.go(1)
        assert x.condition("Promoted")[0] != "True"
    x.settle()
    owners = [r["uid"] for r in found(x, "TrainingRun", x.live)["metadata"]["ownerReferences"]]
    assert owners == [new["metadata"]["uid"]]
    assert x.status.stage == "Production"
    assert [h.outcome for h in x.status.history] == ["Promoted"]


def test_deleting_a_rejected_run_rolls_the_same_bytes_out_no_more() -> None:
    """Fails when a rejection is forgotten with the TrainingRun that it was written on."""
    x = begun(create(GOOD_A), retrain(FAILING)).until(lambda x: x.outcome("m-v2")[0] == "RolledBack").settle()
    x.cluster.remove(where(found(x, "TrainingRun", "m-v2")))
    then = x.tick
    x.go(40).settle()
    assert [r for r in x.routed if r[0] >= then and r[1] == FAILING.model_digest] == []
    assert x.live == "m-v1"


@pytest.mark.parametrize("phase", ["loading", "load checking", "first step", "second step"])
def test_deleting_the_candidates_run_ends_its_rollout_for_good(phase: str) -> None:
    """Fails when the template makes the same run again at once, and the same bytes are rolled out again."""
    x = at(phase)
    x.cluster.remove(where(found(x, "TrainingRun", "m-v2")))
    then = x.tick + x.abort_ticks
    x.go(40).settle()
    assert [r for r in x.routed if r[0] >= then] == []
    assert x.live == "m-v1"


# --- children --------------------------------------------------------------------------------------------------------


def _live_deployment(x: Explorer) -> Obj:
    selector = x.selector.items()
    return next(d for d in x.cluster.of_kind("Deployment") if selector <= d["metadata"]["labels"].items())


def _scale_down(x: Explorer) -> None:
    x.cluster.set_spec(_live_deployment(x), lambda spec: {**spec, "replicas": 0})


def _select_nothing(x: Explorer) -> None:
    x.cluster.set_spec(
        found(x, "Service"), lambda s: {**s, "selector": {**s["selector"], "steeltown.dev/version": "x"}}
    )


def _select_fewer(x: Explorer) -> None:
    """A label that no Pod has, beside ours: it narrows the selector to nothing."""
    x.cluster.set_spec(found(x, "Service"), lambda s: {**s, "selector": {**s["selector"], "team/shard": "1"}})


def _lead_elsewhere(x: Explorer) -> None:
    """By name, past the selector."""
    x.cluster.set_spec(found(x, "Service"), lambda s: {**s, "type": "ExternalName", "externalName": "lure.invalid"})


def _select_the_other(x: Explorer) -> None:
    """Whoever else has Pods: the candidate, or the version before; at rest one of the first two, which has none."""
    others = [d for d in x.cluster.of_kind("Deployment") if d["metadata"]["name"] != where(_live_deployment(x)).name]
    made = (Version(run=run, digest=v.model_digest) for run, v in (("m-v1", GOOD_A), ("m-v2", GOOD_B)))
    choice = [
        *(d["spec"]["selector"]["matchLabels"] for d in others),
        *({**x.selector, VERSION_LABEL: v.id} for v in made),
    ]
    labels = next(c for c in choice if c != x.selector)
    x.cluster.set_spec(found(x, "Service"), lambda spec: {**spec, "selector": dict(labels)})


def _other_image(x: Explorer) -> None:
    def change(spec: Obj) -> Obj:
        pod = spec["template"]["spec"]
        (server,) = pod["containers"]
        pod = {**pod, "containers": [{**server, "image": "of-somebody"}]}
        return {**spec, "template": {**spec["template"], "spec": pod}}

    x.cluster.set_spec(_live_deployment(x), change)


def _delete_deployment(x: Explorer) -> None:
    x.cluster.remove(where(_live_deployment(x)))


def _delete_service(x: Explorer) -> None:
    x.cluster.remove(where(found(x, "Service")))


def _delete_pods(x: Explorer) -> None:
    x.nature.evict(lambda pod: pod in x.nature.selected(MODEL))


CHILDREN: dict[str, Callable[[Explorer], None]] = {
    "live version scaled to nothing": _scale_down,
    "Service selects nothing": _select_nothing,
    "Service selects by a label more": _select_fewer,
    "Service leads elsewhere": _lead_elsewhere,
    "Service selects another version": _select_the_other,
    "live version of another image": _other_image,
    "live Deployment deleted": _delete_deployment,
    "Service deleted": _delete_service,
    "live Pods deleted": _delete_pods,
}


@pytest.mark.parametrize("phase", ["at rest", *PHASES])
@pytest.mark.parametrize("hand", CHILDREN)
def test_children_that_a_hand_has_bent_are_mended_and_the_rollout_ends_as_it_would(hand: str, phase: str) -> None:
    """Fails when a bent child is taken for a record, or for something that the candidate has done."""
    x = in_production() if phase == "at rest" else at(phase)
    x.grace(MEND_TICKS)
    CHILDREN[hand](x)
    x.settle()
    assert (x.live, x.promoted_digest) == ("m-v2", GOOD_B.model_digest)
    assert serving(x) == "m-v2"


def test_deployment_that_claims_to_be_the_models_is_not_listened_to() -> None:
    """Fails when an owner reference, which anybody with `edit` writes, makes a Deployment ours: its Pods are live ones
    by their labels, say of a version that fails its users that all is well, and carry it to full traffic."""
    x = at("first step")
    x.nature.trouble(Trouble.MUTE)  # else the step is over before the lure is there
    real = _live_deployment(x)
    meta = {k: real["metadata"][k] for k in ("namespace", "labels", "annotations", "ownerReferences")}
    containers = [{**c, "image": "liar"} for c in real["spec"]["template"]["spec"]["containers"]]
    pod = {**real["spec"]["template"]["spec"], "containers": containers}
    template = {**real["spec"]["template"], "spec": pod}
    x.cluster.put({**real, "metadata": {**meta, "name": "lure"}, "spec": {**real["spec"], "template": template}})
    x.until(lambda x: any(map(_lies, x.nature.endpoints(MODEL)))).nature.heal()
    x.go(10)
    asked = {what.uid for _, what in x.operator.store.observed()}
    pods = {p["metadata"]["uid"]: p for p in x.cluster.of_kind("Pod")}
    assert asked and not any(_lies(pods[uid]) for uid in asked)
    assert x.phase(Phase.SHIFTING, 0) and x.condition("Ready")[1] == "ForeignPods"
    x.cluster.remove(where(found(x, "Deployment", "lure")))
    x.until(live_is("m-v2")).settle()


def _lies(pod: Obj) -> bool:
    return bool(pod["spec"]["containers"][0]["image"] == "liar")


def test_model_without_replicas_is_not_called_available() -> None:
    """Fails when none of none is taken for enough."""
    x = in_production()
    edit(serving={"replicas": 0}).act(x)
    x.was_serving = False
    x.scenario = Scenario(name="none", steps=(), replicas=0, ticks=10_000)
    x.go(10)
    status, reason, _ = x.condition("Available")
    assert (status != "True", reason) == (True, "ScaledToZero")


BENT_ROUTES = (
    '{"window": "x", "weight": "many"}',
    '{"window": "x", "weight": null}',
    '{"weight": 50}',
    '{"window": "x", "weight": 1e999}',
    '{"window": [], "weight": {}}',
    "[]",
    "null",
    "{",
    "[" * 5000,
)


@pytest.mark.parametrize("route", BENT_ROUTES, ids=range(len(BENT_ROUTES)))
@pytest.mark.parametrize("phase", ["first step", "baking"])
def test_route_that_cannot_be_read_stops_nothing(phase: str, route: str) -> None:
    """Fails when an annotation of a Pod makes the planner raise: its model is reconciled no more."""
    x = at(phase)
    for pod in x.nature.selected(MODEL):
        annotate(x, pod, ROUTE_ANNOTATION, route)
    x.settle()
    assert x.live == "m-v2"


BENT_STATUS: tuple[Obj, ...] = (
    {"phase": "Dancing"},
    {"weight": "heavy"},
    {"phaseTime": "yesterday"},
    {"step": 99},
    {"id": None},
)


@pytest.mark.parametrize("change", BENT_STATUS, ids=lambda c: next(iter(c)))
@pytest.mark.parametrize("phase", ["first step", "baking"])
def test_status_that_cannot_be_read_stops_nothing(phase: str, change: Obj) -> None:
    """Fails when an unknown phase, as a newer version may have written it, makes the planner raise."""
    x = at(phase)
    assert x.model is not None
    status = x.model["status"]
    x.cluster.set_status(x.model, {**status, "rollout": {**status["rollout"], **change}})
    x.settle()
    assert x.live in ("m-v1", "m-v2")
    assert serving(x) == x.live


@pytest.mark.parametrize(
    ("cpu", "memory"),
    [("0.0005", "1.5Gi"), ("1000m", "0.1Gi"), ("0.25", "1024Mi"), ("2", "1000k"), ("0.0001", "0.5Ki")],
)
def test_equal_quantities_written_differently_cost_no_write_at_rest(cpu: str, memory: str) -> None:
    """Fails when a quantity is compared as it was written with how the API server answers it (I8)."""
    resources = {"requests": {"cpu": cpu, "memory": memory}}
    x = begun(create(GOOD_A, stage="Experimental"), edit(serving={"replicas": 2, "resources": resources}))
    x.until(live_is("m-v1")).settle()


# --- at random -------------------------------------------------------------------------------------------------------


class Hands:
    """Acts of users who do not know what they touch; at most as many as a scenario can bear."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.done: list[str] = []

    def act(self, x: Explorer) -> None:
        hand = self.random.choice((self.take_note, self.take_label, self.bend_note, self.lose_status, self.bend_child))
        hand(x)

    def _any(self, x: Explorer, *kinds: str) -> Obj | None:
        objects = [o for t, o in sorted(x.cluster.objects.items()) if not kinds or t.kind in kinds]
        return self.random.choice(objects) if objects else None

    def _tell(self, x: Explorer, what: str, obj: Obj) -> None:
        self.done.append(f"{x.tick}: {what} {obj['kind']}/{obj['metadata']['name']}")

    def take_note(self, x: Explorer) -> None:
        noted = [o for _, o in sorted(x.cluster.objects.items()) if records.notes(o)]
        if noted:
            obj = self.random.choice(noted)
            key = self.random.choice(sorted(records.notes(obj)))
            self._tell(x, f"{key} taken off", obj)
            without(x, obj, key)

    def bend_note(self, x: Explorer) -> None:
        noted = [o for _, o in sorted(x.cluster.objects.items()) if records.notes(o)]
        if noted:
            obj = self.random.choice(noted)
            key = self.random.choice(sorted(records.notes(obj)))
            self._tell(x, f"{key} bent on", obj)
            annotate(x, obj, key, self.random.choice(("", "{", "[]", '{"run": 1}', records.notes(obj)[key][:-1])))

    def take_label(self, x: Explorer) -> None:
        obj = self._any(x, "Deployment", "Service", "Job", "Pod", "TrainingRun")
        keys = sorted(k for k in (obj or {"metadata": {}})["metadata"].get("labels") or {} if k.startswith(OURS))
        if obj and keys:
            key = self.random.choice(keys)
            self._tell(x, f"{key} taken off", obj)
            if obj["kind"] == "Pod":
                x.grace(MEND_TICKS)
            without(x, obj, key, field="labels")

    def lose_status(self, x: Explorer) -> None:
        if x.model:
            self._tell(x, "status lost of", x.model)
            x.cluster.set_status(x.model, {"observedGeneration": -1})

    def bend_child(self, x: Explorer) -> None:
        if x.model and x.nature.endpoints(MODEL):
            name = self.random.choice(sorted(CHILDREN))
            self._tell(x, name, x.model)
            x.grace(MEND_TICKS)
            CHILDREN[name](x)


@pytest.mark.parametrize("number", range(HANDS))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_random_hands_break_no_invariant_and_the_model_comes_to_rest(scenario: Scenario, number: int) -> None:
    """Fails when hands together reach a world that no single act does. A failure prints what replays it."""
    seed = f"{SEED} {scenario.name} {number}"
    hands = Hands(seed)
    x = begun(*scenario.steps, replicas=scenario.replicas)
    try:
        for _ in range(scenario.ticks):
            if hands.random.random() < 0.08:
                hands.act(x)
            x.go(1)
        x.until(lambda x: not x.pending, within=150).settle()
        if x.model is not None:
            assert x.live
            assert serving(x) == x.live or x.cluster.get("TrainingRun", x.live) is None
            assert len(x.nature.endpoints(MODEL)) >= scenario.replicas
    except AssertionError as error:
        acts = "\n".join(hands.done)
        pytest.fail(f"seed {seed!r}\n{acts}\n{error}")


@pytest.mark.parametrize("phase", PHASES)
def test_record_bent_in_a_rollout_is_not_felt_by_users(phase: str) -> None:
    """Fails when what cannot be read is taken for "nobody is live"."""
    notes = records.notes(found(at(phase), "Service"))
    assert notes
    for key in notes:
        x = at(phase)
        annotate(x, found(x, "Service"), key, "{")
        x.settle()
        assert x.live in ("m-v1", "m-v2"), key
        assert serving(x) == x.live, key


# --- children of a rollout, edited or made again before anything of them is collected --------------------------------


def _as_it_was(obj: Obj) -> dict[str, object]:
    """kubectl replace --force: all but the uid."""
    meta = obj["metadata"]
    return {
        "metadata": {k: meta[k] for k in ("name", "namespace", "labels", "annotations", "ownerReferences") if k in meta}
    }


def _without_owner(obj: Obj) -> dict[str, object]:
    return {
        "metadata": {
            k: obj["metadata"][k] for k in ("name", "namespace", "labels", "annotations") if k in obj["metadata"]
        }
    }


def _bare(obj: Obj) -> dict[str, object]:
    return {}


AGAIN: dict[str, Callable[[Obj], dict[str, object]]] = {
    "as it was": _as_it_was,
    "without its owner": _without_owner,
    "with its spec alone": _bare,
}


def _of_the_rollout(x: Explorer) -> list[Obj]:
    """Children that are not those of the live version."""
    live = {MODEL, where(_live_deployment(x)).name}
    children = [o for kind in ("Deployment", "Service", "Job") for o in x.cluster.of_kind(kind)]
    return [o for o in children if o["metadata"]["name"] not in live and not _has_ended(o)]


def _has_ended(obj: Obj) -> bool:
    return bool(obj["kind"] == "Job" and (obj.get("status") or {}).get("conditions"))


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("phase", [p for p in PHASES if p != "baking"])
def test_child_of_a_rollout_made_again_before_collection_costs_time_at_most(phase: str, again: str) -> None:
    """Fails when what is left of the old child counts for the new one, or the new one is taken for the operator's."""
    children = _of_the_rollout(at(phase))
    assert children
    for child in children:
        x = at(phase)
        made = x.cluster.recreate(child, **AGAIN[again](child))
        x.go(5)
        if (known := x.cluster.objects.get(where(child))) and known["metadata"].get("labels", {}) == {}:
            assert known["metadata"]["uid"] == made["metadata"]["uid"]
            x.go(20)
            x.cluster.remove(where(child))  # as the status asks for
            cleared_of_strangers(x)
        x.until(live_is("m-v2"), within=150).settle()
        assert x.promoted_digest == GOOD_B.model_digest, where(child)


def _of_somebody(obj: Obj) -> Obj:
    spec = obj["spec"]
    pod = spec["template"]["spec"]
    (server,) = pod["containers"]
    pod = {**pod, "containers": [{**server, "image": "of-somebody"}]}
    return {**spec, "template": {**spec["template"], "spec": pod}}


EDITS: dict[str, tuple[str, Callable[[Obj], Obj]]] = {
    "scaled to nothing": ("Deployment", lambda obj: {**obj["spec"], "replicas": 0}),
    "scaled up": ("Deployment", lambda obj: {**obj["spec"], "replicas": 9}),
    "of another image": ("Deployment", _of_somebody),
    "selects others": ("Service", lambda obj: {**obj["spec"], "selector": {"app": "theirs"}}),
    "selects by a label more": (
        "Service",
        lambda obj: {**obj["spec"], "selector": {**obj["spec"]["selector"], "x": "y"}},
    ),
}


@pytest.mark.parametrize("change", EDITS)
@pytest.mark.parametrize("phase", [p for p in PHASES if p != "baking"])
def test_child_of_a_rollout_that_is_edited_costs_time_at_most(phase: str, change: str) -> None:
    """Fails when an edit of a child passes for what its version has done."""
    kind, edited = EDITS[change]
    for child in [c for c in _of_the_rollout(at(phase)) if c["kind"] == kind]:
        x = at(phase)
        x.cluster.set_spec(x.cluster.objects[where(child)], lambda spec, child=child: edited(child))  # type: ignore[misc]
        x.until(live_is("m-v2"), within=150).settle()
        assert x.promoted_digest == GOOD_B.model_digest, where(child)

"""The MLModel planner where a single look decides: purity, brakes, names, and what it must never touch."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from steeltown.api.conditions import violations
from steeltown.contract.evidence import ROUTE_ANNOTATION, Route
from steeltown.core import model as planner
from steeltown.core import rollout as rollouts
from steeltown.core.history import Expiry
from steeltown.core.model import plan_model
from steeltown.core.naming import deployment_name, load_check_name, version_id
from steeltown.core.observed.model import Run
from steeltown.core.plan import Annotate, Create, Delete, Key, Obj, Plan, Refusal, Snapshot, Target
from steeltown.core.record import outcome
from steeltown.core.rollout import Stay
from steeltown_testing.explore.nature import Behaviour
from steeltown_testing.explore.scenarios import (
    GOOD_A,
    GOOD_B,
    SCENARIOS,
    create,
    in_step,
    model,
    restage,
    retrain,
    template,
)
from steeltown_testing.explore.schedule import MODEL, POLICY, Explorer, Scenario


def settled(*steps: Any, ticks: int = 60) -> Explorer:
    return Explorer(Scenario(name="x", steps=steps or (create(GOOD_A),), ticks=ticks)).run()


def snapshot(explorer: Explorer) -> Snapshot:
    assert explorer.model is not None
    key = Key("MLModel", explorer.model["metadata"]["namespace"], MODEL)
    found = explorer.operator.store.snapshot(key)
    assert found is not None
    return found


def plan(seen: Snapshot, explorer: Explorer) -> Plan:
    made = plan_model(seen, explorer.cluster.now, POLICY)
    if made.status is not None:
        assert violations({**seen.root, "status": made.status}) == []
    return made


def edited(seen: Snapshot, **spec: Any) -> Snapshot:
    meta = {**seen.root["metadata"], "generation": seen.root["metadata"]["generation"] + 1}
    return replace(seen, root={**seen.root, "metadata": meta, "spec": {**seen.root["spec"], **spec}})


def ready(made: Plan) -> tuple[str, str]:
    assert made.status is not None
    condition = next(c for c in made.status["conditions"] if c["type"] == "Ready")
    return condition["status"], condition["reason"]


@pytest.mark.parametrize("scenario", SCENARIOS[:6], ids=lambda s: s.name)
def test_same_snapshot_and_time_give_the_same_plan(scenario: Scenario) -> None:
    explorer = Explorer(replace(scenario, steps=scenario.steps[:1], ticks=8)).run_to(8)
    seen = snapshot(explorer)
    assert plan(seen, explorer) == plan(seen, explorer)


def test_settled_model_has_an_empty_plan() -> None:
    explorer = settled()
    assert plan(snapshot(explorer), explorer) == Plan()


def test_every_edit_is_answered_with_its_generation() -> None:
    explorer = settled()
    made = plan(edited(snapshot(explorer)), explorer)
    assert made.status is not None
    assert {c["observedGeneration"] for c in made.status["conditions"]} == {made.status["observedGeneration"]}


def test_frozen_model_moves_nothing() -> None:
    explorer = settled()
    changed = edited(snapshot(explorer), frozen=True, training={"template": template(GOOD_B)})
    made = plan(changed, explorer)
    assert (made.actions, ready(made)) == ((), ("True", "Frozen"))


def test_frozen_canary_keeps_its_weight_and_still_rolls_back_when_harm_is_shown() -> None:
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(Behaviour("failing", "b"))), ticks=60))
    while not in_step(0)(explorer):
        explorer.run_to(explorer.tick + 1)
    assert explorer.model is not None
    explorer.cluster.set_spec(explorer.model, lambda spec: {**spec, "frozen": True})
    explorer.run_to(explorer.tick + 12)
    assert explorer.status.rollout is None
    latest = explorer.status.history[0]
    assert (latest.run, latest.outcome) == ("m-v2", "RolledBack")


def test_frozen_canary_does_not_move_forward_and_goes_on_afterwards() -> None:
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(GOOD_B)), ticks=90))
    while not in_step(0)(explorer):
        explorer.run_to(explorer.tick + 1)
    assert explorer.model is not None
    explorer.cluster.set_spec(explorer.model, lambda spec: {**spec, "frozen": True})
    explorer.run_to(explorer.tick + 30)
    assert in_step(0)(explorer)
    explorer.cluster.set_spec(explorer.model, lambda spec: {**spec, "frozen": False})
    explorer.run()
    assert explorer.status.versions.live is not None
    assert explorer.status.versions.live.run == "m-v2"


def test_rejected_version_is_not_served_when_promotion_is_taken_back() -> None:
    steps = (create(GOOD_A), retrain(Behaviour("failing", "b")), restage("Experimental"))
    explorer = settled(*steps, ticks=80)
    assert explorer.status.versions.live is not None
    assert explorer.status.versions.live.run == "m-v1"


def test_deleted_live_service_comes_back_at_once_with_the_same_version() -> None:
    explorer = settled(create(GOOD_A), retrain(GOOD_B))
    service = explorer.cluster.get("Service", MODEL)
    assert service is not None
    selector = service["spec"]["selector"]
    explorer.cluster.remove(Target("Service", service["metadata"]["namespace"], MODEL))
    explorer.was_serving = False  # the user's own doing
    explorer.scenario = replace(explorer.scenario, ticks=explorer.tick + 3)
    explorer.run()
    again = explorer.cluster.get("Service", MODEL)
    assert again is not None
    assert again["spec"]["selector"] == selector
    assert explorer.status.rollout is None
    assert explorer.status.stage == "Production"


@pytest.mark.parametrize("frozen", [False, True])
def test_aborted_rollout_is_taken_back_also_while_frozen(frozen: bool) -> None:
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(GOOD_B)), ticks=60))
    while not in_step(0)(explorer):
        explorer.run_to(explorer.tick + 1)
    assert explorer.model is not None
    explorer.cluster.set_spec(explorer.model, lambda spec: {**spec, "abort": "m-v2", "frozen": frozen})
    explorer.run()
    assert explorer.status.versions.live is not None
    assert explorer.status.versions.live.run == "m-v1"
    assert explorer.status.rollout is None
    assert explorer.status.verdict is not None
    assert explorer.status.verdict.reason == "Aborted"


def test_abort_that_names_nobody_is_told() -> None:
    explorer = settled()
    made = plan(edited(snapshot(explorer), abort="m-v7"), explorer)
    assert ready(made) == ("False", "UnknownRun")
    assert "m-v7" in json.dumps(made.status)


def test_spec_that_cannot_be_read_is_told_and_nothing_is_lost() -> None:
    explorer = settled()
    made = plan(edited(snapshot(explorer), stage="Prod"), explorer)
    assert (made.actions, ready(made)) == ((), ("False", "InvalidSpec"))
    assert made.status is not None
    assert made.status["versions"]["live"]["run"] == "m-v1"
    assert "spec.stage" in json.dumps(made.status["conditions"])


def test_refused_child_is_told_with_the_words_of_the_api_server() -> None:
    explorer = settled()
    refusal = Refusal(target=Target("Deployment", "team", "d"), message="denied by policy xyz")
    made = plan(replace(snapshot(explorer), refusals=(refusal,)), explorer)
    assert ready(made) == ("False", "ApplyRefused")
    assert "denied by policy xyz" in json.dumps(made.status)


def test_run_of_a_template_is_numbered_after_the_highest_and_made_once() -> None:
    explorer = settled()
    seen = snapshot(explorer)
    by_hand = json.loads(json.dumps(seen.members["TrainingRun"]["m-v1"]))
    by_hand["metadata"] |= {"name": "m-v12", "annotations": {}, "uid": "other"}
    by_hand["status"] = {}
    runs = {**seen.members["TrainingRun"], "m-v12": by_hand}
    more = replace(seen, members={**seen.members, "TrainingRun": runs})
    changed = edited(more, training={"template": template(GOOD_B)})
    creates = [a for a in plan(changed, explorer).actions if isinstance(a, Create)]
    assert [a.body["metadata"]["name"] for a in creates] == ["m-v13"]
    assert not any(isinstance(a, Create) for a in plan(more, explorer).actions)


def test_runs_of_one_second_are_ordered_by_their_number() -> None:
    def run(name: str) -> Run:
        return Run({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}}, POLICY)

    assert run("m-v9").order < run("m-v10").order


def test_deleting_the_run_of_the_live_version_moves_nothing() -> None:
    """Else the newest of the older runs would look new, and be rolled out."""
    explorer = settled(create(GOOD_A), retrain(GOOD_B))
    seen = snapshot(explorer)
    runs = {"m-v1": seen.members["TrainingRun"]["m-v1"]}
    made = plan(replace(seen, members={**seen.members, "TrainingRun": runs}), explorer)
    assert made.status is not None
    assert "rollout" not in made.status
    assert made.status["versions"]["live"]["run"] == "m-v2"
    assert {type(a) for a in made.actions} <= {Create}


def test_rollout_whose_run_was_deleted_ends_with_the_time_at_which_that_was_seen() -> None:
    """A run that the template makes again meanwhile is younger than that, and so the same bytes made again."""
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(GOOD_B)), ticks=90))
    while not in_step(0)(explorer):
        explorer.run_to(explorer.tick + 1)
    run = explorer.cluster.get("TrainingRun", "m-v2")
    assert run is not None
    explorer.cluster.remove(Target("TrainingRun", run["metadata"]["namespace"], "m-v2"))
    began = ""
    while explorer.status.rollout is not None:
        began = explorer.status.rollout.phase_time
        explorer.run_to(explorer.tick + 1)
    latest = explorer.status.history[0]
    assert (latest.run, latest.outcome, latest.reason) == ("m-v2", "Superseded", "RunDeleted")
    assert latest.time == began
    explorer.run()
    made = [r for r in explorer.cluster.of_kind("TrainingRun") if r["metadata"]["name"] != "m-v1"]
    assert [r["metadata"]["name"] for r in made] == ["m-v3"]
    assert all(r["metadata"]["creationTimestamp"] >= latest.time for r in made)
    assert [h.outcome for h in explorer.status.history] == ["Superseded", "Promoted"]


def test_foreign_objects_are_never_deleted() -> None:
    explorer = settled()
    seen = snapshot(explorer)
    foreign = json.loads(json.dumps(next(iter(seen.members["Deployment"].values()))))
    foreign["metadata"] |= {"name": "theirs", "ownerReferences": []}
    deployments = {**seen.members["Deployment"], "theirs": foreign}
    more = replace(seen, members={**seen.members, "Deployment": deployments})
    assert plan(more, explorer).actions == ()


def test_orphaned_version_is_pruned_with_its_uid() -> None:
    explorer = settled()
    seen = snapshot(explorer)
    old = json.loads(json.dumps(next(iter(seen.members["Deployment"].values()))))
    old["metadata"] |= {"name": "m-hold", "uid": "old"}
    old["spec"]["template"]["metadata"]["labels"]["steeltown.dev/version"] = "hold"
    deployments = {**seen.members["Deployment"], "m-hold": old}
    more = replace(seen, members={**seen.members, "Deployment": deployments})
    assert plan(more, explorer).actions == (Delete("Deployment", "team", "m-hold", "old"),)


def test_deployment_that_the_service_selects_is_never_pruned_whatever_the_annotations_say() -> None:
    explorer = settled()
    seen = snapshot(explorer)
    services = json.loads(json.dumps({**seen.of_kind("Service")}))
    services[MODEL]["metadata"]["annotations"] = {}
    root = {**seen.root, "status": {"observedGeneration": -1}}
    made = plan(replace(seen, root=root, members={**seen.members, "Service": services}), explorer)
    assert not any(isinstance(a, Delete) for a in made.actions)


def test_rows_of_the_live_version_outlive_its_run_and_the_status() -> None:
    """Else `minRatioToLive` compares with nothing, and half the data passes."""
    explorer = settled(create(GOOD_A), retrain(GOOD_B))
    for name in ("m-v1", "m-v2"):
        explorer.cluster.remove(Target("TrainingRun", explorer.cluster.namespace, name))
    assert explorer.model is not None
    explorer.cluster.set_status(explorer.model, {"observedGeneration": -1})
    explorer.run_to(explorer.tick + 2)
    assert explorer.status.versions.live is not None
    assert (explorer.status.versions.live.run, explorer.status.versions.live.rows) == ("m-v2", 1000)


def test_stale_route_without_a_rollout_is_withdrawn() -> None:
    """The status was lost in the middle of a canary: no pod may go on sending a share that nobody recorded."""
    explorer = settled()
    seen = snapshot(explorer)
    pods = json.loads(json.dumps(dict(seen.members["Pod"])))
    serving = next(p for p in pods.values() if p["metadata"]["labels"].get("steeltown.dev/track") == "serving")
    route = Route(window="lost-0", weight=20, canary_url="http://c", canary_digest="d")
    serving["metadata"]["annotations"] = {ROUTE_ANNOTATION: route.to_json()}
    made = plan(replace(seen, members={**seen.members, "Pod": pods}), explorer)
    (action,) = made.actions
    assert isinstance(action, Annotate)
    assert action.annotations == {ROUTE_ANNOTATION: None}


def test_first_experiment_takes_one_status_write() -> None:
    """Deployment, Service, status: what a created model costs once its version is there."""
    explorer = settled(create(GOOD_A, stage="Experimental", replicas=0), ticks=20)
    log = explorer.cluster.log
    made = next(i for i, line in enumerate(log) if "status of m-v1 True" in line)
    after = [line.split(": ", 1)[1] for line in log[made + 1 :]]
    assert [line.split("/")[0].split(" ->")[0] for line in after] == [
        "Apply Deployment",
        "Apply Service",
        "status of m True",
    ]


def test_lost_status_mid_canary_starts_the_rollout_again_from_weight_zero() -> None:
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(GOOD_B)), ticks=60))
    while not in_step(1)(explorer):
        explorer.run_to(explorer.tick + 1)
    assert explorer.model is not None
    explorer.cluster.set_status(explorer.model, {"observedGeneration": -1})
    explorer.run()
    assert explorer.status.versions.live is not None
    assert explorer.status.versions.live.run == "m-v2"


def test_hold_stays_at_its_weight_says_so_and_goes_on_when_evidence_comes() -> None:
    explorer = Explorer(
        Scenario(name="x", steps=(create(GOOD_A, progressDeadlineSeconds=10), retrain(GOOD_B)), ticks=60)
    )
    while not in_step(0)(explorer):
        explorer.run_to(explorer.tick + 1)
    explorer.nature.requests_per_tick = 5
    explorer.run_to(explorer.tick + 15)
    told = {c.type: c for c in explorer.status.conditions}
    assert (told["Stalled"].status, told["Stalled"].reason) == ("True", "Inconclusive")
    assert in_step(0)(explorer)
    explorer.nature.requests_per_tick = 400
    explorer.run_to(explorer.tick + 30)
    assert explorer.status.versions.live is not None
    assert explorer.status.versions.live.run == "m-v2"


def test_inconclusive_rolls_back_where_the_spec_says_so() -> None:
    first = create(GOOD_A, progressDeadlineSeconds=10, onInconclusive="Rollback")
    explorer = Explorer(Scenario(name="x", steps=(first, retrain(GOOD_B)), ticks=90))
    while not in_step(0)(explorer):
        explorer.run_to(explorer.tick + 1)
    explorer.nature.requests_per_tick = 5
    explorer.run_to(explorer.tick + 25)
    latest = explorer.status.history[0]
    assert (latest.run, latest.outcome, latest.reason) == ("m-v2", "RolledBack", "Inconclusive")


CHECKED = {"Loadable": "True", "InterfaceCompatible": "True", "ServingPerformance": "True"}


@pytest.mark.parametrize(
    ("behaviour", "shown"),
    [
        (GOOD_B, CHECKED | {"CanaryPassed": "True"}),
        (Behaviour("failing", "b"), CHECKED | {"CanaryPassed": "False"}),
        (Behaviour("renamed", "b"), {"Loadable": "True", "InterfaceCompatible": "False"}),
        (Behaviour("unloadable", "b"), {"Loadable": "False"}),
    ],
    ids=["promoted", "rejected as a canary", "rejected for its interface", "rejected while loading"],
)
def test_what_a_rollout_has_shown_is_carried_unchanged_into_its_outcome_and_the_history(
    behaviour: Behaviour, shown: dict[str, str]
) -> None:
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(behaviour)), ticks=90))
    while explorer.status.rollout is None or explorer.status.rollout.run != "m-v2":
        explorer.run_to(explorer.tick + 1)
    last = explorer.status.rollout
    while explorer.status.rollout is not None:
        last = explorer.status.rollout
        explorer.run_to(explorer.tick + 1)
    run = explorer.cluster.get("TrainingRun", "m-v2")
    assert run is not None
    told = outcome(run, POLICY)
    assert told is not None
    assert explorer.status.history[0].findings == list(told.findings)
    assert {f.type: f.status for f in told.findings} == shown
    assert all(f in told.findings for f in last.findings if f.type != "CanaryPassed")


def test_names_of_children_fit_whatever_the_model_is_called() -> None:
    name, digest = "m" * 40, "sha256:" + "a" * 64
    version = version_id("r" * 52, digest)
    for child in (deployment_name(name, version), load_check_name(name, version, 2)):
        assert len(child) <= 63
        assert child.replace("-", "").isalnum()


def test_model_without_versions_waits_and_says_what_for() -> None:
    root: Obj = model(GOOD_A)
    root["spec"].pop("training")
    root["metadata"] |= {"namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "1"}
    made = plan_model(Snapshot(root=root), Explorer(SCENARIOS[0]).cluster.now + timedelta(0), POLICY)
    assert (made.actions, ready(made)) == ((), ("False", "NoVersion"))


def condition(status: Obj, kind: str) -> tuple[str, str]:
    found = next(c for c in status["conditions"] if c["type"] == kind)
    return found["status"], found["reason"]


def test_live_version_without_a_ready_replica_is_not_available() -> None:
    explorer = settled()
    seen = snapshot(explorer)
    deployments = {
        name: {**obj, "status": {**obj["status"], "readyReplicas": 0}}
        for name, obj in seen.of_kind("Deployment").items()
    }
    made = plan(replace(seen, members={**seen.members, "Deployment": deployments}), explorer)
    assert made.status is not None
    assert condition(made.status, "Available") == ("False", "MinimumReplicasUnavailable")
    assert ready(made)[0] == "False"


@pytest.mark.parametrize("kind", ["slow", "failing", "worse"])
def test_version_that_did_not_make_it_stalls_the_model_with_its_reason(kind: str) -> None:
    """The live one goes on serving, and a person must look."""
    explorer = settled(create(GOOD_A), retrain(Behaviour(kind, "b")), ticks=70)
    assert explorer.model is not None
    status = explorer.model["status"]
    wanted = "NotEligible" if kind == "worse" else "RolledBack"
    assert condition(status, "Stalled") == ("True", wanted)
    assert condition(status, "Ready") == ("False", wanted)
    assert condition(status, "Available")[0] == "True"
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Stalled")
    assert message.startswith("m-v2: ")


# --- when to look again ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_canary() -> Explorer:
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(GOOD_B)), ticks=60))
    while not in_step(0)(explorer):
        explorer.run_to(explorer.tick + 1)
    return explorer


@pytest.mark.parametrize(
    ("rollout", "trigger", "history", "soonest"),
    [
        (None, None, None, None),
        (30.0, None, None, 30.0),
        (None, 30.0, None, 30.0),
        (None, None, 30.0, 30.0),
        (10.0, 20.0, 30.0, 10.0),
        (20.0, 10.0, 30.0, 10.0),
        (30.0, 20.0, 10.0, 10.0),
        (None, 20.0, 10.0, 10.0),
        (10.0, None, 20.0, 10.0),
        (0.0, 20.0, 30.0, 0.0),
    ],
)
def test_plan_comes_back_when_the_first_of_all_who_ask_for_it_wants_it(
    monkeypatch: pytest.MonkeyPatch,
    in_canary: Explorer,
    rollout: float | None,
    trigger: float | None,
    history: float | None,
    soonest: float | None,
) -> None:
    monkeypatch.setattr(rollouts, "decide", lambda context: Stay(requeue_after=rollout))
    monkeypatch.setattr(planner, "new_run", lambda world, now: ((), trigger))
    monkeypatch.setattr(planner, "expire", lambda *of: Expiry(requeue_after=history))
    assert plan(snapshot(in_canary), in_canary).requeue_after == soonest

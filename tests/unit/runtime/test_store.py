"""The cache: newest wins in any order, deletions stay, snapshots hold what a planner may know."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.contract.evidence import Counts, Evidence
from steeltown.core.plan import Key, Observe, Target
from steeltown.runtime.store import Store

MODEL, RUN = Key("MLModel", "team", "m"), Key("TrainingRun", "team", "r")


def evidence(requests: int) -> Evidence:
    counts = Counts(requests=requests)
    return Evidence(instance="i", digest="d", window="e", weight=5, live=counts, canary=Counts())


def test_child_concerns_the_root_of_its_label(objects: Any) -> None:
    assert Store().apply_event("ADDED", objects.child("Deployment", "d")) == [MODEL]


def test_same_version_again_concerns_nobody(objects: Any) -> None:
    store, model = Store(), objects.model()
    assert store.apply_event(None, model) == [MODEL]
    assert store.apply_event("MODIFIED", model) == []


def test_older_version_is_ignored(objects: Any) -> None:
    store = Store()
    store.apply_event("MODIFIED", objects.model(version=9, spec="new"))
    assert store.apply_event("MODIFIED", objects.model(version=8, spec="old")) == []
    snapshot = store.snapshot(MODEL)
    assert snapshot is not None
    assert snapshot.root["spec"] == "new"


def test_late_answer_does_not_bring_a_deleted_object_back(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.child("Pod", "p", version=5))
    store.apply_event("DELETED", objects.child("Pod", "p", version=9))
    assert store.write_through(objects.child("Pod", "p", version=7)) == []
    assert store.get(Target("Pod", "team", "p")) is None


def test_object_that_returns_to_the_selection_is_seen_again(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.child("Pod", "p", version=5))
    store.apply_event("DELETED", objects.child("Pod", "p", version=6))  # its label was taken away
    assert store.apply_event("ADDED", objects.child("Pod", "p", version=8)) == [MODEL]


def test_object_that_left_the_selection_and_was_put_back_by_our_own_write_stays(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.child("Pod", "p", version=5))
    store.write_through(objects.child("Pod", "p", version=8))
    assert store.apply_event("DELETED", objects.child("Pod", "p", version=7)) == []
    assert store.get(Target("Pod", "team", "p")) is not None


def test_late_deletion_of_a_predecessor_leaves_the_successor(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.child("Pod", "p", uid="first", version=5))
    store.apply_event("ADDED", objects.child("Pod", "p", uid="second", version=8))
    assert store.apply_event("DELETED", objects.child("Pod", "p", uid="first", version=7)) == []
    assert store.get(Target("Pod", "team", "p")) is not None


@given(order=st.permutations(range(4)))
def test_any_order_of_one_objects_events_ends_in_the_same_state(order: list[int]) -> None:
    def pod(version: int) -> dict[str, Any]:
        metadata = {"name": "p", "namespace": "team", "uid": "u", "resourceVersion": str(version)}
        return {"kind": "Pod", "metadata": {**metadata, "labels": {"steeltown.dev/model": "m"}}}

    events = [("ADDED", pod(1)), ("MODIFIED", pod(2)), ("MODIFIED", pod(3)), ("DELETED", pod(4))]
    store = Store()
    for index in order:
        store.apply_event(*events[index])
    assert store.get(Target("Pod", "team", "p")) is None
    assert store.count("Pod") == 0


@given(order=st.permutations(range(3)))
def test_write_through_and_watch_in_any_order_keep_the_newest(order: list[int]) -> None:
    store = Store()
    for index in order:
        metadata = {"name": "m", "namespace": "team", "uid": "u", "resourceVersion": str(index + 1)}
        store.apply_event("MODIFIED", {"kind": "MLModel", "metadata": metadata, "spec": index})
    snapshot = store.snapshot(MODEL)
    assert snapshot is not None
    assert snapshot.root["spec"] == 2


def test_child_that_changes_its_root_concerns_both(objects: Any) -> None:
    store = Store()
    pod = objects.child("Pod", "p")
    store.apply_event("ADDED", pod)
    moved = objects.child("Pod", "p", model="other", uid=pod["metadata"]["uid"])
    assert set(store.apply_event("MODIFIED", moved)) == {MODEL, Key("MLModel", "team", "other")}
    store.apply_event("ADDED", objects.model())
    snapshot = store.snapshot(MODEL)
    assert snapshot is not None
    assert snapshot.of_kind("Pod") == {}


def test_model_concerns_its_unfinished_runs_and_no_finished_ones(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.run("r"))
    store.apply_event("ADDED", objects.run("done", status={"completionTime": "2026-01-01T00:00:00Z"}))
    assert store.apply_event("ADDED", objects.model()) == [MODEL, RUN]


def test_snapshots_hold_children_runs_and_the_runs_model(objects: Any) -> None:
    store = Store()
    for obj in (objects.model(), objects.run(), objects.child("Deployment", "d"), objects.child("Pod", "p")):
        store.apply_event(None, obj)
    model, run = store.snapshot(MODEL), store.snapshot(RUN)
    assert model is not None
    assert run is not None
    assert {kind: set(named) for kind, named in model.members.items()} == {
        "TrainingRun": {"r"},
        "Deployment": {"d"},
        "Pod": {"p"},
    }
    assert set(run.members) == {"MLModel", "Service"}


def test_snapshot_does_not_change_when_the_cache_does(objects: Any) -> None:
    store = Store()
    store.apply_event(None, objects.model())
    before = store.snapshot(MODEL)
    store.apply_event("ADDED", objects.child("Pod", "p"))
    assert before is not None
    assert before.members == {}


def test_snapshots_taken_one_after_the_other_each_stay_what_they_were(objects: Any) -> None:
    store = Store()
    store.apply_event(None, objects.model())
    names: list[set[str]] = []
    snapshots = []
    for number in range(4):
        store.apply_event("ADDED", objects.child("Pod", f"p{number}"))
        snapshot = store.snapshot(MODEL)
        assert snapshot is not None
        snapshots.append(snapshot)
        names.append({f"p{n}" for n in range(number + 1)})
    store.apply_event("DELETED", objects.child("Pod", "p0", version=99))
    assert [set(snapshot.of_kind("Pod")) for snapshot in snapshots] == names


def test_snapshot_cannot_be_written_to(objects: Any) -> None:
    store = Store()
    store.apply_event(None, objects.model())
    store.apply_event(None, objects.child("Pod", "p"))
    snapshot = store.snapshot(MODEL)
    assert snapshot is not None
    with pytest.raises(TypeError):
        del snapshot.of_kind("Pod")["p"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", ["finished", "deleted", "moved"])
def test_run_that_no_longer_concerns_a_model_is_not_woken_with_it(objects: Any, end: str) -> None:
    store, run = Store(), objects.run("r")
    store.apply_event("ADDED", run)
    assert store.apply_event("ADDED", objects.model()) == [MODEL, RUN]
    match end:
        case "finished":
            store.apply_event("MODIFIED", objects.changed(run, status={"completionTime": "2026-01-01T00:00:00Z"}))
        case "deleted":
            store.apply_event("DELETED", objects.changed(run))
        case "moved":
            store.apply_event("MODIFIED", objects.changed(run, spec={"modelRef": {"name": "other"}}))
    assert store.apply_event("MODIFIED", objects.model()) == [MODEL]


def test_objects_that_come_and_go_while_a_list_is_compared_confuse_nothing(objects: Any) -> None:
    store = Store()
    for name in ("a", "b", "c"):
        store.apply_event("ADDED", objects.child("Pod", name, version=5))
    compared = store.prune("Pod", None, set(), 7)
    next(compared)
    store.apply_event("DELETED", objects.child("Pod", "b", version=6))
    store.apply_event("ADDED", objects.child("Pod", "d", version=8))
    store.apply_event("MODIFIED", objects.child("Pod", "c", version=9))
    assert [*compared] == [None, None]
    assert store.count("Pod") == 2


def test_what_no_planner_reads_is_not_kept_and_the_event_not_changed(objects: Any) -> None:
    store, model = Store(), objects.model()
    model["metadata"]["managedFields"] = [{}]
    model["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"}
    store.apply_event("ADDED", model)
    kept = store.get(Target(*MODEL))
    assert kept is not None
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"kept": "yes"}
    assert "managedFields" in model["metadata"]


def test_list_without_a_known_object_prunes_it(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.child("Pod", "p", version=5))
    assert [*store.prune("Pod", None, set(), 7)] == [[MODEL]]
    assert store.count("Pod") == 0


def test_object_created_after_the_list_began_is_no_ghost(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.child("Pod", "p", version=8))
    assert [*store.prune("Pod", None, set(), 7)] == [None]
    assert store.count("Pod") == 1


def test_list_of_one_namespace_prunes_no_other(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.child("Pod", "p", version=5))
    assert [*store.prune("Pod", "elsewhere", set(), 7)] == []
    assert store.count("Pod") == 1


def test_tombstones_are_bounded(objects: Any) -> None:
    store = Store()
    for number in itertools.islice(itertools.count(1), 10_500):
        store.apply_event("DELETED", objects.child("Pod", "p", uid=str(number), version=number))
    assert len(store._tombstones) <= 10_000


def test_evidence_is_kept_for_pods_that_the_standing_plan_observes(objects: Any) -> None:
    store, pod = Store(), Observe(uid="u", url="http://pod")
    store.apply_event(None, objects.model())
    store.observe(MODEL, (pod,))
    assert store.observed() == [(MODEL, pod)]
    assert store.put_evidence("u", evidence(1))
    assert not store.put_evidence("u", evidence(1))
    snapshot = store.snapshot(MODEL)
    assert snapshot is not None
    assert snapshot.evidence["u"].live.requests == 1
    store.observe(MODEL, ())
    store.observe(MODEL, (pod,))
    snapshot = store.snapshot(MODEL)
    assert snapshot is not None
    assert snapshot.evidence == {}


def replica_set(objects: Any, **metadata: Any) -> dict[str, Any]:
    owner = {"kind": "Deployment", "name": "d", "uid": "uid-d", "controller": True}
    made = objects.child("ReplicaSet", "d-1", spec={"template": {}}, status={"replicas": 1})
    more = {"ownerReferences": [owner], "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}]}
    return {**made, "metadata": {**made["metadata"], "annotations": {"revision": "1"}, **more, **metadata}}


def test_replica_set_is_kept_as_a_link_between_deployment_and_pods_and_no_more(objects: Any) -> None:
    store = Store()
    store.apply_event("ADDED", objects.model())
    assert store.apply_event("ADDED", replica_set(objects)) == [MODEL]
    snapshot = store.snapshot(MODEL)
    assert snapshot is not None
    kept = snapshot.of_kind("ReplicaSet")["d-1"]
    assert kept == {
        "apiVersion": "v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": "d-1",
            "namespace": "team",
            "uid": "uid-ReplicaSet-d-1",
            "labels": {"steeltown.dev/model": "m"},
            "ownerReferences": [{"kind": "Deployment", "name": "d", "uid": "uid-d", "controller": True}],
            "resourceVersion": kept["metadata"]["resourceVersion"],
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
    }


@pytest.mark.parametrize(
    ("change", "concerned"),
    [
        pytest.param({}, [], id="its status counts Pods"),
        pytest.param({"annotations": {"revision": "2"}, "generation": 2}, [], id="nothing that is kept"),
        pytest.param({"deletionTimestamp": "2026-01-01T00:00:01Z"}, [MODEL], id="being deleted"),
        pytest.param({"ownerReferences": []}, [MODEL], id="another owner"),
        pytest.param({"uid": "another"}, [MODEL], id="a successor"),
        pytest.param(
            {"labels": {"steeltown.dev/model": "other"}}, [Key("MLModel", "team", "other"), MODEL], id="another root"
        ),
        pytest.param({"labels": {}}, [MODEL], id="no root any more"),
    ],
)
def test_only_a_change_of_the_link_itself_concerns_its_root(
    objects: Any, change: dict[str, Any], concerned: list[Key]
) -> None:
    store = Store()
    store.apply_event("ADDED", replica_set(objects))
    changed = replica_set(objects, **change)
    assert store.apply_event("MODIFIED", changed) == concerned
    version = int(changed["metadata"]["resourceVersion"])
    assert store.has_seen(Target("ReplicaSet", "team", "d-1"), changed["metadata"]["uid"], version)


def taken(objects: Any, *specs: dict[str, Any]) -> list[dict[str, Any]]:
    """The specs as the cache holds them, each of a Pod of its own."""
    store = Store()
    for number, spec in enumerate(specs):
        store.apply_event(
            "ADDED", objects.child("Pod", f"p{number}", version=number + 1, spec=json.loads(json.dumps(spec)))
        )
    found = [store.get(Target("Pod", "team", f"p{number}")) for number in range(len(specs))]
    return [obj["spec"] for obj in found if obj is not None]


def test_equal_keys_texts_and_parts_are_held_once(objects: Any) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "commands": ["run", {"now": True}]}
    specs = [{"probe": probe, "kind": "the same", "name": f"unique-{number}"} for number in range(2)]
    first, last = taken(objects, *specs)
    assert [first, last] == specs
    assert all(key is same for key, same in zip(first, last, strict=True))
    assert first["probe"] is last["probe"]
    assert first["kind"] is last["kind"]
    assert first["name"] != last["name"]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), (0, None), (1, 1.0), ({}, []), ("1", 1), ([], None), (0.0, -0.0), ({"a": 1}, ["a", 1])],
    ids=repr,
)
def test_what_is_merely_alike_is_kept_apart(objects: Any, one: Any, other: Any) -> None:
    specs = [{"dict": {"x": one}, "list": [one]}, {"dict": {"x": other}, "list": [other]}]
    assert [json.dumps(spec) for spec in taken(objects, *specs)] == [json.dumps(spec) for spec in specs]


def test_order_of_keys_and_items_is_kept(objects: Any) -> None:
    specs = [{"d": {"a": "x", "b": "y"}, "l": ["x", "y"]}, {"d": {"b": "y", "a": "x"}, "l": ["y", "x"]}]
    assert [json.dumps(spec) for spec in taken(objects, *specs)] == [json.dumps(spec) for spec in specs]


def test_tables_of_what_is_shared_stay_small_and_what_was_shared_stays_right(objects: Any) -> None:
    specs = [{"labels": {"same": "always", "number": f"unique-{n}"}, "args": [f"unique-{n}"]} for n in range(6000)]
    store = Store()
    for number, spec in enumerate(specs):
        store.apply_event("ADDED", objects.child("Pod", f"p{number}", version=number + 1, spec=spec))
    found = [store.get(Target("Pod", "team", f"p{number}")) for number in range(6000)]
    assert [obj["spec"] for obj in found if obj] == specs
    assert len(store._sharing._texts) <= 5100
    assert len(store._sharing._parts) <= 10100

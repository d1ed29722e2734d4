"""What the runtime takes for granted about the API server, and that its doors hold to it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from steeltown.core.plan import Annotate, Apply, Create, Delete, Obj, Restore
from steeltown.core.program import program
from steeltown.kube.apply import FIELD_MANAGER, STATUS_FIELD_MANAGER, Applier
from steeltown.kube.client import MERGE_PATCH, Client
from steeltown.kube.errors import Expired, NotFound
from steeltown.kube.events import EventWriter
from steeltown.kube.lists import Lister
from steeltown.kube.resources import EVENT, WATCHED, Resources

CLUSTER = Path(__file__).parents[1] / "cluster"
MANAGED = {"app.kubernetes.io/managed-by": "steeltown"}


@pytest.fixture
def applier(client: Client, toys: Resources) -> Applier:
    return Applier(client, resources=toys)


def deployment(namespace: str, *, image: str = "registry.invalid/a:1", env: bool = True, **metadata: Any) -> Obj:
    container: Obj = {"name": "main", "image": image}
    if env:
        container["env"] = [{"name": "A", "value": "1"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": namespace, "labels": MANAGED, **metadata},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [container]}},
        },
    }


def service(namespace: str, name: str = "s", **metadata: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": MANAGED, **metadata},
        "spec": {"selector": {"app": "d"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    }


async def model(client: Client, toys: Resources, namespace: str, name: str = "m") -> Obj:
    toy = toys["MLModel"]
    body = {"apiVersion": toy.api_version, "kind": "MLModel", "metadata": {"name": name}, "spec": {"v": 0}}
    return await client.request("POST", toy.collection(namespace), body=body)


async def test_what_a_hand_has_added_outlives_an_apply_and_is_taken_back_by_a_restore(
    client: Client, applier: Applier, namespace: str
) -> None:
    """Every way to make a container run something else, or to see into it, that is not a field of the intent."""
    wanted = deployment(namespace)
    made = (await applier.run(Apply(wanted))).obj
    assert made is not None
    container = made["spec"]["template"]["spec"]["containers"][0]
    env = [*container["env"], {"name": "LD_PRELOAD", "value": "/their/code.so"}]
    bent = {**container, "env": env, "command": ["theirs"], "envFrom": [{"configMapRef": {"name": "theirs"}}]}
    bent["volumeMounts"] = [{"name": "theirs", "mountPath": "/opt"}]
    pod = {
        "containers": [bent, {"name": "theirs", "image": "theirs.invalid/a:1"}],
        "initContainers": [{"name": "first", "image": "theirs.invalid/a:1"}],
        "volumes": [{"name": "theirs", "emptyDir": {}}],
        "shareProcessNamespace": True,
    }
    path = WATCHED["Deployment"].item(namespace, "d")
    change = {"spec": {"template": {"spec": pod}}}
    await client.request("PATCH", path, body=change, content_type=MERGE_PATCH)

    left = (await applier.run(Apply(wanted))).obj
    assert left is not None
    assert len(left["spec"]["template"]["spec"]["containers"]) == 2

    answer = await applier.run(Restore(wanted, made["metadata"]["uid"]))
    assert answer.obj is not None
    assert answer.obj["spec"] == made["spec"]
    assert program(answer.obj["spec"]["template"]["spec"]) == program(wanted["spec"]["template"]["spec"])
    assert (await applier.run(Restore(wanted, "of-another"))).result == "stale"


async def test_apply_creates_then_changes_then_takes_back_what_the_intent_no_longer_holds(
    applier: Applier, namespace: str
) -> None:
    created = await applier.run(Apply(deployment(namespace)))
    changed = await applier.run(Apply(deployment(namespace, image="registry.invalid/a:2", env=False)))
    assert created.result == changed.result == "done"
    assert created.obj is not None
    assert changed.obj is not None
    assert changed.obj["metadata"]["uid"] == created.obj["metadata"]["uid"]
    (container,) = changed.obj["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.invalid/a:2"
    assert "env" not in container
    managers = {entry["manager"] for entry in changed.obj["metadata"]["managedFields"]}
    assert FIELD_MANAGER in managers


async def test_applying_the_same_again_changes_no_version(applier: Applier, namespace: str) -> None:
    first = await applier.run(Apply(service(namespace)))
    again = await applier.run(Apply(service(namespace)))
    assert first.obj is not None
    assert again.obj is not None
    assert again.obj["metadata"]["resourceVersion"] == first.obj["metadata"]["resourceVersion"]


async def test_apply_of_an_invalid_object_is_refused_with_the_servers_message(applier: Applier, namespace: str) -> None:
    body = service(namespace)
    body["spec"]["ports"][0]["port"] = 80_000
    answer = await applier.run(Apply(body))
    assert answer.result == "refused"
    assert "must be between 1 and 65535" in answer.message


async def test_apply_against_a_policy_is_refused_with_the_policys_message(
    applier: Applier, namespace: str, deny: Any
) -> None:
    await deny("no deployments on fridays")
    answer = await applier.run(Apply(deployment(namespace)))
    assert answer.result == "refused"
    assert "no deployments on fridays" in answer.message


async def test_apply_of_a_child_that_another_controller_owns_is_refused(
    applier: Applier, client: Client, toys: Resources, namespace: str
) -> None:
    def owned(owner: Obj) -> Obj:
        reference = {"apiVersion": owner["apiVersion"], "kind": "MLModel", "controller": True}
        names = {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        return service(namespace, ownerReferences=[{**reference, **names}])

    first, second = await model(client, toys, namespace, "one"), await model(client, toys, namespace, "two")
    await client.request("POST", toys["Service"].collection(namespace), body=owned(first))
    answer = await applier.run(Apply(owned(second)))
    assert answer.result == "refused"
    assert "Only one reference can have Controller set to true" in answer.message


async def test_unforced_apply_onto_a_service_with_a_selector_of_its_own_is_refused(
    applier: Applier, client: Client, namespace: str
) -> None:
    foreign = service(namespace)
    foreign["spec"]["selector"] = {"app": "somebody-elses"}
    path = WATCHED["Service"].collection(namespace)
    before = await client.request("POST", path, query={"fieldManager": "kubectl-create"}, body=foreign)
    answer = await applier.run(Apply(service(namespace), force=False))
    assert answer.result == "refused"
    assert "Service s already exists and is not controlled by this object: delete or rename it" in answer.message
    assert "kubectl-create" in answer.message
    after = await client.request("GET", f"{path}/s")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_unforced_apply_onto_a_service_without_a_selector_is_refused_and_leaves_no_trace(
    applier: Applier, client: Client, namespace: str
) -> None:
    foreign = service(namespace)
    del foreign["spec"]["selector"], foreign["metadata"]["labels"]
    path = WATCHED["Service"].collection(namespace)
    before = await client.request("POST", path, query={"fieldManager": "kubectl-create"}, body=foreign)
    answer = await applier.run(Apply(service(namespace, annotations={"a": "b"}), force=False))
    assert answer.result == "refused"
    assert "is not controlled by this object" in answer.message
    after = await client.request("GET", f"{path}/s")
    assert after["spec"] == before["spec"]
    assert not {"labels", "annotations"} & set(after["metadata"])


async def test_unforced_apply_onto_our_own_object_changes_it(applier: Applier, namespace: str) -> None:
    first = await applier.run(Apply(service(namespace), force=False))
    again = await applier.run(Apply(service(namespace, annotations={"a": "b"}), force=False))
    assert first.result == again.result == "done"
    assert again.obj is not None
    assert again.obj["metadata"]["annotations"] == {"a": "b"}


async def test_create_of_what_exists_leaves_it_and_hands_it_out(applier: Applier, namespace: str) -> None:
    first = await applier.run(Create(service(namespace)))
    again = await applier.run(Create(service(namespace, annotations={"other": "yes"})))
    assert again.result == "done"
    assert first.obj is not None
    assert again.obj is not None
    assert again.obj["metadata"]["uid"] == first.obj["metadata"]["uid"]
    assert again.obj["kind"] == "Service"
    assert "annotations" not in again.obj["metadata"]


async def test_create_of_a_name_that_somebody_else_has_is_refused(
    applier: Applier, client: Client, toys: Resources, namespace: str
) -> None:
    await applier.run(Create(service(namespace)))
    owner = await model(client, toys, namespace)
    reference = {"apiVersion": owner["apiVersion"], "kind": "MLModel", "name": "m", "controller": True}
    answer = await applier.run(
        Create(service(namespace, ownerReferences=[{**reference, "uid": owner["metadata"]["uid"]}]))
    )
    assert answer.result == "refused"
    assert "already exists and is not controlled by this object" in answer.message


async def test_delete_holds_to_the_uid_and_takes_gone_for_success(applier: Applier, namespace: str) -> None:
    created = await applier.run(Apply(service(namespace)))
    assert created.obj is not None
    uid = created.obj["metadata"]["uid"]
    assert (await applier.run(Delete("Service", namespace, "s", "another"))).result == "stale"
    deleted = await applier.run(Delete("Service", namespace, "s", uid))
    assert (deleted.result, deleted.obj) == ("done", None)
    assert (await applier.run(Delete("Service", namespace, "s", uid))).result == "stale"


async def test_delete_of_an_object_with_a_finalizer_hands_out_what_lingers(
    applier: Applier, client: Client, namespace: str
) -> None:
    created = await applier.run(Apply(service(namespace, finalizers=["steeltown.dev/test"])))
    assert created.obj is not None
    deleted = await applier.run(Delete("Service", namespace, "s", created.obj["metadata"]["uid"]))
    assert deleted.obj is not None
    assert "deletionTimestamp" in deleted.obj["metadata"]
    await applier.run(Apply(service(namespace)))


async def test_annotation_holds_to_the_uid_and_none_removes(applier: Applier, namespace: str) -> None:
    created = await applier.run(Apply(service(namespace)))
    assert created.obj is not None
    uid = created.obj["metadata"]["uid"]
    assert (await applier.run(Annotate("Service", namespace, "s", "another", {"a": "1"}))).result == "stale"
    assert (await applier.run(Annotate("Service", namespace, "gone", uid, {"a": "1"}))).result == "stale"
    added = await applier.run(Annotate("Service", namespace, "s", uid, {"a": "1"}))
    removed = await applier.run(Annotate("Service", namespace, "s", uid, {"a": None, "b": "2"}))
    assert added.obj is not None
    assert removed.obj is not None
    assert added.obj["metadata"]["annotations"] == {"a": "1"}
    assert removed.obj["metadata"]["annotations"] == {"b": "2"}


async def test_status_is_replaced_whole_by_a_manager_of_its_own(
    applier: Applier, client: Client, toys: Resources, namespace: str
) -> None:
    root = await model(client, toys, namespace)
    first = await applier.status(root, {"a": 1, "b": 2}, locked=True)
    assert first.obj is not None
    second = await applier.status(first.obj, {"b": 3}, locked=True)
    assert second.obj is not None
    assert second.obj["status"] == {"b": 3}
    assert second.obj["spec"] == {"v": 0}
    managers = {entry["manager"] for entry in second.obj["metadata"]["managedFields"] if entry.get("subresource")}
    assert managers == {STATUS_FIELD_MANAGER}


async def test_status_over_an_older_version_is_a_conflict(
    applier: Applier, client: Client, toys: Resources, namespace: str
) -> None:
    root = await model(client, toys, namespace)
    await applier.status(root, {"a": 1}, locked=True)
    assert (await applier.status(root, {"a": 2}, locked=True)).result == "conflict"


async def test_status_never_lands_on_a_successor_of_the_same_name(
    applier: Applier, client: Client, toys: Resources, namespace: str
) -> None:
    root = await model(client, toys, namespace)
    await client.request("DELETE", toys["MLModel"].item(namespace, "m"))
    assert (await applier.status(root, {"a": 1}, locked=False)).result == "stale"
    await model(client, toys, namespace)
    assert (await applier.status(root, {"a": 1}, locked=False)).result == "conflict"


async def test_status_that_a_rule_forbids_is_refused_with_the_rules_message(
    applier: Applier, client: Client, toys: Resources, namespace: str
) -> None:
    root = await model(client, toys, namespace)
    answer = await applier.status(root, {"refuse": "yes"}, locked=True)
    assert answer.result == "refused"
    assert "status.refuse is never accepted" in answer.message


async def test_list_in_pages_shows_all_selected_objects_at_one_version(client: Client, namespace: str) -> None:
    applier = Applier(client)
    for number in range(5):
        await applier.run(Apply(service(namespace, f"s{number}")))
    foreign = service(namespace, "foreign")
    foreign["metadata"]["labels"] = {}
    await applier.run(Apply(foreign))
    pages = [page async for page in Lister(client, page_size=2).pages("Service", namespace)]
    items = [item for page, _ in pages for item in page]
    assert [len(page) for page, _ in pages] == [2, 2, 1]
    assert {item["metadata"]["name"] for item in items} == {f"s{number}" for number in range(5)}
    assert all(item["kind"] == "Service" and item["apiVersion"] == "v1" for item in items)
    assert len({version for _, version in pages}) == 1


async def test_list_of_a_kind_that_is_not_installed_is_not_found(client: Client, toys: Resources) -> None:
    missing = {"MLModel": toys["MLModel"].__class__(api_version="nowhere.steeltown.dev/v1", plural="mlmodels")}
    with pytest.raises(NotFound):
        _ = [page async for page in Lister(client, resources=missing).pages("MLModel", None)]


@pytest.mark.skipif("STEELTOWN_KUBECONFIG" in os.environ, reason="only the history of our own cluster is ours to drop")
async def test_list_continued_after_its_history_is_dropped_is_expired(client: Client) -> None:
    """Of Events, the one kind that an API server does not answer from a cache of its own."""
    drop = await asyncio.create_subprocess_exec(sys.executable, str(CLUSTER), "compact", "--control-plane")
    assert await drop.wait() == 0
    token = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0"
    with pytest.raises(Expired):
        await client.request("GET", EVENT.collection(None), query={"limit": "1", "continue": token})


async def test_event_is_created_once_and_then_counted(client: Client, toys: Resources, namespace: str) -> None:
    root = await model(client, toys, namespace)
    writer = EventWriter(client)
    event = {
        "metadata": {"name": "m.1", "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Normal",
        "reason": "Promoted",
        "note": "v2 serves",
        "action": "Reconcile",
        "reportingController": "steeltown.dev/operator",
        "reportingInstance": "test",
        "regarding": {"apiVersion": root["apiVersion"], "kind": "MLModel", "name": "m", "namespace": namespace},
    }
    series = {"count": 3, "lastObservedTime": "2026-01-01T00:05:00.000000Z"}
    assert await writer.create(event)
    assert not await writer.create(event)
    assert await writer.count(namespace, "m.1", series)
    assert not await writer.count(namespace, "gone", series)
    stored = await client.request("GET", EVENT.item(namespace, "m.1"))
    assert stored["series"]["count"] == 3

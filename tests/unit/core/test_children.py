"""Generated children: strictly valid, stable, restricted, and without credentials where they must not be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
from pydantic import ValidationError
from steeltown.api.base import Resources, Storage
from steeltown.api.trainingrun import TrainingRunSpec
from steeltown.contract.files import STORE_PREFIX, Env
from steeltown.contract.plans import CollectItem, CollectPlan, FetchPlan, FinalisePlan, LoadCheckPlan, PreparePlan
from steeltown.contract.sources import DEFAULT_SOURCES
from steeltown.contract.version import CONTRACT_VERSION
from steeltown.core.children import serving
from steeltown.core.children.changes import apply_if_changed, contains, with_hash
from steeltown.core.children.jobs import collect_job, load_check_job, training_job
from steeltown.core.children.pods import STORE_KEYS, canonical_quantity, quantity
from steeltown.core.children.serving import ServingSpec
from steeltown.core.plan import Apply, Obj, Restore
from steeltown.core.record import LiveRecord, Version
from steeltown_testing.explore.scenarios import GOOD_A, template
from steeltown_testing.explore.schedule import POLICY

ROOT: Obj = {"kind": "MLModel", "metadata": {"name": "m", "namespace": "n", "uid": "u"}}
LIVE = Version(run="m-v1", digest="sha256:" + "a" * 64)
RECORD = LiveRecord(live=LIVE, promoted=True, previous=LIVE, created="2026-01-01T00:00:00Z")
SPEC = ServingSpec(
    model="m",
    resources=Resources.model_validate({"requests": {"cpu": 2, "memory": "1024Mi"}, "limits": {"cpu": "1500m"}}),
    store="s3://store",
    secret="secret",
    progress_deadline_seconds=60,
)
FETCH = FetchPlan(store="s3://store", digest=LIVE.digest)
COLLECT = CollectPlan(store="s3://store", items=(CollectItem(digest=LIVE.digest, reference="n.m-v1.u"),))
LOAD = LoadCheckPlan(model="m", candidate_url="http://c", candidate_digest="d", golden=FETCH, latency_milliseconds=9.0)


def run_job(**change: Any) -> Obj:
    """change: to its spec.train."""
    spec = {"modelRef": {"name": "m"}, **template(GOOD_A)}
    return training_job(
        {**ROOT, "kind": "TrainingRun"},
        TrainingRunSpec.model_validate({**spec, "train": {**spec["train"], **change}}),
        PreparePlan(run="r"),
        FinalisePlan(run="r", store="s3://store"),
        secret="secret",
        objectives="{}",
        basis="Model",
        policy=POLICY,
    )


def import_job() -> Obj:
    source = {"uri": "s3://models/m.onnx", "digest": LIVE.digest}
    return training_job(
        {**ROOT, "kind": "TrainingRun"},
        TrainingRunSpec.model_validate({"modelRef": {"name": "m"}, "import": source}),
        PreparePlan(run="r"),
        FinalisePlan(run="r", store="s3://store", imported=True),
        secret="secret",
        objectives="{}",
        basis="Model",
        policy=POLICY,
    )


CHILDREN = {
    "Deployment": serving.deployment(ROOT, SPEC, LIVE, 2, POLICY),
    "baseline Deployment": serving.baseline_deployment(ROOT, SPEC, LIVE, POLICY),
    "Service": serving.live_service(ROOT, "m", RECORD, POLICY),
    "canary Service": serving.canary_service(ROOT, "m", LIVE),
    "baseline Service": serving.baseline_service(ROOT, "m", LIVE),
    "load check": load_check_job(ROOT, "m", "m-load", LOAD, secret="secret", deadline=60, policy=POLICY),
    "collect": collect_job(ROOT, "m", "m-collect", COLLECT, collects="{}", secret="secret", policy=POLICY),
    "training": run_job(),
    "import": import_job(),
}
WITH_PODS = {n: c for n, c in CHILDREN.items() if c["kind"] != "Service"}

each = pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
each_with_pods = pytest.mark.parametrize("child", WITH_PODS.values(), ids=WITH_PODS)


def containers(child: Obj) -> list[dict[str, Any]]:
    pod = child["spec"]["template"]["spec"]
    return [*pod.get("initContainers", ()), *pod["containers"]]


@each
@pytest.mark.parametrize("version", ["1.34", "1.35", "1.36"])
def test_child_is_strictly_valid(child: Obj, version: str) -> None:
    kubernetes_validate.validate(with_hash(child), version, strict=True)


@each
def test_child_belongs_to_its_root(child: Obj) -> None:
    assert [r["uid"] for r in child["metadata"]["ownerReferences"]] == ["u"]
    assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "steeltown"


@each_with_pods
def test_pod_is_restricted_and_has_no_token(child: Obj) -> None:
    pod = child["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(child):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


@each_with_pods
def test_user_code_and_untrusted_models_never_see_the_storage_secret(child: Obj) -> None:
    for container in containers(child):
        trusted = container["image"] == POLICY.checker_image
        assert trusted == bool(container.get("envFrom")), container["name"]
        assert trusted == any("valueFrom" in e for e in container["env"]), container["name"]


@each_with_pods
def test_storage_secret_steers_nothing_but_the_store(child: Obj) -> None:
    """Whoever may edit it could otherwise run code of their own in ours: LD_PRELOAD, PYTHONPATH, PYTHONSTARTUP."""
    for container in containers(child):
        taken = [e["name"] for e in container["env"] if "valueFrom" in e]
        assert all(name.startswith(("AWS_", "AZURE_", "GOOGLE_")) for name in taken)
        assert all(source["prefix"] == "STEELTOWN_STORE_" for source in container.get("envFrom") or ())


def test_description_of_the_storage_secret_says_under_which_names_its_keys_arrive() -> None:
    words = str(Storage.model_fields["secret_name"].description)
    named = set(re.findall(r"\b(?:AWS|GOOGLE|AZURE)_[A-Z_]+\b", words))
    assert named
    assert named <= set(STORE_KEYS), "under their own names"
    assert f"all other keys with the prefix {STORE_PREFIX}" in words


@each_with_pods
def test_no_two_containers_share_a_tmp(child: Obj) -> None:
    """What one leaves there would steer the next: a cache, a socket, a half-written model."""
    mounted = [m["name"] for c in containers(child) for m in c["volumeMounts"] if m["mountPath"] == "/tmp"]
    assert len(mounted) == len(set(mounted)) == len(containers(child))
    assert set(mounted) <= {v["name"] for v in child["spec"]["template"]["spec"]["volumes"]}


@each_with_pods
def test_no_pod_fills_the_disk_of_its_node(child: Obj) -> None:
    """Each volume has a size, and the Pod, whose limit is the largest of its containers, one for all of them."""
    (limit,) = {c["resources"]["limits"]["ephemeral-storage"] for c in containers(child)}
    folders = [v["emptyDir"] for v in child["spec"]["template"]["spec"]["volumes"] if "emptyDir" in v]
    assert folders
    assert all(0 < quantity(f["sizeLimit"]) <= quantity(limit) for f in folders)
    for container in containers(child):  # else the API server takes the limit for a request that no node can meet
        assert container["resources"]["requests"]["ephemeral-storage"] == "0"


def disk_of(child: Obj) -> dict[str, str]:
    pod = child["spec"]["template"]["spec"]
    limits = {c["resources"]["limits"]["ephemeral-storage"] for c in containers(child)}
    return {"pod": limits.pop(), **{v["name"]: v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if "emptyDir" in v}}


DISKS = {
    # as the trainer is given it: of the Pod, of a folder that it writes, of a table
    "nothing given": ({}, ("64Gi", "64Gi", "5Gi")),
    "a limit": ({"limits": {"ephemeral-storage": "200Gi"}}, ("200Gi", "200Gi", "5Gi")),
    "less than a table may take": ({"limits": {"ephemeral-storage": "2048Mi"}}, ("2Gi", "2Gi", "2Gi")),
    "a request alone": ({"requests": {"ephemeral-storage": "100Gi"}}, ("100Gi", "100Gi", "5Gi")),
    "a small request alone": ({"requests": {"ephemeral-storage": "1Gi"}}, ("64Gi", "64Gi", "5Gi")),
    "both": ({"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "9Gi"}}, ("9Gi", "9Gi", "5Gi")),
}


@pytest.mark.parametrize(("resources", "sizes"), DISKS.values(), ids=DISKS)
def test_run_may_write_what_its_trainer_was_given(resources: Any, sizes: tuple[str, str, str]) -> None:
    job = run_job(resources=resources)
    pod, written, table = sizes
    assert disk_of(job) == {
        "pod": pod,
        **dict.fromkeys(("output", "checkpoint", "tmp-prepare", "tmp-train", "tmp-finalise"), written),
        **dict.fromkeys(("input", "evaluation"), table),
    }
    requests = {c["name"]: c["resources"]["requests"]["ephemeral-storage"] for c in containers(job)}
    asked = resources.get("requests", {}).get("ephemeral-storage", "0")
    assert requests == {"prepare": "0", "train": asked, "finalise": "0"}


def test_import_without_a_trainer_has_room_for_models_and_a_table() -> None:
    sizes = disk_of(import_job())
    assert (sizes["pod"], sizes["output"], sizes["evaluation"]) == ("16Gi", "16Gi", "5Gi")


@pytest.mark.parametrize(
    ("given", "sizes"), [({}, ("8Gi", "5Gi")), ({"limits": {"ephemeral-storage": "1.5Gi"}}, ("1536Mi", "1536Mi"))]
)
def test_server_may_write_what_serving_was_given(given: Any, sizes: tuple[str, str]) -> None:
    made = serving.deployment(ROOT, replace(SPEC, resources=Resources.model_validate(given)), LIVE, 2, POLICY)
    pod, model = sizes
    assert disk_of(made) == {"pod": pod, "model": model, "tmp-fetch": pod, "tmp-server": pod}


@each_with_pods
def test_every_container_is_told_the_version_of_the_contract(child: Obj) -> None:
    pod = child["spec"]["template"]["spec"]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        told = [e["value"] for e in container["env"] if e["name"] == "STEELTOWN_CONTRACT_VERSION"]
        assert told == [str(CONTRACT_VERSION)], container["name"]


def test_trainer_never_sees_the_evaluation_rows() -> None:
    train = next(c for c in containers(run_job()) if c["name"] == "train")
    assert "evaluation" not in {m["name"] for m in train["volumeMounts"]}


@pytest.mark.parametrize(
    ("resources", "memory"),
    [
        ({}, "4Gi"),  # the trainer's default
        ({"limits": {"memory": "6Gi"}}, "6Gi"),
        ({"limits": {"memory": "1Gi"}}, "2Gi"),
        ({"requests": {"memory": "8Gi"}}, "8Gi"),  # without a limit
        ({"requests": {"memory": "8192Mi"}}, "8Gi"),
        ({"requests": {"memory": "512Mi"}}, "2Gi"),
        ({"requests": {"memory": "3Gi"}, "limits": {"memory": "6Gi"}}, "6Gi"),
        ({"requests": {"cpu": "4"}}, "4Gi"),
    ],
)
def test_steps_that_hold_the_table_of_the_trainer_may_use_as_much_memory(resources: Any, memory: str) -> None:
    limits = {c["name"]: c["resources"]["limits"]["memory"] for c in containers(run_job(resources=resources))[::2]}
    assert limits == {"prepare": memory, "finalise": memory}


def test_only_finalise_is_told_the_reference_that_keeps_the_model() -> None:
    told = {
        c["name"]: e["value"] for c in containers(run_job()) for e in c["env"] if e["name"] == "STEELTOWN_REFERENCE"
    }
    assert told == {"finalise": "n.m.u"}


def test_prepare_is_told_where_data_may_come_from() -> None:
    """By the platform alone: a variable of the trainer does not reach it, nor does a key of the storage Secret."""
    job = run_job(env=[{"name": "STEELTOWN_ALLOWED_SOURCES", "value": "file:///"}])
    told = {c["name"]: e["value"] for c in containers(job) for e in c["env"] if e["name"] == Env.ALLOWED_SOURCES}
    assert told["prepare"] == DEFAULT_SOURCES == POLICY.allowed_sources


def test_collect_is_tried_once_and_ends_by_itself() -> None:
    """Another attempt begins only when the requests of this one are surely over."""
    spec = CHILDREN["collect"]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 600)


def test_data_errors_and_usage_errors_are_not_retried() -> None:
    rules = run_job()["spec"]["podFailurePolicy"]["rules"]
    permanent = {r["onExitCodes"]["containerName"]: r["onExitCodes"]["values"] for r in rules if "onExitCodes" in r}
    assert permanent == {"prepare": [64, 65], "train": [64, 65], "finalise": [64, 65]}


QUANTITIES = {
    # as a user may write it: as the API server returns it
    "0": "0",
    "0.0": "0",
    "0Gi": "0",
    "2": "2",
    "007": "7",
    "1000m": "1",
    "1500m": "1500m",
    "0.5": "500m",
    "1.50": "1500m",
    "0.0005": "500u",
    "0.5m": "500u",
    "0.0000000001": "1n",
    "1000": "1k",
    "1500": "1500",
    "1000k": "1M",
    "2000G": "2T",
    "1024": "1024",
    "1024Ki": "1Mi",
    "1024Mi": "1Gi",
    "1.5Gi": "1536Mi",
    "0.5Ki": "512",
    "1000Mi": "1000Mi",
    "0.1Gi": "107374182400m",
    "0.3Ti": "329853488332800m",
}
NOT_IN_A_SPEC = {"100u": "100u", "1e3": "1e3", "1E4": "10e3", "5e-1": "500e-3", "1000e0": "1e3", "1e0": "1", "2E": "2E"}


@pytest.mark.parametrize(("written", "returned"), {**QUANTITIES, **NOT_IN_A_SPEC}.items())
def test_quantity_reads_as_the_api_server_returns_it(written: str, returned: str) -> None:
    assert canonical_quantity(written) == returned
    assert canonical_quantity(returned) == returned


@pytest.mark.parametrize("written", NOT_IN_A_SPEC)
def test_spelling_that_only_other_clients_use_is_no_quantity_of_a_spec(written: str) -> None:
    with pytest.raises(ValidationError):
        Resources.model_validate({"limits": {"cpu": written}})


@pytest.mark.parametrize(("written", "returned"), QUANTITIES.items())
def test_no_spelling_of_a_quantity_leads_to_a_write_at_rest(written: str, returned: str) -> None:
    """The intent is compared with the object as the API server stores it, in one spelling only."""
    resources = Resources.model_validate({"requests": {"cpu": written}, "limits": {"cpu": written}})
    intent = serving.deployment(ROOT, replace(SPEC, resources=resources), LIVE, 2, POLICY)
    actual = json.loads(json.dumps(with_hash(intent)))
    for container in actual["spec"]["template"]["spec"]["containers"]:
        container["resources"]["requests"]["cpu"] = container["resources"]["limits"]["cpu"] = returned
    assert apply_if_changed(intent, actual) == ()


@pytest.mark.parametrize(("written", "returned"), QUANTITIES.items())
def test_no_spelling_of_a_disk_leads_to_a_write_at_rest(written: str, returned: str) -> None:
    """Volumes are part of what is sealed, so another spelling would also make Pods foreign."""
    resources = Resources.model_validate({"limits": {"ephemeral-storage": written}})
    for made in (
        serving.deployment(ROOT, replace(SPEC, resources=resources), LIVE, 2, POLICY),
        run_job(resources={"limits": {"ephemeral-storage": written}}),
    ):
        sizes = disk_of(made)
        assert {sizes[name] for name in ("pod", "tmp-server", "tmp-train") if name in sizes} == {returned}
        assert all(canonical_quantity(size) == size for size in sizes.values())


@pytest.mark.parametrize("service", ["canary Service", "baseline Service"])
def test_service_of_a_measurement_leads_to_pods_inside_the_cluster_alone(service: str) -> None:
    """What answers behind a name that a hand has put there is nobody's evidence."""
    intent = CHILDREN[service]
    actual = json.loads(json.dumps(with_hash(intent)))
    actual["spec"] |= {"type": "ExternalName", "externalName": "lure.invalid"}
    assert apply_if_changed(intent, actual) == (Apply(with_hash(intent), force=True),)


@pytest.mark.parametrize(
    ("given", "written"),
    [("ClusterIP", None), ("LoadBalancer", None), ("NodePort", None), ("ExternalName", "ClusterIP")],
)
def test_type_of_the_live_service_is_the_users_choice_as_long_as_it_leads_to_pods(
    given: str, written: str | None
) -> None:
    actual = with_hash(CHILDREN["Service"])
    actual = {**actual, "spec": {**actual["spec"], "type": given}}
    intent = serving.live_service(ROOT, "m", RECORD, POLICY, actual)
    assert intent["spec"].get("type") == written
    assert bool(apply_if_changed(intent, actual)) == (written is not None)


def test_unchanged_child_with_defaults_of_the_server_needs_no_write() -> None:
    intent = CHILDREN["Deployment"]
    actual = json.loads(json.dumps(with_hash(intent)))
    actual["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    actual["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    assert apply_if_changed(intent, actual) == ()


@pytest.mark.parametrize("edit", ["replicas", "image", "hash", "container gone"])
def test_edited_child_is_repaired(edit: str) -> None:
    intent = CHILDREN["Deployment"]
    actual = json.loads(json.dumps(with_hash(intent)))
    pod = actual["spec"]["template"]["spec"]
    match edit:
        case "replicas":
            actual["spec"]["replicas"] = 7
        case "image":
            pod["containers"][0]["image"] = "other"
        case "hash":  # a field that the intent no longer has
            actual["metadata"]["annotations"]["steeltown.dev/intent"] = "older"
        case "container gone":
            pod["containers"].clear()
    assert apply_if_changed(intent, actual) == (Apply(with_hash(intent), force=True),)


RUNS_MORE: dict[str, Callable[[Obj], object]] = {
    "a container": lambda pod: pod["containers"].append({"name": "sidecar"}),
    "an init container": lambda pod: pod["initContainers"].insert(0, {"name": "first"}),
    "a variable": lambda pod: pod["containers"][0]["env"].append({"name": "LD_PRELOAD", "value": "/their/code.so"}),
    "variables": lambda pod: pod["containers"][0].update(envFrom=[{"configMapRef": {"name": "theirs"}}]),
    "a command": lambda pod: pod["containers"][0].update(command=["their", "program"]),
    "a hook": lambda pod: pod["containers"][0].update(lifecycle={"postStart": {"exec": {"command": ["x"]}}}),
    "a mount": lambda pod: pod["containers"][0]["volumeMounts"].append({"name": "theirs", "mountPath": "/opt"}),
    "a volume": lambda pod: pod["volumes"].append({"name": "theirs", "configMap": {"name": "theirs"}}),
    "the network of its node": lambda pod: pod.update(hostNetwork=True),
}


@pytest.mark.parametrize("edit", RUNS_MORE.values(), ids=RUNS_MORE)
@pytest.mark.parametrize("child", ["Deployment", "baseline Deployment"])
def test_what_pods_run_is_put_back_where_an_apply_would_leave_what_a_hand_has_added(
    child: str, edit: Callable[[Obj], object]
) -> None:
    """Server-side apply takes away no field of another manager's."""
    intent = CHILDREN[child]
    actual = json.loads(json.dumps(with_hash(intent)))
    actual["metadata"]["uid"] = "d-1"
    edit(actual["spec"]["template"]["spec"])
    assert apply_if_changed(intent, actual) == (Restore(intent, "d-1"),)


BESIDE: dict[str, tuple[str, Callable[[Obj], object]]] = {
    "a port of a Service": ("Service", lambda o: o["spec"]["ports"].append({"name": "metrics", "port": 9100})),
    "a port before ours": ("Service", lambda o: o["spec"]["ports"].insert(0, {"name": "metrics", "port": 9100})),
    "another owner": ("Service", lambda o: o["metadata"]["ownerReferences"].append({"uid": "theirs"})),
    "a node selector": ("Deployment", lambda o: o["spec"]["template"]["spec"].update(nodeSelector={"disk": "ssd"})),
    "a port of a container": (
        "Deployment",
        lambda o: o["spec"]["template"]["spec"]["containers"][0]["ports"].append({"containerPort": 9100}),
    ),
    "a restart": (
        "Deployment",
        lambda o: o["spec"]["template"]["metadata"].update(annotations={"kubectl.kubernetes.io/restartedAt": "now"}),
    ),
}


@pytest.mark.parametrize(("child", "edit"), BESIDE.values(), ids=BESIDE)
def test_what_others_have_beside_ours_and_no_apply_would_take_away_leads_to_no_write(
    child: str, edit: Callable[[Obj], object]
) -> None:
    """Else it would be applied at every reconcile, for ever."""
    actual = json.loads(json.dumps(with_hash(CHILDREN[child])))
    edit(actual)
    assert apply_if_changed(CHILDREN[child], actual) == ()


def test_child_that_is_not_known_is_made_and_never_taken_over() -> None:
    assert apply_if_changed(CHILDREN["Service"], None) == (Apply(with_hash(CHILDREN["Service"]), force=False),)


def test_absent_field_equals_an_empty_one() -> None:
    assert contains({"a": 1}, {"a": 1, "b": None, "c": [], "d": ""})
    assert not contains({"a": 1}, {"a": 1, "b": 2})
    assert contains({"selector": {"a": "1"}}, {"selector": {"a": "1"}})
    assert not contains({"selector": {"a": "1", "b": "2"}}, {"selector": {"a": "1"}})  # another selector

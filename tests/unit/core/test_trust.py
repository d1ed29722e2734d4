"""Which Pods are listened to: those that a chain of controllers leads to our root, and that run what we wrote."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from steeltown.api.base import API_VERSION, Resources
from steeltown.api.conditions import rfc3339
from steeltown.core.children.serving import ServingSpec, deployment
from steeltown.core.observed.jobs import JobView
from steeltown.core.observed.trust import ARRIVAL_SECONDS, served_by
from steeltown.core.plan import Obj
from steeltown.core.record import Version, made_here
from steeltown_testing.explore.cluster import START, later
from steeltown_testing.explore.schedule import POLICY

ROOT: Obj = {
    "apiVersion": API_VERSION,
    "kind": "MLModel",
    "metadata": {"name": "m", "namespace": "team", "uid": "model"},
}
SPEC = ServingSpec(model="m", resources=Resources(), store="s3://store", secret="store", progress_deadline_seconds=60)
VERSION = Version(run="m-v1", digest="sha256:" + "a" * 64)


def controlled(obj: Obj, uid: str, by: str) -> Obj:
    owners = [{"kind": "x", "name": "x", "uid": by, "controller": True}] if by else []
    return {**obj, "metadata": {**obj.get("metadata", {}), "uid": uid, "ownerReferences": owners}}


DEPLOYMENT = controlled(deployment(ROOT, SPEC, VERSION, 1, POLICY), "deployment", by="model")
TEMPLATE = DEPLOYMENT["spec"]["template"]
REPLICA_SET = controlled({"kind": "ReplicaSet"}, "set", by="deployment")


def pod(by: str = "set", *, ready: bool = True, seconds: float = 0.0) -> Obj:
    """As the ReplicaSet controller makes it and the kubelet runs it. seconds: since it became ready."""
    made = controlled({**copy.deepcopy(TEMPLATE), "kind": "Pod"}, "pod", by)
    made["spec"]["nodeName"] = "node-1"
    when = rfc3339(later(START, -seconds))
    told = {"type": "Ready", "status": str(ready), "lastTransitionTime": when}
    made["status"] = {"conditions": [told]}
    return made


def verdict(found: Obj, *, sets: tuple[Obj, ...] = (REPLICA_SET,), deployments: tuple[Obj, ...] = (DEPLOYMENT,)) -> str:
    ours, foreign = served_by(ROOT, [found], sets, deployments, START, lambda d: made_here(d, ROOT, POLICY))
    return "ours" if ours else ("foreign" if foreign else "neither yet")


THEIRS = controlled(DEPLOYMENT, "theirs", by="another model")
ORPHAN = controlled(DEPLOYMENT, "orphan", by="")
WAITED = ARRIVAL_SECONDS + 1


def by_hand(change: Callable[[Obj], object]) -> tuple[Obj, dict[str, Any], str]:
    """A Deployment that names our model as its controller, with a Pod that runs just what it says."""
    made = copy.deepcopy(DEPLOYMENT)
    change(made)
    template = made["spec"]["template"]
    found = pod()
    found["spec"] = template["spec"]
    found["metadata"]["labels"] = template["metadata"]["labels"]
    return found, {"deployments": (made,)}, "foreign"


def _other_name(made: Obj) -> None:
    made["metadata"]["name"] = "m-by-hand"


def _server_of(made: Obj) -> Any:
    return made["spec"]["template"]["spec"]["containers"][0]


CHAINS: dict[str, tuple[Obj, dict[str, Any], str]] = {
    "the whole chain": (pod(), {}, "ours"),
    "not ready": (pod(ready=False), {}, "ours"),
    "a label and no controller": (pod(""), {}, "foreign"),
    "a label, not ready": (pod("", ready=False), {}, "neither yet"),
    "a controller that nobody knows": (pod("lie", seconds=WAITED), {}, "foreign"),
    "the model itself": (pod("model", seconds=WAITED), {}, "foreign"),
    "the Deployment itself": (pod("deployment", seconds=WAITED), {}, "foreign"),
    "its ReplicaSet has not arrived": (pod(), {"sets": ()}, "neither yet"),
    "its ReplicaSet never arrived": (pod(seconds=WAITED), {"sets": ()}, "foreign"),
    "its Deployment has not arrived": (pod(), {"deployments": ()}, "neither yet"),
    "its Deployment never arrived": (pod(seconds=WAITED), {"deployments": ()}, "foreign"),
    "a ReplicaSet without a controller": (
        pod(seconds=WAITED),
        {"sets": (controlled({"kind": "ReplicaSet"}, "set", by=""),)},
        "foreign",
    ),
    "another model's Deployment": (
        pod(seconds=WAITED),
        {"sets": (controlled({"kind": "ReplicaSet"}, "set", by="theirs"),), "deployments": (THEIRS,)},
        "foreign",
    ),
    "a Deployment without a controller": (
        pod(seconds=WAITED),
        {"sets": (controlled({"kind": "ReplicaSet"}, "set", by="orphan"),), "deployments": (ORPHAN,)},
        "foreign",
    ),
    "a Deployment without our seal": by_hand(lambda d: d["metadata"].pop("annotations")),
    "a copy of our Deployment under another name": by_hand(_other_name),
    "our Deployment with another image": by_hand(lambda d: _server_of(d).update(image="theirs")),
    "our Deployment with a command": by_hand(lambda d: _server_of(d).update(command=["sh"])),
    "our Deployment as another version": by_hand(
        lambda d: d["spec"]["template"]["metadata"]["labels"].update({"steeltown.dev/version": "h0"})
    ),
    "our Deployment with a route from birth": by_hand(
        lambda d: d["spec"]["template"]["metadata"].update(annotations={"steeltown.dev/route": "{}"})
    ),
    "our Deployment scaled, restarted, with a toleration": (
        pod(),
        {
            "deployments": (
                {
                    **DEPLOYMENT,
                    "spec": {
                        **DEPLOYMENT["spec"],
                        "replicas": 7,
                        "template": {
                            "metadata": {
                                **TEMPLATE["metadata"],
                                "annotations": {"kubectl.kubernetes.io/restartedAt": "t"},
                            },
                            "spec": {**TEMPLATE["spec"], "tolerations": [{"key": "x"}]},
                        },
                    },
                },
            )
        },
        "ours",
    ),
}


@pytest.mark.parametrize(("found", "known", "expected"), CHAINS.values(), ids=CHAINS)
def test_pod_is_ours_by_the_chain_of_its_controllers(found: Obj, known: dict[str, Any], expected: str) -> None:
    assert verdict(found, **known) == expected


def test_reference_that_does_not_control_leads_nowhere() -> None:
    found = pod()
    found["metadata"]["ownerReferences"][0].pop("controller")
    assert verdict(found) == "foreign"


def server(found: Obj) -> Any:
    return found["spec"]["containers"][0]


def fetch(found: Obj) -> Any:
    return found["spec"]["initContainers"][0]


def ephemeral(**more: Any) -> Callable[[Obj], object]:
    debugger = {"name": "debugger", "image": "busybox", **more}
    return lambda p: p["spec"].update(ephemeralContainers=[debugger])


def beside(**more: Any) -> Callable[[Obj], object]:
    return lambda p: p["spec"]["containers"].append({"name": "istio-proxy", "image": "istio/proxyv2", **more})


def identity(path: str = "/var/run/secrets/eks.amazonaws.com/serviceaccount", **volume: Any) -> Callable[[Obj], object]:
    """What the webhook of a cloud adds to each container, so that it may take on a role."""
    token = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}

    def add(found: Obj) -> None:
        found["spec"]["volumes"].append({"name": "aws-iam-token", **(volume or token)})
        for container in (*found["spec"]["initContainers"], *found["spec"]["containers"]):
            container["env"].append({"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::1:role/team"})
            container["volumeMounts"].append({"name": "aws-iam-token", "mountPath": path, "readOnly": True})

    return add


MODEL_VOLUME = [{"name": "model", "mountPath": "/m"}]
NOT_OURS: dict[str, Callable[[Obj], object]] = {
    "patched image": lambda p: server(p).update(image="theirs"),
    "patched image of an init container": lambda p: fetch(p).update(image="theirs"),
    "command": lambda p: server(p).update(command=["sh"]),
    "arguments": lambda p: fetch(p).update(args=["other"]),
    "environment": lambda p: server(p)["env"][0].update(value="x"),
    "a variable more": lambda p: server(p)["env"].append({"name": "PYTHONPATH", "value": "/tmp"}),
    "another Secret": lambda p: fetch(p)["envFrom"][0]["secretRef"].update(name="theirs"),
    "folder to work in": lambda p: server(p).update(workingDir="/tmp"),
    "code mounted over the image's": lambda p: server(p)["volumeMounts"].append({"name": "x", "mountPath": "/app"}),
    "model from a volume of theirs": lambda p: p["spec"]["volumes"][0].update(emptyDir=None, hostPath={"path": "/x"}),
    "command after the start": lambda p: server(p).update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
    "command as a probe": lambda p: server(p).update(livenessProbe={"exec": {"command": ["sh"]}}),
    "report from elsewhere": lambda p: server(p).update(terminationMessagePath="/m/report"),
    "no server": lambda p: p["spec"].update(containers=[{"name": "x", "image": "server"}]),
    "one process space": lambda p: p["spec"].update(shareProcessNamespace=True),
    "the node's processes": lambda p: p["spec"].update(hostPID=True),
    "names of hosts": lambda p: p["spec"].update(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["store"]}]),
    "ephemeral container that mounts our volume": ephemeral(volumeMounts=MODEL_VOLUME),
    "ephemeral container in our processes": ephemeral(targetContainerName="server"),
    "token over the image's code": identity("/app"),
    "token over the image's code, by a detour": identity("/var/run/secrets/../../../app"),
    "files of theirs where tokens lie": identity(configMap={"name": "theirs"}),
    "files of theirs beside a token": identity(
        projected={"sources": [{"serviceAccountToken": {}}, {"configMap": {"name": "theirs"}}]}
    ),
    "library for every process": lambda p: server(p)["env"].append({"name": "LD_PRELOAD", "value": "/tmp/x.so"}),
    "sidecar that mounts our volume": beside(volumeMounts=MODEL_VOLUME),
}
STILL_OURS: dict[str, Callable[[Obj], object]] = {
    "a mesh's sidecar": beside(volumeMounts=[{"name": "istio-envoy", "mountPath": "/etc/istio"}]),
    "a mesh's volumes": lambda p: p["spec"]["volumes"].append({"name": "istio-envoy", "emptyDir": {}}),
    "a mesh's init container": lambda p: p["spec"]["initContainers"].insert(0, {"name": "istio-init", "image": "i"}),
    "probes that a mesh takes over": lambda p: server(p)["readinessProbe"]["httpGet"].update(port=15020),
    "a cloud's workload identity": identity(),
    "resources of a limit range": lambda p: server(p).update(resources={"limits": {"cpu": "1"}}),
    "images pulled each time": lambda p: server(p).update(imagePullPolicy="Always"),
    "a toleration": lambda p: p["spec"].update(tolerations=[{"key": "x"}]),
    "ephemeral container beside it": ephemeral(),
    "defaults of the API server": lambda p: server(p).update(terminationMessagePath="/dev/termination-log"),
}


@pytest.mark.parametrize("change", NOT_OURS.values(), ids=NOT_OURS)
def test_pod_that_runs_something_else_is_not_ours_whoever_controls_it(change: Callable[[Obj], object]) -> None:
    found = pod()
    change(found)
    assert verdict(found) == "foreign"
    assert JobView.of(JOB, [{**found, **controlled(found, "pod", by="job")}]).pods == ()


@pytest.mark.parametrize("change", STILL_OURS.values(), ids=STILL_OURS)
def test_what_clusters_add_to_pods_leaves_them_ours(change: Callable[[Obj], object]) -> None:
    found = pod()
    change(found)
    assert verdict(found) == "ours"
    assert len(JobView.of(JOB, [controlled(found, "pod", by="job")]).pods) == 1


JOB = controlled({"kind": "Job", "spec": {"template": TEMPLATE}}, "job", by="model")
"""With the same template, since one rule holds for both."""


def test_pods_of_a_job_are_told_from_those_that_name_it() -> None:
    own, lure, other = pod("job"), pod("job"), pod("another job")
    server(lure).update(image="theirs")
    view = JobView.of(JOB, [lure, own, other])
    assert (view.pods, view.altered) == ((own,), (lure,))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"observedGeneration": 1}, "neither yet"),  # the new template has not been seen yet
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1}, "neither yet"),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2}, "foreign"),
        ({}, "foreign"),
    ],
)
def test_pod_of_the_template_before_is_no_stranger_while_it_is_replaced(status: Obj, expected: str) -> None:
    """A new server image rolls out: the Pods of the old one answer until they are gone."""
    old = pod()
    old["spec"]["containers"][0]["image"] = "the one before"
    told = {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "generation": 2}, "status": status}
    assert verdict(old, deployments=(told,)) == expected

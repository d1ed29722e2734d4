"""Who may write records, on a real API server: every forging is refused with its message, everything else passes.

The policies are those of `manifests/admission`, under other names and in force in the test's namespace alone. Requests
are impersonated and, where nothing has to come of them, dry runs: admission does not tell those apart. Deployments and
Jobs are made by the operator's account, their Pods by the real controllers, and one test runs the real operator.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from steeltown_testing.acting import Acting, grant
from steeltown_testing.environment import REPOSITORY
from steeltown_testing.explore.nature import Behaviour
from steeltown_testing.explore.real import Kubelet, real_cluster
from steeltown_testing.explore.scenarios import model
from steeltown_testing.kubectl import Kubectl, Obj, eventually, namespace
from steeltown_testing.operator_process import install_resources, running

API = "steeltown.dev/v1alpha1"
OPERATOR = "steeltown-operator"
DIGEST = "sha256:" + "a" * 64
OURS = {"app.kubernetes.io/managed-by": "steeltown", "steeltown.dev/model": "m"}
VERSION = {**OURS, "steeltown.dev/version": "h1", "steeltown.dev/track": "serving"}
LIVE = '{"digest":"sha256:1","run":"r"}'
RECORDS = "records.steeltown.dev"
REMEDY = 'needs the right to write records.steeltown.dev: see "Rights" in docs/operations.md'
SECURITY = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {
    "name": "server",
    "image": "server.invalid/server:1",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


# --- the objects -----------------------------------------------------------------------------------------------------


def template(**metadata: Any) -> Obj:
    fetch = {**CONTAINER, "name": "fetch"}
    spec = {"securityContext": SECURITY, "initContainers": [fetch], "containers": [CONTAINER]}
    return {"metadata": metadata, "spec": spec}


def obj(kind: str, name: str, spec: Obj, /, **metadata: Any) -> Obj:
    version = {"TrainingRun": API, "MLModel": API, "Job": "batch/v1", "Pod": "v1", "Service": "v1"}.get(kind, "apps/v1")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def run(name: str = "forged", **metadata: Any) -> Obj:
    spec = {"modelRef": {"name": "m"}, "import": {"uri": "s3://a/b.onnx", "digest": DIGEST}}
    return obj("TrainingRun", name, spec, **metadata)


def pod(**metadata: Any) -> Obj:
    return obj("Pod", "lure", template()["spec"], **metadata)


def service(name: str, selector: dict[str, str], **metadata: Any) -> Obj:
    ports = [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]
    return obj("Service", name, {"selector": selector, "ports": ports}, **metadata)


def workload(kind: str, name: str, selected: dict[str, str], pods: Obj, /, **metadata: Any) -> Obj:
    """A Deployment, ReplicaSet or StatefulSet with one replica, which selects Pods by the labels `selected`."""
    more = {"serviceName": name} if kind == "StatefulSet" else {}
    spec = {"replicas": 1, "selector": {"matchLabels": selected}, "template": pods, **more}
    return obj(kind, name, spec, **metadata)


def job(name: str, pods: Obj, **metadata: Any) -> Obj:
    spec = {"template": {**pods, "spec": {**pods["spec"], "restartPolicy": "Never"}}}
    return obj("Job", name, spec, **metadata)


def owned_by(kind: str, name: str, uid: str) -> list[Obj]:
    version = API if kind in ("MLModel", "TrainingRun") else "apps/v1"
    return [{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}]


# --- the place -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A namespace with a model in production as the operator has made it, and the people around it."""

    editor: Acting  # has `edit` in the namespace
    owner: Acting  # has `admin`
    rescuer: Acting  # has `edit`, and is in the break-glass group
    backup: Acting  # a backup tool's service account, with the role of a record writer
    operator: Acting
    admin: Kubectl  # cluster-admin
    uid: str  # of the MLModel m
    replica_set: str
    pod: str
    job_pod: str


@pytest.fixture(scope="module")
def enforcing(kubeconfig: str) -> Iterator[dict[str, str]]:
    """Labels of a namespace in which the policies of the manifests are in force."""
    install_resources(kubeconfig)
    everywhere = Kubectl(config=kubeconfig)
    everywhere.run("apply", "--server-side", "-f", str(REPOSITORY / "manifests/base/user-roles.yaml"))
    labels = {"test-admission": uuid.uuid4().hex[:8]}
    made = _policies(everywhere, labels)
    try:
        everywhere.apply(*made)
        with namespace(kubeconfig, "probe", labels=labels) as own:
            grant(own, "edit", "probe")
            asked = [json.dumps(each) for each in (pod(labels=OURS), service("a", {}, labels=OURS))]
            arguments = ("create", "--dry-run=server", "-f", "-")
            probe = Acting(own, "probe")
            eventually(lambda: all(MARK in probe.attempt(*arguments, stdin=each).stderr for each in asked))
        yield labels
    finally:
        gone = [f"{o['kind']}/{o['metadata']['name']}".lower() for o in made if o["kind"].startswith("Validating")]
        everywhere.run("delete", "--ignore-not-found", *gone)


def _policies(everywhere: Kubectl, labels: dict[str, str]) -> list[Obj]:
    """`manifests/admission` with names of this test's, and in force in namespaces with these labels alone."""
    found: list[Obj] = list(yaml.safe_load_all(everywhere.run("kustomize", str(REPOSITORY / "manifests/admission"))))
    suffix = labels["test-admission"]
    for each in found:
        if each["kind"].startswith("Validating"):
            each["metadata"]["name"] += f"-{suffix}"
        if each["kind"] == "ValidatingAdmissionPolicyBinding":
            each["spec"]["policyName"] += f"-{suffix}"
            each["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": labels}}
    return found


def give_operator_its_rights(own: Kubectl) -> str:
    """The operator's service account, with what the namespace overlay gives it here; returns its user name."""
    text = (REPOSITORY / "manifests/overlays/namespace/rbac.yaml").read_text()
    objects: list[Obj] = list(yaml.safe_load_all(text))
    for each in objects:
        each["metadata"]["namespace"] = own.namespace
        for subject in each.get("subjects", []):
            subject["namespace"] = own.namespace
    in_its_own_namespace = ("base/leader-election.yaml", "base/seal.yaml")
    for path in in_its_own_namespace:
        for document in yaml.safe_load_all((REPOSITORY / "manifests" / path).read_text()):
            next(o for o in objects if o["kind"] == "Role")["rules"] += document.get("rules", [])
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": OPERATOR}}
    own.apply(account, *objects)
    return f"system:serviceaccount:{own.namespace}:{OPERATOR}"


@pytest.fixture(scope="module")
def place(kubeconfig: str, enforcing: dict[str, str]) -> Iterator[Place]:
    with namespace(kubeconfig, "admission", labels=enforcing) as own:
        yield settled(own)


def settled(own: Kubectl) -> Place:
    """The model, what the operator makes for it, and the Pods that the controllers make of that."""
    backup = "system:serviceaccount:velero:velero"
    grant(own, "edit", "editor", "rescuer", backup)
    grant(own, "admin", "owner")
    own.run("create", "role", "debug", "--verb=patch", "--resource=pods/ephemeralcontainers")
    own.run("create", "rolebinding", "debug", "--role=debug", "--user=editor")
    grant(own, "steeltown-record-writer", backup)
    operator, owner = Acting(own, give_operator_its_rights(own)), Acting(own, "owner")
    owner.apply(obj("MLModel", "m", {}))
    uid = own.get("mlmodel", "m")["metadata"]["uid"]
    of_model = owned_by("MLModel", "m", uid)
    live = {"steeltown.dev/live": LIVE, "steeltown.dev/promoted": "sha256:1"}
    operator.apply(
        service("m", VERSION, labels=OURS, annotations=live, ownerReferences=of_model),
        workload("Deployment", "m-h1", VERSION, template(labels=VERSION), labels=VERSION, ownerReferences=of_model),
        options=("--server-side", "--field-manager=steeltown", "--force-conflicts"),
    )
    for created in (
        job("m-load", template(labels=OURS), labels=OURS, ownerReferences=of_model),
        run("made", labels=OURS, annotations={"steeltown.dev/template": "h2"}, ownerReferences=of_model),
    ):
        operator.run("create", "-f", "-", stdin=json.dumps(created))
    own.run("annotate", "trainingrun", "made", 'steeltown.dev/outcome={"result":"RolledBack"}')

    def first(kind: str, labels: dict[str, str]) -> str:
        selector = ",".join(f"{k}={v}" for k, v in labels.items())
        found = eventually(lambda: own.find(kind, "-l", selector), seconds=120)
        return str(found[0]["metadata"]["name"])

    serving = first("pods", VERSION)
    own.run("annotate", "pod", serving, 'steeltown.dev/route={"weight":0}')
    return Place(
        editor=Acting(own, "editor"),
        owner=owner,
        rescuer=Acting(own, "rescuer", "steeltown:break-glass"),
        backup=Acting(own, backup),
        operator=operator,
        admin=own,
        uid=uid,
        replica_set=first("replicasets", VERSION),
        pod=serving,
        job_pod=first("pods", {"batch.kubernetes.io/job-name": "m-load"}),
    )


# --- the requests ----------------------------------------------------------------------------------------------------

Request = tuple[tuple[str, ...], Obj | None]
Ask = Callable[[Place], Request]
DRY = "--dry-run=server"


def create(made: Obj | Callable[[Place], Obj]) -> Ask:
    return lambda p: (("create", DRY, "-f", "-"), made(p) if callable(made) else made)


def annotate(kind: str, name: str, *notes: str) -> Ask:
    return lambda p: (("annotate", kind, _name(p, name), *notes, "--overwrite", DRY), None)


def label(kind: str, name: str, *labels: str) -> Ask:
    return lambda p: (("label", kind, _name(p, name), *labels, "--overwrite", DRY), None)


def patch(kind: str, name: str, change: Any, *options: str) -> Ask:
    style = "json" if isinstance(change, list) else "strategic" if kind not in ("mlmodel", "trainingrun") else "merge"
    text = json.dumps(change)
    return lambda p: (("patch", kind, _name(p, name), f"--type={style}", "-p", text, DRY, *options), None)


def command(*arguments: str) -> Ask:
    return lambda p: (tuple(_name(p, a) for a in arguments), None)


def _name(place: Place, name: str) -> str:
    made = {"POD": place.pod, "REPLICASET": place.replica_set, "JOBPOD": place.job_pod}
    return made.get(name, name)


def answer(who: Kubectl, place: Place, ask: Ask) -> tuple[bool, str]:
    """(accepted, what kubectl said)"""
    arguments, stdin = ask(place)
    done = who.attempt(*arguments, stdin=json.dumps(stdin) if stdin else None)
    return done.returncode == 0, done.stdout + done.stderr


def exported(place: Place) -> Obj:
    """What a backup tool creates from what it has saved: without owners, uids and status, under names that are free."""
    names = (("trainingrun", "made"), ("service", "m"), ("deployment", "m-h1"))
    saved = [place.admin.get(kind, name) for kind, name in names]
    for each in saved:
        each.pop("status", None)
        meta = each["metadata"]
        each["metadata"] = {"name": meta["name"] + "-2", "labels": meta["labels"], "annotations": meta["annotations"]}
        for address in ("clusterIP", "clusterIPs"):
            each["spec"].pop(address, None)
    return {"apiVersion": "v1", "kind": "List", "items": saved}


IMAGE = {"spec": {"containers": [{"name": "server", "image": "liar.invalid/server:1"}]}}
RESULT = {"steeltown.dev/result": '{"phase":"Succeeded"}'}
LURE = workload("StatefulSet", "lure-set", {"app": "lure"}, template(labels={**VERSION, "app": "lure"}))

RECORD = "is a record of the Steeltown operator and cannot be set, changed or removed by hand"
MARK = "marks what the Steeltown operator made"
OWNER = "metadata.ownerReferences with an MLModel or TrainingRun as controller"
SWITCH = "create a Service of your own beside it, or a TrainingRun whose version takes over"
TEMPLATE = "change spec.serving of the MLModel instead; kubectl scale and kubectl rollout restart work"
EVIDENCE = "the evidence about a version comes from the containers of this Pod"

FORGED: dict[str, tuple[Ask, str]] = {
    "a copied run with a result": (
        create(run(annotations=RESULT)),
        f"annotation steeltown.dev/result {RECORD}: leave it out, the operator evaluates the run itself",
    ),
    "a run that was promoted already": (
        create(run(annotations={"steeltown.dev/outcome": '{"result":"Promoted"}'})),
        f"annotation steeltown.dev/outcome {RECORD}",
    ),
    "what a backup tool would restore": (create(exported), RECORD),
    "a record that does not exist yet": (create(run(annotations={"steeltown.dev/next": "1"})), "steeltown.dev/next"),
    "a result for a run that is there": (annotate("trainingrun", "made", "steeltown.dev/result={}"), RECORD),
    "another outcome": (annotate("trainingrun", "made", 'steeltown.dev/outcome={"result":"Promoted"}'), RECORD),
    "another template": (annotate("trainingrun", "made", "steeltown.dev/template=h3"), RECORD),
    "a template taken away": (annotate("trainingrun", "made", "steeltown.dev/template-"), "steeltown.dev/template"),
    "all records taken off a run": (
        annotate("trainingrun", "made", "steeltown.dev/template-", "steeltown.dev/outcome-"),
        f"annotation steeltown.dev/template {RECORD}",
    ),
    "retry and result at once": (
        annotate("trainingrun", "made", "steeltown.dev/retry=1", "steeltown.dev/result={}"),
        f"annotation steeltown.dev/result {RECORD}",
    ),
    "a Pod with our labels": (create(pod(labels=VERSION)), MARK),
    "a Pod that says who manages it": (
        create(pod(labels={"app.kubernetes.io/managed-by": "steeltown"})),
        f"label app.kubernetes.io/managed-by {MARK}",
    ),
    "a Pod with a route": (create(pod(annotations={"steeltown.dev/route": "{}"})), "spec.rollout of the MLModel"),
    "a Pod owned by our ReplicaSet": (
        create(lambda p: pod(labels=VERSION, ownerReferences=owned_by("ReplicaSet", p.replica_set, p.uid))),
        MARK,
    ),
    "a Pod owned by the model": (create(lambda p: pod(ownerReferences=owned_by("MLModel", "m", p.uid))), OWNER),
    "a Deployment whose Pods get our labels": (
        create(workload("Deployment", "lure", VERSION, template(labels=VERSION))),
        MARK,
    ),
    "a Deployment whose Pods get a route": (
        create(workload("Deployment", "lure", {"a": "b"}, template(labels={"a": "b"}, annotations=RESULT))),
        RECORD,
    ),
    "a ReplicaSet whose Pods get our labels": (
        create(workload("ReplicaSet", "lure", VERSION, template(labels=VERSION))),
        MARK,
    ),
    "a Job by hand that belongs to the model": (
        create(lambda p: job("lure", template(), ownerReferences=owned_by("MLModel", "m", p.uid))),
        f"{OWNER} mark what the Steeltown operator made and cannot be set, changed or removed by hand",
    ),
    "a Job by hand with our labels": (create(job("lure", template(labels=OURS))), MARK),
    "a Service that says who is live": (
        create(service("lure", {}, annotations={"steeltown.dev/live": LIVE})),
        "which version is live follows from the TrainingRuns",
    ),
    "the record taken off the Service": (annotate("service", "m", "steeltown.dev/live-"), RECORD),
    "another version on record": (annotate("service", "m", "steeltown.dev/live={}"), "steeltown.dev/live"),
    "promoted by hand": (annotate("service", "m", "steeltown.dev/promoted=sha256:2"), "steeltown.dev/promoted"),
    "another selector": (patch("service", "m", {"spec": {"selector": {"app": "lure"}}}), SWITCH),
    "another port behind the Service": (
        patch("service", "m", [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9}]),
        SWITCH,
    ),
    "a Service that leads elsewhere": (
        patch("service", "m", {"spec": {"type": "ExternalName", "externalName": "lure.example.com"}}),
        SWITCH,
    ),
    "a Service without its mark": (label("service", "m", "app.kubernetes.io/managed-by-"), MARK),
    "a Service without its mark, and another selector": (
        patch("service", "m", {"metadata": {"labels": None}, "spec": {"selector": {"app": "lure"}}}),
        "records.steeltown.dev",
    ),
    "a Service without its owner": (
        patch("service", "m", [{"op": "remove", "path": "/metadata/ownerReferences"}]),
        OWNER,
    ),
    "another image for a version": (
        command("set", "image", "deployment/m-h1", "server=liar.invalid/a:1", DRY),
        TEMPLATE,
    ),
    "another program for a version": (
        patch(
            "deployment", "m-h1", {"spec": {"template": {"spec": {"containers": [{"name": "server", "args": ["x"]}]}}}}
        ),
        TEMPLATE,
    ),
    "a lure's labels in the template": (
        patch("deployment", "m-h1", {"spec": {"template": {"metadata": {"labels": {"steeltown.dev/run": "r"}}}}}),
        f"label steeltown.dev/run {MARK}",
    ),
    "another image in the ReplicaSet": (patch("replicaset", "REPLICASET", {"spec": {"template": IMAGE}}), TEMPLATE),
    "another image in a live Pod": (patch("pod", "POD", IMAGE), EVIDENCE),
    "another image for what fetches the model": (
        patch("pod", "POD", {"spec": {"initContainers": [{"name": "fetch", "image": "liar.invalid/server:1"}]}}),
        EVIDENCE,
    ),
    "another image in the Pod of a Job": (patch("pod", "JOBPOD", IMAGE), EVIDENCE),
    "a container beside the server": (
        command("debug", "POD", "--image=liar.invalid/a:1", "--profile=restricted", "--attach=false"),
        "kubectl debug m-h1-",
    ),
    "the route of a Pod": (annotate("pod", "POD", 'steeltown.dev/route={"weight":100}'), RECORD),
    "the route of a Pod taken away": (annotate("pod", "POD", "steeltown.dev/route-"), RECORD),
    "a Pod as one of another version": (label("pod", "POD", "steeltown.dev/version=h2"), MARK),
    "a Pod under another owner": (
        patch("pod", "POD", [{"op": "replace", "path": "/metadata/ownerReferences/0/uid", "value": "u"}]),
        OWNER,
    ),
    "the status of a model": (patch("mlmodel", "m", {"status": {"switches": 1}}, "--subresource=status"), "forbidden"),
    "the status of a run": (
        patch("trainingrun", "made", {"status": {"phase": "a"}}, "--subresource=status"),
        "forbidden",
    ),
    "the objectives of a model": (patch("mlmodel", "m", {"spec": {"objectives": {}}}), "cannot patch resource"),
    "a right that one does not hold": (
        command("create", "rolebinding", "mine", "--clusterrole=steeltown-record-writer", "--user=editor", DRY),
        "forbidden",
    ),
}


@pytest.mark.parametrize(("ask", "message"), FORGED.values(), ids=FORGED)
def test_forging_of_an_editor_is_refused_and_the_message_says_what_to_do(place: Place, ask: Ask, message: str) -> None:
    accepted, said = answer(place.editor, place, ask)
    assert not accepted, said
    assert message in said
    if "ValidatingAdmissionPolicy" in said:
        assert REMEDY in said


OWNERS_FORGED: dict[str, Ask] = {
    "a record on a model": create(obj("MLModel", "n", {}, annotations={"steeltown.dev/live": LIVE})),
    "a record for a model that is there": annotate("mlmodel", "m", "steeltown.dev/live={}"),
    "a result": annotate("trainingrun", "made", "steeltown.dev/result={}"),
    "the status of a run": patch("trainingrun", "made", {"status": {"phase": "a"}}, "--subresource=status"),
    "the right to write records": command(
        "create", "rolebinding", "mine", "--clusterrole=steeltown-record-writer", "--user=owner", DRY
    ),
}


@pytest.mark.parametrize("ask", OWNERS_FORGED.values(), ids=OWNERS_FORGED)
def test_administrator_of_the_namespace_cannot_forge_either(place: Place, ask: Ask) -> None:
    accepted, said = answer(place.owner, place, ask)
    assert not accepted, said


def test_pods_of_a_stateful_set_with_our_labels_are_not_made_and_its_owner_is_told(place: Place) -> None:
    """The one way round the templates that are looked at: other controllers are nobody special."""
    place.editor.apply(LURE)
    told = eventually(lambda: place.admin.run("events", "--for=statefulset/lure-set"), until=lambda t: MARK in t)
    assert "FailedCreate" in told
    assert not place.admin.find("pods", "-l", "app=lure")


# --- what must go on working -----------------------------------------------------------------------------------------

EDITORS: dict[str, Ask] = {
    "a run": create(run()),
    "a run with labels, ours among them": create(run(labels={"steeltown.dev/model": "m", "team": "ops"})),
    "a run of a GitOps tool": create(run(annotations={"argocd.argoproj.io/tracking-id": "a:b/c:d"})),
    "a run that belongs to a workflow": create(
        lambda p: run(ownerReferences=[{**owned_by("ReplicaSet", "w", "u")[0], "apiVersion": "argoproj.io/v1alpha1"}])
    ),
    "a run beside its record": annotate("trainingrun", "made", "note=seen"),
    "labels on a run of the operator's": label("trainingrun", "made", "team=ops", "steeltown.dev/model=n"),
    "retry": annotate("trainingrun", "made", "steeltown.dev/retry=2026-11-28"),
    "retry, the older way": annotate("trainingrun", "made", "steeltown.dev/outcome-"),
    "deletion of a run": command("delete", "trainingrun", "made", DRY),
    "a Pod of one's own": create(pod(labels={"app": "a", "app.kubernetes.io/managed-by": "Helm"})),
    "a Deployment of one's own": create(workload("Deployment", "own", {"a": "b"}, template(labels={"a": "b"}))),
    "a Job of one's own": create(job("own", template())),
    "a Service to our Pods": create(service("own", VERSION, labels={"app.kubernetes.io/managed-by": "Helm"})),
    "a LoadBalancer": patch("service", "m", {"spec": {"type": "LoadBalancer"}}),
    "one more port": patch("service", "m", {"spec": {"ports": [{"name": "web", "port": 80, "targetPort": "http"}]}}),
    "a cloud's annotation on the Service": annotate("service", "m", "cloud.example.com/internal=true"),
    "kubectl scale": command("scale", "deployment/m-h1", "--replicas=3", DRY),
    "kubectl rollout restart": patch(
        "deployment",
        "m-h1",
        {
            "spec": {
                "template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-28T00:00:00Z"}}}
            }
        },
    ),
    "a label on a live Pod": label("pod", "POD", "looked=at"),
    "an annotation on a live Pod": annotate("pod", "POD", "looked=at"),
    "deletion of a Pod": command("delete", "pod", "POD", DRY),
    "deletion of the Service": command("delete", "service", "m", DRY),
    "a copy of a Pod to debug": command(
        "debug", "POD", "--copy-to=copy", "--image=a", "--profile=restricted", "--attach=false"
    ),
    "objects as they are, sent again": lambda p: (
        ("replace", DRY, "-f", "-"),
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                p.admin.get("service", "m"),
                p.admin.get("deployment", "m-h1"),
                p.admin.get("job", "m-load"),
                p.admin.get("pod", p.pod),
                p.admin.get("trainingrun", "made"),
            ],
        },
    ),
}


@pytest.mark.parametrize("ask", EDITORS.values(), ids=EDITORS)
def test_editor_goes_on_doing_what_is_not_reserved(place: Place, ask: Ask) -> None:
    accepted, said = answer(place.editor, place, ask)
    assert accepted, said


OWNERS: dict[str, Ask] = {
    "a model": create(obj("MLModel", "n", {"stage": "Production"}, labels={"steeltown.dev/model": "n"})),
    "objectives": patch("mlmodel", "m", {"spec": {"objectives": {"quality": [{"metric": "auc", "min": "0.8"}]}}}),
    "kubectl scale": command("scale", "mlmodel", "m", "--replicas=3", DRY),
    "a GitOps tool's annotation": annotate("mlmodel", "m", "argocd.argoproj.io/tracking-id=a:b/c:d"),
    "a run": create(run()),
}


@pytest.mark.parametrize("ask", OWNERS.values(), ids=OWNERS)
def test_administrator_of_the_namespace_changes_models(place: Place, ask: Ask) -> None:
    accepted, said = answer(place.owner, place, ask)
    assert accepted, said


RESERVED: dict[str, Ask] = {
    "what was exported": create(exported),
    "a run with its result": create(run(annotations=RESULT)),
    "a Service with its record": create(service("n", VERSION, labels=OURS, annotations={"steeltown.dev/live": LIVE})),
    "a Deployment": create(
        lambda p: workload(
            "Deployment",
            "n",
            VERSION,
            template(labels=VERSION),
            labels=VERSION,
            ownerReferences=owned_by("MLModel", "m", p.uid),
        )
    ),
    "a Job": create(job("n", template(labels=OURS), labels=OURS)),
    "a Pod": create(pod(labels=VERSION, annotations={"steeltown.dev/route": "{}"})),
    "another selector": patch("service", "m", {"spec": {"selector": {"steeltown.dev/version": "h0"}}}),
    "another image": patch("pod", "POD", IMAGE),
    "another outcome": annotate("trainingrun", "made", "steeltown.dev/outcome={}"),
}


@pytest.mark.parametrize("who", ["rescuer", "backup", "admin"])
@pytest.mark.parametrize("ask", RESERVED.values(), ids=RESERVED)
def test_holder_of_the_right_to_write_records_writes_them(place: Place, who: str, ask: Ask) -> None:
    """The break-glass group, a backup tool's account with the role, and whoever administers the cluster."""
    accepted, said = answer(getattr(place, who), place, ask)
    assert accepted, said


def test_right_to_write_records_ends_at_the_namespace_that_it_was_given_in(place: Place) -> None:
    """The account of an operator, or of a backup tool, for one namespace is a stranger in another."""
    for who in (place.operator, place.backup):
        assert verbs(who, RECORDS) == {"write"}
        assert verbs(who, RECORDS, "--namespace=default") == set()
    assert verbs(place.rescuer, RECORDS, "--namespace=default") == {
        "write"
    }  # the break-glass group holds it everywhere
    assert verbs(place.owner, RECORDS) == set()


def test_exec_is_reserved_in_a_namespace_that_asks_for_it(place: Place) -> None:
    """Who may, comes as far as the Pod, which has no node here."""
    ask = command("exec", "POD", "--", "true")
    assert "does not have a host assigned" in answer(place.editor, place, ask)[1]
    space = Kubectl(config=place.admin.config)
    space.run("label", "namespace", place.admin.namespace, "steeltown.dev/exec=reserved")
    try:
        message = f"read kubectl logs {place.pod}, or work in a namespace without it"
        said = eventually(lambda: answer(place.editor, place, ask)[1], until=lambda text: message in text)
        assert REMEDY in said
        assert message in answer(place.editor, place, command("attach", "POD"))[1]
        assert "does not have a host assigned" in answer(place.rescuer, place, ask)[1]
    finally:
        space.run("label", "namespace", place.admin.namespace, "steeltown.dev/exec-")


def verbs(who: Kubectl, resource: str, *options: str) -> set[str]:
    """By the list: `kubectl auth can-i VERB RESOURCE` looks the resource up, and records exist in RBAC alone."""
    rows = [line.split(maxsplit=3) for line in who.run("auth", "can-i", "--list", *options).splitlines()]
    return {verb for row in rows if row[0] == resource for verb in row[3].strip("[]").split()}


def test_editor_may_not_change_models_until_the_role_is_aggregated_again(place: Place) -> None:
    reading, writing = {"get", "list", "watch"}, {"create", "delete", "deletecollection", "patch", "update"}
    for who, models in ((place.editor, reading), (place.owner, reading | writing)):
        assert verbs(who, "mlmodels.steeltown.dev") == models
        assert verbs(who, "trainingruns.steeltown.dev") == reading | writing


# --- the operator and the controllers --------------------------------------------------------------------------------


def test_operator_brings_a_model_to_production_under_the_policies(
    kubeconfig: str, enforcing: dict[str, str], tmp_path: Path
) -> None:
    """All its own writes, and what deployment, replicaset and job controllers make of them, pass."""
    with namespace(kubeconfig, "admitted", labels=enforcing) as own:
        give_operator_its_rights(own)
        login = yaml.safe_load(Path(kubeconfig).read_text())
        login["users"] = [{"name": OPERATOR, "user": {"token": own.run("create", "token", OPERATOR).strip()}}]
        login["contexts"][0]["context"]["user"] = OPERATOR
        login["current-context"] = login["contexts"][0]["name"]
        config = tmp_path / "operator.kubeconfig"
        config.write_text(yaml.safe_dump(login))
        with (
            running(str(config), own.namespace, tmp_path / "operator.log"),
            real_cluster(kubeconfig, own.namespace) as cluster,
        ):
            kubelet = Kubelet(cluster)
            own.apply(model(Behaviour("good", "a")))

            def conditions() -> list[tuple[str, str, str]]:
                kubelet.tick()
                found = (own.get("mlmodel", "m").get("status") or {}).get("conditions", [])
                return [(c["type"], c["reason"], c["message"]) for c in found]

            done = eventually(conditions, until=_settled, seconds=180, every=0.2)
            assert [reason for kind, reason, _ in done if kind == "Ready"] == ["Promoted"], done


def _settled(conditions: list[tuple[str, str, str]]) -> bool:
    """Promoted, or refused by whoever refuses."""
    return any(reason in ("Promoted", "ApplyRefused") for kind, reason, _ in conditions if kind == "Ready")

"""A user with only `edit` in a namespace tries to bring a version to production without evidence, on real Pods.

Each forging is tried twice: with the admission policies, where the API server refuses it, and without them, where it is
accepted and must come to nothing. Whatever happens, the version that was promoted by evidence stays live.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from steeltown_testing import tables
from steeltown_testing.acting import Acting, grant
from steeltown_testing.environment import REPOSITORY
from steeltown_testing.installation import Bucket, condition, images
from steeltown_testing.kubectl import Kubectl, Obj, eventually
from steeltown_testing.traffic import traffic

API = "steeltown.dev/v1alpha1"
PREFIX = "steeltown.dev/"
ROUTE = "steeltown.dev/route"
MODEL = "tiny"
LURE = REPOSITORY / "tests/support/steeltown_testing/lure.py"
POLICIES = str(REPOSITORY / "manifests/admission")
EXTREME = 50.0
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


# --- models ----------------------------------------------------------------------------------------------------------


def trap(name: str = "trap") -> bytes:
    """Right on the evaluation rows; fails on an x that only users send."""
    made = onnx.load_from_string(tables.model(name=name))
    graph = made.graph
    constants = {"extreme": np.array([EXTREME], np.float32), "zero": np.array([0], np.float32)}
    constants["one_entry"] = np.array([0], np.float32)
    before = [
        helper.make_node("Div", ["x", "extreme"], ["ratio"]),
        helper.make_node("Floor", ["ratio"], ["floor"]),
        helper.make_node("Max", ["floor", "zero"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["one_entry", "index"], ["found"], axis=0),  # out of range from the extreme on
        helper.make_node("Add", ["x", "found"], ["safe_x"]),
    ]
    after = [_renamed(node) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*before, *after])
    graph.initializer.extend(numpy_helper.from_array(value, name=name) for name, value in constants.items())
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _renamed(node: Any) -> Any:
    for position, name in enumerate(node.input):
        if name == "x":
            node.input[position] = "safe_x"
    return node


def manifest() -> Obj:
    serving = {"errorRate": "0.02", "latencyMilliseconds": 500, "slowRate": "0.05", "maxSlowdown": "10"}
    return {
        "apiVersion": API,
        "kind": "MLModel",
        "metadata": {"name": MODEL},
        "spec": {
            "stage": "Production",
            "objectives": {"quality": [{"metric": "accuracy", "min": "0.7"}], "serving": serving},
            "serving": {"replicas": 2, "resources": {"requests": {"cpu": "50m"}}},
            "rollout": {
                "steps": [{"weight": 20}, {"weight": 50}],
                "loadCheck": {"ratePerSecond": "50", "durationSeconds": 8},
                "progressDeadlineSeconds": 120,
                "bakeSeconds": 3,
            },
        },
    }


def import_of(store: Bucket, name: str, model: bytes) -> Obj:
    spec = {
        "modelRef": {"name": MODEL},
        "task": tables.TASK,
        "import": store.put(f"forging/{name}.onnx", model),
        "evaluation": {"data": store.put("forging/evaluation.csv", tables.csv(seed=2))},
    }
    return {"apiVersion": API, "kind": "TrainingRun", "metadata": {"name": name}, "spec": spec}


# --- the place -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A team with the version `first` in production and a run `bad` that missed its objective."""

    team: Kubectl  # cluster-admin
    editor: Acting
    suffix: str  # of names that one pass of the tests uses
    protected: bool  # the policies are in force

    @property
    def live(self) -> Obj:
        return dict(self.team.get("mlmodel", MODEL)["status"]["versions"]["live"])

    @property
    def selector(self) -> dict[str, str]:
        found: dict[str, str] = self.team.get("service", MODEL)["spec"]["selector"]
        return found

    @property
    def live_pods(self) -> list[str]:
        return [str(p["metadata"]["name"]) for p in self._selected]

    @property
    def _selected(self) -> list[Obj]:
        return self.team.find("pods", "-l", ",".join(f"{k}={v}" for k, v in self.selector.items()))

    @property
    def deployment(self) -> str:
        replica_set = self.team.get("pod", self.live_pods[0])["metadata"]["ownerReferences"][0]["name"]
        return str(self.team.get("replicaset", replica_set)["metadata"]["ownerReferences"][0]["name"])

    def standing(self, deployment: str) -> dict[str, Any]:
        """All that the operator has written about who serves, in words that do not change while nothing does."""
        service, served = self.team.get("service", MODEL), self.team.get("deployment", deployment)
        routes = [pod["metadata"].get("annotations", {}).get(ROUTE, "") for pod in self._selected]
        return {
            "service": (_ours(service), service["spec"]["selector"]),
            "deployment": (_ours(served), served["spec"]["replicas"], served["spec"]["template"]),
            "requests that leave the live Pods": sum(json.loads(r)["weight"] for r in routes if r),
        }


def _ours(obj: Obj) -> dict[str, str]:
    """Labels and annotations of the operator's."""
    said = {**obj["metadata"].get("labels", {}), **obj["metadata"].get("annotations", {})}
    return {k: v for k, v in said.items() if k.startswith((PREFIX, "app.kubernetes.io/"))}


@pytest.fixture(scope="module")
def team(shared_team: Kubectl, store: Bucket) -> Kubectl:
    shared_team.apply(manifest())
    shared_team.apply(import_of(store, "first", tables.model(name="first")))
    eventually(lambda: _ready(shared_team), seconds=180, every=1)
    shared_team.apply(import_of(store, "bad", tables.model(5.0, name="bad")))
    eventually(lambda: _ended(shared_team, "bad"), seconds=120)
    grant(shared_team, "edit", "forger")
    return shared_team


@pytest.fixture(scope="module", params=["with policies", "without policies"])
def place(request: pytest.FixtureRequest, everywhere: Kubectl, team: Kubectl) -> Iterator[Place]:
    editor = Acting(team, "forger")
    if request.param == "with policies":
        yield Place(team=team, editor=editor, suffix="kept", protected=True)
        return
    everywhere.run("delete", "validatingadmissionpolicybindings", "-l", "app.kubernetes.io/name=steeltown")
    try:
        eventually(lambda: not _reserved(editor), seconds=30)
        yield Place(team=team, editor=editor, suffix="open", protected=False)
    finally:
        everywhere.run("apply", "--server-side", "--force-conflicts", "-k", POLICIES)
        eventually(lambda: _reserved(editor), seconds=30)


def _reserved(editor: Acting) -> bool:
    probe = {"metadata": {"name": "probe", "labels": {"app.kubernetes.io/managed-by": "steeltown"}}}
    service = {"apiVersion": "v1", "kind": "Service", **probe, "spec": {"ports": [{"port": 80}]}}
    done = editor.attempt("create", "--dry-run=server", "-f", "-", stdin=json.dumps(service))
    return "ValidatingAdmissionPolicy" in done.stderr


def _ready(team: Kubectl) -> bool:
    model = team.get("mlmodel", MODEL)
    return not model["status"].get("rollout") and condition(model, "Promoted").get("status") == "True"


def _ended(team: Kubectl, run: str) -> bool:
    return bool(team.get("trainingrun", run).get("status", {}).get("completionTime"))


def outcome(team: Kubectl, run: str) -> str:
    """How the last rollout of a run ended, "" while none has."""
    history = team.get("mlmodel", MODEL)["status"].get("history", [])
    return next((str(entry["outcome"]) for entry in history if entry["run"] == run), "")


def stays(place: Place, before: Obj, *, seconds: float) -> None:
    """What was live is live, at every look of so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert place.live["run"] == before["run"]
        assert place.live["digest"] == before["digest"]
        time.sleep(0.5)


# --- forgings --------------------------------------------------------------------------------------------------------

Attempt = tuple[tuple[str, ...], Obj | None]


def digest_of(place: Place, run: str) -> str:
    return str(place.team.get("trainingrun", run)["status"]["artifact"]["digest"])


def copied_run(place: Place) -> Attempt:
    """The manifest of a run that was promoted, with its annotations, about bytes that no objective holds for."""
    first, bad = place.team.get("trainingrun", "first"), place.team.get("trainingrun", "bad")
    good_digest, bad_digest = digest_of(place, "first"), digest_of(place, "bad")
    notes = {k: v.replace(good_digest, bad_digest) for k, v in first["metadata"]["annotations"].items()}
    assert [k for k in notes if k.startswith(PREFIX)]
    metadata = {"name": f"copied-{place.suffix}", "annotations": notes}
    return ("create", "-f", "-"), {**bad, "metadata": metadata, "status": first["status"]}


def outcome_of_another(place: Place) -> Attempt:
    notes = place.team.get("trainingrun", "first")["metadata"]["annotations"]
    copied = [f"{k}={v}" for k, v in notes.items() if k.startswith(PREFIX)]
    return ("annotate", "trainingrun", "bad", "--overwrite", *copied), None


def plain_outcome(place: Place) -> Attempt:
    told = {"result": "Promoted", "digest": digest_of(place, "bad"), "reason": "Promoted", "message": "good"}
    note = f"{PREFIX}outcome={json.dumps(told)}"
    return ("annotate", "trainingrun", "bad", "--overwrite", note), None


def job_by_hand(place: Place) -> Attempt:
    """A Job under the uid of a run that missed its objective."""
    owner = place.team.get("trainingrun", "bad")
    return ("create", "-f", "-"), _job(place, f"by-hand-{place.suffix}", "bad", owner=[_controller(owner)])


def _controller(owner: Obj) -> Obj:
    meta = owner["metadata"]
    return {"apiVersion": API, "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True}


def _job(place: Place, name: str, run: str, *, owner: list[Obj]) -> Obj:
    """Its steps report what those of the good run reported, about the bytes of the bad one."""
    template = _lying_steps(place, run)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": template["metadata"]["labels"], "ownerReferences": owner},
        "spec": {"template": template},
    }


def _lying_steps(place: Place, run: str) -> Obj:
    pod = place.team.find("pods", "-l", "batch.kubernetes.io/job-name=first-run")[0]
    ended = [*pod["status"].get("initContainerStatuses", []), *pod["status"]["containerStatuses"]]
    messages = {c["name"]: c["state"]["terminated"].get("message", "") for c in ended}
    good, bad = digest_of(place, "first"), digest_of(place, "bad")
    steps = [_saying(step, text.replace(good, bad)) for step, text in messages.items()]
    labels = {k: v for k, v in pod["metadata"]["labels"].items() if k.startswith((PREFIX, "app.kubernetes.io/"))}
    labels[f"{PREFIX}run"] = run
    spec: Obj = {"containers": steps[-1:], "restartPolicy": "Never", "securityContext": RESTRICTED}
    if steps[:-1]:
        spec["initContainers"] = steps[:-1]
    return {"metadata": {"labels": labels}, "spec": spec}


def _saying(name: str, message: str) -> Obj:
    script = f"open('/dev/termination-log', 'w').write({message!r})"
    return {
        "name": name,
        "image": images()["checker"],
        "command": ["python3", "-c", script],
        "securityContext": CONFINED,
    }


def route_of_a_live_pod(place: Place) -> Attempt:
    route = {"window": "mine", "weight": 100, "canaryURL": f"http://lure.{place.team.namespace}.svc:8080"}
    note = f"{PREFIX}route={json.dumps(route)}"
    return ("annotate", "pod", place.live_pods[0], "--overwrite", note), None


def image_of_a_live_pod(place: Place) -> Attempt:
    return ("set", "image", f"pod/{place.live_pods[0]}", "server=liar.invalid/server:1"), None


def image_of_the_live_deployment(place: Place) -> Attempt:
    return ("set", "image", f"deployment/{place.deployment}", "server=liar.invalid/server:1"), None


def variable_of_the_live_deployment(place: Place) -> Attempt:
    """A field that the operator does not write, so that no apply of its own takes it back."""
    return ("set", "env", f"deployment/{place.deployment}", "LD_PRELOAD=/their/code.so"), None


def command_of_the_live_deployment(place: Place) -> Attempt:
    containers = [{"name": "server", "command": ["python3", "-c", "import time; time.sleep(3600)"]}]
    change = {"spec": {"template": {"spec": {"containers": containers}}}}
    return ("patch", "deployment", place.deployment, "-p", json.dumps(change)), None


def record_taken_away(place: Place) -> Attempt:
    notes = place.team.get("service", MODEL)["metadata"]["annotations"]
    return ("annotate", "service", MODEL, *(f"{k}-" for k in notes if k.startswith(PREFIX))), None


def another_record(place: Place) -> Attempt:
    """Whatever names the good version names the bad one."""
    good, bad = digest_of(place, "first"), digest_of(place, "bad")
    notes = place.team.get("service", MODEL)["metadata"]["annotations"]
    swapped = {k: v.replace(good, bad).replace('"first"', '"bad"') for k, v in notes.items() if k.startswith(PREFIX)}
    changed = [f"{k}={v}" for k, v in swapped.items()]
    return ("annotate", "service", MODEL, "--overwrite", *changed), None


def another_selector(place: Place) -> Attempt:
    change = {"spec": {"selector": {f"{PREFIX}version": "h000000000"}}}
    return ("patch", "service", MODEL, "-p", json.dumps(change)), None


def mark_taken_away(place: Place) -> Attempt:
    return ("label", "deployment", place.deployment, "app.kubernetes.io/managed-by-"), None


FORGINGS: tuple[Callable[[Place], Attempt], ...] = (
    copied_run,
    outcome_of_another,
    plain_outcome,
    job_by_hand,
    route_of_a_live_pod,
    image_of_a_live_pod,
    image_of_the_live_deployment,
    variable_of_the_live_deployment,
    command_of_the_live_deployment,
    record_taken_away,
    another_record,
    another_selector,
    mark_taken_away,
)


@pytest.fixture
def undisturbed(place: Place) -> Iterator[Obj]:
    """The live version before; afterwards all that the operator had written is as it was, by its own doing."""
    before, deployment = place.live, place.deployment
    standing = place.standing(deployment)
    yield before
    for name in place.live_pods:
        if condition(place.team.get("pod", name), "Ready").get("status") != "True":
            place.team.run("delete", "pod", name, "--wait=false")
    eventually(lambda: place.standing(deployment), until=lambda now: now == standing, seconds=60)
    eventually(lambda: _available(place.team), seconds=120)


def _available(team: Kubectl) -> bool:
    return condition(team.get("mlmodel", MODEL), "Available").get("status") == "True"


@pytest.mark.parametrize("forging", FORGINGS, ids=lambda f: f.__name__)
def test_forging_is_refused_or_comes_to_nothing(
    place: Place, undisturbed: Obj, forging: Callable[[Place], Attempt]
) -> None:
    arguments, stdin = forging(place)
    done = place.editor.attempt(*arguments, stdin=json.dumps(stdin) if stdin else None)
    if place.protected:
        assert "ValidatingAdmissionPolicy 'steeltown-" in done.stderr
        assert "records.steeltown.dev" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    stays(place, undisturbed, seconds=4)
    assert outcome(place.team, "bad") != "Promoted"


def test_copied_run_is_evaluated_anew(place: Place, undisturbed: Obj) -> None:
    """Where it is accepted, it is measured like any other."""
    name = f"copied-{place.suffix}"
    arguments, stdin = copied_run(place)
    if not place.protected and place.team.attempt("get", "trainingrun", name).returncode:
        place.editor.run(*arguments, stdin=json.dumps(stdin))
    if place.protected:
        assert place.editor.attempt(*arguments, stdin=json.dumps(stdin)).returncode
        assert place.team.attempt("get", "trainingrun", name).returncode
        return
    eventually(lambda: _ended(place.team, name), seconds=120)
    assert condition(place.team.get("trainingrun", name), "QualityAccepted")["status"] == "False"
    stays(place, undisturbed, seconds=4)


def test_job_by_hand_that_stands_where_the_operators_would_stand_says_nothing_about_a_run(
    place: Place, undisturbed: Obj
) -> None:
    """Made before the run and handed to it afterwards, so that it has the right name, labels and owner."""
    run = f"raced-{place.suffix}"
    job = _job(place, f"{run}-run", run, owner=[])
    done = place.editor.attempt("create", "-f", "-", stdin=json.dumps(job))
    if place.protected:
        assert "ValidatingAdmissionPolicy 'steeltown-records" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    bad = place.team.get("trainingrun", "bad")
    place.editor.apply({"apiVersion": API, "kind": "TrainingRun", "metadata": {"name": run}, "spec": bad["spec"]})
    owners = {"metadata": {"ownerReferences": [_controller(place.team.get("trainingrun", run))]}}
    place.editor.run("patch", "job", f"{run}-run", "-p", json.dumps(owners))
    place.editor.wait(f"job/{run}-run", "condition=Complete", seconds=60)
    stays(place, undisturbed, seconds=8)
    found = place.team.get("trainingrun", run)
    assert condition(found, "Ready").get("status") != "True", found["status"]
    assert condition(found, "QualityAccepted").get("status") != "True", found["status"]
    for kind, name in (("trainingrun", run), ("job", f"{run}-run")):
        place.team.run("delete", kind, name, "--ignore-not-found")


def test_pod_in_a_training_job_of_the_operators_says_nothing_about_its_run(place: Place, undisturbed: Obj) -> None:
    """Under the uid and the labels of a Job that runs: its controller takes the Pod for its own."""
    run = f"joined-{place.suffix}"
    train = {
        "data": place.team.get("trainingrun", "bad")["spec"]["evaluation"]["data"],
        "image": images()["trainer"],
        "command": ["python3", "-c", "import time; time.sleep(15); raise SystemExit(65)"],
    }
    spec = {"modelRef": {"name": MODEL}, "task": tables.TASK, "train": train}
    place.editor.apply({"apiVersion": API, "kind": "TrainingRun", "metadata": {"name": run}, "spec": spec})
    own = eventually(lambda: place.team.find("pods", "-l", f"batch.kubernetes.io/job-name={run}-run"), seconds=60)[0]
    template = _lying_steps(place, run)
    meta = own["metadata"]
    joined = {"name": f"{run}-run-extra", "labels": meta["labels"], "ownerReferences": meta["ownerReferences"]}
    done = place.editor.attempt(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Pod", **template, "metadata": joined})
    )
    if place.protected:
        assert "ValidatingAdmissionPolicy 'steeltown-records" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
    eventually(lambda: _ended(place.team, run), seconds=120)
    found = place.team.get("trainingrun", run)
    assert found["status"]["phase"] == "Failed", found["status"]
    assert "artifact" not in found["status"]
    stays(place, undisturbed, seconds=4)
    place.team.run("delete", "trainingrun", run)


def test_load_check_job_by_hand_lets_no_version_see_a_user(place: Place, undisturbed: Obj, store: Bucket) -> None:
    """It stands where the operator's would stand before that one is made: the brake is on."""
    run = f"unchecked-{place.suffix}"
    place.team.apply(import_of(store, run, trap(run)))
    eventually(lambda: _phase(place.team), until=lambda p: p == "Loading", seconds=120, every=0.1)
    _brake(place.team, on=True)
    rollout = str(place.team.get("mlmodel", MODEL)["status"]["rollout"]["id"])
    name = f"{MODEL}-load-{rollout[1:7]}-0"
    try:
        job = _job(place, name, run, owner=[_controller(place.team.get("mlmodel", MODEL))])
        done = place.editor.attempt("create", "-f", "-", stdin=json.dumps(job))
        if place.protected:
            assert "ValidatingAdmissionPolicy 'steeltown-records" in done.stderr
            return
        assert done.returncode == 0, done.stderr
        place.editor.wait(f"job/{name}", "condition=Complete", seconds=60)
        _brake(place.team, on=False)
        own = name.removesuffix("-0") + "-1"
        eventually(
            lambda: [j["metadata"]["name"] for j in place.team.find("jobs")], until=lambda j: own in j, seconds=60
        )
        measured = place.team.get("mlmodel", MODEL)
        assert measured["status"]["rollout"]["phase"] == "LoadChecking"
        assert f"Job {name} was not created by the operator" in condition(measured, "ServingPerformance")["message"]
    finally:
        place.team.run("patch", "mlmodel", MODEL, "--type=merge", "-p", json.dumps({"spec": {"abort": run}}))
        _brake(place.team, on=False)
        eventually(lambda: outcome(place.team, run), until=bool, seconds=120)
        place.team.run("delete", "job", name, "--ignore-not-found")
        place.team.run("patch", "mlmodel", MODEL, "--type=merge", "-p", '{"spec":{"abort":null}}')
        place.team.run("delete", "trainingrun", run)
    assert outcome(place.team, run) == "RolledBack"


def _brake(team: Kubectl, *, on: bool) -> None:
    team.run("patch", "mlmodel", MODEL, "--type=merge", "-p", json.dumps({"spec": {"frozen": on}}))


def _reasons(team: Kubectl) -> list[str]:
    return [str(c["reason"]) for c in team.get("mlmodel", MODEL)["status"]["conditions"]]


FORBIDDEN: dict[str, tuple[str, ...]] = {
    "status of the model": ("patch", "mlmodel", MODEL, "--subresource=status", "--type=merge", "-p", '{"status":{}}'),
    "status of a run": ("patch", "trainingrun", "bad", "--subresource=status", "--type=merge", "-p", '{"status":{}}'),
    "laxer objectives": ("patch", "mlmodel", MODEL, "--type=merge", "-p", '{"spec":{"objectives":null}}'),
    "the key of the seals": ("get", "secret", "steeltown-seal", "--namespace=steeltown-system"),
}


@pytest.mark.parametrize("arguments", FORBIDDEN.values(), ids=FORBIDDEN)
def test_rights_of_an_editor_do_not_reach_so_far(place: Place, arguments: tuple[str, ...]) -> None:
    done = place.editor.attempt(*arguments)
    assert done.returncode
    assert "forbidden" in done.stderr


def test_lure_pods_do_not_carry_a_version_that_fails_its_users(place: Place, undisturbed: Obj, store: Bucket) -> None:
    """Two Pods with the labels of the live ones, one of them such that the ReplicaSet adopts it, say all is well."""
    lures = [_lure(place, "lure", adopted=False), _lure(place, "lured", adopted=True)]
    if place.protected:
        said = [place.editor.attempt("create", "-f", "-", stdin=json.dumps(lure)).stderr for lure in lures]
        assert all("ValidatingAdmissionPolicy 'steeltown-records" in text for text in said), said
        return
    bodies = [tables.request(x) for x in (1.0, -1.0, 4 * EXTREME)]
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "lure"},
        "data": {"lure.py": LURE.read_text()},
    }
    with traffic(place.team, MODEL, bodies, rate=60):
        place.editor.apply(script)
        place.team.apply(import_of(store, "trap", trap()))
        eventually(lambda: _phase(place.team) == "Shifting", seconds=120)
        for lure in lures:
            place.editor.run("create", "-f", "-", stdin=json.dumps(lure))
        try:
            eventually(lambda: _reasons(place.team), until=lambda seen: "ForeignPods" in seen, seconds=20)
            stays(place, undisturbed, seconds=20)
            assert outcome(place.team, "trap") == ""
        finally:
            place.team.run("delete", "pod", "lure", "lured", "--ignore-not-found", "--grace-period=1")
        eventually(lambda: outcome(place.team, "trap"), until=lambda o: o == "RolledBack", seconds=240, every=1)
    stays(place, undisturbed, seconds=4)


def _phase(team: Kubectl) -> str:
    return str((team.get("mlmodel", MODEL)["status"].get("rollout") or {}).get("phase", ""))


def _lure(place: Place, name: str, *, adopted: bool) -> Obj:
    """A Pod like a live one, for users and for labels; `adopted`: the ReplicaSet's controller takes it for its own."""
    model = place.team.get("pod", place.live_pods[0])
    labels = {k: v for k, v in model["metadata"]["labels"].items() if adopted or k != "pod-template-hash"}
    container = {
        "name": "server",
        "image": images()["server"],
        "command": ["python3", "/script/lure.py"],
        "env": [{"name": "LURE_LIVE", "value": f"http://{model['status']['podIP']}:8080"}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        "securityContext": CONFINED,
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "script", "configMap": {"name": "lure"}}],
        "securityContext": RESTRICTED,
        "terminationGracePeriodSeconds": 1,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}

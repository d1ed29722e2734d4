"""One training run on a real kubelet: what it makes, and how each way to fail ends with its real reason."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown_testing import tables
from steeltown_testing.installation import Bucket, condition, images
from steeltown_testing.kubectl import Kubectl, Obj, eventually

API = "steeltown.dev/v1alpha1"
OWN_TRAINER = """
import json, os, shutil, sys
sys.path.insert(0, "/opt/venv/lib/python3.13/site-packages")
import onnx
from onnx import TensorProto, helper
rows = open(os.environ["STEELTOWN_INPUT_DIR"] + "/data.csv").read().count(chr(10)) - 1
params = json.load(open(os.environ["STEELTOWN_PARAMS_FILE"]))
assert params["depth"] == "3", params
assert not os.environ.get("AWS_SECRET_ACCESS_KEY"), "the trainer sees the storage Secret"
assert not os.path.exists("/steeltown/evaluation"), "the trainer sees the evaluation rows"
assert not os.path.exists("/var/run/secrets/kubernetes.io"), "the trainer has an API token"
node = [helper.make_node("Sigmoid", ["features"], ["probability"])]
graph = helper.make_graph(node, "own", [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 1])],
                          [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])])
out = os.environ["STEELTOWN_OUTPUT_DIR"]
os.makedirs(out + "/model", exist_ok=True)
made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(made, out + "/model/model.onnx")
json.dump({"schemaVersion": 1, "rows": rows}, open(os.environ["STEELTOWN_RESULT_FILE"], "w"))
"""


@pytest.fixture(scope="module")
def team(shared_team: Kubectl) -> Kubectl:
    model = {"apiVersion": API, "kind": "MLModel", "metadata": {"name": "m"}, "spec": {"serving": {"replicas": 0}}}
    shared_team.apply(model)
    return shared_team


@pytest.fixture(scope="module")
def data(store: Bucket) -> dict[str, str]:
    return store.put("training/data.csv", tables.csv())


def training_run(name: str, **spec: Any) -> Obj:
    return {
        "apiVersion": API,
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {"modelRef": {"name": "m"}, **spec},
    }


def finished(team: Kubectl, name: str, *, seconds: float = 120) -> Obj:
    return eventually(
        lambda: team.get("trainingrun", name),
        until=lambda r: bool(r.get("status", {}).get("completionTime")),
        seconds=seconds,
    )


def test_run_with_the_built_in_trainer_makes_a_measured_version(
    team: Kubectl, store: Bucket, data: dict[str, str]
) -> None:
    evaluation = store.put("training/evaluation.csv", tables.csv(seed=2))
    team.apply(
        training_run(
            "builtin",
            task=tables.TASK,
            train={"data": data, "params": {"estimator": "Linear"}},
            evaluation={"data": evaluation},
            objectives={"quality": [{"metric": "accuracy", "min": "0.7"}]},
        )
    )
    run = finished(team, "builtin")
    assert run["status"]["phase"] == "Succeeded", run["status"]
    assert run["status"]["rows"] == 400
    assert run["status"]["artifact"]["digest"].startswith("sha256:")
    assert {m["name"] for m in run["status"]["metrics"]} >= {"accuracy", "auc", "logloss"}
    for kind in ("DataValidated", "TrainingHealthy", "ResourcesWithinBudget", "QualityAccepted", "Ready"):
        assert condition(run, kind)["status"] == "True", condition(run, kind)
    team.wait("trainingrun/builtin", "condition=Ready", seconds=5)


def test_any_image_trains_by_the_file_contract_without_credentials(team: Kubectl, data: dict[str, str]) -> None:
    train = {
        "data": data,
        "image": images()["trainer"],
        "command": ["python3", "-c", OWN_TRAINER],
        "params": {"depth": "3"},
    }
    team.apply(training_run("own", train=train))
    run = finished(team, "own")
    assert run["status"]["phase"] == "Succeeded", run["status"]
    assert condition(run, "QualityAccepted")["status"] == "Unknown"


def test_import_goes_through_the_same_checks(team: Kubectl, store: Bucket) -> None:
    source = store.put("training/own.onnx", tables.model())
    evaluation = store.put("training/evaluation.csv", tables.csv(seed=2))
    team.apply(training_run("imported", task=tables.TASK, evaluation={"data": evaluation}, **{"import": source}))
    run = finished(team, "imported")
    assert run["status"]["phase"] == "Succeeded", run["status"]
    assert run["status"]["artifact"]["digest"] == source["digest"]


def test_job_that_can_make_no_pod_says_why_within_seconds_and_goes_on_when_it_can(
    own_team: Kubectl, data: dict[str, str]
) -> None:
    """The cause stands in an Event of the Job alone."""
    model = {"apiVersion": API, "kind": "MLModel", "metadata": {"name": "m"}, "spec": {"serving": {"replicas": 0}}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    own_team.apply(quota)
    eventually(lambda: own_team.get("resourcequota", "none"), until=lambda q: "hard" in q.get("status", {}), seconds=10)
    own_team.apply(model)
    own_team.apply(training_run("blocked", task=tables.TASK, train={"data": data, "params": {"estimator": "Linear"}}))
    told = eventually(
        lambda: condition(own_team.get("trainingrun", "blocked"), "Ready"),
        until=lambda c: c.get("reason") == "JobBlocked",
        seconds=10,
    )
    assert "exceeded quota" in told["message"]
    own_team.run("delete", "resourcequota", "none")
    assert finished(own_team, "blocked")["status"]["phase"] == "Succeeded"


def python(script: str, **more: Any) -> dict[str, Any]:
    return {"image": images()["trainer"], "command": ["python3", "-c", script], **more}


FAILURES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # name: spec.train, reason, condition, what the message must hold
    "wrong-digest": ({"data": {"digest": "sha256:" + "0" * 64}}, "DigestMismatch", "DataValidated", "sha256:0000"),
    "no-such-object": ({"data": {"uri": "s3://steeltown/none.csv"}}, "ArtifactNotFound", "DataValidated", "none.csv"),
    "crash": (python("raise SystemExit('no luck today')"), "TrainerFailed", "TrainingHealthy", "no luck today"),
    "own-words": (
        python(
            "import os; open(os.environ['STEELTOWN_FAILURE_FILE'], 'w').write('the oven is cold'); raise SystemExit(2)"
        ),
        "TrainerFailed",
        "TrainingHealthy",
        "the oven is cold",
    ),
    "bad-data": (python("import sys; sys.exit(65)"), "TrainerFailed", "TrainingHealthy", "code 65"),
    "no-result": (python("pass"), "ResultMissing", "TrainingHealthy", "model.onnx"),
    "out-of-memory": (
        python("x = bytearray(400 << 20)", resources={"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}),
        "OutOfMemory",
        "ResourcesWithinBudget",
        "memory",
    ),
    "no-such-image": ({"image": "registry.invalid/none:1"}, "ImagePullFailed", "TrainingHealthy", "registry.invalid"),
    "too-big": ({"resources": {"requests": {"cpu": "999"}}}, "Unschedulable", "TrainingHealthy", "cpu"),
}


@pytest.fixture(scope="module")
def failing(team: Kubectl, data: dict[str, str]) -> None:
    """All at once, so that the tests wait together."""
    for name, (train, *_) in FAILURES.items():
        merged = {**train, "data": {**data, **train.get("data", {})}}
        spec = {"task": tables.TASK, "train": merged, "maxAttempts": 1, "startDeadlineSeconds": 30}
        team.apply(training_run(name, **spec))
    closed = {"storage": {"secretName": "nowhere"}, "serving": {"replicas": 0}}
    team.apply({"apiVersion": API, "kind": "MLModel", "metadata": {"name": "closed"}, "spec": closed})
    secretless = training_run("no-secret", task=tables.TASK, train={"data": data}, startDeadlineSeconds=15)
    team.apply({**secretless, "spec": {**secretless["spec"], "modelRef": {"name": "closed"}}})


@pytest.mark.parametrize("name", FAILURES)
def test_failure_ends_with_its_real_reason(team: Kubectl, failing: None, name: str) -> None:
    _, reason, kind, said = FAILURES[name]
    run = finished(team, name, seconds=180)
    assert run["status"]["phase"] == "Failed"
    assert run["status"]["reason"] == reason, run["status"]
    assert condition(run, "Stalled")["reason"] == reason
    assert condition(run, kind)["status"] == "False", run["status"]["conditions"]
    assert said in condition(run, "Ready")["message"]
    events = team.run("events", "--for", f"trainingrun/{name}")
    assert reason in events


def test_last_log_lines_of_a_crash_stay_in_the_status(team: Kubectl, failing: None) -> None:
    assert "no luck today" in finished(team, "crash")["status"]["log"]


def test_missing_secret_is_named(team: Kubectl, failing: None) -> None:
    run = finished(team, "no-secret")
    assert run["status"]["reason"] == "ContainerConfigError"
    assert 'secret "nowhere" not found' in condition(run, "Ready")["message"]


def test_transient_failure_is_tried_again_and_no_more_often_than_allowed(team: Kubectl, data: dict[str, str]) -> None:
    train = {"data": data, **python("import sys; sys.exit(75)")}
    team.apply(training_run("transient", train=train, maxAttempts=2))
    run = finished(team, "transient", seconds=180)
    assert run["status"]["phase"] == "Failed"
    pods = team.find("pods", "-l", "steeltown.dev/run=transient")
    assert len(pods) == 2


def test_deleted_job_is_never_trained_again(team: Kubectl, data: dict[str, str]) -> None:
    team.apply(training_run("deleted", train={"data": data, **python("import time; time.sleep(60)")}))
    eventually(lambda: team.get("trainingrun", "deleted").get("status", {}).get("jobName"))
    team.run("delete", "job", "deleted-run", "--wait=false")
    run = finished(team, "deleted")
    assert run["status"]["reason"] == "JobDeleted"
    assert not team.find("jobs", "-l", "steeltown.dev/run=deleted")

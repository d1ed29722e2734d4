"""The resources on a real API server: every rule with a good and a bad example, and what kubectl makes of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from steeltown_testing.environment import REPOSITORY, kubeconfig
from steeltown_testing.kubectl import Kubectl, eventually, namespace

DIGEST = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    config = kubeconfig(control_plane=True)
    everywhere = Kubectl(config=config)
    everywhere.run("apply", "--server-side", "--force-conflicts", "-k", str(REPOSITORY / "crds"))
    everywhere.wait("crd/mlmodels.steeltown.dev", "condition=Established")
    everywhere.wait("crd/trainingruns.steeltown.dev", "condition=Established")
    with namespace(config, "crds") as own:
        eventually(lambda: own.attempt("get", "mlmodels,trainingruns").returncode == 0)
        yield own


def mlmodel(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "steeltown.dev/v1alpha1", "kind": "MLModel", "metadata": {"name": "m"}, "spec": spec}


def run(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "steeltown.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "r"},
        "spec": {"modelRef": {"name": "m"}, **spec},
    }


SOURCE = {"uri": "s3://data/january.csv", "digest": DIGEST}
TASK = {"type": "Classification", "target": "late"}
TRAIN = {"task": TASK, "train": {"data": SOURCE}}
QUALITY = {"metric": "accuracy", "min": "0.7"}

ACCEPTED = {
    "nothing but a name": mlmodel(),
    "everything a model can say": mlmodel(
        stage="Production",
        frozen=True,
        abort="m-v2",
        historyLimit=0,
        training={"template": TRAIN, "historyLimit": {"succeeded": 0, "failed": 10000}},
        evaluation={"data": SOURCE, "task": TASK},
        storage={"uri": "s3://bucket/prefix", "secretName": "store"},
        objectives={
            "data": {
                "rows": {"min": 10, "max": 20, "minRatioToLive": "0.5"},
                "columns": [{"name": "x", "type": "Number", "maxNullFraction": "0.1"}],
            },
            "quality": [{**QUALITY, "nonInferiorityMargin": "0.01", "mode": "Observe"}],
            "serving": {"errorRate": "0.01", "latencyMilliseconds": 50, "slowRate": "0.05", "maxSlowdown": "3"},
        },
        serving={"replicas": 3, "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "500m"}}},
        rollout={
            "steps": [{"weight": 1}, {"weight": 100}],
            "loadCheck": {"ratePerSecond": "20", "durationSeconds": 10},
            "onInconclusive": "Rollback",
            "progressDeadlineSeconds": 60,
            "bakeSeconds": 0,
        },
    ),
    "a run that trains": run(**TRAIN),
    "a run with its own trainer needs no task": run(train={"data": SOURCE, "image": "registry.example/trainer:1"}),
    "evaluation rows whose task each run tells": mlmodel(evaluation={"data": SOURCE}),
    "a task that says what its outputs are": run(
        task={**TASK, "outputs": {"label": "l", "probabilities": "p", "classes": ["on time", "late"]}},
        **{"import": SOURCE},
    ),
    "a regression that says which output it is": run(
        task={"type": "Regression", "target": "delay", "outputs": {"label": "mean", "classes": []}},
        **{"import": SOURCE},
    ),
    "a limit for failed runs alone": mlmodel(training={"historyLimit": {"failed": 1}}),
    "a run that imports": run(**{"import": SOURCE}),
}

REFUSED = {
    "steps that do not increase": (
        mlmodel(rollout={"steps": [{"weight": 25}, {"weight": 25}]}),
        "weights must be strictly increasing",
    ),
    "no step": (mlmodel(rollout={"steps": []}), "should have at least 1 items"),
    "weight above 100": (mlmodel(rollout={"steps": [{"weight": 101}]}), "less than or equal to 100"),
    "unknown stage": (mlmodel(stage="Prod"), 'supported values: "Experimental", "Production"'),
    "unknown field": (mlmodel(stag="Production"), 'unknown field "spec.stag"'),
    "bad quantity": (
        mlmodel(serving={"resources": {"limits": {"memory": "1 Gig"}}}),
        "spec.serving.resources.limits.memory",
    ),
    "share above one": (mlmodel(objectives={"serving": {"errorRate": "1.5"}}), "spec.objectives.serving.errorRate"),
    "a metric without a bound": (
        mlmodel(objectives={"quality": [{"metric": "auc"}]}),
        "at least one of min, max and nonInferiorityMargin is required",
    ),
    "the same metric twice": (mlmodel(objectives={"quality": [QUALITY, QUALITY]}), "Duplicate value"),
    "rows.min above rows.max": (
        mlmodel(objectives={"data": {"rows": {"min": 2, "max": 1}}}),
        "rows.min must be less than or equal to rows.max",
    ),
    "train and import": (
        run(**TRAIN, **{"import": SOURCE}),
        "exactly one of train (train on data) and import (use an existing ONNX file) is required",
    ),
    "neither train nor import": (
        run(),
        "exactly one of train (train on data) and import (use an existing ONNX file) is required",
    ),
    "built-in trainer without a task": (run(train={"data": SOURCE}), "task is required by the built-in trainer"),
    "evaluation without a task": (
        run(**{"import": SOURCE}, evaluation={"data": SOURCE}),
        "task is required by evaluation",
    ),
    "a URI of no known scheme": (
        run(**{"import": {**SOURCE, "uri": "ftp://x/y"}}),
        "spec.import.uri",
    ),
    "an abort of nothing": (mlmodel(abort=""), "spec.abort"),
    "an abort of what cannot be a name": (mlmodel(abort="m_V2"), "spec.abort"),
    "an abort with more in it": (mlmodel(abort={"run": "m-v2"}), "spec.abort"),
    "an abort of several": (mlmodel(abort=["m-v2"]), "spec.abort"),
    "a history limit below zero": (mlmodel(historyLimit=-1), "spec.historyLimit"),
    "a history limit that nobody means": (mlmodel(historyLimit=10001), "less than or equal to 10000"),
    "a history limit as a text": (mlmodel(historyLimit="10"), "spec.historyLimit"),
    "a limit for all runs of the template": (mlmodel(training={"historyLimit": 3}), "spec.training.historyLimit"),
    "a limit for succeeded runs below zero": (
        mlmodel(training={"historyLimit": {"succeeded": -1}}),
        "spec.training.historyLimit.succeeded",
    ),
    "a limit for runs of no such kind": (
        mlmodel(training={"historyLimit": {"successful": 3}}),
        'unknown field "spec.training.historyLimit.successful"',
    ),
    "evaluation without rows": (mlmodel(evaluation={}), "spec.evaluation.data: Required value"),
    "evaluation rows that nothing pins": (
        mlmodel(evaluation={"data": {"uri": SOURCE["uri"]}}),
        "spec.evaluation.data.digest: Required value",
    ),
    "evaluation rows of no known scheme": (
        mlmodel(evaluation={"data": {**SOURCE, "uri": "ftp://x/y"}}),
        "spec.evaluation.data.uri",
    ),
    "evaluation of no known task": (
        mlmodel(evaluation={"data": SOURCE, "task": {**TASK, "type": "Ranking"}}),
        "spec.evaluation.task.type",
    ),
    "one output as label and probabilities": (
        run(task={**TASK, "outputs": {"label": "y", "probabilities": "y"}}, **{"import": SOURCE}),
        "label and probabilities must be different outputs",
    ),
    "probabilities of a regression": (
        run(task={"type": "Regression", "target": "y", "outputs": {"probabilities": "p"}}, **{"import": SOURCE}),
        "outputs.probabilities and outputs.classes require type Classification",
    ),
    "an output without a name": (
        run(task={**TASK, "outputs": {"label": ""}}, **{"import": SOURCE}),
        "spec.task.outputs.label",
    ),
    "outputs of no such kind": (
        run(task={**TASK, "outputs": {"scores": "p"}}, **{"import": SOURCE}),
        'unknown field "spec.task.outputs.scores"',
    ),
    "a digest that is none": (run(**{"import": {**SOURCE, "digest": "sha256:123"}}), "spec.import.digest"),
    "a template that is no run": (
        mlmodel(training={"template": {}}),
        "exactly one of train (train on data) and import (use an existing ONNX file) is required",
    ),
}


@pytest.mark.parametrize("obj", ACCEPTED.values(), ids=ACCEPTED)
def test_good_example_is_accepted(kubectl: Kubectl, obj: dict[str, Any]) -> None:
    kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(obj))


@pytest.mark.parametrize(("obj", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_example_is_refused_with_a_message_that_says_what_to_write(
    kubectl: Kubectl, obj: dict[str, Any], message: str
) -> None:
    assert message in kubectl.refusal(obj)


@pytest.mark.parametrize(("kind", "limit"), [("MLModel", 40), ("TrainingRun", 52)])
def test_name_that_leaves_no_room_for_children_is_refused(kubectl: Kubectl, kind: str, limit: int) -> None:
    obj = copy.deepcopy(mlmodel() if kind == "MLModel" else run(**TRAIN))
    obj["metadata"]["name"] = "m" * limit
    kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(obj))
    obj["metadata"]["name"] += "m"
    assert f"metadata.name must be no more than {limit} characters" in kubectl.refusal(obj)


def test_run_is_immutable(kubectl: Kubectl) -> None:
    kubectl.apply(run(**TRAIN))
    changed = json.dumps({"spec": {"maxAttempts": 5}})
    done = kubectl.attempt("patch", "trainingrun", "r", "--type=merge", "-p", changed)
    assert "spec is immutable: create a new TrainingRun instead" in done.stderr


def test_new_object_is_not_done_before_the_operator_has_seen_it(kubectl: Kubectl) -> None:
    """kstatus calls an object without a status done; -1 is behind every generation."""
    model = mlmodel()
    model["metadata"]["name"] = "unseen"
    kubectl.apply(model)
    assert kubectl.get("mlmodel", "unseen")["status"]["observedGeneration"] == -1


def test_kubectl_diff_is_empty_after_apply(kubectl: Kubectl) -> None:
    model = ACCEPTED["everything a model can say"]
    kubectl.apply(model)
    done = kubectl.attempt("diff", "-f", "-", stdin=json.dumps(model))
    assert (done.returncode, done.stdout) == (0, "")


def test_kubectl_scale_changes_the_replicas(kubectl: Kubectl) -> None:
    model = mlmodel()
    model["metadata"]["name"] = "scaled"
    kubectl.apply(model)
    kubectl.run("scale", "mlmodel", "scaled", "--replicas=3")
    assert kubectl.get("mlm", "scaled")["spec"]["serving"]["replicas"] == 3


@pytest.mark.parametrize("path", ["mlmodel.spec.rollout", "mlmodel.status.conditions", "trainingrun.spec.train"])
def test_kubectl_explain_describes_every_field(kubectl: Kubectl, path: str) -> None:
    text = kubectl.run("explain", path)
    assert "<no description>" not in text
    assert "FIELDS:" in text


def test_columns_are_those_of_the_documentation(kubectl: Kubectl) -> None:
    model = mlmodel()
    model["metadata"]["name"] = "columns"
    kubectl.apply(model)
    header = kubectl.run("get", "mlm").splitlines()[0].split()
    assert header == ["NAME", "READY", "STAGE", "LIVE", "CANDIDATE", "WEIGHT", "VERDICT", "AGE"]
    wide = kubectl.run("get", "mlm", "-o", "wide").splitlines()[0].split()
    assert wide[-2:] == ["MESSAGE", "DIGEST"]

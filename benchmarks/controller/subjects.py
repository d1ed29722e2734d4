"""What is measured: how a controller is started, its object and children, and when an object counts as converged."""

from __future__ import annotations

import hashlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import kopf_floor
import yaml
from plane_client import NAMESPACES, Obj, Plane, in_parallel

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM = "bench-controller-system"
"""Namespace of the ServiceAccount, the Lease and the roles."""
GROUP = "/apis/steeltown.dev/v1alpha1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CONDITIONS = ("DataValidated", "TrainingHealthy", "ResourcesWithinBudget", "QualityAccepted", "Ready")

Group = Mapping[str, Obj]
"""The object and its children, by kind."""


class Subject(ABC):
    """One controller with one kind of object. `budget`: writes per object that its design allows, 0 = no claim."""

    title: ClassVar[str]
    kind: ClassVar[str]
    prefix: ClassVar[str]
    account: ClassVar[str]
    children: ClassVar[int]
    budget: ClassVar[int] = 0
    settle_seconds: ClassVar[float] = 5.0
    whole: ClassVar[bool] = False
    """All sizes, edits, idling; otherwise only the largest size, created."""
    floor: ClassVar[str] = ""
    """Name of the subject that writes the same objects and does nothing else."""
    prepares: ClassVar[bool] = False
    """Whether objects exist before the controller starts: then its memory at the start is not that of an empty one."""

    namespace = ""
    """Where the objects are: another one, named <prefix><id>, in each round."""

    @property
    def collection(self) -> str:
        return self.watched()[self.kind]

    def name(self, number: int) -> str:
        return f"m{number:04d}"

    @abstractmethod
    async def install(self, plane: Plane) -> None:
        """Once: definitions, account, permissions."""

    @abstractmethod
    async def uninstall(self, plane: Plane) -> None:
        """Everything of `install` but the definitions."""

    @abstractmethod
    async def prepare(self, plane: Plane, count: int) -> None:
        """What must be there before the controller starts."""

    @abstractmethod
    def command(self, kubeconfig: str, port: int) -> tuple[list[str], dict[str, str]]:
        """(arguments, environment); `port` is for /metrics."""

    @abstractmethod
    def watched(self) -> dict[str, str]:
        """Kind -> path, of the object and its children."""

    @abstractmethod
    def body(self, number: int) -> Obj: ...

    @abstractmethod
    def root(self, kind: str, obj: Obj) -> str:
        """Name of the object that `obj` is or belongs to."""

    @abstractmethod
    def converged(self, group: Group) -> bool: ...

    def observed(self, obj: Obj) -> bool:
        """The status is about this generation."""
        return bool((obj.get("status") or {}).get("observedGeneration") == obj["metadata"]["generation"])

    def edit(self, value: int) -> Obj:
        """A merge patch of the object that changes a child."""
        raise AssertionError(f"{type(self).__name__} is created only: set whole and say what an edit is")

    def shows(self, kind: str, obj: Obj, value: int) -> bool:
        """Whether it is the child that has the edit."""
        raise AssertionError(f"{type(self).__name__} is created only: set whole and say what an edit is")


class Steeltown(Subject):
    """The operator as it is installed: its own ServiceAccount, the roles of the manifests, a Lease, /metrics."""

    account = "steeltown-operator"
    kind = "MLModel"

    async def install(self, plane: Plane) -> None:
        for name in ("mlmodels", "trainingruns"):
            definition = yaml.safe_load((REPOSITORY / f"crds/{name}.yaml").read_text())
            await plane.apply(f"{CRDS}/{definition['metadata']['name']}", definition)
        for body in _roles():
            await plane.apply(_place(body), body)

    async def uninstall(self, plane: Plane) -> None:
        for body in _roles():
            if body["kind"].startswith("Cluster"):
                await plane.vanish(_place(body), what=body["metadata"]["name"])

    def command(self, kubeconfig: str, port: int) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, "-m", "steeltown", "--kubeconfig", kubeconfig, "--namespaces", self.namespace]
        command += ["--http-host", "127.0.0.1", "--http-port", str(port)]
        images = {f"STEELTOWN_{role}_IMAGE": f"steeltown/{role.lower()}" for role in ("TRAINER", "CHECKER", "SERVER")}
        return command, {"PYTHONPATH": str(REPOSITORY / "operator"), "POD_NAMESPACE": SYSTEM, **images}


class Serving(Steeltown):
    """An MLModel whose TrainingRun has ended: a Deployment with 0 replicas, a Service, a status that says Ready."""

    title = "Steeltown: MLModel of a finished run -> Deployment, Service, Ready"
    prefix = "bench-controller-serving-"
    floor = "serving-floor"
    children = 2
    budget = 4  # children, one status, at most one Event
    whole = True
    prepares = True

    async def prepare(self, plane: Plane, count: int) -> None:
        runs = f"{GROUP}/namespaces/{self.namespace}/trainingruns"

        async def make(number: int) -> None:
            run = _finished_run(self.name(number))
            await plane.create(runs, {key: value for key, value in run.items() if key != "status"})
            await plane.merge(f"{runs}/{run['metadata']['name']}/status", {"status": run["status"]})

        await in_parallel(count, make)

    def watched(self) -> dict[str, str]:
        return {
            "MLModel": f"{GROUP}/namespaces/{self.namespace}/mlmodels",
            "Deployment": f"/apis/apps/v1/namespaces/{self.namespace}/deployments",
            "Service": f"/api/v1/namespaces/{self.namespace}/services",
        }

    def body(self, number: int) -> Obj:
        requests = {"cpu": "100m", "memory": "64Mi"}
        serving = {"replicas": 0, "resources": {"requests": requests, "limits": {"memory": "16Gi"}}}
        return {**_head("MLModel", self.name(number)), "spec": {"stage": "Experimental", "serving": serving}}

    def root(self, kind: str, obj: Obj) -> str:
        metadata = obj["metadata"]
        return str(metadata["name"] if kind == self.kind else metadata["labels"]["steeltown.dev/model"])

    def converged(self, group: Group) -> bool:
        return len(group) == 3 and self.observed(group["MLModel"]) and _is_ready(group["MLModel"])

    def edit(self, value: int) -> Obj:
        return {"spec": {"serving": {"resources": {"requests": {"memory": f"{value}Mi"}}}}}

    def shows(self, kind: str, obj: Obj, value: int) -> bool:
        if kind != "Deployment":
            return False
        server = obj["spec"]["template"]["spec"]["containers"][0]
        return bool(server["resources"]["requests"]["memory"] == f"{value}Mi")


class Training(Steeltown):
    """An MLModel with a template: a TrainingRun, its Job, and the status of both; the Job's Pod is not made."""

    title = "Steeltown: MLModel with a template -> TrainingRun -> Job"
    prefix = "bench-controller-training-"
    floor = "training-floor"
    children = 2
    budget = 4  # children and the status of MLModel and TrainingRun

    async def prepare(self, plane: Plane, count: int) -> None:
        # No node could run the Pods: without them the figures are those of the two objects alone.
        quota = {"metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}}
        await plane.create(f"{NAMESPACES}/{self.namespace}/resourcequotas", quota)

    def watched(self) -> dict[str, str]:
        return {
            "MLModel": f"{GROUP}/namespaces/{self.namespace}/mlmodels",
            "TrainingRun": f"{GROUP}/namespaces/{self.namespace}/trainingruns",
            "Job": f"/apis/batch/v1/namespaces/{self.namespace}/jobs",
        }

    def body(self, number: int) -> Obj:
        data = {"uri": "s3://bench/data.csv", "digest": f"sha256:{'d' * 64}"}
        template = {"task": {"type": "Classification", "target": "y"}, "train": {"data": data}}
        return {**_head("MLModel", self.name(number)), "spec": {"training": {"template": template}}}

    def root(self, kind: str, obj: Obj) -> str:
        if kind == "TrainingRun":
            return str(obj["spec"]["modelRef"]["name"])
        if kind == "Job":
            return str(obj["metadata"]["labels"]["steeltown.dev/run"]).rpartition("-v")[0]
        return str(obj["metadata"]["name"])

    def converged(self, group: Group) -> bool:
        if len(group) != 3 or not self.observed(group["MLModel"]) or not self.observed(group["TrainingRun"]):
            return False
        run, verdict = group["TrainingRun"], group["MLModel"]["status"].get("verdict") or {}
        return verdict.get("run") == run["metadata"]["name"] and "jobName" in run["status"]


class ServingFloor(Serving):
    """The same objects, written by a bare kopf handler."""

    title = "Floor: a bare kopf handler that writes what the serving row writes"
    prefix = "bench-controller-floor-serving-"
    floor = ""
    budget = 0
    whole = False

    def command(self, kubeconfig: str, port: int) -> tuple[list[str], dict[str, str]]:
        made = [self.body(0), _finished_run(self.name(0))]
        return _floor(kubeconfig, self.namespace, made, self.name(0))


class TrainingFloor(Training):
    """The same objects, written by a bare kopf handler."""

    title = "Floor: a bare kopf handler that writes what the training row writes"
    prefix = "bench-controller-floor-training-"
    floor = ""
    budget = 0

    def command(self, kubeconfig: str, port: int) -> tuple[list[str], dict[str, str]]:
        return _floor(kubeconfig, self.namespace, [self.body(0)], self.name(0))


def _floor(kubeconfig: str, namespace: str, made: list[Obj], model: str) -> tuple[list[str], dict[str, str]]:
    file = Path(kubeconfig).with_name("floor-writes")
    file.write_text("\n".join(floor_writes(made, model)))
    command = [sys.executable, kopf_floor.__file__, namespace, str(file)]
    return command, {"PYTHONPATH": str(REPOSITORY / "operator"), "KUBECONFIG": kubeconfig}


def floor_writes(made: list[Obj], model: str) -> list[str]:
    """What the operator would write for `model`, which stands among `made`."""
    text = json.dumps(made).replace(model, kopf_floor.NAME)
    objects = json.loads(text)
    return kopf_floor.writes(
        [{**obj, "metadata": {**obj["metadata"], "namespace": kopf_floor.NAMESPACE}} for obj in objects]
    )


def _head(kind: str, name: str) -> Obj:
    return {"apiVersion": "steeltown.dev/v1alpha1", "kind": kind, "metadata": {"name": name}}


def _is_ready(obj: Obj) -> bool:
    conditions = {c["type"]: c["status"] for c in obj["status"].get("conditions") or ()}
    return conditions.get("Ready") == "True"


def _finished_run(model: str) -> Obj:
    digest = f"sha256:{hashlib.sha256(model.encode()).hexdigest()}"
    spec = {"modelRef": {"name": model}, "import": {"uri": "s3://bench/model.onnx", "digest": digest}}
    return {**_head("TrainingRun", f"{model}-v1"), "spec": spec, "status": _finished(digest)}


def _finished(digest: str) -> Obj:
    """The status of a run that has made a version, as the operator would have written it."""
    stamp = "2026-01-01T00:00:00Z"
    common = {"status": "True", "observedGeneration": 1, "lastTransitionTime": stamp, "reason": "Succeeded"}
    return {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "reason": "Succeeded",
        "startTime": stamp,
        "completionTime": stamp,
        "artifact": {"digest": digest, "uri": f"s3://bench/{digest}", "sizeBytes": 4096},
        "conditions": [{"type": kind, "message": "made for the benchmark", **common} for kind in CONDITIONS],
    }


def _roles() -> list[Obj]:
    """What the operator may do, as it is installed."""
    files = ("base/leader-election.yaml", "base/seal.yaml", "admission/writers.yaml", "overlays/cluster/rbac.yaml")
    bodies = [b for file in files for b in yaml.safe_load_all((REPOSITORY / "manifests" / file).read_text())]
    return [body for body in bodies if body["apiVersion"].startswith("rbac.")]


def _place(body: Obj) -> str:
    """Path of an RBAC object of the manifests, which is moved to the benchmark's namespace and a name of its own."""
    metadata, kind = body["metadata"], body["kind"]
    cluster = kind.startswith("Cluster")
    if cluster:
        metadata["name"] = f"bench-{metadata['name']}"
    else:
        metadata["namespace"] = SYSTEM
    if "roleRef" in body:
        body["roleRef"]["name"] = f"bench-{body['roleRef']['name']}" if cluster else body["roleRef"]["name"]
        body["subjects"] = [{**subject, "namespace": SYSTEM} for subject in body["subjects"]]
    space = "" if cluster else f"/namespaces/{SYSTEM}"
    return f"{RBAC}{space}/{kind.lower()}s/{metadata['name']}"

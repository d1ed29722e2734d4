"""Deployments and Services of a model's versions.

One Deployment per version, named after it; which version answers users is decided by the Service's selector
alone, and the Service's annotation says which run that is, so the cluster itself is the record (delete the
MLModel's status and nothing moves).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...api.base import Resources
from ...api.mlmodel import MLModelSpec
from ...contract import files
from ...contract.evidence import ROUTE_ANNOTATION
from ...contract.files import Env
from ...contract.plans import FetchPlan
from ..naming import baseline_name, canary_name, deployment_name
from ..ownership import MODEL_LABEL
from ..plan import Obj
from ..policy import Policy
from ..record import LiveRecord, Version, sealed_child
from . import pods

VERSION_LABEL: Final = "steeltown.dev/version"
TRACK_LABEL: Final = "steeltown.dev/track"
"""`serving` for pods that may become live, `baseline` for the fresh pod of a load check: the Service selects
serving pods only, so a load check never reaches users."""
PORT: Final = 8080
GRPC_PORT: Final = 9000
_DISK: Final = "8Gi"
DEFAULT_RESOURCES: Final[Obj] = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "1Gi"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSpec:
    """What all versions of a model are served with."""

    model: str
    resources: Resources
    store: str
    secret: str
    progress_deadline_seconds: int


def serving_spec(model: str, spec: MLModelSpec, policy: Policy) -> ServingSpec:
    storage = spec.storage
    return ServingSpec(
        model=model,
        resources=spec.serving.resources,
        store=((storage.uri if storage else None) or policy.artifact_store).rstrip("/"),
        secret=(storage.secret_name if storage else None) or policy.storage_secret,
        progress_deadline_seconds=spec.rollout.progress_deadline_seconds,
    )


def deployment(root: Obj, spec: ServingSpec, version: Version, replicas: int, policy: Policy) -> Obj:
    """Deployment of one version; ready means loaded, verified and golden rows answered."""
    name = deployment_name(spec.model, version.id)
    return _deployment(root, spec, version, replicas, policy, name=name, track="serving")


def baseline_deployment(root: Obj, spec: ServingSpec, version: Version, policy: Policy) -> Obj:
    """One fresh Pod of a version, as young as the candidate's, for the load check alone."""
    return _deployment(root, spec, version, 1, policy, name=baseline_name(spec.model), track="baseline")


def live_service(root: Obj, model: str, record: LiveRecord, policy: Policy, actual: Obj | None = None) -> Obj:
    """The Service that users call. Its selector is the switch, its annotation the record of it, in one write.

    Of what type it is, is the users' affair (a LoadBalancer, a NodePort), as long as it leads to Pods at all.
    """
    kind = "ClusterIP" if actual is not None and not leads_to_pods(actual) else None
    notes = record.annotation(root, policy)
    return _service(root, model, model, record.live, track="serving", annotations=notes, type=kind)


def canary_service(root: Obj, model: str, candidate: Version) -> Obj:
    return _service(root, model, canary_name(model), candidate, track="serving", annotations={}, type="ClusterIP")


def baseline_service(root: Obj, model: str, version: Version) -> Obj:
    return _service(root, model, baseline_name(model), version, track="baseline", annotations={}, type="ClusterIP")


def leads_to_pods(service: Obj) -> bool:
    """Not by name to somewhere else, whatever it selects."""
    return bool(service["spec"].get("type") != "ExternalName")


def selector(model: str, version: Version, track: str) -> dict[str, str]:
    """Of a Service: the Pods of one version."""
    return {MODEL_LABEL: model, VERSION_LABEL: version.id, TRACK_LABEL: track}


def service_url(name: str, namespace: str) -> str:
    return f"http://{name}.{namespace}.svc:{PORT}"


def _service(
    root: Obj, model: str, name: str, version: Version, *, track: str, annotations: dict[str, str], type: str | None
) -> Obj:
    more = {"annotations": annotations} if annotations else {}
    of_type = {"type": type} if type else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": pods.metadata(root, name, "server", {MODEL_LABEL: model}, **more),
        "spec": {
            **of_type,
            "selector": selector(model, version, track),
            "ports": [
                {"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
                {
                    "name": "grpc",
                    "port": GRPC_PORT,
                    "targetPort": "grpc",
                    "protocol": "TCP",
                    "appProtocol": "kubernetes.io/h2c",
                },
            ],
        },
    }


def _deployment(
    root: Obj, spec: ServingSpec, version: Version, replicas: int, policy: Policy, *, name: str, track: str
) -> Obj:
    """What was made last is remembered, since a model is looked at several times in a row: nobody changes an intent."""
    meta, resources = root["metadata"], spec.resources.model_dump_json()
    owner = (root["kind"], meta["namespace"], meta["name"], meta["uid"])
    served = (spec.model, spec.store, spec.secret, spec.progress_deadline_seconds, resources)
    key = (owner, served, version, replicas, policy, name, track)
    if key not in _MADE:
        if len(_MADE) >= _REMEMBERED:
            _MADE.clear()
        _MADE[key] = _make(root, spec, version, replicas, policy, name=name, track=track)
    return _MADE[key]


_MADE: dict[tuple[object, ...], Obj] = {}
_REMEMBERED: Final = 256


def _make(
    root: Obj, spec: ServingSpec, version: Version, replicas: int, policy: Policy, *, name: str, track: str
) -> Obj:
    identity = {VERSION_LABEL: version.id, TRACK_LABEL: track}
    made: Obj = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": pods.metadata(root, name, "server", {MODEL_LABEL: spec.model, **identity}),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": spec.progress_deadline_seconds,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {MODEL_LABEL: spec.model, **identity}},
            "template": {
                "metadata": {"labels": pods.pod_labels("server", spec.model, identity)},
                "spec": _server_pod(spec, version, policy),
            },
        },
    }
    return sealed_child(made, policy)


def _server_pod(spec: ServingSpec, version: Version, policy: Policy) -> Obj:
    fetch = pods.step(
        "fetch",
        policy.checker_image,
        FetchPlan(store=spec.store, digest=version.digest).to_json(),
        secret=spec.secret,
        env={Env.MODEL_DIR: files.MODEL_DIR, Env.RUN: version.run},
        mounts={"model": files.MODEL_DIR},
    )
    route = files.ROUTE_FILE.rsplit("/", 1)
    server = pods.container(
        "server",
        policy.server_image,
        env={
            Env.MODEL_NAME: spec.model,
            Env.MODEL_VERSION: version.run,
            Env.MODEL_DIGEST: version.digest,
            Env.MODEL_DIR: files.MODEL_DIR,
            Env.ROUTE_FILE: files.ROUTE_FILE,
            Env.PORT: str(PORT),
            Env.GRPC_PORT: str(GRPC_PORT),
        },
        mounts={"model": files.MODEL_DIR, "route": route[0]},
        read_only=frozenset({"model", "route"}),
        resources=pods.resources(spec.resources, DEFAULT_RESOURCES),
        ports=[
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
        ],
        startupProbe=_probe("/v2/health/live", period=1, failures=120),
        readinessProbe=_probe("/v2/health/ready", period=1, failures=2),
        livenessProbe=_probe("/v2/health/live", period=10, failures=3),
    )
    item = {"path": route[1], "fieldRef": _field(f"metadata.annotations['{ROUTE_ANNOTATION}']")}
    downward = {"items": [item], "defaultMode": 0o644}  # as the API server would, since the seal covers it
    disk = pods.disk(spec.resources, _DISK)
    return pods.pod_spec(
        init=[fetch],
        containers=[server],
        volumes=[pods.folder_for_file("model", disk), {"name": "route", "downwardAPI": downward}],
        disk=disk,
        terminationGracePeriodSeconds=30,
    )


def _field(path: str) -> Obj:
    return {"apiVersion": "v1", "fieldPath": path}


def _probe(path: str, *, period: int, failures: int) -> Obj:
    get = {"path": path, "port": "http"}
    return {"httpGet": get, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 2}

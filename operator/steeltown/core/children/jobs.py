"""The Job of a training run, the Job of a load check, and the Job that takes old runs out of the store."""

from __future__ import annotations

from typing import Any, Final

from ...api.base import Resources
from ...api.trainingrun import Train, TrainingRunSpec
from ...contract import files
from ...contract.files import Env, ExitCode
from ...contract.plans import CollectPlan, FinalisePlan, LoadCheckPlan, PreparePlan
from ..naming import store_reference, training_job_name
from ..observed.collecting import COLLECTS_ANNOTATION
from ..ownership import MODEL_LABEL, RUN_LABEL
from ..plan import Obj
from ..policy import Policy
from ..record import sealed_child
from . import pods

KEEP_SECONDS: Final = 86400
"""Of a load check, and of a `collect` that failed. The Job of a run is kept until its result is recorded, however
long the operator was away."""
COLLECT_SECONDS: Final = 600
"""Of a `collect`, with the time that its Pod needs to start."""
OBJECTIVES_ANNOTATION: Final = "steeltown.dev/objectives"
"""The objectives that a run is measured against, as they were when its Job was made: a run never changes when
its model does. These three stand on the Pod template, which nobody can change."""
BASIS_ANNOTATION: Final = "steeltown.dev/quality-basis"
"""Whose objectives those of the quality are: see `gates.objectives.basis`."""
COMPARED_ANNOTATION: Final = "steeltown.dev/compared-with"
"""Digest of the version that was live when the Job was made; finalise measures it on the same rows."""

_TRAINER_RESOURCES: Final[Obj] = {
    "requests": {"cpu": "100m", "memory": "256Mi"},
    "limits": {"cpu": "2", "memory": "4Gi"},
}
_TRAINING_DISK: Final = "64Gi"
"""Of a training Pod: two tables of 4 GiB, what the trainer writes, and room for the steps."""
_IMPORT_DISK: Final = "16Gi"
_VOLUMES: Final = {"input": files.INPUT_DIR, "output": files.OUTPUT_DIR, "checkpoint": files.CHECKPOINT_DIR}


def training_job(
    root: Obj,
    spec: TrainingRunSpec,
    prepare: PreparePlan,
    finalise: FinalisePlan,
    *,
    secret: str,
    objectives: str,
    basis: str,
    policy: Policy,
) -> Obj:
    """prepare -> train (unless imported) -> finalise, in one Pod, so that the Job ends by itself.

    `train` is the user's code: it sees the input and writes the output, and gets neither the evaluation
    rows nor the storage Secret.
    """
    run = root["metadata"]["name"]
    common = _file_env(run)
    evaluation = {"evaluation": files.EVALUATION_DIR}
    init = [
        pods.step(
            "prepare",
            policy.checker_image,
            prepare.to_json(),
            secret=secret,
            env={
                **common,
                Env.EVALUATION_DIR: files.EVALUATION_DIR,
                Env.ALLOWED_SOURCES: policy.allowed_sources,
            },
            mounts={**_VOLUMES, **evaluation},
            resources=_step_resources(spec.train),
        )
    ]
    if spec.train:
        init.append(_trainer(spec.train, common, policy))
    finish = pods.step(
        "finalise",
        policy.checker_image,
        finalise.to_json(),
        secret=secret,
        env={**common, Env.EVALUATION_DIR: files.EVALUATION_DIR, Env.REFERENCE: reference_of(root)},
        mounts={**_VOLUMES, **evaluation},
        resources=_step_resources(spec.train),
    )
    disk = pods.disk(spec.train.resources, _TRAINING_DISK) if spec.train else _IMPORT_DISK
    volumes = [
        pods.folder_for_file("input", disk),
        pods.folder("output", disk),
        pods.folder("checkpoint", disk),
        pods.folder_for_file("evaluation", disk),
    ]
    pod = pods.pod_spec(init=init, containers=[finish], volumes=volumes, disk=disk, restartPolicy="Never")
    labels = {MODEL_LABEL: spec.model_ref.name, RUN_LABEL: run}
    names = [c["name"] for c in (*init, finish)]
    job: Obj = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": pods.metadata(root, training_job_name(run), "trainer", labels),
        "spec": {
            "backoffLimit": spec.max_attempts - 1,
            "activeDeadlineSeconds": spec.active_deadline_seconds + spec.start_deadline_seconds,
            "podFailurePolicy": {"rules": _failure_rules(names)},
            "template": {
                "metadata": {
                    "labels": pods.pod_labels("trainer", spec.model_ref.name, {RUN_LABEL: run}),
                    "annotations": {
                        OBJECTIVES_ANNOTATION: objectives,
                        BASIS_ANNOTATION: basis,
                        COMPARED_ANNOTATION: finalise.live.digest if finalise.live else "",
                    },
                },
                "spec": pod,
            },
        },
    }
    return sealed_child(job, policy)


def reference_of(run: Obj) -> str:
    meta = run["metadata"]
    return store_reference(meta["namespace"], meta["name"], meta["uid"])


def load_check_job(
    root: Obj, model: str, name: str, plan: LoadCheckPlan, *, live: str = "", secret: str, deadline: int, policy: Policy
) -> Obj:
    """live: digest of the version whose interface is compared, "" for none. No part of the plan: images of version 0.1
    refuse a plan with a field that they do not know."""
    labels = {MODEL_LABEL: model}
    env: dict[str, str] = {Env.LIVE_DIGEST: live} if live else {}
    check = pods.step("loadcheck", policy.checker_image, plan.to_json(), secret=secret, env=env, mounts={})
    job: Obj = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": pods.metadata(root, name, "loadcheck", labels),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": KEEP_SECONDS,
            "template": {
                "metadata": {"labels": pods.pod_labels("loadcheck", model, {})},
                "spec": pods.pod_spec(containers=[check], volumes=[], disk=pods.STEP_DISK, restartPolicy="Never"),
            },
        },
    }
    return sealed_child(job, policy)


def collect_job(
    root: Obj, model: str, name: str, plan: CollectPlan, *, collects: str, secret: str, policy: Policy
) -> Obj:
    """One attempt: another one is never made before this one's requests are surely over."""
    collect = pods.step("collect", policy.checker_image, plan.to_json(), secret=secret, env={}, mounts={})
    job: Obj = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": pods.metadata(root, name, "collect", {MODEL_LABEL: model}),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": COLLECT_SECONDS,
            "ttlSecondsAfterFinished": KEEP_SECONDS,
            "template": {
                "metadata": {
                    "labels": pods.pod_labels("collect", model, {}),
                    "annotations": {COLLECTS_ANNOTATION: collects},
                },
                "spec": pods.pod_spec(containers=[collect], volumes=[], disk=pods.STEP_DISK, restartPolicy="Never"),
            },
        },
    }
    return sealed_child(job, policy)


def _trainer(train: Train, common: dict[str, str], policy: Policy) -> Obj:
    more: dict[str, Any] = {}
    if train.command:
        more["command"] = train.command
    if train.args:
        more["args"] = train.args
    return pods.container(
        "train",
        train.image or policy.trainer_image,
        env={**{e.name: e.value for e in train.env}, **common, Env.SEED: str(train.seed)},
        mounts=_VOLUMES,
        read_only=frozenset({"input"}),
        resources=pods.resources(train.resources, _TRAINER_RESOURCES),
        **more,
    )


def _step_resources(train: Train | None) -> Obj:
    """`prepare` and `finalise` hold the same table as the trainer, so they may use as much memory, never less than
    alone. Of a trainer without a limit its request says how much that is."""
    given = pods.resources(train.resources if train else Resources(), _TRAINER_RESOURCES)
    asked = [part["memory"] for part in given.values() if "memory" in part]
    memory = max(*asked, pods.STEP_RESOURCES["limits"]["memory"], key=pods.quantity)
    return {**pods.STEP_RESOURCES, "limits": {**pods.STEP_RESOURCES["limits"], "memory": memory}}


def _file_env(run: str) -> dict[str, str]:
    return {
        Env.RUN: run,
        Env.INPUT_DIR: files.INPUT_DIR,
        Env.OUTPUT_DIR: files.OUTPUT_DIR,
        Env.CHECKPOINT_DIR: files.CHECKPOINT_DIR,
        Env.PARAMS_FILE: files.PARAMS_FILE,
        Env.RESULT_FILE: files.RESULT_FILE,
        Env.STATUS_FILE: files.STATUS_FILE,
        Env.FAILURE_FILE: files.FAILURE_FILE,
    }


def _failure_rules(containers: list[str]) -> list[Obj]:
    """Exit 64 and 65 end the Job at once; a disruption (drain, preemption) does not count as an attempt."""
    permanent = [int(ExitCode.USAGE), int(ExitCode.DATA)]
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        *(
            {"action": "FailJob", "onExitCodes": {"containerName": c, "operator": "In", "values": permanent}}
            for c in containers
        ),
    ]

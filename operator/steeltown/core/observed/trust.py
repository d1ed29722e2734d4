"""Which Pods are ours: by the chain of controllers up to our root's uid, and by what they run. Never by a label.

Anybody with `edit` can create a Pod with our labels, or an owner reference that lies, and can change the image of a
Pod that runs, or the template of a Deployment. So a Pod is ours when its ReplicaSet and Deployment are known and lead
to the model's uid, its containers are those of the Deployment's template, and that is what we wrote. Only such a Pod is
listened to (I12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

from .. import program
from ..plan import Obj
from . import pods as podview


def controller_uid(obj: Obj) -> str | None:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(o.get("uid")) for o in owners if o.get("controller")), None)


ARRIVAL_SECONDS: Final = 10.0
"""How long the watches of Deployments and ReplicaSets may be behind that of Pods."""


def served_by(
    root: Obj,
    pods: Iterable[Obj],
    replicasets: Iterable[Obj],
    deployments: Iterable[Obj],
    now: datetime,
    made_here: Callable[[Obj], bool],
) -> tuple[list[Obj], list[Obj]]:
    """(ours, not ours) of Pods that serve. A Pod whose chain has not arrived yet is in neither for a while.

    made_here: the operator has written this Deployment, which names our root as its controller.
    """
    claimed = [d for d in deployments if controller_uid(d) == root["metadata"]["uid"]]
    known = {d["metadata"]["uid"] for d in claimed}
    own = [d for d in claimed if made_here(d)]
    templates = {d["metadata"]["uid"]: d["spec"]["template"]["spec"] for d in own}
    replacing = {d["metadata"]["uid"] for d in own if _replaces_pods(d)}
    chain: Mapping[str, str | None] = {r["metadata"]["uid"]: controller_uid(r) for r in replicasets}
    ours, foreign = [], []
    for pod in pods:
        owner = chain.get(controller_uid(pod) or "")
        template = templates.get(owner or "")
        if template is not None and runs(pod, template):
            ours.append(pod)
        elif podview.is_ready(pod) and owner not in replacing and (owner in known or _had_time(pod, now)):
            foreign.append(pod)
    return ours, foreign


def claimed_by(root: Obj, pods: Iterable[Obj], replicasets: Iterable[Obj], deployments: Iterable[Obj]) -> list[Obj]:
    """Pods that a chain of controllers leads to the root, whatever they run: they are told to hand nothing over, and
    never listened to for that alone."""
    own = {d["metadata"]["uid"] for d in deployments if controller_uid(d) == root["metadata"]["uid"]}
    sets = {r["metadata"]["uid"] for r in replicasets if controller_uid(r) in own}
    return [p for p in pods if controller_uid(p) in sets]


def _replaces_pods(deployment: Obj) -> bool:
    """Its template has changed (a new server image), and Pods of the one before are still about."""
    status = deployment.get("status") or {}
    observed = status.get("observedGeneration")
    if observed is not None and observed < deployment["metadata"].get("generation", 1):
        return True
    return int(status.get("updatedReplicas") or 0) < int(status.get("replicas") or 0)


def _had_time(pod: Obj, now: datetime) -> bool:
    """What should lead to our model must have arrived by now. A Pod without a controller leads nowhere."""
    return controller_uid(pod) is None or podview.ready_seconds(pod, now) >= ARRIVAL_SECONDS


def runs(pod: Obj, template: Obj) -> bool:
    """The Pod runs the containers of the template as they are. Others beside them (a mesh's sidecar) get none of our
    volumes, and see into none of our containers.

    An orphan with the right labels is adopted by a ReplicaSet, so a true chain alone does not say what a Pod runs.
    """
    spec = pod.get("spec") or {}
    volumes = {v["name"]: v for v in template.get("volumes") or ()}
    mounted = {v["name"]: v for v in spec.get("volumes") or () if v["name"] in volumes}
    if mounted != volumes or program.shared(spec) != program.shared(template):
        return False
    found = {c["name"]: c for c in program.containers(spec)}
    for container in program.containers(template):
        actual = found.pop(container["name"], None)
        if actual is None:
            return False
        if program.container(program.without_identity(actual, container, spec)) != program.container(container):
            return False
    return not any(_looks_in(c, volumes) for c in found.values())


def _looks_in(container: Obj, volumes: Mapping[str, Obj]) -> bool:
    mounts = container.get("volumeMounts") or ()
    return bool(container.get("targetContainerName")) or any(m["name"] in volumes for m in mounts)

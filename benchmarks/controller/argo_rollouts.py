"""Argo Rollouts on the same script: a Rollout with canary steps and 0 replicas; its child is a ReplicaSet."""

from __future__ import annotations

from pathlib import Path

import yaml
from plane_client import Obj, Plane
from subjects import CRDS, RBAC, SYSTEM, Group, Subject


class ArgoRollouts(Subject):
    title = "Argo Rollouts: Rollout -> ReplicaSet, Healthy"
    kind = "Rollout"
    prefix = "bench-controller-rollouts-"
    account = "argo-rollouts"
    children = 1
    whole = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def install(self, plane: Plane) -> None:
        for file in sorted((self._folder / "crds").glob("*-crd.yaml")):
            definition = yaml.safe_load(file.read_text())
            await plane.apply(f"{CRDS}/{definition['metadata']['name']}", definition)
        body = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"bench-{self.account}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": self.account, "namespace": SYSTEM}],
        }
        await plane.apply(f"{RBAC}/clusterrolebindings/bench-{self.account}", body)

    async def uninstall(self, plane: Plane) -> None:
        name = f"bench-{self.account}"
        await plane.vanish(f"{RBAC}/clusterrolebindings/{name}", what=name)
        for file in sorted((self._folder / "crds").glob("*-crd.yaml")):
            name = yaml.safe_load(file.read_text())["metadata"]["name"]
            await plane.vanish(f"{CRDS}/{name}", what=name)

    async def prepare(self, plane: Plane, count: int) -> None:
        """Nothing."""

    def command(self, kubeconfig: str, port: int) -> tuple[list[str], dict[str, str]]:
        command = [str(self._folder / "rollouts-controller"), "--kubeconfig", kubeconfig, "-n", self.namespace]
        command += ["--metricsPort", str(port), "--healthzPort", str(port + 1)]
        return command, {"ARGO_ROLLOUTS_NAMESPACE": SYSTEM, "POD_NAMESPACE": SYSTEM}

    def watched(self) -> dict[str, str]:
        return {
            "Rollout": f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/rollouts",
            "ReplicaSet": f"/apis/apps/v1/namespaces/{self.namespace}/replicasets",
        }

    def body(self, number: int) -> Obj:
        name = self.name(number)
        steps: list[Obj] = [{"setWeight": 20}, {"pause": {"duration": "1h"}}, {"setWeight": 50}]
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": name},
            "spec": {
                "replicas": 0,
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [_container(64)]}},
                "strategy": {"canary": {"steps": steps}},
            },
        }

    def root(self, kind: str, obj: Obj) -> str:
        return str(obj["metadata"]["name"] if kind == self.kind else obj["metadata"]["labels"]["app"])

    def observed(self, obj: Obj) -> bool:
        return bool((obj.get("status") or {}).get("observedGeneration") == str(obj["metadata"]["generation"]))

    def converged(self, group: Group) -> bool:
        rollout = group.get("Rollout")
        return (
            len(group) == 2
            and rollout is not None
            and self.observed(rollout)
            and rollout["status"].get("phase") == "Healthy"
        )

    def edit(self, value: int) -> Obj:
        return {"spec": {"template": {"spec": {"containers": [_container(value)]}}}}

    def shows(self, kind: str, obj: Obj, value: int) -> bool:
        if kind != "ReplicaSet":
            return False
        server = obj["spec"]["template"]["spec"]["containers"][0]
        return bool(server["resources"]["requests"]["memory"] == f"{value}Mi")


def _container(memory: int) -> Obj:
    return {
        "name": "server",
        "image": "example.invalid/server:1",
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": f"{memory}Mi"}, "limits": {"memory": "16Gi"}},
    }

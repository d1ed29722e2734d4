"""Which kinds the operator touches, and under which path the API server keeps them.

One table, because three things must agree: what is watched, what is listed to prune ghosts, and what is
written. A table is a value, so that a test can serve the same kinds from an API group of its own.

Events are `events.k8s.io/v1`: the API that validates, has `series` for repetition instead of a counter
rewritten in place, and keeps everything but the series immutable. Both versions are views of one store, so
`kubectl describe` and `kubectl events` show them all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..core.ownership import MANAGED_BY_LABEL, MANAGER

MANAGED_SELECTOR: Final = f"{MANAGED_BY_LABEL}={MANAGER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind. selector: labels that the server filters by, "" = all objects of the kind concern us."""

    api_version: str
    plural: str
    selector: str = ""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def collection(self, namespace: str | None) -> str:
        """Path of all objects of the kind in a namespace, None = in the cluster."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"

    def item(self, namespace: str, name: str, *, subresource: str = "") -> str:
        path = f"{self.collection(namespace)}/{name}"
        return f"{path}/{subresource}" if subresource else path


Resources = Mapping[str, Resource]

WATCHED: Final[Resources] = {
    "MLModel": Resource(api_version="steeltown.dev/v1alpha1", plural="mlmodels"),
    "TrainingRun": Resource(api_version="steeltown.dev/v1alpha1", plural="trainingruns"),
    "Deployment": Resource(api_version="apps/v1", plural="deployments", selector=MANAGED_SELECTOR),
    # Between a Deployment and its Pods: only by that chain of controllers is a Pod known to be ours.
    "ReplicaSet": Resource(api_version="apps/v1", plural="replicasets", selector=MANAGED_SELECTOR),
    "Service": Resource(api_version="v1", plural="services", selector=MANAGED_SELECTOR),
    "Job": Resource(api_version="batch/v1", plural="jobs", selector=MANAGED_SELECTOR),
    "Pod": Resource(api_version="v1", plural="pods", selector=MANAGED_SELECTOR),
}
"""What is cached and reconciled from."""

EVENT: Final = Resource(api_version="events.k8s.io/v1", plural="events")
SECRET: Final = Resource(api_version="v1", plural="secrets")
LEASE: Final = Resource(api_version="coordination.k8s.io/v1", plural="leases")

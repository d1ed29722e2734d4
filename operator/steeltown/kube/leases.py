"""Reads and writes one Lease. Who may hold it is decided elsewhere."""

from __future__ import annotations

from ..core.plan import Obj
from .client import Client
from .errors import AlreadyExists, Conflict, NotFound
from .resources import LEASE


class LeaseClient:
    """One named Lease. A lost race is None; every other failure is an exception, a failed attempt."""

    def __init__(self, client: Client, *, namespace: str, name: str, timeout_seconds: float = 4.0) -> None:
        self._client = client
        self._collection = LEASE.collection(namespace)
        self._item = LEASE.item(namespace, name)
        self._identity = {"name": name, "namespace": namespace}
        self._timeout_seconds = timeout_seconds

    async def read(self) -> Obj | None:
        """None: there is no such Lease yet."""
        try:
            return await self._client.request("GET", self._item, timeout_seconds=self._timeout_seconds)
        except NotFound:
            return None

    async def create(self, spec: Obj) -> Obj | None:
        body = {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": self._identity, "spec": spec}
        try:
            return await self._client.request(
                "POST", self._collection, body=body, timeout_seconds=self._timeout_seconds
            )
        except AlreadyExists:
            return None

    async def replace(self, lease: Obj, spec: Obj) -> Obj | None:
        """Over exactly the version that was read."""
        body = {**lease, "spec": spec}
        try:
            return await self._client.request("PUT", self._item, body=body, timeout_seconds=self._timeout_seconds)
        except (Conflict, NotFound):
            return None

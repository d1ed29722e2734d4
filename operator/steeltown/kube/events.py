"""Writes Events. What is worth one, and how often, is decided elsewhere."""

from __future__ import annotations

from ..core.plan import Obj
from .client import MERGE_PATCH, Client
from .errors import AlreadyExists, NotFound
from .resources import EVENT


class EventWriter:
    """Creates an Event, or counts it again. False: it is there already, or no longer there."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(self, event: Obj) -> bool:
        body = {"apiVersion": EVENT.api_version, "kind": "Event", **event}
        try:
            await self._client.request("POST", EVENT.collection(event["metadata"]["namespace"]), body=body)
        except AlreadyExists:
            return False
        return True

    async def count(self, namespace: str, name: str, series: Obj) -> bool:
        path = EVENT.item(namespace, name)
        try:
            await self._client.request("PATCH", path, body={"series": series}, content_type=MERGE_PATCH)
        except NotFound:
            return False
        return True

"""Writes Events, and reads those about one object. What is worth one, and how often, is decided elsewhere."""

from __future__ import annotations

from typing import Final

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


_EVENTS_READ: Final = 50
_MESSAGE: Final = 1000
_ENDS: Final = ("BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy")
"""Warnings that a Job is over. Its status says so too; they would hide why it got nowhere."""


class EventReader:
    """Reads why a controller gets nowhere with an object: some causes (a quota, a policy) stand in Events alone."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def latest_warning(self, namespace: str, uid: str) -> str:
        """Message of the newest Warning of what goes wrong with the object, "" if there is none."""
        answer = await self._client.request(
            "GET",
            EVENT.collection(namespace),
            query={"fieldSelector": f"regarding.uid={uid},type=Warning", "limit": str(_EVENTS_READ)},
        )
        told = [event for event in answer.get("items") or () if event.get("reason") not in _ENDS]
        newest = max(told, key=_seen, default=None)
        return "" if newest is None else str(newest.get("note") or newest.get("reason") or "")[:_MESSAGE]


def _seen(event: Obj) -> str:
    """When an Event was last repeated, whichever API wrote it. RFC 3339 sorts as text."""
    series = event.get("series") or {}
    stamps = (
        series.get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return next((str(s) for s in stamps if s), "")

"""The benchmark's own connection to the API server, as administrator: what it sends is not what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from steeltown.kube.client import APPLY_PATCH, JSON, MERGE_PATCH, Session, open_session

Obj = dict[str, Any]
Seen = Callable[[float, str, Obj], None]
"""(monotonic time, type of the event, object)."""

NAMESPACES = "/api/v1/namespaces"
_DELETE_SECONDS = 300.0


class Missing(Exception):
    """404."""


class Plane:
    def __init__(self, session: Session, cluster: Obj) -> None:
        self._server, self._session = session
        self.cluster = cluster
        """Where it is and how to trust it, as a kubeconfig says it."""

    @classmethod
    async def connect(cls, kubeconfig: str) -> Plane:
        text = await asyncio.to_thread(Path(kubeconfig).read_text)
        (cluster,) = yaml.safe_load(text)["clusters"]
        return cls(await open_session(kubeconfig), cluster["cluster"])

    async def close(self) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, body: Obj | None = None, content_type: str = JSON) -> Obj:
        """Raises Missing on 404, RuntimeError on any other refusal."""
        data = None if body is None else json.dumps(body)
        url = self._server + path
        async with self._session.request(method, url, data=data, headers={"Content-Type": content_type}) as answer:
            text = await answer.text()
            if answer.status == 404:
                raise Missing(path)
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status}: {text[:500]}")
            decoded: Obj = json.loads(text)
            return decoded

    async def create(self, collection: str, body: Obj) -> Obj:
        return await self.request("POST", collection, body)

    async def merge(self, path: str, body: Obj) -> Obj:
        return await self.request("PATCH", path, body, MERGE_PATCH)

    async def apply(self, path: str, body: Obj) -> Obj:
        return await self.request("PATCH", f"{path}?fieldManager=bench-controller&force=true", body, APPLY_PATCH)

    async def watch(self, collection: str, seen: Seen) -> None:
        """Until cancelled: tells what happens after now. The time is that of arrival, before any decoding."""
        listed = await self.request("GET", f"{collection}?limit=1")
        query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
        url, forever = self._server + collection, aiohttp.ClientTimeout(total=None)
        async with self._session.get(url, params=query, read_bufsize=1 << 22, timeout=forever) as answer:
            async for line in answer.content:
                now = time.monotonic()
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RuntimeError(f"watch of {collection}: {event['object']}")
                seen(now, event["type"], event["object"])
        raise RuntimeError(f"watch of {collection} ended")

    async def names(self, collection: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await self.request("GET", collection))["items"]]

    async def delete_namespace(self, name: str) -> None:
        """With all that is in it; returns when it is gone."""
        await self.vanish(f"{NAMESPACES}/{name}", what=f"namespace {name}")

    async def vanish(self, path: str, *, what: str) -> None:
        end = time.monotonic() + _DELETE_SECONDS
        while time.monotonic() < end:
            try:
                found = await self.request("GET", path)
                if "deletionTimestamp" not in found["metadata"]:
                    await self.request("DELETE", path)
            except Missing:
                return
            await asyncio.sleep(0.5)
        raise RuntimeError(f"{what} is not gone after {_DELETE_SECONDS:.0f} s")


async def in_parallel(count: int, job: Callable[[int], Awaitable[Any]], *, in_flight: int = 8) -> None:
    """job(0) ... job(count - 1), so many at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await job(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())

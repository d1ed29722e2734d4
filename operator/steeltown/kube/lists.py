"""Reads whole kinds in pages, for the first fill of the cache and for finding what a watch has missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from ..core.plan import Obj
from .client import Client
from .resources import WATCHED, Resources

PAGE_SIZE: Final = 100  # a page is decoded in one go, in which nothing else runs
_LIST_TIMEOUT_SECONDS: Final = 30.0


class Lister:
    """Pages of one kind, filtered by the same selector as its watch."""

    def __init__(self, client: Client, *, resources: Resources = WATCHED, page_size: int = PAGE_SIZE) -> None:
        self._client = client
        self._resources = resources
        self._page_size = page_size

    async def pages(self, kind: str, namespace: str | None) -> AsyncIterator[tuple[list[Obj], int]]:
        """Yields (objects, resourceVersion of the list); all pages show the kind at that one version.

        Raises `errors.Expired` when reading took longer than the server remembers that version.
        """
        resource = self._resources[kind]
        query = {"limit": str(self._page_size)}
        if resource.selector:
            query["labelSelector"] = resource.selector
        while True:
            page = await self._client.request(
                "GET", resource.collection(namespace), query=query, timeout_seconds=_LIST_TIMEOUT_SECONDS
            )
            metadata = page["metadata"]
            # Items of a list carry neither, unlike objects of a watch.
            items = [{"apiVersion": resource.api_version, "kind": kind, **item} for item in page.get("items") or ()]
            yield items, int(metadata["resourceVersion"])
            if not metadata.get("continue"):
                return
            query = {**query, "continue": metadata["continue"]}

"""kopf, reduced to what it is best at: a list and a watch per kind that survive disconnects.

The stream of events is taken where kopf itself takes it, below its handlers. They see the same events, but
each event costs a task, three loggers and a memory of its object on the way to them, which together outweigh all
that we do with it (docs/adr/001). That floor of kopf is not public: pyproject.toml pins the minor version,
and whatever an upgrade breaks fails every test on an API server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Never

import kopf
from kopf._cogs.clients.auth import vault_var
from kopf._cogs.clients.watching import Bookmark, infinite_watch
from kopf._cogs.structs.credentials import KubeContext, Vault, VaultKey

from ..core.plan import Obj
from ..kube.client import open_session
from ..kube.resources import Resource, Resources
from ..runtime.pace import Pace

logger = logging.getLogger(__name__)

Deliver = Callable[[str | None, Obj], None]
"""(type, object) of each watch event; type None: the object was listed."""

Listed = Callable[[str, str | None], None]
"""(kind, namespace) whenever a watch has listed its objects, at the start and after its version expired.

Which objects were deleted before that list, nobody tells.
"""

_BOOKMARK: Final = "BOOKMARK"
_PAGE_SIZE: Final = 100  # a page is decoded in one go, in which nothing else runs


class WatchFailed(Exception):
    """Which watch, and what the server or the network said."""


class _Login(Vault):
    """The one session. It renews its token by itself, so an answer 401 is an error, not a call for another login."""

    async def invalidate(self, key: VaultKey, info: KubeContext, *, exc: Exception | None = None) -> Never:
        raise exc or ConnectionError(f"session with {info.server} closed")


def build_settings(resources: Resources) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Below the API server's own 30-60 min, so that load spreads over its replicas after one restarts.
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 10
    # A bookmark comes every minute; silence beyond that is a dead connection.
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 0.5
    settings.watching.chunk_size = _PAGE_SIZE
    for resource in resources.values():
        if resource.selector:
            key = (resource.group, resource.version, resource.plural)
            settings.watching.label_selectors[key] = resource.selector
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.5, 1, 2, 5)
    return settings


async def watch(
    *,
    resources: Resources,
    deliver: Deliver,
    listed: Listed,
    namespaces: Sequence[str],
    kubeconfig: str | None,
) -> Never:
    """Until cancelled. Raises WatchFailed when a watch ends by more than an expired version or a lost connection."""
    session = await open_session(kubeconfig)
    async with session.http as http:
        login = kopf.AiohttpSession(server=session.server, aiohttp_session=http)
        vault_var.set(_Login({"session": login}))
        settings = build_settings(resources)
        pace = Pace(clock=time.perf_counter)

        async def follow(kind: str, resource: Resource, namespace: str | None) -> None:
            name = f"watch of {resource.plural} in {namespace or 'all namespaces'}"
            watched = kopf.Resource(resource.group, resource.version, resource.plural, namespaced=True)
            where: Any = namespace
            try:
                async for event in infinite_watch(settings=settings, resource=watched, namespace=where):
                    if isinstance(event, Bookmark):
                        listed(kind, namespace)
                    elif event["type"] != _BOOKMARK:
                        _deliver(deliver, event)
                    await pace()
            except Exception as error:
                raise WatchFailed(f"{name}: {error!r}") from error

        try:
            async with asyncio.TaskGroup() as group:
                for kind, resource in resources.items():
                    for namespace in namespaces or (None,):
                        group.create_task(follow(kind, resource, namespace), name=f"watch {resource.plural}")
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
    raise AssertionError("a watch has no end")


def _deliver(deliver: Deliver, event: Any) -> None:
    """One event that is not understood must not end the watch that brings all the others."""
    try:
        deliver(event["type"], event["object"])
    except Exception:
        logger.exception("ignoring an event that could not be processed", extra={"kind": event["object"].get("kind")})

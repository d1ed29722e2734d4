"""kopf, reduced to what it is best at: a list and a watch per kind that survive disconnects.

Only `on.event` handlers: they see every event in order per object and write nothing, while kopf's other
handlers, daemons and indexes each lose events, block or write annotations. What is not used is
also switched off, so that kopf needs no permission but list and watch, and does no work per event for
features that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import kopf

from ..core.plan import Obj
from ..kube.client import read_login
from ..kube.resources import Resources

Deliver = Callable[[str | None, Obj], None]
"""(type, object) of each watch event; type None: the object was listed."""

_PREFIX: Final = "steeltown.dev"


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf copies every object deeply to compare it with what its change handlers saw last; there are none."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return None


def build_registry(*, resources: Resources, deliver: Deliver, kubeconfig: str | None) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        found = await read_login(kubeconfig)
        scheme, _space, token = (found.authorization or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            insecure=not found.verify,
            scheme=scheme or None,
            token=token or None,
        )

    async def seen(event: Any, **_: Any) -> None:
        deliver(event["type"], event["object"])

    kopf.on.login(registry=registry)(login)
    for resource in resources.values():
        kopf.on.event(
            group=resource.group,
            version=resource.version,
            plural=resource.plural,
            registry=registry,
        )(seen)
    return registry


def build_settings(resources: Resources) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Discovery would list and watch CRDs and namespaces of the whole cluster.
    settings.scanning.disabled = True
    # Events are ours, deduplicated; Leases are ours, with a fence.
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Never used, but never anybody else's either.
    settings.persistence.finalizer = f"{_PREFIX}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_PREFIX)
    settings.persistence.diffbase_storage = _NoDiffBase()
    # A limit would be held by idle workers: throughput = limit / idle_timeout. The work here is microseconds.
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 0.5
    settings.queueing.exit_timeout = 0.2
    # Below the API server's own 30-60 min, so that load spreads over its replicas after one restarts.
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 10
    # A bookmark comes every minute; silence beyond that is a dead connection.
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 0.5
    settings.watching.chunk_size = 500
    for resource in resources.values():
        if resource.selector:
            key = (resource.group, resource.version, resource.plural)
            settings.watching.label_selectors[key] = resource.selector
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.5, 1, 2, 5)
    settings.execution.max_workers = 1
    # It runs in a daemon thread: the process ends without it, and must not be killed by it.
    settings.process.ultimate_exiting_timeout = None
    return settings


async def watch(*, resources: Resources, deliver: Deliver, namespaces: Sequence[str], kubeconfig: str | None) -> None:
    """Until cancelled, or until kopf gives up: it does on any error within a watch but an expired version."""
    await kopf.operator(
        registry=build_registry(resources=resources, deliver=deliver, kubeconfig=kubeconfig),
        settings=build_settings(resources),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
    )

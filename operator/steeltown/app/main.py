"""The process: what starts in which order, and that all of it stops.

HTTP first, so that a probe gets an answer while the rest waits for the API server. Then the cache is filled
by lists, the feed keeps it fresh, and only then may this replica stand for election; workers, observer and
Events run only while it leads, from when its cache is as fresh as the Lease. A part that ends unasked ends the
process: the kubelet restarts it, and nothing is lost, since nothing in memory is authoritative.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from ..core.ownership import ROOT_KINDS
from ..core.plan import Key, Obj
from ..kube.apply import Applier
from ..kube.client import Client
from ..kube.errors import ApiError
from ..kube.events import EventReader, EventWriter
from ..kube.leases import LeaseClient
from ..kube.lists import Lister
from ..kube.observe import EvidenceReader
from ..kube.resources import WATCHED, Resources
from ..kube.secrets import SealKey
from ..runtime.concurrency import at_once
from ..runtime.explainer import Explainer
from ..runtime.leadership import lead
from ..runtime.lease import Elector
from ..runtime.metrics import Metrics, QueueMetrics, WorkerMetrics
from ..runtime.observer import Observer
from ..runtime.ports import Planners
from ..runtime.queue import HIGH, LOW, WorkQueue
from ..runtime.reconciler import Reconciler
from ..runtime.recorder import EventRecorder
from ..runtime.resync import Resync
from ..runtime.store import Store
from ..runtime.worker import Workers
from .http import HttpServer
from .memory import SetAside, take_over_full_collections
from .settings import Settings
from .watches import watch

logger = logging.getLogger(__name__)

_FEED_RETRY_SECONDS: Final = (1.0, 30.0)
_FEED_HEALTHY_SECONDS: Final = 60.0
_WRITES_AT_ONCE: Final = 16  # of one reconcile
_EVENTS_READ_AT_ONCE: Final = 8  # of objects, one request each
_LISTS_AT_ONCE: Final = 2  # each page is decoded in one go


MakePolicy = Callable[[bytes], Any]
"""The policy that planners get, given the key that records are sealed with. None: planners that need none."""


class SteadyClock:
    """The wall clock as it was when the process started, and the time that has passed since: it never jumps.

    Deadlines and bakes are counted by it, so somebody who sets the clock of a node neither ends nor prolongs one.
    """

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._at = time.monotonic()

    def __call__(self) -> datetime:
        return self._started + timedelta(seconds=time.monotonic() - self._at)


_now = SteadyClock()


class Operator:
    """One replica. `registry` and `store` may be looked at from outside; nothing else is meant to be."""

    def __init__(
        self,
        settings: Settings,
        *,
        planners: Planners,
        policy: MakePolicy | None,
        resources: Resources = WATCHED,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._settings = settings
        self._planners = planners
        self._policy = policy
        self._resources = resources
        self.registry = registry or CollectorRegistry()
        self.store = Store(on_stored=SetAside().stored)
        self.port = 0
        self.metrics = Metrics(self.registry, lease_name=settings.lease_name)
        self.queue: WorkQueue[Key] = WorkQueue(clock=time.monotonic, hooks=QueueMetrics(self.registry))
        self._last_event: dict[str, float] = {}
        self._expose()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises what ended a part of it otherwise."""
        client = await Client.connect(kubeconfig=self._settings.kubeconfig or None, on_request=self.metrics.request)
        reader = EvidenceReader()
        resync = self._resync(client)
        http = HttpServer(registry=self.registry, missing=lambda: resync.missing)
        try:
            self.port = await http.start(host=self._settings.http_host, port=self._settings.http_port)
            logger.info("serving metrics and probes on port %d", self.port)
            await self._live(stop, client, reader, resync)
        finally:
            await http.stop()
            await reader.close()
            await client.close()
            logger.info("stopped")

    async def _live(self, stop: asyncio.Event, client: Client, reader: EvidenceReader, resync: Resync) -> None:
        parts = {
            asyncio.create_task(self._keep_fed(resync), name="feed"),
            asyncio.create_task(resync.run(), name="resync"),
            asyncio.create_task(self._stand_for_election(client, reader, resync), name="leadership"),
        }
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*parts, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in {*parts, stopping}:
                task.cancel()
            await asyncio.gather(*parts, stopping, return_exceptions=True)
        for task in done - {stopping}:
            logger.error("%s terminated unexpectedly, stopping", task.get_name())
            task.result()

    async def _keep_fed(self, resync: Resync) -> None:
        """Fills the cache once, then watches, again and again; each watch begins with a list of its own."""
        delay, longest = _FEED_RETRY_SECONDS
        await resync.fill()
        while True:
            started = time.monotonic()
            try:
                await watch(
                    resources=self._resources,
                    deliver=self._deliver,
                    # What was deleted between our list and that of the watch is in neither.
                    listed=resync.soon,
                    namespaces=self._settings.namespaces,
                    kubeconfig=self._settings.kubeconfig or None,
                )
            except Exception as error:
                logger.warning("watches failed, restarting: %r", error)
            self.metrics.feed_restarted()
            delay = _FEED_RETRY_SECONDS[0] if time.monotonic() - started > _FEED_HEALTHY_SECONDS else delay
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)

    async def _stand_for_election(self, client: Client, reader: EvidenceReader, resync: Resync) -> None:
        await resync.filled.wait()
        await resync.watched.wait()  # whose watches do not work should not lead
        policy = self._policy(await self._seal_key(client)) if self._policy else None
        holder = self._settings.holder()
        door = LeaseClient(client, namespace=self._settings.lease_namespace, name=self._settings.lease_name)
        elector = Elector(door=door, identity=holder, clock=time.monotonic, now=_now, on_change=self.metrics.leading)
        recorder = EventRecorder(
            writer=EventWriter(client), instance=holder, fence=elector.fence, clock=time.monotonic, now=_now
        )
        reconciler = Reconciler(
            store=self.store,
            planners=self._planners,
            policy=policy,
            applier=Applier(client, resources=self._resources),
            recorder=recorder,
            fence=elector.fence,
            wake=self.queue.add,
            now=_now,
            clock=time.monotonic,
            run_all=at_once(_WRITES_AT_ONCE),
        )
        workers = Workers(
            queue=self.queue,
            reconcile=reconciler.reconcile,
            clock=time.monotonic,
            count=self._settings.workers,
            hooks=WorkerMetrics(self.registry, kinds=ROOT_KINDS, workers=self._settings.workers),
        )
        observer = Observer(store=self.store, reader=reader, wake=self.queue.add)

        explainer = Explainer(
            store=self.store,
            reader=EventReader(client),
            wake=self.queue.add,
            clock=time.monotonic,
            run_all=at_once(_EVENTS_READ_AT_ONCE),
        )

        async def catch_up() -> None:
            await resync.catch_up()
            reconciler.begin()

        parts = (workers.run, observer.run, explainer.run, recorder.run)
        await elector.run(functools.partial(lead, catch_up=catch_up, parts=parts))

    async def _seal_key(self, client: Client) -> bytes:
        """For as long as it takes: without the key no record can be read, so nothing may be decided."""
        secret = SealKey(client, namespace=self._settings.lease_namespace, name=self._settings.seal_secret)
        delay, longest = _FEED_RETRY_SECONDS
        while True:
            try:
                return await secret.load()
            except (ApiError, ValueError) as error:
                logger.error("cannot read the seal key, retrying in %.0f s: %s", delay, error)
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)

    def _deliver(self, type: str | None, obj: Obj) -> None:
        self._last_event[obj["kind"]] = time.monotonic()
        priority = LOW if type is None else HIGH
        for key in self.store.apply_event(type, obj):
            self.queue.add(key, priority)

    def _resync(self, client: Client) -> Resync:
        return Resync(
            lister=Lister(client, resources=self._resources),
            store=self.store,
            kinds=tuple(self._resources),
            namespaces=self._settings.namespaces or (None,),
            wake=functools.partial(self.queue.add, priority=LOW),
            period_seconds=self._settings.resync_seconds,
            on_pruned=self.metrics.pruned,
            run_all=at_once(_LISTS_AT_ONCE),
        )

    def _expose(self) -> None:
        # A second series beside each counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.metrics.read_queue(depth=lambda: float(len(self.queue)), unfinished_seconds=self.queue.unfinished_seconds)
        self.metrics.read_cache(objects=self._cached, event_ages=self._event_ages)

    def _cached(self) -> Iterable[tuple[str, float]]:
        return [(kind, float(self.store.count(kind))) for kind in self._resources]

    def _event_ages(self) -> Iterable[tuple[str, float]]:
        now = time.monotonic()
        return [(kind, now - at) for kind, at in self._last_event.items()]


async def serve(
    settings: Settings, *, planners: Planners, policy: MakePolicy | None, resources: Resources = WATCHED
) -> None:
    """Runs an operator until SIGTERM or SIGINT."""
    take_over_full_collections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Operator(settings, planners=planners, policy=policy, resources=resources).run(stop)

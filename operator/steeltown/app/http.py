"""/metrics for Prometheus, /healthz and /readyz for the kubelet.

Alive means that the event loop turns; it does not depend on the API server, since restarting every operator
is not a cure for an outage elsewhere. Ready means that every kind has been listed once: a standby is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class HttpServer:
    """missing: what stands between now and readiness, empty = ready."""

    def __init__(self, *, registry: CollectorRegistry, missing: Callable[[], Sequence[str]]) -> None:
        self._registry = registry
        self._missing = missing
        self._runner: web.AppRunner | None = None

    async def start(self, *, host: str, port: int) -> int:
        """Returns the port."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, host or None, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        missing = self._missing()
        if missing:
            return web.Response(status=503, text=f"waiting for the initial list of: {', '.join(missing)}\n")
        return web.Response(text="ok\n")

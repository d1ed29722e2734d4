"""The only module that imports the Kubernetes client, and only its lowest layer.

`kubernetes.aio` brings login (kubeconfig, in-cluster token with refresh, exec plugins) and TLS. Its typed
classes would parse every object into pydantic models and back; objects stay dicts here, and a request costs
a third. Every request has a timeout, and the server is told a slightly shorter one: then a hanging webhook
comes back as an answer that names the webhook, not as silence with an unknown outcome.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.rest import RESTClientObject

from .errors import ApiError, Transient, from_status

Obj = dict[str, Any]
RequestHook = Callable[[str, str, str], None]
"""(method, plural of the resource, HTTP code or "error") of each finished request, for metrics."""

JSON: Final = "application/json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
MERGE_PATCH: Final = "application/merge-patch+json"

REQUEST_TIMEOUT_SECONDS: Final = 8.0
_SERVER_MARGIN_SECONDS: Final = 1.0
_USER_AGENT: Final = "steeltown-operator"


class Session(NamedTuple):
    """A connection pool of one's own to the same API server as the same user. `http` is the caller's to close."""

    server: str
    http: aiohttp.ClientSession


async def _configuration(kubeconfig: str | None) -> Any:
    configuration = kubernetes_client.Configuration()
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        load_incluster: Any = kubernetes_config.load_incluster_config
        load_incluster(client_configuration=configuration)
    else:
        load_kubeconfig: Any = kubernetes_config.load_kube_config
        await load_kubeconfig(config_file=kubeconfig, client_configuration=configuration, persist_config=False)
    # Reading ~/.netrc and the proxy variables again for each request costs as much as the request.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


async def open_session(kubeconfig: str | None = None) -> Session:
    """For whoever speaks to the API server without `Client`. Each request carries the token that is valid then."""
    configuration = await _configuration(kubeconfig)

    async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if token := (await configuration.auth_settings()).get("BearerToken"):
            request.headers["Authorization"] = token["value"]
        return await send(request)

    connector = aiohttp.TCPConnector(limit=0, ssl=RESTClientObject(configuration).ssl_context)
    return Session(
        configuration.host,
        aiohttp.ClientSession(
            connector=connector, middlewares=(authorize,), trust_env=False, headers={"User-Agent": _USER_AGENT}
        ),
    )


class Client:
    """Requests with dict bodies to one API server."""

    def __init__(self, api: Any, *, on_request: RequestHook | None = None) -> None:
        self._api = api
        self._on_request = on_request
        self._host: str = api.configuration.host

    @classmethod
    async def connect(cls, *, kubeconfig: str | None = None, on_request: RequestHook | None = None) -> Client:
        """In a pod: its service account. Elsewhere: `kubeconfig`, or what kubectl would use."""
        return cls(kubernetes_client.ApiClient(await _configuration(kubeconfig)), on_request=on_request)

    async def close(self) -> None:
        await self._api.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Obj | None = None,
        content_type: str = JSON,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Obj:
        """The decoded answer. Raises one of `errors`; nothing else but cancellation leaves this function."""
        parameters = dict(query or {})
        if method != "GET":
            parameters["timeout"] = f"{max(timeout_seconds - _SERVER_MARGIN_SECONDS, 1.0):.0f}s"
        url = f"{self._host}{path}?{urlencode(parameters)}" if parameters else f"{self._host}{path}"
        code = "error"
        try:
            status, headers, raw = await self._send(method, url, body, content_type, timeout_seconds)
            code = str(status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Transient(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            self._count(method, path, code)
        return _decode(status, headers, raw)

    async def _send(
        self, method: str, url: str, body: Obj | None, content_type: str, timeout_seconds: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": _USER_AGENT}
        async with asyncio.timeout(timeout_seconds):
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], "", method, None)
            response = await self._api.call_api(
                method,
                url,
                header_params=headers,
                body=body,
                _request_timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            )
            try:
                return response.status, response.headers, await response.read()
            finally:
                # Gives the connection back to the pool also when reading was cancelled half way.
                response.response.release()

    def _count(self, method: str, path: str, code: str) -> None:
        if self._on_request is None:
            return
        parts = path.split("/")
        start = 3 if parts[1] == "api" else 4
        if len(parts) > start and parts[start] == "namespaces":
            start += 2
        self._on_request(method, parts[start] if len(parts) > start else "", code)


def _decode(status: int, headers: Mapping[str, str], raw: bytes) -> Obj:
    try:
        decoded: Any = json.loads(raw) if raw else {}
    except ValueError:
        decoded = raw[:500].decode(errors="replace")  # a proxy's page, not the API server's answer
    body: Obj = decoded if isinstance(decoded, dict) else {"message": str(decoded)}
    if 200 <= status < 300:
        return body
    raise _error(status, headers, body)


def _error(status: int, headers: Mapping[str, str], body: Obj) -> ApiError:
    text = headers.get("Retry-After", "")
    return from_status(code=status, body=body, retry_after=float(text) if text.isdecimal() else None)

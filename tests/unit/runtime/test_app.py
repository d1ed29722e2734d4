"""Settings, logs, probes and the watches: what surrounds the machine."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry
from steeltown.app import logs
from steeltown.app.http import HttpServer
from steeltown.app.main import Operator
from steeltown.app.settings import Settings
from steeltown.app.watches import WatchFailed, build_settings, watch
from steeltown.core.plan import Obj, Plan
from steeltown.kube.resources import MANAGED_SELECTOR, WATCHED

IMAGES = {"STEELTOWN_TRAINER_IMAGE": "t", "STEELTOWN_CHECKER_IMAGE": "c", "STEELTOWN_SERVER_IMAGE": "s"}


def test_flag_wins_over_environment_and_environment_over_default() -> None:
    settings = Settings.read(
        ["--workers", "3", "--namespaces", "a, b"],
        {"STEELTOWN_WORKERS": "5", "STEELTOWN_HTTP_PORT": "9999", "POD_NAMESPACE": "steeltown"},
    )
    assert settings.workers == 3
    assert settings.http_port == 9999
    assert settings.namespaces == ("a", "b")
    assert settings.lease_namespace == "steeltown"
    assert settings.resync_seconds == 600.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workers", "0"],
        ["--workers", "many"],
        ["--resync-seconds", "0"],
        ["--allowed-sources", "s3://,data"],
        ["--no"],
    ],
)
def test_setting_that_cannot_be_is_an_error_with_a_message(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        Settings.read(arguments, {})
    assert "error:" in capsys.readouterr().err


def test_sources_that_are_allowed_are_those_of_the_setting() -> None:
    """A folder of the container is never among them by itself."""
    assert "file" not in Settings.read([], IMAGES).policy(b"key").allowed_sources
    given = {**IMAGES, "STEELTOWN_ALLOWED_SOURCES": "s3://data"}
    assert Settings.read([], given).policy(b"key").allowed_sources == "s3://data"


def test_policy_without_an_image_names_the_flag_and_the_variable() -> None:
    assert Settings.read([], IMAGES).policy(b"key").server_image == "s"
    with pytest.raises(ValueError, match="--trainer-image or STEELTOWN_TRAINER_IMAGE"):
        Settings.read([], {}).policy(b"key")


def test_two_processes_of_one_pod_are_two_candidates() -> None:
    settings = Settings(identity="operator-0")
    assert settings.holder() != settings.holder()
    assert settings.holder().startswith("operator-0_")


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_log_line_is_json_with_stable_keys(restored_logging: None) -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    fields = {"controller": "mlmodel", "namespace": "team", "object": "m", "uid": "u", "generation": 2}
    logging.getLogger("steeltown.x").info("took %d s", 3, extra={**fields, "reconcileID": "r", "k8s_skip": True})
    line = json.loads(stream.getvalue())
    ts = line.pop("ts")
    assert ts.endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "steeltown.x",
        "msg": "took 3 s",
        "controller": "mlmodel",
        "namespace": "team",
        "name": "m",
        "uid": "u",
        "generation": 2,
        "reconcileID": "r",
    }


def test_log_line_of_an_exception_holds_its_traceback(restored_logging: None) -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    try:
        raise ZeroDivisionError("no data")
    except ZeroDivisionError:
        logging.getLogger("steeltown.x").exception("failed")
    assert "ZeroDivisionError: no data" in json.loads(stream.getvalue())["error"]


async def test_probes_and_metrics_answer_before_the_api_server_does() -> None:
    missing = ["MLModel"]
    http = HttpServer(registry=CollectorRegistry(), missing=lambda: missing)
    port = await http.start(host="127.0.0.1", port=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path) as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok\n")
        assert await get("/readyz") == (503, "waiting for the initial list of: MLModel\n")
        missing.clear()
        assert await get("/readyz") == (200, "ok\n")
        assert (await get("/metrics"))[0] == 200
    await http.stop()


class ApiServer:
    """Lists and watches as an API server sends them: `lines[plural]` are the answers to its watches, in turn.

    Whatever is written is taken. done: lists and writes, such as "GET pods", "POST leases".
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.tokens: list[str | None] = []
        self.items: dict[str, list[Obj]] = {}
        self.lines: dict[str, list[list[Obj]]] = {}
        self.refuse: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        plural = request.path.rpartition("/")[2]
        if request.method != "GET":
            return await self._written(request)
        self.asked.append((request.path, dict(request.query)))
        self.tokens.append(request.headers.get("Authorization"))
        if plural in self.refuse:
            status = {"kind": "Status", "code": 404, "message": "no such kind"}
            return web.json_response(status, status=404)
        if "/leases/" in request.path:
            status = {"kind": "Status", "code": 404, "message": "no such Lease", "reason": "NotFound"}
            return web.json_response(status, status=404)
        if "watch" not in request.query:
            self.done.append(f"GET {plural}")
            items = self.items.get(plural, [])
            return web.json_response({"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        batches = self.lines.get(plural)
        for line in batches.pop(0) if batches else []:
            await response.write(json.dumps(line).encode() + b"\n")
        if not batches:
            await asyncio.sleep(3600)
        return response

    async def _written(self, request: web.Request) -> web.Response:
        parts = request.path.removeprefix("/apis/").removeprefix("/api/").split("/")
        self.done.append(f"{request.method} {parts[parts.index('namespaces') + 2]}")
        body = json.loads(await request.text())
        return web.json_response({**body, "metadata": {**body["metadata"], "resourceVersion": "9"}})

    def watches(self, plural: str) -> list[str | None]:
        return [q.get("resourceVersion") for path, q in self.asked if path.endswith(plural) and "watch" in q]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, str]]:
    """A server and the kubeconfig for it."""
    api = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    server = TestServer(app)
    await server.start_server()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": str(server.make_url(""))}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config))
    yield api, str(file)
    await server.close()


class Seen:
    def __init__(self, kubeconfig: str, *kinds: str) -> None:
        self.events: list[tuple[str | None, str]] = []
        self.listed: list[tuple[str, str | None]] = []
        self._kubeconfig = kubeconfig
        self._kinds = kinds or ("Pod",)

    def _deliver(self, type: str | None, obj: Obj) -> None:
        self.events.append((type, obj["metadata"]["name"]))

    def _listed(self, kind: str, namespace: str | None) -> None:
        self.listed.append((kind, namespace))

    async def watching(self) -> None:
        resources = {kind: WATCHED[kind] for kind in self._kinds}
        await watch(
            resources=resources,
            deliver=self._deliver,
            listed=self._listed,
            namespaces=("a",),
            kubeconfig=self._kubeconfig,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.watching())
        async with asyncio.timeout(10):
            while not condition() and not task.done():  # noqa: ASYNC110 (conditions of several makes)
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert condition()


def pod(name: str, version: int = 8) -> Obj:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "a", "resourceVersion": str(version)}}


BOOKMARK = {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "20"}}}
EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}


async def test_what_is_listed_comes_before_what_is_watched(api: tuple[ApiServer, str]) -> None:
    server, kubeconfig = api
    server.items["pods"] = [pod("old")]
    server.lines["pods"] = [[{"type": "ADDED", "object": pod("new")}, {"type": "DELETED", "object": pod("old", 9)}]]
    seen = Seen(kubeconfig)
    await seen.until(lambda: len(seen.events) == 3)
    assert seen.events == [(None, "old"), ("ADDED", "new"), ("DELETED", "old")]
    assert seen.listed == [("Pod", "a")]
    assert {path for path, _ in server.asked} == {"/api/v1/namespaces/a/pods"}
    assert {query["labelSelector"] for _, query in server.asked} == {MANAGED_SELECTOR}
    assert set(server.tokens) == {"Bearer secret"}


async def test_watch_that_ends_goes_on_where_its_last_bookmark_was(api: tuple[ApiServer, str]) -> None:
    server, kubeconfig = api
    server.lines["pods"] = [[{"type": "ADDED", "object": pod("a")}, BOOKMARK], [{"type": "ADDED", "object": pod("b")}]]
    seen = Seen(kubeconfig)
    await seen.until(lambda: len(seen.events) == 2)
    assert seen.events == [("ADDED", "a"), ("ADDED", "b")]
    assert server.watches("pods") == ["7", "20"]
    assert seen.listed == [("Pod", "a")]


async def test_expired_version_is_listed_anew_and_told(api: tuple[ApiServer, str]) -> None:
    server, kubeconfig = api
    server.lines["pods"] = [[EXPIRED], [{"type": "ADDED", "object": pod("a")}]]
    seen = Seen(kubeconfig)
    await seen.until(lambda: len(seen.events) == 1)
    assert seen.listed == [("Pod", "a"), ("Pod", "a")]


async def test_event_that_is_not_understood_does_not_stop_the_others(
    api: tuple[ApiServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    server, kubeconfig = api
    server.lines["pods"] = [[{"type": "ADDED", "object": {"kind": "Pod"}}, {"type": "ADDED", "object": pod("a")}]]
    seen = Seen(kubeconfig)
    await seen.until(lambda: len(seen.events) == 1)
    assert "ignoring an event that could not be processed" in caplog.text


async def test_kind_that_is_not_served_ends_all_watches_and_says_why(api: tuple[ApiServer, str]) -> None:
    server, kubeconfig = api
    server.refuse = {"jobs"}
    with pytest.raises(WatchFailed, match=r"watch of jobs in a: .*no such kind.*404"):
        async with asyncio.timeout(10):
            await Seen(kubeconfig, "Pod", "Job").watching()


def test_children_are_watched_by_label() -> None:
    settings = build_settings(WATCHED)
    assert set(settings.watching.label_selectors.values()) == {MANAGED_SELECTOR}
    assert len(settings.watching.label_selectors) == 5


async def test_operator_lists_everything_between_its_lease_and_its_first_write(api: tuple[ApiServer, str]) -> None:
    """What it knew before may lack the last acts of the leader before it."""
    server, kubeconfig = api
    meta = {"name": "m", "namespace": "a", "uid": "u", "generation": 1, "resourceVersion": "5"}
    model = {"apiVersion": WATCHED["MLModel"].api_version, "kind": "MLModel", "metadata": meta, "spec": {}}
    server.items["mlmodels"] = [model]
    told = Plan(status={"told": True})
    planners = {"MLModel": lambda snapshot, now, policy: Plan() if "status" in snapshot.root else told}
    settings = Settings(kubeconfig=kubeconfig, namespaces=("a",), http_host="127.0.0.1", http_port=0)
    operator, stop = Operator(settings, planners=planners, policy=None), asyncio.Event()
    task = asyncio.create_task(operator.run(stop))
    async with asyncio.timeout(20):
        while "PATCH mlmodels" not in server.done and not task.done():  # noqa: ASYNC110 (conditions of several makes)
            await asyncio.sleep(0.01)
    stop.set()
    await task
    lease, write = server.done.index("POST leases"), server.done.index("PATCH mlmodels")
    kinds = {f"GET {resource.plural}" for resource in WATCHED.values()}
    assert kinds <= set(server.done[:lease]), "a replica stands for election only when it knows the cluster"
    assert kinds <= set(server.done[lease:write])
    assert {each for each in server.done[:write] if not each.startswith("GET")} <= {"POST leases", "PUT leases"}

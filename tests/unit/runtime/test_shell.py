"""Settings, logs, probes and the thread that feeds events: what surrounds the machine."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from steeltown.core.plan import Obj
from steeltown.kube.resources import MANAGED_SELECTOR, WATCHED
from steeltown.shell import logs
from steeltown.shell.feed import Deliver, Feed
from steeltown.shell.handlers import build_registry, build_settings
from steeltown.shell.http import HttpServer
from steeltown.shell.settings import Settings

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


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--workers", "many"], ["--resync-seconds", "0"], ["--no"]])
def test_setting_that_cannot_be_is_an_error_with_a_message(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        Settings.read(arguments, {})
    assert "error:" in capsys.readouterr().err


def test_policy_without_an_image_names_the_flag_and_the_variable() -> None:
    assert Settings.read([], IMAGES).policy().server_image == "s"
    with pytest.raises(ValueError, match="--trainer-image or STEELTOWN_TRAINER_IMAGE"):
        Settings.read([], {}).policy()


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
        assert await get("/readyz") == (503, "not listed yet: MLModel\n")
        missing.clear()
        assert await get("/readyz") == (200, "ok\n")
        assert (await get("/metrics"))[0] == 200
    await http.stop()


async def test_events_cross_from_the_feeds_thread_in_order() -> None:
    seen: list[tuple[str | None, Obj]] = []
    here = threading.current_thread()

    async def watch(deliver: Deliver) -> None:
        assert threading.current_thread() is not here
        for number in range(2000):
            deliver("ADDED", {"number": number})
            if number % 100 == 0:
                await asyncio.sleep(0)

    def take(type: str | None, obj: Obj) -> None:
        assert threading.current_thread() is here
        seen.append((type, obj))

    await Feed(watch=watch, deliver=take).run()
    for _ in range(10):  # five batches, each of which ends by asking for the next
        await asyncio.sleep(0)
    assert [obj["number"] for _, obj in seen] == list(range(2000))


async def test_event_that_is_not_understood_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Obj] = []

    async def watch(deliver: Deliver) -> None:
        deliver("ADDED", {})
        deliver("ADDED", {"kind": "Pod"})

    def take(type: str | None, obj: Obj) -> None:
        seen.append({"kind": obj["kind"]})

    await Feed(watch=watch, deliver=take).run()
    await asyncio.sleep(0.01)
    assert seen == [{"kind": "Pod"}]
    assert "event not understood" in caplog.text


async def test_feed_that_fails_tells_why() -> None:
    async def watch(deliver: Deliver) -> None:
        raise ConnectionError("watch ended")

    with pytest.raises(ConnectionError, match="watch ended"):
        await Feed(watch=watch, deliver=lambda type, obj: None).run()


async def test_cancelled_feed_ends_its_thread() -> None:
    async def watch(deliver: Deliver) -> None:
        await asyncio.sleep(3600)

    running = asyncio.create_task(Feed(watch=watch, deliver=lambda type, obj: None).run())
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for thread in threading.enumerate():
        if thread.name == "event feed":
            thread.join(timeout=1.0)
            assert not thread.is_alive()


def test_kopf_watches_every_kind_and_children_by_label() -> None:
    def deliver(type: str | None, obj: Obj) -> None: ...

    registry: Any = build_registry(resources=WATCHED, deliver=deliver, kubeconfig=None)
    watched = {(h.selector.group, h.selector.plural) for h in registry._watching.get_all_handlers()}
    assert watched == {(resource.group, resource.plural) for resource in WATCHED.values()}
    settings = build_settings(WATCHED)
    assert set(settings.watching.label_selectors.values()) == {MANAGED_SELECTOR}
    assert len(settings.watching.label_selectors) == 4
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert settings.peering.standalone

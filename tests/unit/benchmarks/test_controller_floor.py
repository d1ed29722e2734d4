"""The floor of the controller benchmark writes what the operator would write, and really sends it."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from steeltown.core.plan import Obj

BENCHMARK = Path(__file__).parents[3] / "benchmarks/controller"
OPERATOR = Path(__file__).parents[3] / "operator"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """(kopf_floor, subjects)"""
    monkeypatch.syspath_prepend(BENCHMARK)
    return importlib.import_module("kopf_floor"), importlib.import_module("subjects")


def test_floor_of_serving_writes_both_children_and_the_status(modules: tuple[Any, Any]) -> None:
    floor, subjects = modules
    row = subjects.ServingFloor()
    lines = subjects.floor_writes([row.body(0), subjects._finished_run(row.name(0))], row.name(0))
    requests = [floor.filled(line, "m", "place", {"MLModel": "uid-1"}) for line in lines]
    assert [(r["method"], r["body"]["kind"], "status" in r["body"]) for r in requests] == [
        ("PATCH", "Deployment", False),
        ("PATCH", "Service", False),
        ("PATCH", "MLModel", True),
    ]
    assert requests[0]["body"]["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert requests[1]["path"] == "/api/v1/namespaces/place/services/m"
    assert "floor-" not in json.dumps([{**r, "query": {}} for r in requests])


def test_floor_of_training_makes_run_and_job_each_owned_by_the_one_before(modules: tuple[Any, Any]) -> None:
    floor, subjects = modules
    row = subjects.TrainingFloor()
    lines = subjects.floor_writes([row.body(0)], row.name(0))
    uids = {"MLModel": "uid-1", "TrainingRun": "uid-2"}
    requests = [floor.filled(line, "m", "place", uids) for line in lines]
    assert [(r["method"], r["path"].rpartition("/namespaces/place/")[2]) for r in requests] == [
        ("POST", "trainingruns"),
        ("POST", "jobs"),
        ("PATCH", "trainingruns/m-v1/status"),
        ("PATCH", "mlmodels/m/status"),
    ]
    owners = [r["body"]["metadata"]["ownerReferences"][0]["uid"] for r in requests[:2]]
    assert owners == ["uid-1", "uid-2"]


class ApiServer:
    """One MLModel to be seen, and a note of what is written."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, Obj]] = []
        self.all_written = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            body = json.loads(await request.text())
            self.written.append((request.method, request.path, body))
            if request.path.endswith("/status"):
                self.all_written.set()
            return web.json_response({**body, "metadata": {**body["metadata"], "uid": f"uid-{body['kind']}"}})
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(3600)
        return web.json_response(self._found(request.path))

    def _found(self, path: str) -> Obj:
        metadata = {"name": "m", "namespace": "place", "uid": "uid-m", "resourceVersion": "5"}
        model = {"metadata": metadata, "spec": {}}
        group = {"name": "steeltown.dev", "versions": [{"version": "v1alpha1"}]}
        kind = {"name": "mlmodels", "kind": "MLModel", "singularName": "mlmodel", "namespaced": True}
        match path:
            case "/apis":
                return {"groups": [{**group, "preferredVersion": group["versions"][0]}]}
            case "/apis/steeltown.dev/v1alpha1":
                return {"resources": [{**kind, "verbs": ["list", "watch", "patch"]}]}
            case "/apis/steeltown.dev/v1alpha1/namespaces/place/mlmodels":
                return {"kind": "MLModelList", "metadata": {"resourceVersion": "7"}, "items": [model]}
            case "/api":
                return {"versions": ["v1"]}
            case "/api/v1":
                namespaces = {"name": "namespaces", "kind": "Namespace", "singularName": "namespace"}
                return {"resources": [{**namespaces, "namespaced": False, "verbs": ["list", "watch"]}]}
            case _:
                return {"resources": [], "items": [], "metadata": {"resourceVersion": "1"}}


async def test_floor_sends_them_for_a_model_that_appears(modules: tuple[Any, Any], tmp_path: Path) -> None:
    _, subjects = modules
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
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    row = subjects.ServingFloor()
    row.namespace = "place"
    command, environment = row.command(str(tmp_path / "kubeconfig"), 0)
    assert environment["PYTHONPATH"] == str(OPERATOR)
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environment}, stdout=sys.stderr, stderr=sys.stderr
    )
    try:
        await asyncio.wait_for(api.all_written.wait(), 30)
    finally:
        process.terminate()
        await process.wait()
        await server.close()
    assert [(method, path.rpartition("/namespaces/place/")[2]) for method, path, _ in api.written] == [
        ("PATCH", f"deployments/{api.written[0][2]['metadata']['name']}"),
        ("PATCH", "services/m"),
        ("PATCH", "mlmodels/m/status"),
    ]
    assert api.written[0][2]["metadata"]["ownerReferences"][0]["uid"] == "uid-m"

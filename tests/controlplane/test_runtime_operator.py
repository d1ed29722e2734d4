"""The whole operator against a real API server, with a planner simple enough to know what it must do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from steeltown.app.main import Operator
from steeltown.app.settings import Settings
from steeltown.app.watches import WatchFailed, watch
from steeltown.core.plan import Apply, Create, EventNote, Key, Obj, Plan, Snapshot, Target
from steeltown.kube.client import MERGE_PATCH, Client
from steeltown.kube.resources import Resources

Eventually = Callable[..., Any]


def children(root: Obj) -> list[Obj]:
    metadata = root["metadata"]
    name, image = metadata["name"], root["spec"]["image"]
    owner = {
        "apiVersion": root["apiVersion"],
        "kind": "MLModel",
        "name": name,
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    shared = {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": {"app.kubernetes.io/managed-by": "steeltown", "steeltown.dev/model": name},
        "ownerReferences": [owner],
    }
    pod = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": shared,
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pod},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": shared,
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        },
    ]


def toy_planner(snapshot: Snapshot, now: datetime, policy: Any) -> Plan:
    """A Deployment with the image of the spec, a Service, and a status that says what is so or who refused."""
    root = snapshot.root
    if root["spec"].get("raise"):
        raise ZeroDivisionError("the planner has a bug")
    deployment, service = children(root)
    actions: list[Apply | Create] = []
    known = snapshot.of_kind("Deployment").get(root["metadata"]["name"])
    if known is None or image_of(known) != root["spec"]["image"]:
        actions.append(Apply(deployment))
    if not snapshot.of_kind("Service"):
        actions.append(Create(service))
    message = "; ".join(refusal.message for refusal in snapshot.refusals)
    status = {"observedGeneration": root["metadata"]["generation"], "message": message}
    changed = root.get("status") != status
    note = EventNote(type="Normal", reason="Applied", message="all children are there")
    return Plan(
        actions=tuple(actions), status=status if changed else None, events=() if message or not changed else (note,)
    )


def image_of(deployment: Obj) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


class Bench:
    def __init__(self, *, kubeconfig: str, client: Client, namespace: str, toys: Resources) -> None:
        self.client, self.namespace, self.toys = client, namespace, toys
        self.settings = Settings(
            namespaces=(namespace,),
            kubeconfig=kubeconfig,
            http_host="127.0.0.1",
            http_port=0,
            lease_namespace=namespace,
            lease_name="operator",
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Operator]:
        planners = {"MLModel": toy_planner, "TrainingRun": lambda snapshot, now, policy: Plan()}
        operator = Operator(self.settings, planners=planners, policy=None, resources=self.toys)
        stop = asyncio.Event()
        task = asyncio.create_task(operator.run(stop))
        try:
            yield operator
        finally:
            stop.set()
            await asyncio.wait_for(task, 5.0)

    async def create(self, name: str, **spec: Any) -> Obj:
        toy = self.toys["MLModel"]
        metadata = {"name": name, "namespace": self.namespace}
        body = {
            "apiVersion": toy.api_version,
            "kind": "MLModel",
            "metadata": metadata,
            "spec": {"image": "a:1", **spec},
        }
        return await self.client.request("POST", toy.collection(self.namespace), body=body)

    async def edit(self, name: str, **spec: Any) -> Obj:
        path = self.toys["MLModel"].item(self.namespace, name)
        return await self.client.request("PATCH", path, body={"spec": spec}, content_type=MERGE_PATCH)

    async def read(self, kind: str, name: str) -> Obj:
        return await self.client.request("GET", self.toys[kind].item(self.namespace, name))

    async def converged(self, name: str) -> bool:
        root = await self.read("MLModel", name)
        status = root.get("status") or {}
        return status == {"observedGeneration": root["metadata"]["generation"], "message": ""}

    def key(self, name: str) -> Key:
        return Key("MLModel", self.namespace, name)


@pytest.fixture
def bench(kubeconfig: str, client: Client, namespace: str, toys: Resources) -> Bench:
    return Bench(kubeconfig=kubeconfig, client=client, namespace=namespace, toys=toys)


def requests(operator: Operator, *methods: str, but: str = "leases") -> dict[str, float]:
    """Requests by "<method> <resource>", as /metrics counts them."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(generate_latest(operator.registry).decode()):
        for sample in family.samples:
            labels = sample.labels
            if sample.name != "rest_client_requests_total" or labels["resource"] == but:
                continue
            if not methods or labels["method"] in methods:
                name = f"{labels['method']} {labels['resource']}"
                found[name] = found.get(name, 0.0) + sample.value
    return found


WRITES = ("POST", "PUT", "PATCH", "DELETE")


async def test_created_model_converges_with_one_write_per_child_status_and_event_and_then_none(
    bench: Bench, eventually: Eventually
) -> None:
    async with bench.running() as operator:
        await bench.create("m")
        await eventually(lambda: bench.converged("m"))
        await eventually(lambda: requests(operator, *WRITES).get("POST events"))
        await eventually(lambda: requests(operator, "GET").get("GET pods") == 2.0)  # the last kind, listed again
        expected = {"PATCH deployments": 1.0, "POST services": 1.0, "PATCH mlmodels": 1.0, "POST events": 1.0}
        assert requests(operator, *WRITES) == expected
        reads = requests(operator, "GET")
        for key in operator.store.all_roots():
            operator.queue.add(key)
        await asyncio.sleep(1.0)
        assert requests(operator, *WRITES) == expected
        assert requests(operator, "GET") == reads


async def test_restarted_operator_finds_everything_done(bench: Bench, eventually: Eventually) -> None:
    async with bench.running():
        for number in range(5):
            await bench.create(f"m{number}")
        for number in range(5):
            await eventually(lambda number=number: bench.converged(f"m{number}"))
    async with bench.running() as operator:
        await eventually(lambda: len(list(operator.store.all_roots())) == 5 and len(operator.queue) == 0)
        await asyncio.sleep(3.0)
        assert requests(operator, *WRITES) == {}


async def test_edit_reaches_the_child_quickly(bench: Bench, eventually: Eventually) -> None:
    async with bench.running():
        await bench.create("m")
        await eventually(lambda: bench.converged("m"))
        started = time.monotonic()
        await bench.edit("m", image="a:2")

        async def changed() -> bool:
            return image_of(await bench.read("Deployment", "m")) == "a:2"

        await eventually(changed)
        assert time.monotonic() - started < 1.0


async def test_child_that_somebody_deletes_is_put_back(bench: Bench, eventually: Eventually) -> None:
    async with bench.running():
        await bench.create("m")
        await eventually(lambda: bench.converged("m"))
        first = await bench.read("Service", "m")
        await bench.client.request("DELETE", bench.toys["Service"].item(bench.namespace, "m"))

        async def back() -> bool:
            try:
                found = await bench.read("Service", "m")
            except Exception:
                return False
            return bool(found["metadata"]["uid"] != first["metadata"]["uid"])

        await eventually(back)


async def test_child_that_a_policy_denies_shows_in_the_status_and_heals_when_it_is_lifted(
    bench: Bench, eventually: Eventually, deny: Any
) -> None:
    lift = await deny("no deployments on fridays")
    async with bench.running() as operator:
        await bench.create("m")

        async def explained() -> bool:
            status = (await bench.read("MLModel", "m")).get("status") or {}
            return "no deployments on fridays" in status.get("message", "")

        await eventually(explained)
        for _ in range(20):
            operator.queue.add(bench.key("m"))
            await asyncio.sleep(0.1)
        assert requests(operator, "PATCH")["PATCH deployments"] == 1.0
        await lift()
        await eventually(lambda: bench.converged("m"), seconds=12.0)


async def test_planner_that_raises_for_one_model_serves_the_others(bench: Bench, eventually: Eventually) -> None:
    async with bench.running():
        await bench.create("broken", **{"raise": True})
        await bench.create("m")
        await eventually(lambda: bench.converged("m"))
        await bench.edit("broken", **{"raise": None})
        await eventually(lambda: bench.converged("broken"))


async def test_deleted_model_leaves_the_cache(bench: Bench, eventually: Eventually) -> None:
    async with bench.running() as operator:
        await bench.create("m")
        await eventually(lambda: bench.converged("m"))
        await bench.client.request("DELETE", bench.toys["MLModel"].item(bench.namespace, "m"))
        await eventually(lambda: operator.store.get(Target(*bench.key("m"))) is None)


async def test_standby_knows_everything_and_writes_nothing_until_it_leads(bench: Bench, eventually: Eventually) -> None:
    async with bench.running() as standby_after:
        async with bench.running() as other:
            await bench.create("m")
            await eventually(lambda: bench.converged("m"))
            both = (standby_after, other)
            for each in both:
                await eventually(lambda each=each: each.store.count("Service") == 1)
            leader = next(each for each in both if requests(each, *WRITES))
            standby = other if leader is standby_after else standby_after
            assert requests(standby, *WRITES) == {}
        await bench.edit("m", image="a:2")
        await eventually(lambda: bench.converged("m"), seconds=20.0)


async def test_feed_that_ends_is_started_again(
    bench: Bench, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kopf does on an error inside a watch stream, such as a change of the etcd leader."""
    failures = 0

    async def fail_once(**arguments: Any) -> None:
        nonlocal failures
        if failures == 0:
            failures += 1
            raise WatchFailed("Error in the watch-stream: etcdserver: leader changed")
        await watch(**arguments)

    monkeypatch.setattr("steeltown.app.main.watch", fail_once)
    async with bench.running() as operator:
        await eventually(lambda: failures == 1)
        await bench.create("m")
        await eventually(lambda: bench.converged("m"))
        assert requests(operator, *WRITES)


PROCESS = """
import asyncio, os, sys
from steeltown.core.plan import Plan
from steeltown.kube.resources import WATCHED, Resource
from steeltown.app import logs
from steeltown.app.main import serve
from steeltown.app.settings import Settings
import steeltown.app.main as main

group = sys.argv[1]
settings = Settings.read(sys.argv[2:], os.environ)
logs.configure(settings.log_level)
toy = {kind: Resource(api_version=group, plural=kind.lower() + "s") for kind in ("MLModel", "TrainingRun")}
nothing = lambda snapshot, now, policy: Plan()
planners = {kind: nothing for kind in toy}
asyncio.run(serve(settings, planners=planners, policy=None, resources={**WATCHED, **toy}))
"""


async def test_sigterm_releases_the_lease_and_ends_the_process_within_five_seconds(
    bench: Bench, kubeconfig: str, eventually: Eventually
) -> None:
    arguments = {
        "--kubeconfig": kubeconfig,
        "--namespaces": bench.namespace,
        "--lease-namespace": bench.namespace,
        "--lease-name": "operator",
        "--http-host": "127.0.0.1",
        "--http-port": "0",
    }
    flat = [part for pair in arguments.items() for part in pair]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROCESS,
        bench.toys["MLModel"].api_version,
        *flat,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stderr=subprocess.PIPE,
    )
    path = f"/apis/coordination.k8s.io/v1/namespaces/{bench.namespace}/leases/operator"

    async def holder() -> str | None:
        try:
            return str((await bench.client.request("GET", path))["spec"]["holderIdentity"])
        except Exception:
            return None

    await eventually(holder, seconds=20.0)
    await asyncio.sleep(1.0)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 10.0)
    assert time.monotonic() - started < 5.0
    assert process.returncode == 0
    assert await holder() == ""
    lines = errors.decode().splitlines()
    assert lines
    assert all(line.startswith('{"ts":') for line in lines), errors.decode()

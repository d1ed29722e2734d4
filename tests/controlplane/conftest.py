"""A real API server, a namespace per test, and custom resources of a toy API group.

The kubeconfig is STEELTOWN_KUBECONFIG, else that of the control plane which `python3 tests/cluster up
--control-plane` starts. The toy group serves the same kinds as the product under another name, so that the
runtime is tested here without the product's schemas and beside whatever else uses the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from steeltown.kube.client import Client
from steeltown.kube.errors import ApiError, NotFound, Transient
from steeltown.kube.resources import WATCHED, Resource, Resources

CLUSTER = Path(__file__).parents[1] / "cluster"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAMESPACES = "/api/v1/namespaces"


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    path = os.environ.get("STEELTOWN_KUBECONFIG")
    if not path:
        command = [sys.executable, str(CLUSTER), "kubeconfig", "--control-plane"]
        path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(path).is_file():
        pytest.fail(f"no kubeconfig at {path}: run `python3 tests/cluster up --control-plane`")
    return path


@pytest.fixture
async def client(kubeconfig: str) -> AsyncIterator[Client]:
    client = await Client.connect(kubeconfig=kubeconfig)
    yield client
    await client.close()


@pytest.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    name = f"test-{uuid.uuid4().hex[:10]}"
    await client.request("POST", NAMESPACES, body={"metadata": {"name": name}})
    yield name
    await client.request("DELETE", f"{NAMESPACES}/{name}")


def _toy(group: str, plural: str, kind: str) -> dict[str, Any]:
    """A kind without a schema but one rule, whose message a test can recognise."""
    rule = {"rule": "!has(self.status) || !has(self.status.refuse)", "message": "status.refuse is never accepted"}
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "status": {
                "type": "object",
                "properties": {"refuse": {"type": "string"}},
                "x-kubernetes-preserve-unknown-fields": True,
            },
        },
        "x-kubernetes-validations": [rule],
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [version],
        },
    }


@pytest.fixture(scope="session")
def toys(kubeconfig: str) -> Iterator[Resources]:
    """The table of watched kinds, with MLModel and TrainingRun of an API group of this session."""
    group = f"t{uuid.uuid4().hex[:8]}.toys.steeltown.dev"
    kinds = {"MLModel": "mlmodels", "TrainingRun": "trainingruns"}

    async def install() -> None:
        client = await Client.connect(kubeconfig=kubeconfig)
        for kind, plural in kinds.items():
            await client.request("POST", CRDS, body=_toy(group, plural, kind))
        for plural in kinds.values():
            await eventually(lambda plural=plural: _served(client, f"/apis/{group}/v1/{plural}"))  # type: ignore[misc]
        await client.close()

    async def remove() -> None:
        client = await Client.connect(kubeconfig=kubeconfig)
        for plural in kinds.values():
            await client.request("DELETE", f"{CRDS}/{plural}.{group}")
        await client.close()

    asyncio.run(install())
    toy = {kind: Resource(api_version=f"{group}/v1", plural=plural) for kind, plural in kinds.items()}
    yield {**WATCHED, **toy}
    asyncio.run(remove())


async def _served(client: Client, path: str) -> bool:
    """A new kind is first unknown, then being set up, then there."""
    try:
        await client.request("GET", path)
    except (NotFound, Transient):
        return False
    return True


async def eventually(condition: Callable[[], Any], *, seconds: float = 15.0) -> Any:
    """The first true value of `condition`, which may be a coroutine function; fails after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, "did not come true in time"
        await asyncio.sleep(0.02)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


@pytest.fixture
async def deny(client: Client, namespace: str) -> AsyncIterator[Callable[[str], Any]]:
    """`await deny(message)`: from now on nothing may create or change a Deployment in the test's namespace.

    Returns a coroutine function that ends it.
    """
    base, name = "/apis/admissionregistration.k8s.io/v1", f"deny-{namespace}"
    policies, bindings = f"{base}/validatingadmissionpolicies", f"{base}/validatingadmissionpolicybindings"

    async def lift() -> None:
        for path in (f"{bindings}/{name}", f"{policies}/{name}"):
            with contextlib.suppress(ApiError):
                await client.request("DELETE", path)

    async def impose(message: str) -> Callable[[], Any]:
        match = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "resourceRules": [
                {
                    "apiGroups": ["apps"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["deployments"],
                }
            ],
        }
        spec = {"matchConstraints": match, "validations": [{"expression": "false", "message": message}]}
        await client.request("POST", policies, body={"metadata": {"name": name}, "spec": spec})
        binding = {"policyName": name, "validationActions": ["Deny"]}
        await client.request("POST", bindings, body={"metadata": {"name": name}, "spec": binding})
        await eventually(lambda: _denied(client, namespace))
        return lift

    yield impose
    await lift()


async def _denied(client: Client, namespace: str) -> bool:
    """A policy takes a moment until the API server applies it."""
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    probe = {"metadata": {"name": "probe"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    try:
        await client.request(
            "POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", query={"dryRun": "All"}, body=probe
        )
    except ApiError as error:
        return "denied request" in error.message
    return False

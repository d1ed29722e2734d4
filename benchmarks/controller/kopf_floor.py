"""The floor: what it costs in this language and with kopf to write the same objects, without deciding anything.

    KUBECONFIG=FILE python kopf_floor.py NAMESPACE WRITES

One handler; for each MLModel that appears it sends the requests of the file WRITES, one a line, with the model's
name and uids put in. No cache, no children watched, no queue, no Lease, no Events, no metrics. `writes` makes such
a file from what the operator itself would write.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kopf
from crowd import come_to_rest
from steeltown.core.plan import Obj
from steeltown.kube.client import APPLY_PATCH, JSON, Client
from steeltown.kube.resources import WATCHED

NAME, NAMESPACE = "floor-name", "floor-place"
WORKERS = 8
"""As many at a time as the operator's own: the API server turns hundreds at once away."""
_APPLIED = ("Deployment", "Service")


def writes(made: list[Obj]) -> list[str]:
    """The requests that bring `made` (an MLModel `NAME` in `NAMESPACE`, and what is there before it) to rest.

    Children in the order of their owners, then each new status, as JSON.
    """
    before = {(obj["kind"], obj["metadata"]["name"]) for obj in made}
    settled = come_to_rest(made, itertools.count(1))
    new = [obj for obj in settled if (obj["kind"], obj["metadata"]["name"]) not in before]
    model = next(obj for obj in settled if obj["kind"] == "MLModel")
    requests = [_child(obj) for obj in new] + [_status(obj) for obj in (*new, model) if "status" in obj]
    text = [json.dumps(request) for request in requests]
    for obj in (model, *new):
        text = [line.replace(obj["metadata"]["uid"], _uid(obj["kind"])) for line in text]
    return text


def _child(obj: Obj) -> Obj:
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences")
    metadata = {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}
    body = {**{key: obj[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata}
    resource = WATCHED[obj["kind"]]
    if obj["kind"] in _APPLIED:
        return _apply(resource.item(NAMESPACE, metadata["name"]), body)
    path = resource.collection(NAMESPACE)
    return {"method": "POST", "path": path, "query": {"fieldManager": "floor"}, "body": body, "type": JSON}


def _status(obj: Obj) -> Obj:
    metadata = {key: obj["metadata"][key] for key in ("name", "namespace")}
    body = {**{key: obj[key] for key in ("apiVersion", "kind", "status")}, "metadata": metadata}
    return _apply(WATCHED[obj["kind"]].item(NAMESPACE, metadata["name"], subresource="status"), body)


def _apply(path: str, body: Obj) -> Obj:
    query = {"fieldManager": "floor", "force": "true"}
    return {"method": "PATCH", "path": path, "query": query, "body": body, "type": APPLY_PATCH}


def _uid(kind: str) -> str:
    return f"floor-uid-of-{kind}"


def filled(line: str, name: str, namespace: str, uids: Mapping[str, str]) -> Obj:
    """The request of a line for one model. uids: by kind, of the model and of what has been made for it."""
    for token, value in ((NAME, name), (NAMESPACE, namespace), *((_uid(kind), uid) for kind, uid in uids.items())):
        line = line.replace(token, value)
    request: Obj = json.loads(line)
    return request


async def main(namespace: str, lines: list[str]) -> None:
    client = await Client.connect(kubeconfig=os.environ["KUBECONFIG"])
    registry = kopf.OperatorRegistry()
    workers = asyncio.Semaphore(WORKERS)

    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_kubeconfig(**arguments)

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True

    @kopf.on.event("steeltown.dev", "v1alpha1", "mlmodels", registry=registry)
    async def model(event: Any, body: Any, **_: Any) -> None:
        metadata = body["metadata"]
        # The schema gives an object a status before anybody has written one.
        if event["type"] == "DELETED" or (body.get("status") or {}).get("conditions"):
            return
        uids = {"MLModel": metadata["uid"]}
        async with workers:
            for line in lines:
                request = filled(line, metadata["name"], namespace, uids)
                answer = await client.request(
                    request["method"],
                    request["path"],
                    query=request["query"],
                    body=request["body"],
                    content_type=request["type"],
                )
                uids[answer["kind"]] = answer["metadata"]["uid"]

    try:
        await kopf.operator(registry=registry, standalone=True, namespaces=[namespace])
    finally:
        await client.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_text().splitlines()))

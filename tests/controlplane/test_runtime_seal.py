"""The key of the records on a real API server: one for all replicas and for every start."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from steeltown.kube.client import MERGE_PATCH, Client
from steeltown.kube.events import EventReader
from steeltown.kube.resources import EVENT, SECRET
from steeltown.kube.secrets import KEY_BYTES, SealKey


def key_of(client: Client, namespace: str) -> SealKey:
    return SealKey(client, namespace=namespace, name="seal")


async def test_key_is_made_at_the_first_start_and_the_same_ever_after(client: Client, namespace: str) -> None:
    made = await key_of(client, namespace).load()
    assert len(made) == KEY_BYTES
    assert await key_of(client, namespace).load() == made


async def test_replicas_that_start_together_hold_one_key(client: Client, namespace: str) -> None:
    keys = await asyncio.gather(*(key_of(client, namespace).load() for _ in range(5)))
    assert len(set(keys)) == 1


@pytest.mark.parametrize("held", ["", base64.b64encode(b"short").decode()], ids=["nothing", "a short one"])
async def test_secret_that_holds_no_key_is_named_and_never_written_over(
    client: Client, namespace: str, held: str
) -> None:
    data: dict[str, Any] = {"key": held} if held else {}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "seal"}, "data": data}
    await client.request("POST", SECRET.collection(namespace), body=body)
    with pytest.raises(ValueError, match=f"{namespace}/seal: data.key must be a key of 32 bytes: restore it"):
        await key_of(client, namespace).load()
    kept = await client.request("GET", SECRET.item(namespace, "seal"))
    assert (kept.get("data") or {}) == data


async def test_newest_warning_about_an_object_is_found_by_its_uid(client: Client, namespace: str) -> None:
    reader = EventReader(client)
    assert await reader.latest_warning(namespace, "u") == ""
    for number, (kind, uid, note, reason) in enumerate(
        [
            ("Warning", "u", "older", "FailedCreate"),
            ("Warning", "u", "exceeded quota", "FailedCreate"),
            ("Normal", "u", "fine", "SuccessfulCreate"),
            ("Warning", "v", "else", "FailedCreate"),
            ("Warning", "u", "it is over", "DeadlineExceeded"),  # its status says that
        ]
    ):
        event = {
            "apiVersion": EVENT.api_version,
            "kind": "Event",
            "metadata": {"name": f"e{number}"},
            "eventTime": f"2026-01-01T00:00:0{number}.000000Z",
            "action": "Make",
            "reason": reason,
            "reportingController": "test",
            "reportingInstance": "test",
            "type": kind,
            "note": note,
            "regarding": {"apiVersion": "batch/v1", "kind": "Job", "namespace": namespace, "name": "j", "uid": uid},
        }
        await client.request("POST", EVENT.collection(namespace), body=event)
    assert await reader.latest_warning(namespace, "u") == "exceeded quota"
    patch = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}}
    await client.request("PATCH", EVENT.item(namespace, "e0"), body=patch, content_type=MERGE_PATCH)
    assert await reader.latest_warning(namespace, "u") == "older", "it was seen again"

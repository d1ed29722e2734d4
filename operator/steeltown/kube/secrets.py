"""The key that records are sealed with: one Secret in the operator's own namespace, made at the first start.

All replicas, and every later start, must hold the same key, so whoever loses the race to create it reads what the
winner made. No other Secret is ever read.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final

from .client import Client
from .errors import AlreadyExists, NotFound
from .resources import SECRET

KEY_BYTES: Final = 32
_FIELD: Final = "key"


class SealKey:
    """The key in Secret `name`."""

    def __init__(self, client: Client, *, namespace: str, name: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name

    async def load(self) -> bytes:
        """Reads the key, or makes one. ValueError: the Secret holds none."""
        try:
            found = await self._client.request("GET", SECRET.item(self._namespace, self._name))
        except NotFound:
            return await self._create()
        return self._decoded((found.get("data") or {}).get(_FIELD, ""))

    async def _create(self) -> bytes:
        key = secrets.token_bytes(KEY_BYTES)
        body = {
            "apiVersion": SECRET.api_version,
            "kind": "Secret",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/name": "steeltown"},
            },
            "type": "Opaque",
            "data": {_FIELD: base64.b64encode(key).decode()},
        }
        try:
            await self._client.request("POST", SECRET.collection(self._namespace), body=body)
        except AlreadyExists:
            return await self.load()
        return key

    def _decoded(self, text: str) -> bytes:
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) < KEY_BYTES:
            where = f"Secret {self._namespace}/{self._name}"
            raise ValueError(
                f"invalid {where}: data.{_FIELD} must be a key of {KEY_BYTES} bytes: restore it from a backup"
            )
        return key

"""The only door to pods: reads the evidence that a model server offers, and nothing else.

A read is short and bounded, and few run at once: a pod that hangs costs the operator one slot for one
timeout, and hundreds of rollouts cannot exhaust its sockets. An answer that is not evidence is an error like
no answer at all; no evidence never passes a gate.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

import aiohttp

from ..contract.evidence import EVIDENCE_PATH, Evidence

_TIMEOUT_SECONDS: Final = 2.0
_CONCURRENT_READS: Final = 16
_MAX_BYTES: Final = 1 << 20


class EvidenceReader:
    """Reads from pods by base URL. Call `close` when done."""

    def __init__(self, *, timeout_seconds: float = _TIMEOUT_SECONDS, concurrent_reads: int = _CONCURRENT_READS) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._slots = asyncio.Semaphore(concurrent_reads)
        self._session: aiohttp.ClientSession | None = None

    async def read(self, url: str) -> Evidence | None:
        """What the server behind `url` saw in its current window; None when it did not say."""
        async with self._slots:
            try:
                return await self._read(url)
            except (TimeoutError, aiohttp.ClientError, OSError, ValueError, KeyError, TypeError):
                return None

    async def _read(self, url: str) -> Evidence | None:
        if self._session is None:
            # A pod is reached directly: neither proxies nor redirects lead anywhere the operator should go.
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        async with self._session.get(url.rstrip("/") + EVIDENCE_PATH, allow_redirects=False) as response:
            if response.status != 200:
                return None
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > _MAX_BYTES:
                    return None
        raw = json.loads(body)
        return Evidence.from_json(raw) if isinstance(raw, dict) else None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

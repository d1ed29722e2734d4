"""The only door to pods: reads the evidence that a model server offers, and nothing else.

A read is short and bounded, and few run at once: a pod that hangs costs the operator one slot for one
timeout, and hundreds of rollouts cannot exhaust its sockets. A namespace has a share of the slots, so one whose pods
all hang makes its own reads wait and nobody else's (I15). Whatever a pod answers, and whatever goes wrong on the
way, ends in "it said nothing" and, now and then, a line in the log; no evidence never passes a gate.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

import aiohttp

from ..contract.evidence import EVIDENCE_BYTES, EVIDENCE_PATH, Evidence

_TIMEOUT_SECONDS: Final = 2.0
_CONCURRENT_READS: Final = 64
_READS_OF_A_NAMESPACE: Final = 16
"""A read of a pod that is well takes milliseconds, so these are hundreds a second."""
_LOG_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


class EvidenceReader:
    """Reads from pods by base URL. Call `close` when done."""

    def __init__(
        self,
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        concurrent_reads: int = _CONCURRENT_READS,
        reads_of_a_namespace: int = _READS_OF_A_NAMESPACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._slots = asyncio.Semaphore(concurrent_reads)
        self._reads_of_a_namespace = reads_of_a_namespace
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # while somebody reads
        self._session: aiohttp.ClientSession | None = None
        self._clock = clock
        self._silent_until = float("-inf")
        self._unlogged = 0

    async def read(self, url: str, namespace: str) -> Evidence | None:
        """What the server behind `url` saw in its current window; None when it did not say. Never raises.

        namespace: that of the pod, whose share the read is taken from. Waits for its turn before any timeout begins.
        """
        share = self._shares.setdefault(namespace, asyncio.Semaphore(self._reads_of_a_namespace))
        async with share, self._slots:
            try:
                return Evidence.from_bytes(await self._body(url))
            except Exception as error:
                self._log(url, error)
                return None

    async def _body(self, url: str) -> bytes:
        if self._session is None:
            # A pod is reached directly: neither proxies nor redirects lead anywhere the operator should go. Nor is a
            # small answer unpacked into a large one.
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, trust_env=False, auto_decompress=False, headers={"Accept-Encoding": "identity"}
            )
        async with self._session.get(url.rstrip("/") + EVIDENCE_PATH, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"unexpected status {response.status}, expected 200")
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 14):
                body += chunk
                if len(body) > EVIDENCE_BYTES:
                    raise ValueError(f"response exceeds the limit of {EVIDENCE_BYTES} bytes")
        return bytes(body)

    def _log(self, url: str, error: Exception) -> None:
        """One line a minute for all pods together: those that restart are many, and those that lie must not fill it."""
        self._unlogged += 1
        if self._clock() < self._silent_until:
            return
        self._silent_until = self._clock() + _LOG_SECONDS
        logger.warning(
            "cannot read evidence from %s: %s: %.300s (%d such failures since the last log line)",
            url,
            type(error).__name__,
            error,
            self._unlogged,
        )
        self._unlogged = 0

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

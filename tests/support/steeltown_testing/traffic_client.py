"""Users: a constant open-loop stream of inference requests, run inside the cluster by `traffic.Traffic`.

Standard library only, since it runs in any image with Python. Requests leave on schedule whether or not
earlier ones were answered. Half of them open a connection of their own, half reuse one, since the two meet a
vanishing Pod in different ways. Anything but a 200 with finite outputs within the time limit is a failure.
Each second, and at the end, it prints totals as one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import time
from collections import Counter

HOST = os.environ["TRAFFIC_HOST"]
PORT = int(os.environ.get("TRAFFIC_PORT", "8080"))
PATH = os.environ["TRAFFIC_PATH"]
RATE = float(os.environ.get("TRAFFIC_RATE", "100"))
TIMEOUT = float(os.environ.get("TRAFFIC_TIMEOUT", "5"))
with open(os.environ["TRAFFIC_BODIES"]) as file:
    BODIES = [json.dumps(b).encode() for b in json.load(file)]


class Users:
    def __init__(self) -> None:
        self.sent = self.ok = 0
        self.failures: Counter[str] = Counter()
        self.digests: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.stopping = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        start, tasks, told = time.monotonic(), set(), 0.0
        while not self.stopping:
            due = start + self.sent / RATE
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._request(self.sent, due))
            self.sent += 1
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if time.monotonic() - told >= 1:
                told = time.monotonic()
                self._tell(final=False)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tell(final=True)

    def _stop(self) -> None:
        self.stopping = True

    def _tell(self, *, final: bool) -> None:
        ordered = sorted(self.latencies)
        p99 = ordered[int(0.99 * (len(ordered) - 1))] * 1000 if ordered else None
        totals = {
            "sent": self.sent,
            "ok": self.ok,
            "failed": sum(self.failures.values()),
            "failures": dict(self.failures.most_common(5)),
            "digests": dict(self.digests),
            "p99Milliseconds": p99,
            "final": final,
        }
        print(json.dumps(totals), flush=True)

    async def _request(self, number: int, due: float) -> None:
        reuse = number % 2 == 0
        try:
            async with asyncio.timeout(TIMEOUT):
                digest = await self._exchange(BODIES[number % len(BODIES)], reuse)
            self.ok += 1
            self.digests[digest] += 1
        except Exception as error:
            self.failures[f"{type(error).__name__}: {error}"[:160]] += 1
        self.latencies.append(time.monotonic() - due)
        del self.latencies[:-5000]

    def _idle(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A kept connection that the server has not closed in the meantime, as HTTP clients look for one."""
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def _exchange(self, body: bytes, reuse: bool) -> str:
        reader, writer = (reuse and self._idle()) or await asyncio.open_connection(HOST, PORT)
        kept = False
        try:
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n{'' if reuse else 'Connection: close' + chr(13) + chr(10)}\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
            status, headers, answer = await _read(reader)
            if status != 200:
                raise RuntimeError(f"{status} {answer[:100].decode(errors='replace')}")
            for output in json.loads(answer)["outputs"]:
                if any(isinstance(x, float) and not math.isfinite(x) for x in output["data"]):
                    raise RuntimeError("an output is not finite")
            kept = reuse and headers.get("connection", "") != "close"
            if kept:
                self.idle.append((reader, writer))
            return headers.get("steeltown-digest", "")
        finally:
            if not kept:
                writer.close()


async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {k.lower(): v.strip().lower() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


if __name__ == "__main__":
    asyncio.run(Users().run())

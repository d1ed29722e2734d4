"""Several processes on one port, where the CPU limit has room for them: each with its own model and event loop.

The kernel spreads connections over the listening sockets (SO_REUSEPORT). The parent only starts the workers, passes
signals on and ends all when one ends: half a server would hide behind the other half. For whoever counts there is one
server: a worker that is asked for evidence, metrics or statistics asks its siblings and answers for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from . import log
from .settings import WORKER, Settings, Worker

ASK_SECONDS: Final = 1.0
BASE_BYTES: Final = 150 << 20
MODEL_COPIES: Final = 3
"""What a worker needs beside its model, and how much of its file a loaded and running model takes (both generous)."""


def count(settings: Settings, *, cpus: int, memory_bytes: int, model_bytes: int) -> int:
    """As many as asked for; else one per whole CPU of the limit, as far as half of the memory holds them."""
    if settings.workers:
        return settings.workers
    return max(1, min(cpus, memory_bytes // 2 // (BASE_BYTES + MODEL_COPIES * model_bytes)))


def supervise(workers: int, settings: Settings, environment: Mapping[str, str], *, cpus: int) -> int:
    """Starts the workers, and returns the exit code of the first that ends, when all have ended."""
    group = uuid.uuid4().hex
    threads = settings.intra_op_threads or max(1, cpus // workers)
    with contextlib.ExitStack() as stack:
        port = settings.port or stack.enter_context(_reserved(settings.host))
        shared = {**environment, "STEELTOWN_PORT": str(port), "STEELTOWN_INTRA_OP_THREADS": str(threads)}
        children: set[int] = set()
        passed_on: list[int] = []

        def pass_on(number: int, _: Any) -> None:
            passed_on.append(number)
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        for index in range(workers):
            own = {**shared, WORKER: Worker(index, workers, group).to_text()}
            children.add(os.posix_spawn(sys.executable, [sys.executable, "-m", "steeltown_server"], own))
        log.info("workers started", workers=workers, threads=threads)
        for early in tuple(passed_on):  # there were not all of them yet
            pass_on(early, None)
        first: int | None = None
        while children:
            pid, status = os.wait()
            if pid not in children:
                continue  # an orphan that the container's first process inherits
            children.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            if first is None:
                first = code
                log.info("worker terminated, stopping all workers", exitCode=code)
                pass_on(signal.SIGTERM, None)
    assert first is not None
    return first if first >= 0 else 128 - first


@contextlib.contextmanager
def _reserved(host: str) -> Iterator[int]:
    """A free port, kept by a socket that does not listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind((host, 0))
        yield keeper.getsockname()[1]


class Siblings:
    """The other workers. They speak over sockets without a file (Linux's abstract namespace), inside the Pod only."""

    def __init__(self, worker: Worker, own: Callable[[], dict[str, Any]]) -> None:
        self._own = own
        self._address = _address(worker.group, worker.index)
        self._others = [_address(worker.group, i) for i in range(worker.count) if i != worker.index]
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self._address)
        self._server = await asyncio.start_unix_server(self._tell, sock=listener)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(orjson.dumps(self._own(), option=orjson.OPT_NON_STR_KEYS))
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    async def ask(self) -> list[dict[str, Any]]:
        """What each of them has counted; one that does not answer is left out, and logged."""
        answers = await asyncio.gather(*(self._ask(address) for address in self._others))
        return [answer for answer in answers if answer is not None]

    async def _ask(self, address: str) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.connect(address)  # the kernel answers at once
                reader, writer = await asyncio.open_unix_connection(sock=connection)
                try:
                    told: dict[str, Any] = orjson.loads(await reader.read())
                    return told
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("skipping a worker without readable counts", error=repr(error))
            return None


def _address(group: str, index: int) -> str:
    return f"\0steeltown-{group}-{index}"

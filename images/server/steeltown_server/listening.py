"""Sockets that listen, from the first connection to the last."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from functools import partial
from typing import Final

BACKLOG: Final = 1024
DRAIN_POLL_SECONDS: Final = 0.01


def listening_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Both address families where the pod has them. shared: other workers listen on the same port."""
    create = partial(socket.create_server, backlog=BACKLOG, reuse_port=shared)
    if not host and socket.has_dualstack_ipv6():
        try:
            return create(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError:  # IPv6 exists in the kernel but not in this network namespace
            return create(("", port))
    return create((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


async def stop_listening(server: asyncio.AbstractServer, listener: socket.socket, deadline: float) -> None:
    """When no connection waits to be accepted, since closing the socket would reset it; deadline: of time.monotonic."""
    # Only the kernel knows whether connections wait to be accepted; there is no event to wait for.
    while select.select([listener], [], [], 0)[0] and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0)
    server.close()
    await asyncio.sleep(DRAIN_POLL_SECONDS)  # read what has arrived already

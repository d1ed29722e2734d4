"""What a replica does while it leads: catch up first, then work.

What its predecessor did under the Lease may not have arrived by the watches yet. From such a cache a second
Job would be made for a run that has one, or a Service be set to the version before the last promotion: so no
part begins until everything has been listed after the Lease was taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


async def lead(
    *, catch_up: Callable[[], Awaitable[None]], parts: tuple[Callable[[], Coroutine[Any, Any, None]], ...]
) -> None:
    """Until cancelled, or until a part ends with an error. Whatever `catch_up` raises ends it before it begins."""
    await catch_up()
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part())

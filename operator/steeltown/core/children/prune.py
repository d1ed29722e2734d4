"""Children that nothing asks for any more.

What the Service selects always stays, whatever records, labels or status say (I11): the selector is what users see,
and a wrong record must cost a rollout at most, never an answer.
"""

from __future__ import annotations

from collections.abc import Collection

from ..observed.model import ObservedModel
from ..observed.trust import controller_uid
from ..plan import Delete


def unwanted(world: ObservedModel, *, deployments: Collection[str], services: Collection[str]) -> tuple[Delete, ...]:
    """deployments, services: names that stay. Only what the model's own uid controls is ever deleted."""
    gone = [d for n, d in world.deployments.items() if n not in deployments and not world.selects(d)]
    gone += [s for n, s in world.services.items() if n not in services]
    return tuple(
        Delete(o["kind"], world.namespace, o["metadata"]["name"], o["metadata"]["uid"])
        for o in gone
        if "deletionTimestamp" not in o["metadata"] and controller_uid(o) == world.root["metadata"]["uid"]
    )

"""What a rollout needs of whatever splits traffic: a share put in force, read back, measured, and refused by name.

A router never decides. It turns the share that a phase wants into actions, says what share is in force, and adds up
what was counted under it. Two routers differ in nothing that a phase can see.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ...api.mlmodel import MLModelSpec
from ...contract.evidence import Counts
from ..observed.model import ObservedModel
from ..plan import Action, Observe
from ..record import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Percent `weight` of the requests of `stable` go to `canary`, and are counted in `window`.

    window: opaque; another one starts all counters at zero. weight 0 counts without handing anything over.
    """

    stable: Version
    window: str
    weight: int = 0
    canary: Version | None = None
    timeout_milliseconds: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was counted under a share. weight: the largest that somebody applies, None = nobody has answered.

    complete: everybody who should count has answered, and about this share.
    """

    canary: Counts = field(default_factory=Counts)
    live: Counts = field(default_factory=Counts)
    weight: int | None = None
    complete: bool = False


class Router(Protocol):
    name: str

    def refuses(self, spec: MLModelSpec) -> str:
        """What of this spec it cannot do, naming the field; "" if it can do all."""

    def actions(self, world: ObservedModel, share: Share | None) -> tuple[Action, ...]:
        """Puts the share in force and takes every other away (I2). None: nothing is handed over."""

    def in_force(self, world: ObservedModel, share: Share) -> bool:
        """Somebody already applies exactly this share."""

    def weight_in_force(self, world: ObservedModel, stable: Version, rollout: str) -> Share | None:
        """The largest share of the windows of `rollout` that stands written, None if there is none."""

    def observe(self, world: ObservedModel, share: Share) -> tuple[Observe, ...]:
        """Pods to read evidence from."""

    def measured(self, world: ObservedModel, share: Share) -> Measured:
        """What they have said."""

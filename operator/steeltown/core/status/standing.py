"""What the status of a model is computed from: the model as it will stand once the plan's actions are done.

Each statement is about the *subject*, the version that matters now: the one being rolled out, else the newest that
finished. So a new digest resets everything in the very write that first mentions it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ...api.conditions import ConditionType, Finding
from ...api.mlmodel import RolloutStatus
from ..observed.model import ObservedModel, Run
from ..observed.pods import Obstacle
from ..plan import Refusal
from ..record import LiveRecord, Outcome, Version


@dataclass(frozen=True, kw_only=True)
class Standing:
    """rollout, record: as they will be. held: (reason, message) of a rollout that a person may have to look at.

    blocked: what keeps the work of its phase from starting, while there is time yet.
    refused_by_router: what of the spec the router cannot do, "" if nothing.
    """

    world: ObservedModel
    rollout: RolloutStatus | None
    record: LiveRecord | None
    promoted: bool
    held: tuple[str, str] | None
    refusals: tuple[Refusal, ...]
    blocked: Obstacle | None = None
    refused_by_router: str = ""

    @property
    def live(self) -> Version | None:
        return self.record.live if self.record else None

    @cached_property
    def subject(self) -> Run | None:
        world = self.world
        if self.rollout:
            return world.runs.get(self.rollout.run)
        return world.target or (world.runs.get(self.live.run) if self.live else None)

    @cached_property
    def outcome(self) -> Outcome | None:
        """How the subject's rollout ended; None while one runs."""
        if self.subject is None or self.rollout:
            return None
        return self.world.outcome(self.subject) or self.world.rejected(self.subject)

    def shown(self, kind: ConditionType) -> Finding | None:
        """What a rollout of the subject has shown about this condition: the one in flight, else the one that ended."""
        findings = self.rollout.findings if self.rollout else (self.outcome.findings if self.outcome else ())
        found = next((f for f in findings if f.type == kind.value), None)
        return Finding(found.status, found.reason, found.message) if found else None

    @property
    def live_ready(self) -> int:
        return self.world.ready(self.live)

    @property
    def full(self) -> bool:
        return self.world.full(self.live)

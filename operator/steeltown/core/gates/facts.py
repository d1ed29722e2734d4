"""What a run has shown, as plain values: all that the gates may look at."""

from __future__ import annotations

from dataclasses import dataclass

from ...api.conditions import ConditionType, Reason
from ...api.objectives import QualityObjective
from ...contract.reports import StepReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The end of a run that made no version. condition: the gate that it failed."""

    reason: str
    message: str
    condition: ConditionType = ConditionType.TRAINING_HEALTHY
    log: str | None = None

    @property
    def out_of_memory(self) -> bool:
        return self.reason == Reason.OUT_OF_MEMORY


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """over: the run has ended. prepared, report: of `prepare` and `finalise`, where they ended well.

    imported: the run brings a model instead of training one. had_live: a live version was there to compare with.
    """

    over: bool = False
    imported: bool = False
    failure: Failure | None = None
    prepared: StepReport | None = None
    report: StepReport | None = None
    quality: tuple[QualityObjective, ...] = ()
    had_live: bool = False

"""The check of gate.patch at work: in the table of gates, and merged with what a run asks for."""

from __future__ import annotations

from typing import Any

from steeltown.api.conditions import ConditionType, Finding
from steeltown.api.crds import rendered
from steeltown.api.objectives import Objectives, RunObjectives
from steeltown.contract.reports import MetricComparison, StepReport
from steeltown.core.gates import RunFacts, gates
from steeltown.core.gates.objectives import effective

OBJECTIVE = {"metric": "accuracy", "min": "0.8", "minRows": 1000}


def quality(rows: int, run: dict[str, Any] | None = None) -> Finding:
    """QualityAccepted of a version with an accuracy of 0.9 on so many rows."""
    model = Objectives.model_validate({"quality": [OBJECTIVE]})
    asked = effective(model, RunObjectives.model_validate({"quality": [run]}) if run else None)
    metric = MetricComparison(name="accuracy", candidate=0.9, n=rows)
    report = StepReport(reason="ModelReady", message="", digest="sha256:" + "a" * 64, metrics=(metric,))
    return gates(RunFacts(over=True, report=report, quality=tuple(asked.quality)))[ConditionType.QUALITY_ACCEPTED]


assert quality(1000).status == "True"

few = quality(999)
assert (few.status, few.reason) == ("Unknown", "QualityInconclusive"), few
assert "on 999 rows: minRows is 1000; add evaluation rows" in few.message

stricter = {"metric": "accuracy", "min": "0.8", "minRows": 5000}
assert quality(1000, stricter).status == "Unknown", "a run may ask for more"
laxer = {"metric": "accuracy", "min": "0.8", "minRows": 1}
assert quality(999, laxer).status == "Unknown", "and never for less"

for name, text in rendered().items():
    assert "minRows" in text, name

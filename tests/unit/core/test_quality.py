"""QualityAccepted: what each combination of bounds and measurements comes to."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.conditions import Reason
from steeltown.api.objectives import QualityObjective
from steeltown.contract.reports import MetricComparison
from steeltown.core.gates.quality import quality_accepted


def objective(**bounds: Any) -> QualityObjective:
    return QualityObjective.model_validate({"metric": "accuracy", **bounds})


def metric(candidate: float, *, lower: float | None = None, upper: float | None = None) -> MetricComparison:
    if lower is None or upper is None:
        return MetricComparison(name="accuracy", candidate=candidate, n=1000)
    difference = (lower + upper) / 2
    return MetricComparison(
        name="accuracy",
        candidate=candidate,
        n=1000,
        live=candidate - difference,
        difference=difference,
        lower=lower,
        upper=upper,
    )


AUC = QualityObjective.model_validate({"metric": "auc", "min": "0.9", "mode": "Observe"})
MARGIN = objective(nonInferiorityMargin="0.02")


@pytest.mark.parametrize(
    ("objectives", "metrics", "status", "reason"),
    [
        ([], [metric(0.9)], "Unknown", Reason.NO_QUALITY_OBJECTIVE),
        ([objective(min="0.8")], [], "Unknown", Reason.NO_EVALUATION),
        ([objective(min="0.8")], [metric(0.9)], "True", Reason.OBJECTIVES_MET),
        ([objective(min="0.8")], [metric(0.7)], "False", Reason.QUALITY_BELOW_MINIMUM),
        ([objective(max="0.8")], [metric(0.9)], "False", Reason.QUALITY_BELOW_MINIMUM),
        ([MARGIN], [metric(0.9)], "True", Reason.OBJECTIVES_MET),
        ([MARGIN], [metric(0.9, lower=-0.01, upper=0.01)], "True", Reason.OBJECTIVES_MET),
        ([MARGIN], [metric(0.9, lower=-0.03, upper=0.01)], "Unknown", Reason.QUALITY_INCONCLUSIVE),
        ([MARGIN], [metric(0.9, lower=-0.07, upper=-0.03)], "False", Reason.QUALITY_WORSE_THAN_LIVE),
        ([objective(min="0.8", mode="Observe")], [metric(0.9)], "Unknown", Reason.NO_QUALITY_OBJECTIVE),
        ([objective(min="0.8"), AUC], [metric(0.9)], "True", Reason.OBSERVED_ONLY),
    ],
)
def test_quality(
    objectives: list[QualityObjective], metrics: list[MetricComparison], status: str, reason: Reason
) -> None:
    finding = quality_accepted(objectives, tuple(metrics), had_live=any(m.live is not None for m in metrics))
    assert (finding.status, finding.reason) == (status, reason)


def test_live_version_that_could_not_be_measured_is_no_evidence() -> None:
    finding = quality_accepted([MARGIN], (metric(0.9),), had_live=True)
    assert (finding.status, finding.reason) == ("Unknown", Reason.LIVE_NOT_COMPARABLE)

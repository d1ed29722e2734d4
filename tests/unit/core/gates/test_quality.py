"""QualityAccepted: what each combination of bounds and measurements comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.conditions import Reason
from steeltown.api.objectives import QualityObjective
from steeltown.contract.checks import LIVE_NOT_COMPARABLE, Check, Verdict, metric_check
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
LOGLOSS = QualityObjective.model_validate({"metric": "logloss", "max": "0.5"})
MARGIN = objective(nonInferiorityMargin="0.02")
LOSS = MetricComparison(name="logloss", candidate=0.6, n=1000)

CASES: dict[str, tuple[list[QualityObjective], list[MetricComparison], str, Reason]] = {
    "no objective": ([], [metric(0.9)], "Unknown", Reason.NO_QUALITY_OBJECTIVE),
    "none that is enforced": (
        [objective(min="0.8", mode="Observe")],
        [metric(0.9)],
        "Unknown",
        Reason.NO_QUALITY_OBJECTIVE,
    ),
    "not measured": ([objective(min="0.8")], [], "Unknown", Reason.NO_EVALUATION),
    "another was measured": ([objective(min="0.8")], [LOSS], "Unknown", Reason.NO_EVALUATION),
    "above the minimum": ([objective(min="0.8")], [metric(0.9)], "True", Reason.OBJECTIVES_MET),
    "at the minimum": ([objective(min="0.9")], [metric(0.9)], "True", Reason.OBJECTIVES_MET),
    "below the minimum": ([objective(min="0.8")], [metric(0.7)], "False", Reason.QUALITY_BELOW_MINIMUM),
    "at the maximum": ([objective(max="0.9")], [metric(0.9)], "True", Reason.OBJECTIVES_MET),
    "above the maximum": ([objective(max="0.8")], [metric(0.9)], "False", Reason.QUALITY_BELOW_MINIMUM),
    "no live version to be worse than": ([MARGIN], [metric(0.9)], "True", Reason.OBJECTIVES_MET),
    "no worse": ([MARGIN], [metric(0.9, lower=-0.01, upper=0.01)], "True", Reason.OBJECTIVES_MET),
    "better": ([MARGIN], [metric(0.9, lower=0.05, upper=0.09)], "True", Reason.OBJECTIVES_MET),
    "perhaps worse": ([MARGIN], [metric(0.9, lower=-0.03, upper=0.01)], "Unknown", Reason.QUALITY_INCONCLUSIVE),
    "perhaps just as much worse": (
        [MARGIN],
        [metric(0.9, lower=-0.02, upper=0.01)],
        "Unknown",
        Reason.QUALITY_INCONCLUSIVE,
    ),
    "worse, perhaps by just so much": (
        [MARGIN],
        [metric(0.9, lower=-0.07, upper=-0.02)],
        "Unknown",
        Reason.QUALITY_INCONCLUSIVE,
    ),
    "worse": ([MARGIN], [metric(0.9, lower=-0.07, upper=-0.03)], "False", Reason.QUALITY_WORSE_THAN_LIVE),
    "below the minimum and worse": (
        [objective(min="0.95", nonInferiorityMargin="0.02")],
        [metric(0.9, lower=-0.07, upper=-0.03)],
        "False",
        Reason.QUALITY_BELOW_MINIMUM,
    ),
    "an observed one was missed": (
        [objective(min="0.8"), AUC],
        [metric(0.9), MetricComparison(name="auc", candidate=0.5, n=1000)],
        "True",
        Reason.OBSERVED_ONLY,
    ),
    "an observed one was not measured": ([objective(min="0.8"), AUC], [metric(0.9)], "True", Reason.OBSERVED_ONLY),
    "an observed one was met": (
        [objective(min="0.8"), AUC],
        [metric(0.9), MetricComparison(name="auc", candidate=0.95, n=1000)],
        "True",
        Reason.OBJECTIVES_MET,
    ),
    "one of two failed": ([objective(min="0.8"), LOGLOSS], [metric(0.9), LOSS], "False", Reason.QUALITY_BELOW_MINIMUM),
    "one unknown, one failed": ([MARGIN, LOGLOSS], [LOSS], "False", Reason.QUALITY_BELOW_MINIMUM),
    "one met, one unknown": ([objective(min="0.8"), LOGLOSS], [metric(0.9)], "Unknown", Reason.NO_EVALUATION),
}


@pytest.mark.parametrize(("objectives", "metrics", "status", "reason"), CASES.values(), ids=CASES)
def test_quality(
    objectives: list[QualityObjective], metrics: list[MetricComparison], status: str, reason: Reason
) -> None:
    finding = quality_accepted(objectives, tuple(metrics), had_live=any(m.live is not None for m in metrics))
    assert (finding.status, finding.reason) == (status, reason)


@pytest.mark.parametrize("missing", ["live", "lower", "upper"])
def test_live_version_that_could_not_be_measured_is_no_evidence(missing: str) -> None:
    lost: dict[str, Any] = {missing: None}
    half = replace(metric(0.9, lower=-0.01, upper=0.01), **lost)
    finding = quality_accepted([MARGIN], (half,), had_live=True)
    assert (finding.status, finding.reason) == ("Unknown", Reason.LIVE_NOT_COMPARABLE)


def test_message_has_the_figures() -> None:
    finding = quality_accepted([MARGIN], (metric(0.9, lower=-0.07, upper=-0.03),), had_live=True)
    assert finding.message == (
        "accuracy 0.9000 on 1000 rows (live 0.9500, difference -0.0500, 95% interval [-0.0700, -0.0300]): "
        "worse than the live version by more than 0.02"
    )
    missed = MetricComparison(name="auc", candidate=0.5, n=1000)
    finding = quality_accepted([objective(min="0.8"), AUC], (metric(0.9), missed), had_live=False)
    assert finding.message == "observed only, not enforced: auc 0.5000 on 1000 rows: below the minimum 0.9"


WHY = "auc not measured: write the classes in the order of the columns"
UNMEASURED = Check(name=metric_check("auc"), verdict=Verdict.INSUFFICIENT_DATA, message=WHY)


@pytest.mark.parametrize("bounds", [{"min": "0"}, {"max": "1"}, {"nonInferiorityMargin": "1"}])
def test_metric_that_was_not_measured_never_passes_and_says_what_to_write(bounds: dict[str, str]) -> None:
    wanted = QualityObjective.model_validate({"metric": "auc", **bounds})
    for had_live in (False, True):
        finding = quality_accepted([wanted], (metric(0.9),), had_live=had_live, checks=(UNMEASURED,))
        assert (finding.status, finding.reason, finding.message) == ("Unknown", Reason.NO_EVALUATION, WHY)


def test_why_another_metric_was_not_measured_is_not_the_answer() -> None:
    finding = quality_accepted([LOGLOSS], (metric(0.9),), had_live=False, checks=(UNMEASURED,))
    assert finding.message == ("logloss was not measured: set evaluation.data and a task that supports this metric")


def test_live_version_that_could_not_be_measured_is_told_with_the_cause() -> None:
    why = Check(name=LIVE_NOT_COMPARABLE, verdict=Verdict.WARN, message="accuracy of sha256:a not measured: write it")
    finding = quality_accepted([MARGIN], (metric(0.9),), had_live=True, checks=(why,))
    assert (finding.status, finding.reason) == ("Unknown", Reason.LIVE_NOT_COMPARABLE)
    assert finding.message.endswith(f"so they cannot be compared: {why.message}")

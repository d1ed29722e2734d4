"""Is the quality of a version good enough? Rules over metrics that the checker measured.

A version without a quality objective or without a measurement is not accepted: no evidence never passes.
Non-inferiority is shown when the lower end of the paired interval of the difference (candidate minus live,
positive is better) lies above minus the margin, and refuted when its upper end lies below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...api.conditions import Finding, Reason, false, true, unknown
from ...api.objectives import Mode, QualityObjective
from ...contract.checks import LIVE_NOT_COMPARABLE, Check, metric_check
from ...contract.reports import MetricComparison


@dataclass(frozen=True, slots=True)
class _Case:
    objective: QualityObjective
    metric: MetricComparison
    had_live: bool
    checks: tuple[Check, ...]

    @property
    def told(self) -> str:
        m = self.metric
        text = f"{m.name} {m.candidate:.4f} on {m.n} rows"
        if m.live is not None and m.lower is not None and m.upper is not None:
            text += (
                f" (live {m.live:.4f}, difference {m.difference:+.4f}, 95% interval [{m.lower:+.4f}, {m.upper:+.4f}])"
            )
        return text


def quality_accepted(
    objectives: list[QualityObjective],
    metrics: tuple[MetricComparison, ...],
    *,
    had_live: bool,
    checks: tuple[Check, ...] = (),
) -> Finding:
    """QualityAccepted for one version. had_live: there was a live version to compare with.

    checks: of the checker, which say why a metric was not measured.
    """
    if not any(o.mode is Mode.ENFORCE for o in objectives):
        return unknown(
            Reason.NO_QUALITY_OBJECTIVE,
            "no enforced quality objective: add one to spec.objectives.quality of the MLModel to make its versions "
            "eligible for promotion",
        )
    by_name = {m.name: m for m in metrics}
    findings = [(o, judge_metric(o, by_name, had_live=had_live, checks=checks)) for o in objectives]
    enforced = [f for o, f in findings if o.mode is Mode.ENFORCE]
    for status in ("False", "Unknown"):
        for finding in enforced:
            if finding.status == status:
                return finding
    missed = [f.message for o, f in findings if o.mode is Mode.OBSERVE and f.status != "True"]
    if missed:
        return true(Reason.OBSERVED_ONLY, "observed only, not enforced: " + "; ".join(missed))
    return true(Reason.OBJECTIVES_MET, "; ".join(f.message for _, f in findings))


def judge_metric(
    objective: QualityObjective,
    metrics: Mapping[str, MetricComparison],
    *,
    had_live: bool,
    checks: tuple[Check, ...] = (),
) -> Finding:
    name = objective.metric.value
    metric = metrics.get(name)
    if metric is None:
        said = _said(checks, metric_check(name))
        remedy = f"{name} was not measured: set evaluation.data and a task that supports this metric"
        return unknown(Reason.NO_EVALUATION, said or remedy)
    case = _Case(objective, metric, had_live, checks)
    for rule in (_below_minimum, _above_maximum, _worse_than_live):
        if finding := rule(case):
            return finding
    return true(Reason.OBJECTIVES_MET, case.told)


def _below_minimum(case: _Case) -> Finding | None:
    bound = case.objective.min
    if bound is None or case.metric.candidate >= float(bound):
        return None
    return false(Reason.QUALITY_BELOW_MINIMUM, f"{case.told}: below the minimum {bound}")


def _above_maximum(case: _Case) -> Finding | None:
    bound = case.objective.max
    if bound is None or case.metric.candidate <= float(bound):
        return None
    return false(Reason.QUALITY_BELOW_MINIMUM, f"{case.told}: above the maximum {bound}")


def _worse_than_live(case: _Case) -> Finding | None:
    bound, metric = case.objective.non_inferiority_margin, case.metric
    if bound is None or not case.had_live:
        return None  # the first version has nothing to be worse than
    if metric.live is None or metric.lower is None or metric.upper is None:
        return unknown(
            Reason.LIVE_NOT_COMPARABLE,
            f"{case.told}: the live version could not be evaluated on these rows, so they cannot be compared"
            + (f": {said}" if (said := _said(case.checks, LIVE_NOT_COMPARABLE)) else ""),
        )
    margin = float(bound)
    if metric.lower > -margin:
        return None
    if metric.upper < -margin:
        return false(Reason.QUALITY_WORSE_THAN_LIVE, f"{case.told}: worse than the live version by more than {bound}")
    return unknown(
        Reason.QUALITY_INCONCLUSIVE,
        f"{case.told}: inconclusive for a margin of {bound}: use more evaluation rows",
    )


def _said(checks: tuple[Check, ...], name: str) -> str:
    """What the checker said under this name, "" if nothing."""
    return next((c.message for c in checks if c.name == name), "")

"""Metrics as functions of row weights, and the paired bootstrap interval of their difference.

A bootstrap resample of n rows is a vector of n multinomial weights (how often each row was drawn), and each
metric here is a closed formula of such weights, so a block of resamples is one matrix product instead of
thousands of passes. Candidate and live model see the same weights: the interval is that of the paired
difference, whose variance is far below that of two independent samples where the models mostly agree.

Percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), B = 2000
resamples, valid for rows that are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from steeltown.contract.reports import MetricComparison

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Weights (resamples, rows), each row of them summing to the number of rows -> one value per resample."""

RESAMPLES: Final = 2000
BLOCK_CELLS: Final = 1 << 21  # weights held at once: 16 MiB
SMALLEST_PROBABILITY: Final = 1e-7  # of a float32: a logarithm of 0 would make one row decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    name: str
    statistic: Statistic
    higher_is_better: bool


def compare(
    candidate: list[Metric], live: list[Metric] | None, rows: int, *, seed: int, confidence: float
) -> tuple[MetricComparison, ...]:
    """Each metric of the candidate, beside that of the live model where it has the same one."""
    ones = np.ones((1, rows))
    beside = {m.name: m for m in live or ()}
    paired = [(m, beside[m.name]) for m in candidate if m.name in beside]
    intervals = _intervals(paired, rows, seed, confidence) if paired else {}
    out = []
    for metric in candidate:
        value = float(metric.statistic(ones)[0])
        if metric.name not in beside:
            out.append(MetricComparison(name=metric.name, candidate=value, n=rows))
            continue
        other = float(beside[metric.name].statistic(ones)[0])
        lower, upper = intervals[metric.name]
        out.append(
            MetricComparison(
                name=metric.name,
                candidate=value,
                n=rows,
                live=other,
                difference=_sign(metric) * (value - other) + 0.0,  # never -0.0
                lower=lower,
                upper=upper,
            )
        )
    return tuple(out)


def _intervals(
    paired: list[tuple[Metric, Metric]], rows: int, seed: int, confidence: float
) -> dict[str, tuple[float, float]]:
    """Percentile interval of sign * (candidate - live) by metric, all metrics on the same resamples."""
    random = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // rows)
    found: dict[str, list[Floats]] = {m.name: [] for m, _ in paired}
    for start in range(0, RESAMPLES, block):
        weights = _resamples(random, min(block, RESAMPLES - start), rows)
        for metric, other in paired:
            found[metric.name].append(_sign(metric) * (metric.statistic(weights) - other.statistic(weights)))
    tail = (1 - confidence) / 2
    out = {}
    for name, parts in found.items():
        # A resample without one of the classes has no AUC: such resamples say nothing and are left out.
        low, high = np.nanquantile(np.concatenate(parts), [tail, 1 - tail]) + 0.0
        out[name] = (float(low), float(high))
    return out


def _resamples(random: np.random.Generator, count: int, rows: int) -> Floats:
    weights = np.empty((count, rows))
    for i in range(count):
        weights[i] = np.bincount(random.integers(0, rows, rows), minlength=rows)
    return weights


def _sign(metric: Metric) -> int:
    return 1 if metric.higher_is_better else -1


def mean_of(name: str, per_row: npt.NDArray[Any], *, higher_is_better: bool, root: bool = False) -> Metric:
    """The weighted mean of a value per row, or the root of it."""
    values = per_row.astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        mean = weights @ values / len(values)
        return np.asarray(np.sqrt(mean) if root else mean)

    return Metric(name=name, statistic=statistic, higher_is_better=higher_is_better)


def accuracy(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Metric:
    return mean_of("accuracy", predicted == truth, higher_is_better=True)


def logloss(true_class_probability: Floats) -> Metric:
    """Mean of -log p(true class), natural logarithm."""
    clipped = np.clip(true_class_probability, SMALLEST_PROBABILITY, 1.0)
    return mean_of("logloss", -np.log(clipped), higher_is_better=False)


def auc(scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> Metric:
    """Area under the ROC curve: P(score of a positive > score of a negative) + half of P(equal)."""
    order = np.argsort(scores, kind="stable")
    ordered, is_positive = scores[order], positive[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))  # groups of equal scores

    def statistic(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        ups = np.add.reduceat(sorted_weights * is_positive, starts, axis=1)
        downs = np.add.reduceat(sorted_weights * (1 - is_positive), starts, axis=1)
        below = np.cumsum(downs, axis=1) - downs
        pairs = ups.sum(axis=1) * downs.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray((ups * (below + downs / 2)).sum(axis=1) / np.where(pairs > 0, pairs, np.nan))

    return Metric(name="auc", statistic=statistic, higher_is_better=True)


def f1(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Metric:
    """Macro F1 over the classes that occur in the truth."""
    classes = np.unique(truth)
    right = np.stack([(predicted == c) & (truth == c) for c in classes]).astype(np.float64)
    either = np.stack([(predicted == c).astype(np.float64) + (truth == c) for c in classes])

    def statistic(weights: Floats) -> Floats:
        both = weights @ either.T
        return np.asarray((2 * (weights @ right.T) / np.where(both > 0, both, 1)).mean(axis=1))

    return Metric(name="f1", statistic=statistic, higher_is_better=True)


def brier(probabilities: Floats, truth_column: npt.NDArray[np.int64]) -> Metric:
    """Mean over rows of the squared distance of the probabilities from the true class's unit vector (0..2)."""
    distance = (probabilities**2).sum(axis=1)
    at = np.where(truth_column >= 0, probabilities[np.arange(len(truth_column)), truth_column], 0.0)
    return mean_of("brier", distance - 2 * at + 1, higher_is_better=False)


def r2(predicted: Floats, truth: Floats) -> Metric:
    """1 - squared error / variance of the truth, both within the resample."""
    errors, centred = (predicted - truth) ** 2, truth - truth.mean()

    def statistic(weights: Floats) -> Floats:
        n = len(truth)
        variance = weights @ centred**2 / n - (weights @ centred / n) ** 2
        return np.asarray(1 - (weights @ errors / n) / np.where(variance > 0, variance, np.nan))

    return Metric(name="r2", statistic=statistic, higher_is_better=True)


def regression(predicted: Floats, truth: Floats) -> list[Metric]:
    errors = predicted - truth
    return [
        mean_of("rmse", errors**2, higher_is_better=False, root=True),
        mean_of("mae", np.abs(errors), higher_is_better=False),
        r2(predicted, truth),
    ]

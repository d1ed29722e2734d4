"""Metrics against scikit-learn's, and what the interval of a difference promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from steeltown_checker import metrics

Small = st.integers(0, 2**32 - 1)


def sample(seed: int, rows: int = 60) -> tuple[Any, Any, Any]:
    """truth 0/1 with both classes, scores with ties, integer weights that sum to the number of rows."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, rows)
    truth[:2] = [0, 1]
    scores = random.integers(0, 10, rows) / 10 + truth * 0.2
    weights = 1 + np.bincount(random.integers(0, rows, rows), minlength=rows)
    return truth, scores, weights * rows / weights.sum()


def value(metric: metrics.Metric, weights: Any) -> float:
    return float(metric.statistic(np.asarray(weights, dtype=float)[None, :])[0])


@settings(max_examples=50, deadline=None)
@given(Small)
def test_auc_with_ties_and_weights_equals_scikit_learn(seed: int) -> None:
    truth, scores, weights = sample(seed)
    expected = reference.roc_auc_score(truth, scores, sample_weight=weights)
    assert value(metrics.auc(scores, truth == 1), weights) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(Small)
def test_other_metrics_with_weights_equal_scikit_learn(seed: int) -> None:
    truth, scores, weights = sample(seed)
    p = np.clip(scores / 1.2, 0.01, 0.99)
    both, predicted = np.column_stack([1 - p, p]), (p > 0.5).astype(int)
    names, said = truth.astype(str).astype(object), predicted.astype(str).astype(object)
    pairs = [
        (metrics.accuracy(said, names), reference.accuracy_score(truth, predicted, sample_weight=weights)),
        (metrics.logloss(both[np.arange(60), truth]), reference.log_loss(truth, both, sample_weight=weights)),
        (metrics.f1(said, names), reference.f1_score(truth, predicted, sample_weight=weights, average="macro")),
        (metrics.brier(both, truth), 2 * reference.brier_score_loss(truth, p, sample_weight=weights)),
    ]
    by_name = {m.name: m for m in metrics.regression(p, scores)}
    pairs += [
        (by_name["rmse"], reference.root_mean_squared_error(scores, p, sample_weight=weights)),
        (by_name["mae"], reference.mean_absolute_error(scores, p, sample_weight=weights)),
        (by_name["r2"], reference.r2_score(scores, p, sample_weight=weights)),
    ]
    for metric, expected in pairs:
        assert value(metric, weights) == pytest.approx(expected, abs=1e-9), metric.name


def errors_of(noise: float, rows: int, seed: int) -> list[metrics.Metric]:
    random = np.random.default_rng(seed)
    truth = np.random.default_rng(1).normal(size=rows)
    return [m for m in metrics.regression(truth + noise * random.normal(size=rows), truth) if m.name != "r2"]


def test_worse_candidate_has_a_negative_difference_and_an_interval_below_zero() -> None:
    for got in metrics.compare(errors_of(2, 500, 2), errors_of(1, 500, 3), 500, seed=0, confidence=0.95):
        assert got.live is not None and got.difference is not None
        assert got.lower is not None and got.upper is not None
        assert got.candidate > got.live  # an error: larger is worse
        assert got.difference == pytest.approx(got.live - got.candidate)
        assert got.lower < got.difference < got.upper < 0


def test_better_accuracy_has_a_positive_difference() -> None:
    truth = np.array(["0", "1"] * 200, dtype=object)
    worse = np.where(np.arange(400) % 5 == 0, "0", truth)
    got = metrics.compare(
        [metrics.accuracy(truth, truth)], [metrics.accuracy(worse, truth)], 400, seed=0, confidence=0.95
    )[0]
    assert got.difference == pytest.approx(0.1)
    assert got.lower is not None and got.lower > 0


def test_the_same_model_differs_by_exactly_nothing() -> None:
    for got in metrics.compare(errors_of(1, 200, 2), errors_of(1, 200, 2), 200, seed=0, confidence=0.95):
        assert str((got.difference, got.lower, got.upper)) == "(0.0, 0.0, 0.0)"


def test_interval_follows_from_the_seed() -> None:
    def run(seed: int) -> Any:
        return metrics.compare(errors_of(1.1, 300, 2), errors_of(1, 300, 3), 300, seed=seed, confidence=0.95)

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_interval_does_not_depend_on_how_resamples_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = metrics.compare(errors_of(1.1, 300, 2), errors_of(1, 300, 3), 300, seed=1, confidence=0.95)
    monkeypatch.setattr(metrics, "BLOCK_CELLS", 300 * 7)
    split = metrics.compare(errors_of(1.1, 300, 2), errors_of(1, 300, 3), 300, seed=1, confidence=0.95)
    assert [m.lower for m in split] == pytest.approx([m.lower for m in whole])
    assert [m.upper for m in split] == pytest.approx([m.upper for m in whole])


def test_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    """Mean error of one model is 0.1 above the other's on paired rows: 90 % intervals, 200 experiments.

    Binomial(200, 0.9) lies within 166..193 with probability above 0.998.
    """
    held = 0
    for i in range(200):
        random = np.random.default_rng(i)
        shared = random.exponential(size=150)
        live = metrics.mean_of("mae", shared + random.normal(0, 0.3, 150), higher_is_better=False)
        candidate = metrics.mean_of("mae", shared + 0.1 + random.normal(0, 0.3, 150), higher_is_better=False)
        got = metrics.compare([candidate], [live], 150, seed=i, confidence=0.9)[0]
        assert got.lower is not None and got.upper is not None
        held += got.lower <= -0.1 <= got.upper
    assert 166 <= held <= 193


def test_metric_that_the_live_model_lacks_is_reported_alone() -> None:
    truth = np.array(["0", "1"] * 10, dtype=object)
    got = metrics.compare(
        [metrics.accuracy(truth, truth), metrics.logloss(np.full(20, 0.5))],
        [metrics.accuracy(truth, truth)],
        20,
        seed=0,
        confidence=0.95,
    )
    assert [(m.name, m.live) for m in got] == [("accuracy", 1.0), ("logloss", None)]


def test_resamples_without_a_class_are_left_out_of_the_auc() -> None:
    positive = np.array([True] + [False] * 9)
    scores = np.arange(10)[::-1] / 10
    got = metrics.compare(
        [metrics.auc(scores, positive)], [metrics.auc(-scores, positive)], 10, seed=0, confidence=0.95
    )
    assert (got[0].difference, got[0].lower, got[0].upper) == (1.0, 1.0, 1.0)


def test_certain_and_wrong_costs_no_infinity() -> None:
    assert value(metrics.logloss(np.array([0.0, 1.0])), [1, 1]) == pytest.approx(-np.log(1e-7) / 2)

"""Auto: the simplest estimator that is as good as the best, within what three folds can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from steeltown_trainer import pipelines, selection
from steeltown_trainer.parameters import EstimatorName
from steeltown_trainer.selection import Scores

LINEAR, BOOSTING = EstimatorName.LINEAR, EstimatorName.GRADIENT_BOOSTING


def auto(kind: str = "Regression", target: str = "y") -> dict[str, Any]:
    return {"task": {"type": kind, "target": target, "features": []}}


@pytest.mark.parametrize(
    ("linear", "boosting", "chosen"),
    [
        ([1.0, 1.0, 1.0], [1.1, 1.1, 1.1], LINEAR),  # better
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], LINEAR),  # equal: the simpler
        ([1.0, 1.1, 1.2], [0.9, 1.2, 1.1], LINEAR),  # worse by less than the folds differ
        ([1.0, 1.1, 1.2], [0.8, 0.9, 1.0], BOOSTING),  # worse in every fold by the same
        ([2.0, 1.0, 1.5], [0.5, 0.4, 0.6], BOOSTING),
    ],
)
def test_linear_unless_boosting_is_better_by_more_than_a_standard_error(
    linear: list[float], boosting: list[float], chosen: EstimatorName
) -> None:
    scores = {LINEAR: Scores(metrics={}, loss=linear), BOOSTING: Scores(metrics={}, loss=boosting)}
    assert selection._choose(scores) is chosen


def test_line_is_fitted_by_a_line(training: Any) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=400)
    assert training.run(pl.DataFrame({"x": x, "y": 3 * x + random.normal(size=400) * 0.1}), auto()) == 0
    result = training.json("result.json")
    assert result["estimator"] == "Linear"
    assert set(result["crossValidation"]["scores"]) == {"Linear", "GradientBoosting"}


def test_what_no_line_can_fit_is_boosted(training: Any) -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 600))
    frame = pl.DataFrame({"a": a, "b": b, "y": np.where(a * b > 0, "same", "opposite")})
    assert training.run(frame, auto("Classification")) == 0
    result = training.json("result.json")
    assert result["estimator"] == "GradientBoosting"
    scores = result["crossValidation"]["scores"]
    assert np.mean(scores["GradientBoosting"]["accuracy"]) > 0.9 > 0.6 > np.mean(scores["Linear"]["accuracy"])


def test_cross_validation_is_bounded(
    training: Any, table: Callable[..., pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MAX_ROWS", 100)
    assert training.run(table(), auto(target="score") | {"estimator": "Linear"}) == 0
    result = training.json("result.json")
    assert (result["rows"], result["crossValidation"]["rows"]) == (300, 100)


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_rare_class_does_not_stop_the_folds(rare: int, training: Any) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=90)
    y = np.where(x > 0, "up", "down").astype(object)
    y[:rare] = "rare"
    assert training.run(pl.DataFrame({"x": x, "y": y.tolist()}), auto("Classification")) == 0
    assert training.json("result.json")["metrics"]["accuracy"]["value"] > 0.8


def test_frequent_categories_are_kept_and_never_none() -> None:
    many = np.array([f"v{i}" for i in range(200) for _ in range(i + 1)], dtype=object)
    kept = pipelines.frequent(many)
    assert len(kept) == pipelines.MAX_CATEGORIES
    assert "v199" in kept
    assert "v0" not in kept
    assert kept.tolist() == sorted(kept)
    assert pipelines.frequent(np.array(["c", "a", "b"], dtype=object)).tolist() == ["a"]

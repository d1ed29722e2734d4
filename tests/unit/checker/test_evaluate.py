"""Reading classes and probabilities out of whatever outputs a classifier has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from steeltown.contract.plans import FinalisePlan, Task, TaskType
from steeltown_checker import evaluate
from steeltown_checker.model import Port

X = [-2.0, -1.0, 1.0, 2.0, 1.5]  # the last one looks like the positives and is none
RIGHT_ANSWERS = {"accuracy": 0.8, "auc": 5 / 6}


@pytest.fixture
def measured(workspace: Any) -> Callable[..., dict[str, float]]:
    """Metrics by name of a model on X with these targets."""

    def run(model: Any, target: list[Any], more: tuple[str, ...] = ()) -> dict[str, float]:
        workspace.trained(model, evaluation=pl.DataFrame({"x": X, "y": target}))
        task = Task(type=TaskType.CLASSIFICATION, target="y")
        code, report = workspace.step("finalise", FinalisePlan(run="r", store=workspace.store, task=task, metrics=more))
        assert code == 0, report
        return {m.name: m.candidate for m in report.metrics}

    return run


TARGETS: dict[str, tuple[list[Any], tuple[str, ...]]] = {
    "booleans": ([False, False, True, True, False], ("0", "1")),
    "booleans of a model that says True": ([False, False, True, True, False], ("False", "True")),
    "integers": ([0, 0, 1, 1, 0], ("0", "1")),
    "whole floats": ([0.0, 0.0, 1.0, 1.0, 0.0], ("0", "1")),
    "text": (["late?", "late?", "on time", "on time", "late?"], ("late?", "on time")),
    "text in the model's own order": (["b", "b", "a", "a", "b"], ("b", "a")),
}


@pytest.mark.parametrize(("target", "labels"), TARGETS.values(), ids=list(TARGETS))
def test_classes_are_matched_by_name(target: list[Any], labels: tuple[str, ...], models: Any, measured: Any) -> None:
    got = measured(models.scores("x", labels=labels), target, ("f1", "brier"))
    assert {k: got[k] for k in RIGHT_ANSWERS} == pytest.approx(RIGHT_ANSWERS)
    p = 1 / (1 + np.exp(-np.array(X)))
    right = np.where([t == target[2] for t in target], p, 1 - p)
    assert got["logloss"] == pytest.approx(-np.log(right).mean(), abs=1e-5)
    assert got["brier"] == pytest.approx(2 * ((1 - right) ** 2).mean(), abs=1e-5)


def test_single_score_is_the_probability_of_the_second_class(models: Any, measured: Any) -> None:
    got = measured(models.scores("x"), [0, 0, 1, 1, 0])
    assert {k: got[k] for k in RIGHT_ANSWERS} == pytest.approx(RIGHT_ANSWERS)


def test_words_that_no_column_is_named_for_are_not_measured(models: Any, measured: Any) -> None:
    model = models.scores("x", labels=("n", "y"))
    del model.metadata_props[:]
    assert measured(model, ["n", "n", "y", "y", "n"]) == {}


def test_class_that_the_model_never_saw_is_wrong_and_costs_logloss(models: Any, measured: Any) -> None:
    got = measured(models.scores("x", labels=("a", "b")), ["a", "a", "b", "b", "new"])
    assert got["accuracy"] == pytest.approx(0.8)
    assert got["logloss"] > -np.log(1e-7) / 5


def test_auc_needs_both_classes(models: Any, measured: Any, workspace: Any) -> None:
    got = measured(models.scores("x", labels=("0", "1")), [1, 1, 1, 1, 1])
    assert sorted(got) == ["accuracy", "logloss"]
    messages = [c.message for c in workspace.report().checks if c.name == "Metric:auc"]
    assert messages == ["auc not measured: two classes are required"]


def test_rows_without_a_target_are_left_out(models: Any, workspace: Any) -> None:
    rows = pl.DataFrame({"x": X, "y": [0, None, 1, None, 0]})
    workspace.trained(models.scores("x"), evaluation=rows)
    task = Task(type=TaskType.CLASSIFICATION, target="y")
    _, report = workspace.step("finalise", FinalisePlan(run="r", store=workspace.store, task=task))
    assert {m.n for m in report.metrics} == {3}


def test_finite_outputs_pass_and_one_infinity_does_not() -> None:
    port = Port(name="p", dtype=np.float32, datatype="FP32", shape=(None, 2))
    good = np.zeros((3, 2), dtype=np.float32)
    evaluate.require_finite([port], {"p": good})
    good[1, 1] = np.inf
    with pytest.raises(Exception, match=r"NumericallyUnstable: output 'p' .* 1 of 3 rows \(first: row 1\)"):
        evaluate.require_finite([port], {"p": good})

"""What the trainer refuses: the exit code, and a failure file that names the field, the value and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

ROWS = pl.DataFrame(
    {
        "x": [float(i) for i in range(40)],
        "when": pl.Series(range(40)).cast(pl.Date),
        "y": [float(i % 5) for i in range(40)],
        "text": ["a", "b"] * 20,
    }
)
TASK = {"type": "Regression", "target": "y", "features": ["x"]}


def task(**more: Any) -> dict[str, Any]:
    return {"task": {**TASK, **more}, "estimator": "Linear"}


USAGE: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "params.json as JSON"),
    "no object": ("[]", "expected an object, got list"),
    "no task": ({}, "task is required"),
    "unknown task": (
        task(type="Clustering"),
        "invalid task.type 'Clustering': must be one of Classification, Regression",
    ),
    "no target": (task(target=""), "invalid task.target ''"),
    "target is no column": (task(target="z"), "invalid task.target 'z': no such column; found 'x', "),
    "feature is no column": (task(features=["x", "q"]), "invalid task.features 'q'"),
    "target among the features": (task(features=["x", "y"]), "must not contain the target 'y'"),
    "feature twice": (task(features=["x", "x"]), "invalid task.features: duplicate column"),
    "date as a feature": (task(features=["when"]), "column 'when' has unsupported type Date"),
    "unknown estimator": (
        task() | {"estimator": "XGBoost"},
        "invalid params.estimator 'XGBoost': must be one of Auto, ",
    ),
    "unknown parameter": (task() | {"depth": "3"}, "unknown params.depth"),
    "rows no number": (task() | {"maxRows": "many"}, "invalid params.maxRows 'many'"),
    "rows zero": (task() | {"maxRows": 0}, "invalid params.maxRows 0"),
    "rows boolean": (task() | {"maxRows": True}, "invalid params.maxRows True"),
}


@pytest.mark.parametrize(("params", "words"), USAGE.values(), ids=list(USAGE))
def test_bad_parameters_are_a_usage_error(params: Any, words: str, training: Any) -> None:
    assert training.run(ROWS, params) == 64
    assert words in training.failure
    assert not (training.root / "output/result.json").exists()


DATA: dict[str, tuple[pl.DataFrame, Any, str]] = {
    "too few rows": (ROWS.head(5), task(), "5 rows have a target, at least 20"),
    "no target values": (ROWS.with_columns(y=pl.lit(None)), task(), "0 rows have a target"),
    "text to regress on": (ROWS, task(target="text"), "target 'text' is String: Regression requires numbers"),
    "fractional classes": (
        ROWS.with_columns(y=pl.col("x") / 7),
        task(type="Classification"),
        "Classification requires text, integers or booleans",
    ),
    "one class": (ROWS.with_columns(y=pl.lit("a")), task(type="Classification"), "has 1 class, at least 2"),
    "infinite": (ROWS.with_columns(x=pl.lit(float("inf"))), task(), "column 'x' has values out of range for float32"),
    "above float32": (ROWS.with_columns(x=pl.lit(1e300)), task(), "out of range for float32"),
}


@pytest.mark.parametrize(("frame", "params", "words"), DATA.values(), ids=list(DATA))
def test_unusable_data_is_a_data_error(frame: pl.DataFrame, params: Any, words: str, training: Any) -> None:
    assert training.run(frame, params) == 65
    assert words in training.failure


def test_too_many_classes_look_like_a_number(training: Any) -> None:
    frame = pl.DataFrame({"x": [1.0] * 1001, "y": range(1001)})
    assert training.run(frame, task(type="Classification")) == 65
    assert "1001 classes" in training.failure


def test_broken_table_is_a_data_error(training: Any) -> None:
    (training.root / "input").mkdir()
    (training.root / "input/data.csv").write_text("x,y\n1,2\n1,2,3\n")
    assert training.run(None, task()) == 65
    assert "cannot read the training data" in training.failure


def test_missing_table_is_a_usage_error(training: Any) -> None:
    assert training.run(None, task()) == 64
    assert "neither data.csv nor data.parquet" in training.failure


@pytest.mark.parametrize("seed", ["-1", "x", "99999999999"])
def test_bad_seed_is_a_usage_error(seed: str, training: Any) -> None:
    assert training.run(ROWS, task(), STEELTOWN_SEED=seed) == 64
    assert f"invalid STEELTOWN_SEED {seed!r}" in training.failure


def test_defect_is_reported_in_one_short_line(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("first\nsecond " + "x" * 2000)

    monkeypatch.setattr("steeltown_trainer.dataset.load", broken)
    assert training.run(ROWS, task()) == 1
    assert training.failure.startswith("InternalError: RuntimeError: first second x")
    assert len(training.failure) == 1024


def test_failure_is_also_the_termination_message_where_there_is_one(training: Any) -> None:
    log: Path = training.root / "termination-log"
    training.run(ROWS, task(type="x"))
    assert not log.exists()
    log.touch()
    training.run(ROWS, task(type="x"))
    assert log.read_text() == training.failure


def test_numbers_in_params_may_be_numbers_or_text(training: Any) -> None:
    for value in (30, "30"):
        assert training.run(ROWS, json.loads(json.dumps(task() | {"maxRows": value}))) == 0
        assert training.json("result.json")["rows"] == 30


def test_operator_that_is_no_neighbour_is_refused_by_name(training: Any) -> None:
    assert training.run(ROWS, task(), STEELTOWN_CONTRACT_VERSION="3") == 64
    assert training.failure.startswith("STEELTOWN_CONTRACT_VERSION is 3, the operator's; this image speaks version 1")

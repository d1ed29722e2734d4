"""Reading params.json. Values are text there (the API's `params` is a map of strings); numbers are taken as well."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from steeltown.contract.files import ExitCode
from steeltown.contract.plans import TaskType

DEFAULT_MAX_ROWS: Final = 1_000_000
KNOWN: Final = ("task", "estimator", "maxRows")


class TrainingFailed(Exception):
    """Ends the training; its text goes into the failure file."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class EstimatorName(StrEnum):
    AUTO = "Auto"
    LINEAR = "Linear"
    GRADIENT_BOOSTING = "GradientBoosting"
    RANDOM_FOREST = "RandomForest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """features: empty means every column but the target. declared: types by column, as the schema names them.

    max_rows: more are sampled down by seed.
    """

    task: TaskType
    target: str
    features: tuple[str, ...] = ()
    declared: dict[str, str] = field(default_factory=dict)
    estimator: EstimatorName = EstimatorName.AUTO
    max_rows: int = DEFAULT_MAX_ROWS


def read(path: Path) -> Parameters:
    """TrainingFailed (exit 64) names the field, its value and what it must be."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise usage(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise usage(f"invalid {path}: expected an object, got {type(raw).__name__}")
    if unknown := sorted(set(raw) - set(KNOWN)):
        raise usage(f"unknown params.{unknown[0]}: remove it; the built-in trainer supports estimator and maxRows")
    task = raw.get("task")
    if not isinstance(task, dict):
        raise usage("task is required: set spec.task.type and spec.task.target")
    target = task.get("target")
    if not isinstance(target, str) or not target:
        raise usage(f"invalid task.target {target!r}: must be the name of the column to predict")
    return Parameters(
        task=TaskType(_one_of("task.type", task.get("type"), TaskType)),
        target=target,
        features=_features(task.get("features", []), target),
        declared=dict(task.get("columns") or {}),
        estimator=EstimatorName(_one_of("params.estimator", raw.get("estimator", "Auto"), EstimatorName)),
        max_rows=_positive("params.maxRows", raw.get("maxRows", DEFAULT_MAX_ROWS)),
    )


def seed_of(text: str) -> int:
    if not text.isdecimal() or int(text) > 2**31 - 1:
        raise usage(f"invalid STEELTOWN_SEED {text!r}: must be an integer from 0 to 2147483647")
    return int(text)


def usage(message: str) -> TrainingFailed:
    return TrainingFailed(message, ExitCode.USAGE)


def bad_data(message: str) -> TrainingFailed:
    return TrainingFailed(message, ExitCode.DATA)


def _features(raw: Any, target: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(f, str) and f for f in raw):
        raise usage(f"invalid task.features {raw!r}: must be a list of column names")
    if target in raw:
        raise usage(f"invalid task.features: must not contain the target {target!r}")
    if len(set(raw)) < len(raw):
        raise usage("invalid task.features: duplicate column")
    return tuple(raw)


def _one_of(name: str, value: Any, choices: type[StrEnum]) -> str:
    if value not in list(choices):
        raise usage(f"invalid {name} {value!r}: must be one of {', '.join(choices)}")
    return str(value)


def _positive(name: str, value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or int(text) == 0:
        raise usage(f"invalid {name} {value!r}: must be an integer greater than 0")
    return int(text)

"""Candidate and live model on the same frozen rows.

The trainer's own word about quality is not evidence: both models are run here, on rows that the trainer
never saw, and compared row by row. What the numbers mean for promotion is the operator's decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from steeltown.contract.files import ExitCode
from steeltown.contract.plans import Task, TaskType
from steeltown_tensors import Array

from . import metrics, table
from .binding import Binding
from .metrics import Metric
from .model import Model, Port
from .reasons import Reason, StepFailed

MAX_ROWS: Final = 50_000
BATCH_ROWS: Final = 4096
DEFAULT_METRICS: Final = {
    TaskType.CLASSIFICATION: ("accuracy", "auc", "logloss"),
    TaskType.REGRESSION: ("rmse", "mae"),
}
MORE_METRICS: Final = {TaskType.CLASSIFICATION: ("f1", "brier"), TaskType.REGRESSION: ("r2",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Evaluation rows that have a target. truth: text names of classes, or float64 values. total: before the cap."""

    frame: pl.DataFrame
    truth: npt.NDArray[Any]
    total: int

    def __len__(self) -> int:
        return len(self.frame)


def wanted_metrics(task: Task, more: Sequence[str]) -> tuple[str, ...]:
    possible = (*DEFAULT_METRICS[task.type], *MORE_METRICS[task.type])
    for name in more:
        if name not in possible:
            raise StepFailed(
                Reason.UNKNOWN_METRIC,
                f"unknown metric {name!r} for {task.type}: must be one of {', '.join(possible)}",
                ExitCode.USAGE,
            )
    return tuple(dict.fromkeys((*DEFAULT_METRICS[task.type], *more)))


def read_rows(frame: pl.LazyFrame, task: Task, columns: Sequence[str], seed: int) -> Rows:
    """At most MAX_ROWS rows that have a target, chosen by seed, in the order of the file."""
    kind = frame.collect_schema()[task.target]
    with table.readable("evaluation data"):
        chosen = frame.select(list(dict.fromkeys((*columns, task.target)))).filter(~table.missing(task.target, kind))
        rows = chosen.collect(engine="streaming")
    total = len(rows)
    if total > MAX_ROWS:
        keep = np.sort(np.random.default_rng(seed).choice(total, MAX_ROWS, replace=False))
        rows = rows[keep]
    target = rows[task.target]
    truth = target.cast(pl.Float64).to_numpy() if task.type is TaskType.REGRESSION else class_names(target)
    return Rows(frame=rows, truth=truth, total=total)


def run(model: Model, binding: Binding, rows: pl.DataFrame) -> dict[str, Array]:
    """All outputs, in batches of BATCH_ROWS, or of the rows that the model is fixed to.

    StepFailed if the runtime refuses or a number is not finite.
    """
    parts = [_run_batch(model, binding, batch) for batch in rows.iter_slices(binding.fixed_rows or BATCH_ROWS)]
    for port in model.outputs:
        for part in parts:
            if part[port.name].ndim == 0 or sum(len(p[port.name]) for p in parts) != len(rows):
                raise StepFailed(
                    Reason.SIGNATURE_MISMATCH,
                    f"output {port.name!r} must have one entry per row: keep the batch dimension first",
                )
    outputs = {p.name: np.concatenate([part[p.name] for part in parts]) for p in model.outputs}
    require_finite(model.outputs, outputs)
    return outputs


def _run_batch(model: Model, binding: Binding, rows: pl.DataFrame) -> dict[str, Array]:
    """A last batch that is too short is filled up with its first rows, whose second answers are left out."""
    count, wanted = len(rows), binding.fixed_rows or len(rows)
    answers = model.run(binding.feed(rows if count == wanted else filled(rows, wanted)))
    return {name: a[:count] if a.ndim and len(a) == wanted else a for name, a in answers.items()}


def filled(rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """`count` rows: these in turn."""
    return rows[[i % len(rows) for i in range(count)]]


def require_finite(ports: Sequence[Port], outputs: dict[str, Array]) -> None:
    for port in ports:
        values = outputs[port.name]
        if port.is_float and not np.isfinite(values).all():
            values = np.atleast_1d(values)
            bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            raise StepFailed(
                Reason.NUMERICALLY_UNSTABLE,
                f"output {port.name!r} is NaN or infinite in {len(bad)} of {len(values)} rows (first: row {bad[0]}): "
                "check divisions, logarithms and overflow in the model",
            )


def measure(task: Task, model: Model, outputs: dict[str, Array], truth: npt.NDArray[Any]) -> list[Metric]:
    """Every metric of the task that these outputs allow. StepFailed(SignatureMismatch) if they allow none."""
    if task.type is TaskType.REGRESSION:
        return metrics.regression(_regression_values(model, outputs), truth)
    labels, probabilities = _labels(model, outputs), _probabilities(model, outputs)
    if labels is None and probabilities is None:
        raise _no_output("a label [N] or probabilities [N, classes] for Classification", model)
    found: list[Metric] = []
    names: tuple[str, ...] = ()
    if probabilities is not None:
        names = _names(model, probabilities.shape[1], truth)
    if labels is None and probabilities is not None:
        labels = np.array(names, dtype=object)[probabilities.argmax(axis=1)]
    if labels is not None:
        predicted = _same_words(labels, truth)
        found += [metrics.accuracy(predicted, truth), metrics.f1(predicted, truth)]
    if probabilities is not None:
        found += _scored(probabilities, _same_words(np.array(names, dtype=object), truth), truth)
    return found


def class_names(values: pl.Series) -> npt.NDArray[Any]:
    """Text names of classes, the same whatever the type: true and 1.0 and 1 are "1", other text is itself."""
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int8)
    elif values.dtype.is_float():
        values = values.cast(pl.Int64, strict=False)
    return np.array(values.cast(pl.String).to_list(), dtype=object)


def _labels(model: Model, outputs: dict[str, Array]) -> npt.NDArray[Any] | None:
    for port in model.outputs:
        value = outputs[port.name]
        if not port.is_float and value.size == len(value):
            flat = value.reshape(-1)
            if port.is_text:
                return np.array([str(v) for v in flat], dtype=object)
            return class_names(pl.Series(flat))
    return None


def _probabilities(model: Model, outputs: dict[str, Array]) -> npt.NDArray[np.float64] | None:
    """(rows, classes); one column p is read as the probability of the second of two classes."""
    for port in model.outputs:
        if port.is_float and outputs[port.name].ndim <= 2:
            value = outputs[port.name].astype(np.float64).reshape(len(outputs[port.name]), -1)
            return np.column_stack([1 - value[:, 0], value[:, 0]]) if value.shape[1] == 1 else value
    return None


def _names(model: Model, count: int, truth: npt.NDArray[Any]) -> tuple[str, ...]:
    """Class of each probability: as the file says, else the rows' classes if they are as many, else 0, 1, ..."""
    if len(model.classes) == count:
        return model.classes
    seen = sorted(set(truth))
    numbers = tuple(str(i) for i in range(count))
    return tuple(seen) if len(seen) == count and not set(seen) <= set(numbers) else numbers


def _same_words(labels: npt.NDArray[Any], truth: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A model may answer True or "true" where the rows say 1 (class_names); only then are they the same."""
    if set(truth) <= {"0", "1"}:
        words = {"true": "1", "false": "0"}
        return np.array([words.get(str(v).lower(), v) for v in labels], dtype=object)
    return labels


def _scored(probabilities: npt.NDArray[np.float64], names: npt.NDArray[Any], truth: npt.NDArray[Any]) -> list[Metric]:
    found: list[Metric] = []
    column_of = {name: i for i, name in enumerate(names)}
    columns = np.array([column_of.get(t, -1) for t in truth], dtype=np.int64)
    if len(names) == 2:
        positive = columns == column_of[max(names)]
        if 0 < positive.sum() < len(positive):
            found.append(metrics.auc(probabilities[:, column_of[max(names)]], positive))
    sums = probabilities.sum(axis=1)
    if (probabilities >= -1e-3).all() and np.abs(sums - 1).max() < 1e-2:  # else scores, not probabilities
        at = np.where(columns >= 0, probabilities[np.arange(len(columns)), columns], 0.0)
        found += [metrics.logloss(at), metrics.brier(probabilities, columns)]
    return found


def _regression_values(model: Model, outputs: dict[str, Array]) -> npt.NDArray[np.float64]:
    for port in model.outputs:
        value = outputs[port.name]
        if not port.is_text and value.size == len(value):
            return value.reshape(-1).astype(np.float64)
    several = next((p for p in model.outputs if not p.is_text and outputs[p.name].ndim == 2), None)
    if several is not None:
        raise StepFailed(
            Reason.SIGNATURE_MISMATCH,
            f"output {several.name!r} has {outputs[several.name].shape[1]} numbers per row, Regression has one target: "
            "export a model for each target, or import this one without a task and without evaluation data",
        )
    raise _no_output("one number per row ([N] or [N, 1]) for Regression", model)


def _no_output(wanted: str, model: Model) -> StepFailed:
    there = ", ".join(map(str, model.outputs))
    return StepFailed(Reason.SIGNATURE_MISMATCH, f"no output with {wanted}; the model has {there}")

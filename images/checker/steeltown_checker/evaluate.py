"""Candidate and live model on the same frozen rows.

The trainer's own word about quality is not evidence: both models are run here, on rows that the trainer
never saw, and compared row by row. What the numbers mean for promotion is the operator's decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from steeltown.contract.files import ExitCode
from steeltown.contract.plans import Outputs, Task, TaskType
from steeltown_tensors import Array

from . import metrics, reading, table
from .binding import Binding
from .metrics import Metric
from .model import Model, Port
from .reading import Reading, Unclear
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


@dataclass(slots=True, kw_only=True)
class Measured:
    """unmeasured: by metric, why it was not measured and what to write.

    told: which output was read as what. assumed: nobody said so, see `reading`.
    """

    metrics: list[Metric] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)
    told: str = ""
    assumed: bool = False


def every_metric(task: Task) -> tuple[str, ...]:
    return (*DEFAULT_METRICS[task.type], *MORE_METRICS[task.type])


def wanted_metrics(task: Task, more: Sequence[str]) -> tuple[str, ...]:
    possible = every_metric(task)
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


def measure(
    task: Task, model: Model, outputs: dict[str, Array], truth: npt.NDArray[Any], declared: Outputs | None
) -> Measured:
    """Every metric of the task that these outputs allow. declared: what is said of the outputs of this very model."""
    if task.type is TaskType.REGRESSION:
        try:
            return Measured(metrics=metrics.regression(_regression_values(model, outputs, declared), truth))
        except Unclear as why:
            return Measured(unmeasured=dict.fromkeys(every_metric(task), str(why)))
    return _classification(reading.read(model, outputs, truth, declared), truth)


def class_names(values: pl.Series) -> npt.NDArray[Any]:
    """Text names of classes, the same whatever the type: true and 1.0 and 1 are "1", other text is itself."""
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int8)
    elif values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False).cast(pl.String)
        values = whole.zip_with(whole.is_not_null(), values.cast(pl.String))  # infinity is a class like any other
    return np.array(values.cast(pl.String).to_list(), dtype=object)


def _classification(found: Reading, truth: npt.NDArray[Any]) -> Measured:
    out = Measured(told=found.told, assumed=found.assumed)
    if found.label is None:
        out.unmeasured |= dict.fromkeys(("accuracy", "f1"), found.no_label)
    else:
        out.metrics += [metrics.accuracy(found.label, truth), metrics.f1(found.label, truth)]
    scores = found.scores
    if scores is None:
        out.unmeasured |= dict.fromkeys(("auc", "logloss", "brier"), found.no_scores)
        return out
    place = {name: i for i, name in enumerate(scores.names)}
    columns = np.array([place.get(t, -1) for t in truth], dtype=np.int64)
    positive = columns == 1
    if len(place) != 2 or not 0 < positive.sum() < len(positive):
        out.unmeasured["auc"] = "two classes are required" + (f", the model has {len(place)}" if len(place) > 2 else "")
    else:
        out.metrics.append(metrics.auc(scores.matrix[:, 1] if scores.probabilities else scores.margin, positive))
    if not scores.probabilities:
        why = f"{scores.because}: export probabilities, as predict_proba, softmax or sigmoid give them"
        out.unmeasured |= dict.fromkeys(("logloss", "brier"), why)
        return out
    probabilities = scores.matrix
    at = np.where(columns >= 0, probabilities[np.arange(len(columns)), columns], 0.0)
    out.metrics += [metrics.logloss(at), metrics.brier(probabilities, columns)]
    return out


def _regression_values(model: Model, outputs: dict[str, Array], declared: Outputs | None) -> npt.NDArray[np.float64]:
    ports = [p for p in model.outputs if not p.is_text]
    if declared is not None and declared.label:
        ports = [p for p in model.outputs if p.name == declared.label and not p.is_text]
        if not ports:
            raise Unclear(
                f"spec.task.outputs.label is {declared.label[:80]!r}, which is no output with numbers; "
                f"{reading.there(model)}"
            )
    single = [p for p in ports if outputs[p.name].size == len(outputs[p.name])]
    floats = [p for p in single if p.is_float]
    chosen = floats if len(floats) == 1 else single
    if len(chosen) == 1:
        return outputs[chosen[0].name].reshape(-1).astype(np.float64)
    if chosen:
        raise Unclear(
            f"each of {reading.listed(p.name for p in chosen)} may be the prediction: name it in "
            "spec.task.outputs.label"
        )
    raise Unclear(
        "no output with one number per row ([N] or [N, 1]), as Regression of one target requires: export one model per "
        f"target; {reading.there(model)}"
    )

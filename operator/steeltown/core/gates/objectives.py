"""The objectives that a run is measured against: the model's, which a run may tighten and never loosen.

Who may create runs is not always who may change a model, and a promotion is the model's affair. So for every bound the
stricter of the two counts, and Observe in a run makes nothing of the model's less than enforced.
"""

from __future__ import annotations

from collections.abc import Callable

from ...api.objectives import ColumnObjective, DataObjective, Mode, QualityObjective, Rows, RunObjectives


def effective(model: RunObjectives, run: RunObjectives | None) -> RunObjectives:
    """The stricter of both, bound by bound. Where the model enforces no quality, the run's own are only its own."""
    if run is None:
        return RunObjectives(data=model.data, quality=model.quality)
    return RunObjectives(data=_data(model.data, run.data), quality=_quality(model.quality, run.quality))


def basis(model: RunObjectives) -> str:
    """Whose word the quality of a version is: "Model", or "Run" if the model enforces none (never eligible then)."""
    return "Model" if any(o.mode is Mode.ENFORCE for o in model.quality) else "Run"


def _quality(model: list[QualityObjective], run: list[QualityObjective]) -> list[QualityObjective]:
    """A metric that only the run names is enforced beside the model's."""
    own = {o.metric: o for o in run}
    return [*(_stricter_metric(o, own.pop(o.metric, None)) for o in model), *own.values()]


def _stricter_metric(model: QualityObjective, run: QualityObjective | None) -> QualityObjective:
    if run is None:
        return model
    return QualityObjective(
        metric=model.metric,
        min=_pick(max, model.min, run.min),
        max=_pick(min, model.max, run.max),
        non_inferiority_margin=_pick(min, model.non_inferiority_margin, run.non_inferiority_margin),
        mode=_mode(model.mode, run.mode),
    )


def _data(model: DataObjective | None, run: DataObjective | None) -> DataObjective | None:
    if model is None or run is None:
        return model or run
    own = {c.name: c for c in run.columns}
    columns = [_stricter_column(c, own.pop(c.name, None)) for c in model.columns]
    return model.model_copy(update={"rows": _rows(model.rows, run.rows), "columns": [*columns, *own.values()]})


def _rows(model: Rows | None, run: Rows | None) -> Rows | None:
    if model is None or run is None:
        return model or run
    return model.model_copy(
        update={
            "min": max((v for v in (model.min, run.min) if v is not None), default=None),
            "max": min((v for v in (model.max, run.max) if v is not None), default=None),
            "min_ratio_to_live": _pick(max, model.min_ratio_to_live, run.min_ratio_to_live),
            "mode": _mode(model.mode, run.mode),
        }
    )


def _stricter_column(model: ColumnObjective, run: ColumnObjective | None) -> ColumnObjective:
    """The model's type counts where both name one: two types that differ cannot both be met."""
    if run is None:
        return model
    return model.model_copy(
        update={
            "type": model.type or run.type,
            "max_null_fraction": _pick(min, model.max_null_fraction, run.max_null_fraction),
            "mode": _mode(model.mode, run.mode),
        }
    )


def _mode(model: Mode, run: Mode) -> Mode:
    return Mode.ENFORCE if Mode.ENFORCE in (model, run) else Mode.OBSERVE


def _pick(choose: Callable[..., str], model: str | None, run: str | None) -> str | None:
    """Of two decimals written as text the one that `choose` takes; the other's absence leaves it."""
    given = [v for v in (model, run) if v is not None]
    return choose(given, key=float) if given else None

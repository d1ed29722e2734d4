"""From a table to arrays: which columns are numbers, which are categories, and what a missing value becomes.

The rules here are a promise to whoever sends requests: a number or boolean column is a float32 input (missing:
NaN), a text column a string input (missing: ""). Numbers are rounded to float32 before training, so the
model learns from exactly the values that it will be served.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError
from steeltown.contract.files import DATA_STEM
from steeltown.contract.plans import ColumnType, TaskType

from .parameters import Parameters, bad_data, usage

Array = npt.NDArray[Any]
MIN_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    name: str
    is_text: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """columns: one array per feature, float32 or text, in order. target: float64, int64 or text.

    rows_read: before rows without a target were left out and the rest sampled down to `maxRows`.
    """

    features: tuple[Feature, ...]
    columns: tuple[Array, ...]
    target: Array
    rows_read: int

    def __len__(self) -> int:
        return len(self.target)

    def frame(self, rows: npt.NDArray[np.int64] | None = None) -> pl.DataFrame:
        """The features as f0, f1, ...: names that nothing downstream has to quote or to rename."""
        parts = self.columns if rows is None else tuple(c[rows] for c in self.columns)
        return pl.DataFrame({f"f{i}": part for i, part in enumerate(parts)})


def load(folder: Path, parameters: Parameters, seed: int) -> Dataset:
    """TrainingFailed says which column cannot be used and why."""
    try:
        lazy = _scan(folder, parameters)
        names = _wanted(lazy.collect_schema().names(), parameters)
        frame = lazy.select([*names, parameters.target]).collect()
    except PolarsError as error:
        raise bad_data(f"cannot read the training data: {' '.join(str(error).split())[:300]}") from error
    features = tuple(_feature(name, frame.schema[name]) for name in names)
    rows_read = len(frame)
    frame = _sampled(_with_target(frame, parameters), parameters.max_rows, seed)
    if len(frame) < MIN_ROWS:
        raise bad_data(
            f"{len(frame)} rows have a target, at least {MIN_ROWS} are required for training and cross-validation"
        )
    return Dataset(
        features=features,
        columns=tuple(_column(frame[f.name], f) for f in features),
        target=_target(frame[parameters.target], parameters),
        rows_read=rows_read,
    )


def _scan(folder: Path, parameters: Parameters) -> pl.LazyFrame:
    csv, parquet = folder / f"{DATA_STEM}.csv", folder / f"{DATA_STEM}.parquet"
    if parquet.is_file():
        return pl.scan_parquet(parquet)
    if csv.is_file():
        text = [c for c, kind in parameters.declared.items() if kind == ColumnType.STRING]
        return pl.scan_csv(csv, infer_schema_length=None, schema_overrides=dict.fromkeys(text, pl.String))
    raise usage(f"{folder} contains neither {csv.name} nor {parquet.name}")


def _wanted(there: list[str], parameters: Parameters) -> tuple[str, ...]:
    """The features, once it is sure that they and the target are columns."""
    if parameters.target not in there:
        raise usage(f"invalid task.target {parameters.target!r}: no such column; found {_list(there)}")
    names = parameters.features or tuple(c for c in there if c != parameters.target)
    if gone := [f for f in names if f not in there]:
        raise usage(f"invalid task.features {gone[0]!r}: no such column; found {_list(there)}")
    if not names:
        raise usage(f"no feature columns: the data has no column other than the target {parameters.target!r}")
    return names


def _feature(name: str, kind: pl.DataType) -> Feature:
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return Feature(name=name, is_text=True)
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return Feature(name=name, is_text=False)
    raise usage(
        f"column {name!r} has unsupported type {kind}: the built-in trainer supports numbers, text and booleans; "
        "remove it from task.features or convert it to a number"
    )


def _with_target(frame: pl.DataFrame, parameters: Parameters) -> pl.DataFrame:
    there = pl.col(parameters.target).is_not_null()
    if frame.schema[parameters.target].is_float():
        there &= pl.col(parameters.target).is_finite()
    return frame.filter(there)


def _sampled(frame: pl.DataFrame, max_rows: int, seed: int) -> pl.DataFrame:
    if len(frame) <= max_rows:
        return frame
    return frame[np.sort(np.random.default_rng(seed).choice(len(frame), max_rows, replace=False))]


def _column(values: pl.Series, feature: Feature) -> Array:
    if feature.is_text:
        return np.array(values.cast(pl.String).fill_null("").to_list(), dtype=object)
    with np.errstate(over="ignore"):
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float32)
    if np.isinf(numbers).any():
        raise bad_data(
            f"column {feature.name!r} has values out of range for float32 (infinite or above 3.4e38): "
            "rescale them or leave them empty"
        )
    return numbers


def _target(values: pl.Series, parameters: Parameters) -> Array:
    kind = values.dtype
    if parameters.task is TaskType.REGRESSION:
        if not (kind.is_numeric() or kind == pl.Boolean):
            raise bad_data(f"target {values.name!r} is {kind}: Regression requires numbers")
        return values.cast(pl.Float64).to_numpy()
    if kind in (pl.String, pl.Categorical, pl.Enum):
        classes = np.array(values.cast(pl.String).to_list(), dtype=object)
    elif kind.is_integer() or kind == pl.Boolean or (kind.is_float() and (values == values.floor()).all()):
        classes = values.cast(pl.Int64).to_numpy()
    else:
        raise bad_data(f"target {values.name!r} is {kind}: Classification requires text, integers or booleans")
    distinct = len(set(classes.tolist()))
    if distinct < 2:
        raise bad_data(f"target {values.name!r} has {distinct} class, at least 2 are required")
    if distinct > 1000:
        raise bad_data(f"target {values.name!r} has {distinct} classes, at most 1000 are supported: is it a number?")
    return classes


def _list(names: list[str]) -> str:
    return ", ".join(repr(n) for n in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

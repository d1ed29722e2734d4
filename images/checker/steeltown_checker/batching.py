"""How many rows of different clients may share a run of this model, with more rows than a server has.

First the graph is asked, which knows more than any rows show, then the rows are tried: different ones, in runs up to
more rows than servers form. What is found goes into the manifest, and servers hold to it. That nothing could be shown,
for want of rows that differ, is not a fault of the model: it is served one request at a time.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from steeltown.contract.batching import Batching
from steeltown.contract.golden import Golden
from steeltown_tensors import Array, Independence, Mixing, Tolerance, Trial, drawing, independence, mixing

from . import goldenrows
from .binding import Binding
from .model import Model

MOST_ROWS: Final = 1024
"""Of one run; servers form batches of 64 unless they are told otherwise."""

MOST_DIFFERENT: Final = 64
MOST_SECONDS: Final = 20.0

SAMPLED_ROWS: Final = 2048
"""Of the evaluation rows, evenly apart: neighbours in a table are often alike."""

MOST_BYTES: Final = 16 << 20
"""Of the inputs of one run, and of its outputs: rows of images are large, what a network makes of them within is many
times larger, and the step's memory is bounded."""


def objection(path: Path) -> Mixing | None:
    """What the graph of a model file has against it."""
    return mixing(_mapped(path))


def random_operator(path: Path) -> Mixing | None:
    """One that makes the model answer differently each time."""
    return drawing(_mapped(path))


def _mapped(path: Path) -> memoryview:
    """Weights need not be in memory twice."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def tried(model: Model, binding: Binding, rows: pl.DataFrame | None, golden: Golden) -> Independence:
    """Tries evaluation rows, or golden rows where there are no others."""
    if rows is None:
        given = {str(t["name"]): t for t in golden.inputs}
        feed: dict[str, Array] = {p.name: goldenrows.array(given[p.name], p) for p in model.inputs}
    else:
        feed = binding.feed(rows.gather_every(max(1, len(rows) // SAMPLED_ROWS)).head(SAMPLED_ROWS))
    names = [p.name for p in model.outputs]
    row_bytes = max(1, sum(a[:1].nbytes for a in feed.values()), _answer_bytes(golden))

    def run(chosen: dict[str, Array]) -> list[Array]:
        answers = model.run(chosen)
        return [np.asarray(answers[name]) for name in names]

    return independence(
        Trial(
            run=lambda chosen: run(dict(chosen)),
            outputs=names,
            tolerance=Tolerance(golden.atol, golden.rtol),
            most_rows=max(2, min(MOST_ROWS, MOST_BYTES // row_bytes)),
            most_different=MOST_DIFFERENT,
            seconds=MOST_SECONDS,
            clock=time.monotonic,
            called="golden rows" if rows is None else "evaluation rows",
        ),
        feed,
    )


def _answer_bytes(golden: Golden) -> int:
    """Of the outputs for one row, at eight bytes a value."""
    return sum(8 * len(t["data"]) // max(1, *t["shape"][:1]) for t in golden.outputs)


def record(found: Independence) -> Batching:
    return Batching(rows=found.rows, why=found.why, refuted=found.refuted)

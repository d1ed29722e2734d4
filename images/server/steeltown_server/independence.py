"""How many rows of different clients may share a run: as many as nobody has anything against.

Three are asked, and the first that objects is heard: the graph of the model (`steeltown_tensors.rows`), what `finalise`
found with more rows than are here (`steeltown.contract.batching`), and a trial with the golden rows in this process,
with this library on this processor (`steeltown_tensors.independence`).
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import Final

from steeltown.contract import strict
from steeltown.contract.batching import Batching
from steeltown.contract.files import MANIFEST_OBJECT, MODEL_OBJECT
from steeltown.contract.golden import Golden
from steeltown_tensors import Independence, Tolerance, Trial, mixing
from steeltown_tensors import independence as tried
from steeltown_tensors.independence import Feed

from .model import Model

PROOF_ROWS: Final = 16
"""Different golden rows that are tried; more show little, and a slow model gets fewer."""

PROOF_SECONDS: Final = 5.0
"""A slow model is not started late for the sake of large batches: it gets those that were proven by then."""

MAX_MANIFEST_BYTES: Final = 16 << 20

_USUAL: Final = Golden(inputs=[], outputs=[])


def independence(model: Model, folder: Path, feed: Feed, golden: Golden, *, most_rows: int) -> Independence:
    """feed: the golden rows, which the model has answered as it should."""
    if not model.signature.may_batch:
        return Independence(1, "an input or an output of the model has a first axis of fixed size")
    objection = _of_graph(folder / MODEL_OBJECT)
    if objection:
        return Independence(1, objection, refuted=True)
    found = _found(folder / MANIFEST_OBJECT)
    if found.rows == 1:
        return Independence(1, f"finalise found: {found.why}", refuted=found.refuted)
    mine = trial(model, feed, golden, most_rows=min(most_rows, found.rows))
    if not mine.why and mine.rows < most_rows:
        return Independence(
            mine.rows, f"finalise tried no more ({found.why})" if found.why else "finalise tried no more"
        )
    return mine


def trial(model: Model, feed: Feed, golden: Golden, *, most_rows: int) -> Independence:
    names = model.signature.output_names
    # within a tolerance that is wider than usual every model is independent
    tolerance = Tolerance(min(golden.atol, _USUAL.atol), min(golden.rtol, _USUAL.rtol))
    return tried(
        Trial(
            run=lambda rows: model.run(names, rows),
            outputs=names,
            tolerance=tolerance,
            most_rows=most_rows,
            most_different=PROOF_ROWS,
            seconds=PROOF_SECONDS,
            clock=time.monotonic,
        ),
        feed,
    )


def _of_graph(path: Path) -> str:
    """What the graph has against it; "". The file is mapped, not read: weights need not be in memory twice."""
    with path.open("rb") as file:
        found = mixing(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    return "" if found is None else str(found)


def _found(path: Path) -> Batching:
    """What finalise recorded; no limit where it recorded nothing, as versions before did not."""
    if not path.exists():
        return Batching(rows=1 << 20)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
        recorded = strict.parse_object(text, "manifest", max_bytes=MAX_MANIFEST_BYTES).maybe_inner("batching")
        return Batching(rows=1 << 20) if recorded is None else Batching.from_json(recorded.raw)
    except (OSError, ValueError) as error:
        return Batching(rows=1, why=f"{path.name} cannot be read: {error}")

"""Golden rows: before it may listen, the process answers what the model answered when it was made.

This is the proof that the same bytes on this machine, this onnxruntime and these limits are the same model. A NaN
where a number was expected is a mismatch (a comparison with NaN is false, so it must be asked for). The run also
warms caches and arenas, tells the engine how long a run takes, and shows whether rows may share a run (see
`independence`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from steeltown.contract.files import GOLDEN_OBJECT
from steeltown.contract.golden import Golden
from steeltown_tensors import Array, from_json

from .comparison import first_difference
from .independence import independence
from .model import Model, StartFailure
from .signature import TensorSpec

TIMED_RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class WarmUp:
    """rows: golden rows answered. batch_rows: the most rows that may share a run, 1 if requests run one at a time.
    run_seconds: of one row. why_not_more: what limits batch_rows to less than was asked for; ""."""

    rows: int
    batch_rows: int
    run_seconds: float
    why_not_more: str = ""

    @property
    def batches(self) -> bool:
        """Whether rows were proven independent of each other."""
        return self.batch_rows > 1


def warm_up(model: Model, folder: Path, *, most_batch_rows: int = 64) -> WarmUp:
    """StartFailure(GoldenRowsDiffer) names the tensor, the index, what was expected and what came."""
    golden = _read(folder / GOLDEN_OBJECT)
    feed = _feed(model, golden)
    outputs = model.signature.output_names
    answered = dict(zip(outputs, _run(model, feed), strict=True))
    model.signature = model.signature.with_answers(answered)
    for tensor in golden.outputs:
        spec = model.signature.outputs.get(tensor["name"])
        if spec is None:
            raise _differ(f"the model has no output {tensor['name']!r}")
        expected = _array(spec, tensor)
        difference = first_difference(spec.name, expected, answered[spec.name], golden)
        if difference:
            raise _differ(difference)
    rows = next(iter(feed.values())).shape[0] if model.signature.may_batch else 0
    proof = independence(model, folder, feed, golden, most_rows=most_batch_rows)
    return WarmUp(
        rows=rows,
        batch_rows=proof.rows,
        run_seconds=_time_one(model, feed, sliced=proof.rows > 1),
        why_not_more=proof.why,
    )


def _read(path: Path) -> Golden:
    try:
        golden = Golden.from_json(json.loads(path.read_text()))
    except OSError as error:
        raise _differ(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _differ(f"invalid golden file {path}: {error!r}") from None
    if not golden.outputs:
        raise _differ(f"{path} has no answers: cannot verify that the model answers as in training")
    return golden


def _feed(model: Model, golden: Golden) -> dict[str, Array]:
    feed: dict[str, Array] = {}
    for tensor in golden.inputs:
        spec = model.signature.inputs.get(str(tensor.get("name")))
        if spec is None:
            raise _differ(f"the model has no input {tensor.get('name')!r}")
        feed[spec.name] = _array(spec, tensor)
    missing = model.signature.inputs.keys() - feed.keys()
    if missing:
        raise _differ(f"the golden rows are missing input {sorted(missing)[0]!r}")
    return feed


def _array(spec: TensorSpec, tensor: Mapping[str, Any]) -> Array:
    if tensor.get("datatype") != spec.datatype.name:
        raise _differ(f"{spec.name!r}: the golden rows have {tensor.get('datatype')}, the model {spec.datatype.name}")
    try:
        return from_json(tensor, spec.datatype)
    except ValueError as error:
        raise _differ(f"{spec.name!r}: the golden rows are not a tensor: {error}") from None


def _run(model: Model, feed: Mapping[str, Array]) -> list[Array]:
    try:
        return model.run(model.signature.output_names, feed)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise _differ(f"the model fails on its golden rows: {error}") from None


def _time_one(model: Model, feed: Mapping[str, Array], *, sliced: bool) -> float:
    if sliced:
        feed = {name: a[:1] for name, a in feed.items()}
    best = float("inf")
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        _run(model, feed)
        best = min(best, time.perf_counter() - start)
    return best


def _differ(message: str) -> StartFailure:
    return StartFailure("GoldenRowsDiffer", message)

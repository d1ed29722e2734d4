"""Golden rows in the making, and comparing a model with rows that someone else wrote.

`finalise` uses both ways: it holds the exported model against the answers of the trainer's own library
(export fidelity), and it records this model's answers for the server, which becomes ready only if it gives
them again.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import numpy as np
import polars as pl
from steeltown.contract.golden import Golden
from steeltown_tensors import BY_NAME, Array, Tolerance, from_json, to_json, worst

from .binding import Binding
from .evaluate import filled, require_finite
from .model import Model, Port
from .reasons import Reason, StepFailed

GOLDEN_ROWS: Final = 16
REPEATS: Final = 3
RANDOM_REPEATS: Final = 30
"""Of a model that draws numbers: what is drawn may seldom matter."""

REPEAT_SECONDS: Final = 5.0


def make(model: Model, binding: Binding, rows: pl.DataFrame | None) -> Golden:
    """The model's answers to GOLDEN_ROWS rows, or as many as it is fixed to; to invented ones where there are no rows.

    A golden file is also a request, and JSON has no NaN: complete rows are preferred, and gaps are filled. Among
    them are rows that differ, in as many columns as the data let them: the server batches requests only if golden rows
    show that a row's answer does not depend on the rows beside it, which equal rows cannot show.
    """
    if rows is None or not len(rows):
        feed, outputs = _invented(model, binding)
    else:
        chosen = _complete(rows, binding)
        feed = binding.feed(filled(chosen, binding.fixed_rows) if binding.fixed_rows else chosen)
        outputs = model.run(feed)
        require_finite(model.outputs, outputs)
    return Golden(
        inputs=[to_json(p.name, p.datatype, feed[p.name]) for p in model.inputs],
        outputs=[to_json(p.name, p.datatype, outputs[p.name]) for p in model.outputs],
    )


def answers(model: Model, golden: Golden) -> dict[str, Array]:
    """What the model says to the inputs of a golden file. ValueError if they are not its inputs."""
    given = {str(t.get("name")): t for t in golden.inputs}
    if lacking := [p.name for p in model.inputs if p.name not in given]:
        raise ValueError(f"missing input {lacking[0]!r}")
    return model.run({p.name: array(given[p.name], p) for p in model.inputs})


def violation(model: Model, golden: Golden) -> tuple[float, str]:
    """Largest |y - e| / (atol + rtol |e|) over all outputs, and where it is; above 1 they do not agree.

    ValueError if the file is not about this model.
    """
    got = answers(model, golden)
    ports = {p.name: p for p in model.outputs}
    tolerance = Tolerance(golden.atol, golden.rtol)
    largest, where = 0.0, ""
    compared = 0
    for expected in golden.outputs:
        name = str(expected.get("name"))
        if name not in ports:
            raise ValueError(f"unknown output {name!r}: the model has {', '.join(ports)}")
        wanted = array(expected, ports[name])
        if wanted.size != got[name].size:
            raise ValueError(f"output {name!r} has {got[name].size} values, expected {wanted.size}")
        size, index = worst(got[name].reshape(-1), wanted.reshape(-1), tolerance)
        compared += 1
        if size > largest:
            largest = size
            where = f"{name}[{index}] is {_shown(got[name], index)}, expected {_shown(wanted, index)}"
    if not compared:
        raise ValueError("it has no outputs")
    return largest, where


def require_repeatable(model: Model, golden: Golden, random: str, *, invented: bool) -> None:
    """StepFailed(NotDeterministic) if the model answers rows otherwise when it is asked again.

    random: what is known of the model's graph to draw numbers; "" if nothing is. invented: the golden rows are zeros,
    of which dropout, for one, makes zeros each time; so numbers are tried too.
    """
    deadline = time.monotonic() + REPEAT_SECONDS
    asked = [golden, *(_numbers(model, golden) if random and invented else ())]
    for _ in range(RANDOM_REPEATS if random else REPEATS):
        for rows in asked:
            size, where = violation(model, rows)
            if size > 1:
                raise StepFailed(
                    Reason.NOT_DETERMINISTIC,
                    f"the model answers the same rows differently when it is asked again ({where} before"
                    + (f"; {random}" if random else "")
                    + "): no server could answer as it does now; export it for inference, without dropout and sampling",
                )
        if time.monotonic() > deadline:
            break


def _numbers(model: Model, golden: Golden) -> list[Golden]:
    """The model's answers to random numbers in the place of golden ones; nothing if it does not take them."""
    given = {str(t["name"]): t for t in golden.inputs}
    random = np.random.default_rng(0)
    feed = {p.name: array(given[p.name], p) for p in model.inputs}
    feed = {p.name: (random.normal(size=feed[p.name].shape) if p.is_float else feed[p.name]) for p in model.inputs}
    feed = {p.name: feed[p.name].astype(p.dtype, copy=False) for p in model.inputs}
    try:
        outputs = model.run(feed)
    except StepFailed:
        return []
    return [
        Golden(
            inputs=[to_json(p.name, p.datatype, feed[p.name]) for p in model.inputs],
            outputs=[to_json(p.name, p.datatype, outputs[p.name]) for p in model.outputs],
        )
    ]


def array(raw: dict[str, Any], port: Port) -> Array:
    """The tensor in the port's type; null in a float tensor is NaN. ValueError says what does not fit."""
    try:
        return from_json(raw, BY_NAME[port.datatype])
    except ValueError as error:
        raise ValueError(f"tensor {port.name!r}: {error}") from None


def encode(golden: Golden) -> bytes:
    return json.dumps(golden.to_json(), separators=(",", ":"), allow_nan=False).encode()


def _shown(values: Array, index: int) -> str:
    value = values.reshape(-1)[index]
    return f"{value:.7g}" if isinstance(value, np.floating) else repr(str(value))


def _complete(rows: pl.DataFrame, binding: Binding) -> pl.DataFrame:
    numbers = [c for c in binding.columns if rows[c].dtype.is_numeric() or rows[c].dtype == pl.Boolean]
    plain = rows.with_columns(pl.col(c).fill_nan(None) for c in numbers if rows[c].dtype.is_float())
    complete = plain.drop_nulls(numbers) if numbers else plain
    chosen = _differing(complete, binding)
    if len(chosen) < GOLDEN_ROWS:
        filled = plain.with_columns(_without_gaps(plain[c]) for c in numbers)
        chosen = _differing(filled, binding)
    return chosen


def _differing(rows: pl.DataFrame, binding: Binding) -> pl.DataFrame:
    """The first GOLDEN_ROWS rows; for a column in which they agree, the first row that differs there is the last."""
    head = rows.head(GOLDEN_ROWS)
    witnesses: list[int] = []
    for column in binding.columns:
        agrees = head[column].n_unique() == 1 and all(rows[column][i] == head[column][0] for i in witnesses)
        if agrees and len(witnesses) < GOLDEN_ROWS // 2:
            witnesses += (rows[column] != head[column][0]).arg_true().head(1).to_list()
    return rows[sorted({*range(min(len(rows), GOLDEN_ROWS - len(witnesses))), *witnesses})] if witnesses else head


def _without_gaps(column: pl.Series) -> pl.Series:
    known = column.drop_nulls()
    if not len(known):
        return column.fill_null(False if column.dtype == pl.Boolean else 0)
    return column.fill_null(known.sort()[len(known) // 2])


def _invented(model: Model, binding: Binding) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs that the model answers with finite numbers, and its answers: rows of zeros and empty text, else one row of
    them, else one row of ones, since nothing says what the model takes. StepFailed: what it says to the first."""
    refusal: StepFailed | None = None
    for rows, number in ((GOLDEN_ROWS, 0), (1, 0), (1, 1)):
        feed = _uniform(model, binding, rows, number)
        try:
            outputs = model.run(feed)
            require_finite(model.outputs, outputs)
        except StepFailed as failure:
            refusal = refusal or failure
        else:
            return feed, outputs
    assert refusal is not None
    raise StepFailed(
        refusal.reason, f"on invented inputs, since the run has no evaluation data: {refusal.message}"
    ) from refusal


def _uniform(model: Model, binding: Binding, rows: int, number: int) -> dict[str, Array]:
    """One number in all inputs. Free dimensions are 1, but the first, and those of its name, are `rows`."""
    width = len(binding.columns) if binding.matrix and len(binding.columns) > 1 else 1
    of_rows = {p.names[0] for p in model.inputs if p.has_free_rows} - {None}
    feed: dict[str, Array] = {}
    for port in model.inputs:
        shape = [
            size if size is not None else rows if axis == 0 or name in of_rows else width
            for axis, (size, name) in enumerate(zip(port.shape, port.names, strict=True))
        ]
        feed[port.name] = np.full(shape, "" if port.is_text else number, dtype=port.dtype)
    return feed

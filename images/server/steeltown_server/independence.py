"""Whether the rows of one run leave each other alone: only then may requests of different clients share a run.

A first axis that is variable need not be a batch: a mean, a softmax or a cumulative sum over it mixes rows. Nothing in
an ONNX file says so, so it is tried: each row alone, then the same rows in runs of several sizes, orders and mixes, up
to the largest batch that the server may form. Rows that are alike prove nothing (the mean of equal rows is each of
them), so the golden rows must differ; and where they agree in one place, in a column that is always 0, a second set
of rows differs there too, for a mixer may read that column alone. Nor is anything proven by answers that are all alike,
or within a tolerance that is wider than usual.

Whatever cannot be proven this way is refused: a model that is served one request at a time is slower, never wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from steeltown.contract.golden import Golden
from steeltown_tensors import Array, Tolerance, excess

from .comparison import first_difference
from .model import Model

PROOF_ROWS: Final = range(4, 17)
"""Rows that are tried, fewest and most; more show little, and a slow model gets fewer."""

PROOF_SECONDS: Final = 5.0
"""A slow model is not started late for the sake of large batches: it gets those that were proven by then."""

LEAST_RANGE: Final = 0.01
"""Floats closer than this count as equal: what a mixer makes of them is lost in the tolerance of golden rows."""

Feed = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Independence:
    """rows: the largest run in which rows were seen to be independent; 1 if in none. why: it is not larger; or ""."""

    rows: int
    why: str = ""


class _Unproven(Exception):
    """What stands against running rows together."""


def independence(model: Model, feed: Feed, golden: Golden, *, most_rows: int) -> Independence:
    """Tries runs of up to most_rows rows. feed: the golden rows, which the model has answered as it should."""
    if not model.signature.may_batch:
        return Independence(1, "an input or an output of the model has a first axis of fixed size")
    deadline = time.monotonic() + PROOF_SECONDS
    usual = Golden(inputs=[], outputs=[])
    golden = replace(golden, atol=min(golden.atol, usual.atol), rtol=min(golden.rtol, usual.rtol))
    proven = 1
    try:
        sets = _row_sets(model, feed, golden)
        if all(_alike(answers, golden) for rows in sets for answers in rows.alone):
            raise _Unproven(
                "the golden rows all have one answer, which does not show whether a row changes another's: "
                "give the training run evaluation data whose answers differ"
            )
        for size in _sizes(max(2, most_rows)):
            for rows in sets:
                for mix in _mixes(rows.count, size):
                    if proven > 1 and time.monotonic() > deadline:
                        return Independence(proven, f"larger runs were not tried within {PROOF_SECONDS:g} s")
                    rows.require_independence(mix)
            proven = size
    except _Unproven as unproven:
        return Independence(1, str(unproven))
    return Independence(proven)


class _RowSet:
    """Rows, and the model's answer to each of them alone."""

    def __init__(self, model: Model, feed: Feed, golden: Golden) -> None:
        self._model = model
        self._feed = feed
        self._golden = golden
        self.count = _count(feed)
        self.alone = _alone(model, feed)

    def require_independence(self, mix: Sequence[int]) -> None:
        """_Unproven unless the rows of these indices, run together, are answered as they are alone."""
        indices = list(mix)
        names = self._model.signature.output_names
        try:
            together = self._model.run(names, {n: a[indices] for n, a in self._feed.items()})
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise _Unproven(f"the model fails on {len(mix)} rows at once: {_short(error)}") from None
        for name, alone, got in zip(names, self.alone, together, strict=True):
            difference = first_difference(name, alone[indices], got, self._golden)
            if difference:
                raise _Unproven(f"among {len(mix)} rows a row is answered otherwise than alone: {difference}")


def _alone(model: Model, feed: Feed) -> list[Array]:
    """Per output the answers to single rows, one behind the other."""
    names = model.signature.output_names
    try:
        runs = [model.run(names, {n: a[i : i + 1] for n, a in feed.items()}) for i in range(_count(feed))]
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise _Unproven(f"the model fails on a single row: {_short(error)}") from None
    for name, answers in zip(names, zip(*runs, strict=True), strict=True):
        shapes = {a.shape for a in answers}
        if len(shapes) > 1 or next(iter(shapes))[:1] != (1,):
            raise _Unproven(f"single rows are answered in shapes {sorted(shapes)[:4]} of output {name!r}, not in a row")
    return [np.concatenate(answers) for answers in zip(*runs, strict=True)]


def _row_sets(model: Model, feed: Feed, golden: Golden) -> list[_RowSet]:
    """The golden rows that differ; and where they agree in some place, rows that differ there."""
    if len({a.shape[:1] for a in feed.values()}) != 1:
        raise _Unproven("the golden rows are not as many in every input")
    if not _count(feed):
        raise _Unproven("there are no golden rows")
    started = time.monotonic()
    _alone(model, {name: a[:1] for name, a in feed.items()})
    affordable = PROOF_SECONDS / 8 / max(time.monotonic() - started, 1e-6)
    rows = _differing(feed, max(PROOF_ROWS.start, min(PROOF_ROWS.stop - 1, int(affordable))))
    if _count(rows) < 2:
        raise _Unproven(
            "the golden rows are all alike, and equal rows do not show whether one changes the answer to another: "
            "give the training run evaluation data whose rows differ"
        )
    plain = _RowSet(model, rows, golden)
    places = [name for name, a in rows.items() if _agrees(a).any()]
    return [plain, _spread(model, rows, golden, plain.alone, places)] if places else [plain]


def _spread(model: Model, rows: Feed, golden: Golden, before: Sequence[Array], places: Sequence[str]) -> _RowSet:
    """The rows with every second one changed where they agree; upwards, or else downwards.

    Which of the two a model accepts is not known (a logarithm, a table's last index): the one in whose answers no
    number is lost.
    """
    refusal = ""
    for up in (True, False):
        try:
            feed = {name: _changed(a, up=up, offset=i) for i, (name, a) in enumerate(rows.items())}
            changed = _RowSet(model, feed, golden)
        except _Unproven as unproven:
            refusal = str(unproven)
            continue
        if all(_finite(a) or not _finite(b) for b, a in zip(before, changed.alone, strict=True)):
            return changed
        refusal = "it answers NaN or infinity"
    raise _Unproven(
        f"the golden rows agree in places of {', '.join(map(repr, places))}, and the model takes no other values there "
        f"({refusal}): give the training run evaluation data whose rows differ in all columns"
    )


def _differing(feed: Feed, most: int) -> Feed:
    """At most `most` rows, no two of them equal in all inputs."""
    seen: dict[tuple[object, ...], int] = {}
    for i in range(_count(feed)):
        seen.setdefault(tuple(_row_key(a[i]) for a in feed.values()), i)
        if len(seen) == most:
            break
    chosen = list(seen.values())
    return {name: a[chosen] for name, a in feed.items()}


def _row_key(row: Array) -> object:
    row = np.asarray(row)
    if row.dtype.kind == "O":
        return tuple(row.ravel().tolist())
    return (row + row.dtype.type(0)).tobytes() if row.dtype.kind == "f" else row.tobytes()  # -0.0 + 0.0 is 0.0


def _agrees(rows: Array) -> Array:
    """For each place of a row: whether the rows hold one value there, or values as good as one."""
    if rows.dtype.kind != "f":
        return np.asarray((rows == rows[:1]).all(axis=0))
    values = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
    low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    return np.asarray(~(high - low > LEAST_RANGE))  # also where no row has a number


def _changed(rows: Array, *, up: bool, offset: int = 0) -> Array:
    """Places side by side change in other rows and, of floats, by another step: a mixer may read their difference.

    offset: number of the first place.
    """
    agrees = _agrees(rows)
    place = offset + np.arange(agrees.size).reshape(agrees.shape)
    base = np.broadcast_to(rows[0], rows.shape)
    other: Array
    match rows.dtype.kind:
        case "b":
            other = ~base
        case "O":
            other = np.frompyfunc(lambda text: text + "?" if up or not text else "", 1, 1)(base)
        case "f":
            wide = np.where(np.isfinite(base), base, 0.0).astype(np.float64)
            base = wide.astype(rows.dtype)
            step = np.maximum(1.0, np.abs(wide) / 2) * (1 + place % 7 / 8)
            room = float(np.finfo(rows.dtype).max) / 16
            step = np.where((wide <= room) if up else (wide < -room), step, -step)
            other = (wide + step).astype(rows.dtype)
        case _:
            bounds, one = np.iinfo(rows.dtype), rows.dtype.type(1)
            rises = base < bounds.max if up else base == bounds.min
            other = np.where(rises, base + rises * one, base - ~rises * one)
    row = np.arange(len(rows)).reshape(-1, *([1] * (rows.ndim - 1)))
    odd = (row + place) % 2 == 1
    return np.asarray(np.where(agrees, np.where(odd, other, base), rows), rows.dtype)


def _alike(answers: Array, golden: Golden) -> bool:
    """Whether no row's answer differs from the first row's by more than the tolerance."""
    first = np.broadcast_to(answers[:1], answers.shape)
    return not (excess(answers, first, Tolerance(golden.atol, golden.rtol)) > 1).any()


def _finite(answers: Array) -> bool:
    return answers.dtype.kind != "f" or bool(np.isfinite(answers).all())


def _sizes(most: int) -> Iterator[int]:
    """2, 3, 8, 32, 128, ... and at last the largest."""
    size = 2
    while size < most:
        yield size
        size = 3 if size == 2 else 8 if size == 3 else 4 * size
    yield most


def _mixes(rows: int, size: int) -> Iterator[list[int]]:
    """Indices of `size` rows out of `rows`: in turn (each meets the next), backwards, at random, and one among many
    that are equal."""
    for start in range(0, rows, size - 1) if size < rows else (0,):
        yield [(start + i) % rows for i in range(size)]
    yield [-(i + 1) % rows for i in range(size)]
    yield np.random.default_rng(size).integers(rows, size=size).tolist()
    yield [0, *[1] * (size - 1)]
    yield [*[1] * (size - 1), 0]


def _count(feed: Feed) -> int:
    return int(next(iter(feed.values())).shape[0])


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or repr(error)

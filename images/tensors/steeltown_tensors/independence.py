"""Whether the rows of one run leave each other alone: only then may requests of different clients share a run.

A first axis that is variable need not be a batch: a mean, a softmax or a cumulative sum over it mixes rows. Nothing in
an ONNX file says so, so it is tried: each row alone, then the same rows in runs of several sizes, orders and mixes, up
to the largest batch that the server may form. Rows that are alike prove nothing (the mean of equal rows is each of
them), so the golden rows must differ; and where they agree in one place, in a column that is always 0, a second set
of rows differs there too, for a mixer may read that column alone. Nor is anything proven by answers that are all alike,
or within a tolerance that is wider than usual.

Whatever cannot be proven this way is refused: a model that is served one request at a time is slower, never wrong.
What the graph says (`rows`) comes before: a trial sees only the rows that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .comparison import Tolerance, excess, first_difference
from .datatypes import Array

LEAST_ROWS: Final = 4
"""That are tried, however slow the model."""

LEAST_RANGE: Final = 0.01
"""Floats closer than this count as equal: what a mixer makes of them is lost in the tolerance of golden rows."""

Feed = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Independence:
    """rows: the largest run in which rows were seen to be independent; 1 if in none. why: it is not larger; or "".

    refuted: a row was seen to be answered otherwise among others than alone; else it was not shown. tried: different
    rows. worst: the largest difference, in tolerances.
    """

    rows: int
    why: str = ""
    refuted: bool = False
    tried: int = 0
    worst: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """run: from inputs to all outputs, in the order of `outputs`; it may raise whatever it likes.

    seconds: after which no larger run is tried, by `clock`: a slow model is not held up for the sake of large batches.
    called: what the rows are, for messages.
    """

    run: Callable[[Feed], Sequence[Array]]
    outputs: Sequence[str]
    tolerance: Tolerance
    most_rows: int
    most_different: int
    seconds: float
    clock: Callable[[], float]
    called: str = "golden rows"


class _Unproven(Exception):
    """What stands against running rows together."""


class _Refuted(_Unproven):
    """Rows that change each other's answers."""

    def __init__(self, why: str, worst: float) -> None:
        super().__init__(why)
        self.worst = worst


def independence(trial: Trial, feed: Feed) -> Independence:
    """Tries runs of up to most_rows rows. feed: rows that the model answers, the first axis of each input."""
    deadline = trial.clock() + trial.seconds
    proven, tried, worst = 1, 0, 0.0
    try:
        sets = _row_sets(trial, feed)
        tried = sets[0].count
        alike = all(_alike(answers, trial.tolerance) for rows in sets for answers in rows.alone)
        for size in _sizes(3 if alike else max(2, trial.most_rows)):
            for rows in sets:
                for mix in _mixes(rows.count, size):
                    if proven > 1 and trial.clock() > deadline:
                        why = f"larger runs were not tried within {trial.seconds:g} s"
                        return Independence(proven, why, tried=tried, worst=worst)
                    worst = max(worst, rows.difference(mix))
            proven = size
        if alike:
            raise _Unproven(
                f"the {trial.called} all have one answer, which does not show whether a row changes another's: "
                "give the training run evaluation data whose answers differ"
            )
    except _Refuted as refuted:
        return Independence(1, str(refuted), refuted=True, tried=tried, worst=refuted.worst)
    except _Unproven as unproven:
        return Independence(1, str(unproven), tried=tried)
    return Independence(proven, tried=tried, worst=worst)


class _RowSet:
    """Rows, and the model's answer to each of them alone."""

    def __init__(self, trial: Trial, feed: Feed) -> None:
        self._trial = trial
        self._feed = feed
        self.count = _count(feed)
        self.alone = _alone(trial, feed)

    def difference(self, mix: Sequence[int]) -> float:
        """The largest, in tolerances, between the rows of these indices run together and alone; _Refuted above 1."""
        indices = list(mix)
        try:
            together = self._trial.run({n: a[indices] for n, a in self._feed.items()})
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise _Unproven(f"the model fails on {len(mix)} rows at once: {_short(error)}") from None
        largest = 0.0
        for name, alone, got in zip(self._trial.outputs, self.alone, together, strict=True):
            expected = alone[indices]
            same = got.shape == expected.shape
            size = float(excess(got, expected, self._trial.tolerance).max(initial=0.0)) if same else np.inf
            if size > 1:
                difference = first_difference(name, expected, got, self._trial.tolerance)
                raise _Refuted(f"among {len(mix)} rows a row is answered otherwise than alone: {difference}", size)
            largest = max(largest, size)
        return largest


def _alone(trial: Trial, feed: Feed) -> list[Array]:
    """Per output the answers to single rows, one behind the other."""
    try:
        runs = [trial.run({n: a[i : i + 1] for n, a in feed.items()}) for i in range(_count(feed))]
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise _Unproven(f"the model fails on a single row: {_short(error)}") from None
    for name, answers in zip(trial.outputs, zip(*runs, strict=True), strict=True):
        shapes = {a.shape for a in answers}
        if len(shapes) > 1 or next(iter(shapes))[:1] != (1,):
            raise _Unproven(f"single rows are answered in shapes {sorted(shapes)[:4]} of output {name!r}, not in a row")
    return [np.concatenate(answers) for answers in zip(*runs, strict=True)]


def _row_sets(trial: Trial, feed: Feed) -> list[_RowSet]:
    """The golden rows that differ; and where they agree in some place, rows that differ there."""
    if len({a.shape[:1] for a in feed.values()}) != 1:
        raise _Unproven(f"the {trial.called} are not as many in every input")
    if not _count(feed):
        raise _Unproven(f"there are no {trial.called}")
    started = trial.clock()
    _alone(trial, {name: a[:1] for name, a in feed.items()})
    affordable = trial.seconds / 8 / max(trial.clock() - started, 1e-6)
    rows = _differing(feed, max(LEAST_ROWS, min(trial.most_different, int(affordable))))
    if _count(rows) < 2:
        raise _Unproven(
            f"the {trial.called} are all alike, and equal rows do not show whether one changes the answer to another: "
            "give the training run evaluation data whose rows differ"
        )
    plain = _RowSet(trial, rows)
    places = [name for name, a in rows.items() if _agrees(a).any()]
    return [plain, _spread(trial, rows, plain.alone, places)] if places else [plain]


def _spread(trial: Trial, rows: Feed, before: Sequence[Array], places: Sequence[str]) -> _RowSet:
    """The rows with every second one changed where they agree; upwards, or else downwards.

    Which of the two a model accepts is not known (a logarithm, a table's last index): the one in whose answers no
    number is lost.
    """
    refusal = ""
    for up in (True, False):
        try:
            feed = {name: _changed(a, up=up, offset=i) for i, (name, a) in enumerate(rows.items())}
            changed = _RowSet(trial, feed)
        except _Unproven as unproven:
            refusal = str(unproven)
            continue
        if all(_finite(a) or not _finite(b) for b, a in zip(before, changed.alone, strict=True)):
            return changed
        refusal = "it answers NaN or infinity"
    raise _Unproven(
        f"the {trial.called} agree in places of {', '.join(map(repr, places))}, and the model takes no other values "
        f"there ({refusal}): give the training run evaluation data whose rows differ in all columns"
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


def _alike(answers: Array, tolerance: Tolerance) -> bool:
    """Whether no row's answer differs from the first row's by more than the tolerance."""
    first = np.broadcast_to(answers[:1], answers.shape)
    return not (excess(answers, first, tolerance) > 1).any()


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

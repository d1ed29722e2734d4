"""Which output of a classifier is the label, which holds the probabilities, and of which class each column is.

The task says it, or the file does (see `exporter`); what neither says is not read, since a guess that is wrong makes a
perfect model worthless and a reversed one perfect. What was said is then held against the rows: classes must be those
of the target, the label must be the class with the largest probability, and probabilities must add up to one. An
objection is a sentence that tells its reader what to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from steeltown.contract.plans import Outputs
from steeltown_tensors import Array

from .exporter import Origin, Said, fault, word
from .model import Model, Port

Words = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

LABEL_NAMES: Final = ("label", "output_label")
PROBABILITY_NAMES: Final = ("probabilities", "output_probability", "probability")
RANGE_SLACK: Final = 1e-3
SUM_SLACK: Final = 1e-2
SMALLEST_TIE: Final = 1e-5
"""Of the largest score: a label is taken before rounding to float32, so scores as close as this are a tie."""
WHERE: Final = "in spec.task.outputs.classes or as metadata 'classes' of the file (a JSON list)"
WRITE_CLASSES: Final = f"write the classes in the order of the columns, {WHERE}"


class Unclear(Exception):
    """Something that cannot be read. The message says what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """values: (rows, columns). names: class of each column; of a single column it is that of `positive`.

    probabilities: whether they are such; if not, `because` says why.
    """

    values: Floats
    names: tuple[str, ...]
    positive: int = 1
    probabilities: bool = True
    because: str = ""

    @property
    def margin(self) -> Floats:
        """Of two classes: how much more the second is scored than the first."""
        if self.values.shape[1] == 2:
            return np.asarray(self.values[:, 1] - self.values[:, 0])
        one = self.values[:, 0] - (0.5 if self.probabilities else 0.0)
        return np.asarray(one if self.positive == 1 else -one)

    @property
    def matrix(self) -> Floats:
        """Probabilities of all classes."""
        if self.values.shape[1] > 1:
            return self.values
        columns = (1 - self.values[:, 0], self.values[:, 0])
        return np.column_stack(columns if self.positive == 1 else columns[::-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a classifier answered, None where it cannot be read: then `no_label` or `no_scores` says why.

    label: class of each row. told: what was read from where. assumed: classes are numbers of columns because the rows
    number theirs in the same way; nobody said so.
    """

    label: Words | None = None
    scores: Scores | None = None
    no_label: str = ""
    no_scores: str = ""
    told: str = ""
    assumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    name: str
    words: tuple[str, ...]
    is_text: bool
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """names: of the outputs. values: (rows, columns). step: distance of neighbouring numbers of their type at 1."""

    names: tuple[str, ...]
    values: Floats
    origin: Origin
    step: float

    @property
    def shown(self) -> str:
        return f"output {self.names[0]!r}" if len(self.names) == 1 else f"outputs {listed(self.names)}"

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    @property
    def classes(self) -> int:
        """One column is that of the second of two classes."""
        return max(2, self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Classes:
    """given: what a person wrote, source: where. own: what the exporter wrote, in the words of the label."""

    given: tuple[str, ...]
    own: tuple[str, ...]
    source: str

    @property
    def named(self) -> tuple[str, ...]:
        return self.given or self.own


def read(model: Model, outputs: Mapping[str, Array], truth: Words, declared: Outputs | None) -> Reading:
    """truth: class of each row, as text. Outputs have one entry per row."""
    declared = declared or Outputs()
    label, no_label = _tried(lambda: _label(model, outputs, declared))
    columns, no_scores = _tried(lambda: _columns(model, outputs, declared))
    if label is None and columns is None:
        why = no_label or no_scores or f"no output with a label [N] or probabilities [N, classes]; {there(model)}"
        return Reading(no_label=no_label or why, no_scores=no_scores or why)
    try:
        return _read(model.said, label, columns, truth, declared, (no_label, no_scores))
    except Unclear as why:
        return Reading(no_label=str(why), no_scores=str(why))


def _read(
    said: Said,
    label: _Label | None,
    columns: _Columns | None,
    truth: Words,
    declared: Outputs,
    unread: tuple[str, str],
) -> Reading:
    """unread: why there is no label and why there are no columns, "" where the model has no such output."""
    no_label, no_scores = unread
    classes = _classes(said, label, columns, declared)
    scores = None
    if columns is None:
        no_scores = no_scores or "the model has no output with probabilities: export them beside the label"
    elif names := _names(classes, columns, truth):
        scores = _scores(columns, as_in(truth, names))
    elif columns.width == 1:
        no_scores = f"nothing says of which class {columns.shown} is: write both, that one last, {WHERE}"
    else:
        no_scores = f"nothing says which classes the {columns.width} columns of {columns.shown} are: {WRITE_CLASSES}"
    answered, sure = None, True
    if label is not None:
        answered, sure = _answered(label, classes, columns, scores, truth)
    _require_known(scores, answered, classes, truth)
    if scores is not None and answered is not None and columns is not None and label is not None:
        if trouble := disagreement(answered, scores, columns.step):
            no_scores = f"label {label.name!r} and {columns.shown} disagree {trouble}"
            scores = None
            answered, no_label = (answered, "") if sure else (None, no_scores)
    elif label is None and not no_label:
        answered, no_label = (None, no_scores) if scores is None else _largest(scores)
    return Reading(
        label=answered,
        scores=scores,
        no_label=no_label,
        no_scores=no_scores,
        told=_told(label, columns, scores, classes),
        assumed=not classes.named and (scores is not None or (label is not None and label.origin.numbered)),
    )


def as_in(truth: Words, names: Sequence[str]) -> tuple[str, ...]:
    """A model may say True or "true" where the rows say 1; only then are they the same."""
    if set(truth) <= {"0", "1"}:
        return tuple({"true": "1", "false": "0"}.get(name.lower(), name) for name in names)
    return tuple(names)


def listed(names: Iterable[str]) -> str:
    some = [repr(name[:40]) for name in names]
    return ", ".join(some[:6]) + (f" and {len(some) - 6} more" if len(some) > 6 else "")


def _tried(attempt: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return attempt(), ""
    except Unclear as why:
        return None, str(why)


def _label(model: Model, outputs: Mapping[str, Array], declared: Outputs) -> _Label | None:
    if declared.label:
        port = _declared(model, declared.label, "label")
        if not _single(outputs[port.name]):
            raise Unclear(
                f"spec.task.outputs.label is {port.name!r}, which has {list(outputs[port.name].shape[1:])} values per "
                "row: name an output with one class per row"
            )
    else:
        found = [p for p in model.outputs if not p.is_float and _single(outputs[p.name])]
        if not found:
            return None
        traced = [p for p in found if model.said.labels[p.name] != Origin()]
        one = _one(found, traced, [p for p in found if p.name in LABEL_NAMES])
        if one is None:
            raise Unclear(f"each of {_named(found)} may be the label: name it in spec.task.outputs.label")
        port = one
    values = outputs[port.name].reshape(-1).tolist()
    return _Label(
        name=port.name,
        words=tuple(word(v) for v in values),
        is_text=port.is_text,
        origin=model.said.labels[port.name],
    )


def _columns(model: Model, outputs: Mapping[str, Array], declared: Outputs) -> _Columns | None:
    if declared.probabilities:
        port = _declared(model, declared.probabilities, "probabilities")
        if port.is_text or outputs[port.name].ndim > 2 or not outputs[port.name].size:
            raise Unclear(
                f"spec.task.outputs.probabilities is {port.name!r}, which is {port.datatype} of shape "
                f"{list(outputs[port.name].shape)}: name an output with numbers [N, classes]"
            )
        return _joined(model, outputs, [port])
    floats = [p for p in model.outputs if p.is_float and p.name != declared.label]
    groups = _groups(model.said, [p for p in floats if outputs[p.name].ndim <= 2 and outputs[p.name].size], outputs)
    if not groups:
        if floats:
            raise Unclear(f"{_named(floats)} must have the shape [N, classes] to be probabilities; {there(model)}")
        return None
    traced = [g for g in groups if model.said.scores[g[0].name].classes]
    group = _one(groups, traced, [g for g in groups if g[0].name in PROBABILITY_NAMES])
    if group is None:
        several = _named(port for g in groups for port in g)
        raise Unclear(f"each of {several} may hold the probabilities: name it in spec.task.outputs.probabilities")
    columns = _joined(model, outputs, group)
    at = columns.origin.column
    if columns.width == 1 and at not in (None, 1) and len(columns.origin.classes) != 2:
        raise Unclear(
            f"{columns.shown} is column {at} (from 0) of {columns.origin.tensor!r}, which may be that of any class: "
            "export all columns, or name it in spec.task.outputs.probabilities if it is that of the second class"
        )
    return columns


def _groups(said: Said, ports: Sequence[Port], outputs: Mapping[str, Array]) -> list[list[Port]]:
    """Outputs that are all the columns of one tensor belong together, in the order of the columns."""
    columns: dict[str, dict[int, Port]] = {}
    for port in ports:
        origin = said.scores[port.name]
        if origin.column is not None and _single(outputs[port.name]):
            columns.setdefault(origin.tensor, {})[origin.column] = port
    whole = [[found[i] for i in range(len(found))] for found in columns.values() if set(found) == {*range(len(found))}]
    grouped = {port.name for group in whole for port in group if len(group) > 1}
    return [g for g in whole if len(g) > 1] + [[port] for port in ports if port.name not in grouped]


def _joined(model: Model, outputs: Mapping[str, Array], ports: Sequence[Port]) -> _Columns:
    parts = [outputs[p.name].reshape(len(outputs[p.name]), -1) for p in ports]
    values = parts[0] if len(parts) == 1 else np.column_stack(parts)
    return _Columns(
        names=tuple(p.name for p in ports),
        values=values.astype(np.float64),
        origin=model.said.scores[ports[0].name],
        step=2.0 ** -{2: 7 if ports[0].datatype == "BF16" else 10}.get(parts[0].dtype.itemsize, 23),
    )


def _classes(said: Said, label: _Label | None, columns: _Columns | None, declared: Outputs) -> _Classes:
    given, source = tuple(declared.classes), "spec.task.outputs.classes"
    if given:
        if trouble := fault(given):
            raise Unclear(f"spec.task.outputs.classes has {trouble}: {WRITE_CLASSES}")
        if _shuffled(given, said.metadata):
            raise Unclear(_contradiction(source, given, "metadata 'classes' of the file", said.metadata))
    elif said.problem:
        raise Unclear(said.problem)
    else:
        given, source = said.metadata, "metadata 'classes' of the file"
    own = _own(label, columns)
    if given and columns is not None and len(given) != columns.classes:
        raise Unclear(
            f"{source} names {len(given)} classes ({listed(given)}), {columns.shown} has {columns.width} columns: "
            "write one name for each column, in their order"
        )
    if given and own and len(given) != len(own):
        raise Unclear(
            f"{source} names {len(given)} classes ({listed(given)}), the classifier in the file {len(own)} "
            f"({listed(own)}): write one name for each of these, in their order"
        )
    if _shuffled(given, own):
        raise Unclear(_contradiction(source, given, "the classifier in the file", own))
    return _Classes(given=given, own=own, source=source if given else "the classifier in the file" if own else "")


def _own(label: _Label | None, columns: _Columns | None) -> tuple[str, ...]:
    """What the exporter wrote. A classifier inside of another may number what the label then names."""
    of_label = label.origin.classes if label else ()
    of_columns = columns.origin.classes if columns else ()
    return of_columns if not of_label or _shuffled(of_label, of_columns) else of_label


def _names(classes: _Classes, columns: _Columns, truth: Words) -> tuple[str, ...]:
    """Class of each column, () if unknown. Where the rows number their classes 0, 1, ... so are the columns."""
    if classes.named:
        return classes.named if len(classes.named) == columns.classes else ()
    numbers = _numbers(columns.classes)
    return numbers if set(numbers) == set(truth) else ()


def _answered(
    label: _Label, classes: _Classes, columns: _Columns | None, scores: Scores | None, truth: Words
) -> tuple[Words, bool]:
    """The label in the words of the rows, and whether these can be no other classes."""
    by_number = dict(zip(_numbers(len(classes.named)), classes.named, strict=True))
    if label.origin.numbered and not label.is_text:
        if not by_number:
            numbers = _numbers(columns.classes if columns else len(set(truth)))
            if set(numbers) != set(truth):
                raise Unclear(
                    f"label {label.name!r} is the number of a column, the rows have the classes {_some(truth)}: "
                    f"{WRITE_CLASSES}"
                )
            return _translated(label, None, truth), False
        return _translated(label, by_number, truth), False
    if not classes.given:
        return _translated(label, None, truth), label.is_text or bool(classes.own)
    if classes.own:
        return _translated(label, dict(zip(classes.own, classes.given, strict=True)), truth), True
    by_name = {name: name for name in classes.given}
    tables = [t for t in (by_name, by_number) if set(label.words) <= set(t)]
    if label.is_text or len(tables) < 2 or by_name == by_number:
        return _translated(label, (tables or [by_name])[0], truth), label.is_text
    both = [_translated(label, table, truth) for table in tables]
    fit = [a for a in both if scores is not None and columns is not None and not disagreement(a, scores, columns.step)]
    if len(fit) != 1:
        raise Unclear(
            f"label {label.name!r} is a number, which may be the name of a class of {classes.source} "
            f"({listed(classes.given)}) or its place: export the label with the names of the classes"
        )
    return fit[0], False


def _translated(label: _Label, table: Mapping[str, str] | None, truth: Words) -> Words:
    if table is not None and (strange := sorted(set(label.words) - set(table))):
        raise Unclear(
            f"label {label.name!r} answers {listed(strange)}, which is none of the classes {listed(table)}: "
            f"{WRITE_CLASSES}"
        )
    answers = label.words if table is None else [table[w] for w in label.words]
    return np.array(as_in(truth, answers), dtype=object)


def _require_known(scores: Scores | None, answered: Words | None, classes: _Classes, truth: Words) -> None:
    """Unclear if the model's classes are none of the rows', or numbers from 0 on where the rows count otherwise."""
    known = {*(as_in(truth, classes.named)), *(scores.names if scores else ())}
    if not known and answered is not None:
        known = set(answered)
    there = set(truth)
    shifted = not classes.given and known == set(_numbers(len(known))) and "0" not in there and bool(there - known)
    if known and (shifted or not known & there):
        raise Unclear(
            f"the classes of the model are {_some(known)}, those of the rows are {_some(there)}: {WRITE_CLASSES}"
        )


def _scores(columns: _Columns, names: tuple[str, ...]) -> Scores:
    values = columns.values
    low, high, because = float(values.min()), float(values.max()), ""
    sums = values.sum(axis=1)
    if columns.origin.raw:
        because = "a linear classifier computes them, without a link function"
    elif low < -RANGE_SLACK or (columns.width == 1 and high > 1 + RANGE_SLACK):
        because = f"they go from {low:.3g} to {high:.3g}"
    elif columns.width > 1 and np.abs(sums - 1).max() >= SUM_SLACK:
        because = f"their sums over a row go from {sums.min():.3g} to {sums.max():.3g}"
    positive = 0 if columns.origin.column == 0 and len(columns.origin.classes) == 2 else 1
    return Scores(
        values=values,
        names=names,
        positive=positive,
        probabilities=not because,
        because=f"{columns.shown} holds scores, not probabilities ({because})" if because else "",
    )


def disagreement(label: Words, scores: Scores, step: float) -> str:
    """Where the label is not the class with the largest value, "" if it is one. Of two classes any threshold will do.

    step: distance of neighbouring numbers at 1 in the type of the scores; what is about as close is a tie.
    """
    place = {name: i for i, name in enumerate(scores.names)}
    if strange := sorted(set(label) - set(place)):
        return f"about the classes: {listed(strange)} is none of {listed(scores.names)}: {WRITE_CLASSES}"
    at = np.array([place[name] for name in label], dtype=np.int64)
    tie = max(SMALLEST_TIE, 8 * step) * max(1.0, float(scores.values.max()), -float(scores.values.min()))
    if len(scores.names) == 2:
        margin, ones = scores.margin, at == 1
        wrong = np.where(ones, margin < -tie, margin > tie)
        largest = (margin > 0).astype(np.int64)
        if wrong.any() and ones.any() and not ones.all() and margin[ones].min() >= margin[~ones].max() - tie:
            return ""
    else:
        wrong = scores.values.max(axis=1) - scores.values[np.arange(len(at)), at] > tie
        largest = scores.values.argmax(axis=1)
    if not wrong.any():
        return ""
    first = int(np.flatnonzero(wrong)[0])
    return (
        f"in {int(wrong.sum())} of {len(at)} rows (first: row {first}, label {label[first]!r}, most probable "
        f"{scores.names[largest[first]]!r}): correct the order of the classes, which is {listed(scores.names)}, or "
        "export a label that is the most probable class"
    )


def _largest(scores: Scores) -> tuple[Words | None, str]:
    """The class with the largest value, in place of a label."""
    if scores.values.shape[1] > 1:
        at = scores.values.argmax(axis=1)
    elif scores.probabilities:
        at = (scores.margin > 0).astype(np.int64)
    else:
        return (
            None,
            f"{scores.because} and no label, so nothing says from where on it is {scores.names[1]!r}: export it",
        )
    return np.array(scores.names, dtype=object)[at], ""


def _told(label: _Label | None, columns: _Columns | None, scores: Scores | None, classes: _Classes) -> str:
    parts = [] if label is None else [f"label is {label.name!r}"]
    if columns is not None and scores is not None:
        what = "probabilities" if scores.probabilities else "scores"
        source = classes.source or "the numbers of its columns, as the rows number them"
        parts.append(f"{what} of {listed(scores.names)} are {columns.shown}, classes from {source}")
    return "; ".join(parts)


def _declared(model: Model, name: str, field: str) -> Port:
    port = next((p for p in model.outputs if p.name == name), None)
    if port is None:
        raise Unclear(f"spec.task.outputs.{field} is {name[:80]!r}, which is no output; {there(model)}")
    return port


def _one(found: Sequence[Any], *preferred: Sequence[Any]) -> Any:
    """The only one of the first group that has just one."""
    return next((group[0] for group in (found, *preferred) if len(group) == 1), None)


def _single(values: Array) -> bool:
    return values.ndim > 0 and values.size == len(values)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(count))


def _shuffled(given: Sequence[str], other: Sequence[str]) -> bool:
    return tuple(given) != tuple(other) and sorted(given) == sorted(other)


def _contradiction(source: str, given: Sequence[str], other: str, own: Sequence[str]) -> str:
    return f"{source} has the order {listed(given)}, {other} has {listed(own)}: correct or remove the wrong one"


def _named(ports: Iterable[Port]) -> str:
    return listed(p.name for p in ports)


def there(model: Model) -> str:
    shown = [f"{p.name} {p.datatype}{[-1 if d is None else d for d in p.shape]}" for p in model.outputs[:6]]
    more = f" and {len(model.outputs) - 6} more" if len(model.outputs) > 6 else ""
    return f"the model has {', '.join(shown)}{more}"


def _some(classes: Iterable[str]) -> str:
    return listed(sorted(set(classes), key=lambda c: (len(c), c)))

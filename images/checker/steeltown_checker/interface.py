"""What users of a model rely on, and how a candidate differs from the live model in it, as a reviewer would write it.

Read from the manifests in the store, which every version ever made has: nothing needs to load. A promise is kept in two
directions: whatever was sent to the live model must still be accepted (so inputs may only become wider, and none may be
new, since a model has no optional inputs), and whatever was read from its answers must still be there (so outputs may
only become narrower, and new ones stand after those that were there: many clients read an answer by position).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from steeltown.contract import strict

from .reasons import Reason, StepFailed

Shape = tuple[int, ...]

_MAX_TENSORS: Final = 4096
_MAX_NAMES: Final = 65_536
_MAX_DIMENSIONS: Final = 64
_NAME: Final = 4096
_SHOWN_NAME: Final = 60
_SHOWN_NAMES: Final = 4
_SHOWN_DIMENSIONS: Final = 8
_SHOWN_LINES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output. shape: -1 for a free dimension."""

    name: str
    datatype: str
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """inputs, outputs: in the order of the model. classes: in the order of its probabilities, () where unknown.

    columns: of a model that takes all of them as one matrix, in order; () where it does not or nobody said.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """breaking: what a client of the live model may stumble over. notes: what it need not know."""

    breaking: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def told(self) -> str:
        """One sentence."""
        if self.breaking:
            return _first(self.breaking)
        return f"compatible; {_first(self.notes)}" if self.notes else "unchanged"


def of_manifest(manifest: Mapping[str, Any]) -> Interface:
    """StepFailed(ManifestInvalid) names the field that cannot be read."""
    try:
        fields = strict.object_of(manifest, "manifest")
        signature, task = fields.inner("signature"), fields.maybe_inner("task")
        inputs, outputs = _tensors(signature, "inputs"), _tensors(signature, "outputs")
        features = task.texts("features", _MAX_NAMES, _NAME) if task else ()
        matrix = len(inputs) == 1 and len(inputs[0].shape) == 2 and inputs[0].shape[1] != 1
        return Interface(
            inputs=inputs,
            outputs=outputs,
            classes=fields.texts("classes", _MAX_NAMES, _NAME),
            columns=features if matrix else (),
        )
    except ValueError as error:
        raise StepFailed(Reason.MANIFEST_INVALID, f"{manifest.get('digest')}: {error}") from error


def compare(live: Interface, candidate: Interface) -> Differences:
    """What has changed from `live` to `candidate`.

    >>> old = Tensor(name="p", datatype="FP32", shape=(-1, 3))
    >>> compare(Interface(inputs=(), outputs=(old,)), Interface(inputs=(), outputs=())).breaking
    ("output 'p' (FP32 [-1,3]) is gone",)
    """
    appended = _new(live.outputs, candidate.outputs[len(live.outputs) :])
    return Differences(
        breaking=(
            *_gone("input", live.inputs, candidate.inputs),
            *_changed("input", live.inputs, candidate.inputs),
            *_required(live.inputs, candidate.inputs),
            *_reordered("inputs", live.inputs, candidate.inputs),
            *_list("columns of the input", live.columns, candidate.columns),
            *_gone("output", live.outputs, candidate.outputs),
            *_changed("output", live.outputs, candidate.outputs),
            *_reordered("outputs", live.outputs, candidate.outputs),
            *_inserted(live.outputs, candidate.outputs),
            *_list("classes", live.classes, candidate.classes),
        ),
        notes=(
            *(f"output {_quoted(t.name)} ({_told(t)}) is new" for t in appended),
            *_unstated(live.classes, candidate.classes),
        ),
    )


def _tensors(signature: strict.Fields, key: str) -> tuple[Tensor, ...]:
    found = tuple(
        Tensor(
            name=each.text("name", _NAME),
            datatype=each.text("datatype", 16),
            shape=each.wholes("shape", _MAX_DIMENSIONS, least=-1),
        )
        for each in signature.each(key, _MAX_TENSORS)
    )
    if len({t.name for t in found}) != len(found):
        raise ValueError(f"{signature.path}.{key} has two tensors of one name")
    return found


def _gone(kind: str, live: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[str]:
    """What a tensor of the same type has replaced is told in one line: most often it was renamed."""
    there, known, lines = {t.name for t in candidate}, {t.name for t in live}, []
    for i, old in enumerate(live):
        if old.name in there:
            continue
        line = f"{kind} {_quoted(old.name)} ({_told(old)}) is gone"
        instead = candidate[i] if i < len(candidate) else None
        if instead and instead.name not in known and (instead.datatype, instead.shape) == (old.datatype, old.shape):
            line += f", {_quoted(instead.name)} stands in its place"
        lines.append(line)
    return lines


def _new(live: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[Tensor]:
    known = {t.name for t in live}
    return [t for t in candidate if t.name not in known]


def _required(live: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[str]:
    """A model's input always is."""
    return [
        f"input {_quoted(t.name)} ({_told(t)}) is new and required: requests of today do not have it"
        for t in _new(live, candidate)
    ]


def _inserted(live: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[str]:
    """New ones that move others from their places; where some are gone, those lines say enough."""
    if len(_new(candidate, live)):
        return []
    before = _new(live, candidate[: len(live)])
    return [f"output {_quoted(t.name)} ({_told(t)}) is new and moves others: put it after them" for t in before]


def _changed(kind: str, live: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[str]:
    now, lines = {t.name: t for t in candidate}, []
    for old in live:
        new = now.get(old.name)
        if new is None:
            continue
        same = old.datatype == new.datatype
        fits = _accepts(new.shape, old.shape) if kind == "input" else _accepts(old.shape, new.shape)
        if same and fits:
            continue
        before, after = (old.datatype, new.datatype) if fits else (_told(old), _told(new))
        if same:
            before, after = _shape(old.shape), _shape(new.shape)
        lines.append(f"{kind} {_quoted(old.name)} changed from {before} to {after}")
    return lines


def _accepts(wide: Shape, narrow: Shape) -> bool:
    """Every tensor of the shape `narrow` has the shape `wide`."""
    return len(wide) == len(narrow) and all(w in (-1, n) for w, n in zip(wide, narrow, strict=True))


def _reordered(kind: str, live: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[str]:
    there, known = {t.name for t in candidate}, {t.name for t in live}
    before, after = [t.name for t in live if t.name in there], [t.name for t in candidate if t.name in known]
    return [] if before == after else [f"{kind} changed their order from {_names(before)} to {_names(after)}"]


def _list(what: str, live: Sequence[str], candidate: Sequence[str]) -> list[str]:
    """Where either is not known, nothing is told."""
    if not live or not candidate or live == candidate:
        return []
    return [f"{what} changed from {_names(live, candidate)} to {_names(candidate, live)}"]


def _unstated(live: Sequence[str], candidate: Sequence[str]) -> list[str]:
    """Most exporters leave names of classes out, and answers do not carry them: their absence alone breaks nobody."""
    if candidate or not live:
        return []
    return [f"classes are no longer stated, so {_names(live)} could not be compared"]


def _names(names: Sequence[str], other: Sequence[str] = ()) -> str:
    """A few of them, from where they begin to differ from `other`."""
    alike = next((i for i, (a, b) in enumerate(zip(names, other, strict=False)) if a != b), 0)
    first = alike if len(names) > _SHOWN_NAMES else 0
    shown = ", ".join(_quoted(n) for n in names[first : first + _SHOWN_NAMES])
    left = len(names) - first - _SHOWN_NAMES
    return ("..., " if first else "") + shown + (f" and {left} more" if left > 0 else "")


def _first(lines: Sequence[str]) -> str:
    left = len(lines) - _SHOWN_LINES
    return "; ".join(lines[:_SHOWN_LINES]) + (f"; and {left} more" if left > 0 else "")


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _SHOWN_NAME else name[:_SHOWN_NAME] + "...")


def _told(tensor: Tensor) -> str:
    return f"{tensor.datatype} {_shape(tensor.shape)}"


def _shape(shape: Shape) -> str:
    shown = [str(d) for d in shape[:_SHOWN_DIMENSIONS]] + (["..."] if len(shape) > _SHOWN_DIMENSIONS else [])
    return f"[{','.join(shown)}]"

"""What the operator tells a container to do: one JSON document in the environment variable `STEELTOWN_PLAN`.

Plain dataclasses with `to_json`/`from_json`. Unknown keys are ignored and what is not set is not written, so that an
operator and images of neighbouring versions work together; a word that is not known is an error, by name.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self, TypeVar

from . import strict

PLAN_BYTES: Final = 1 << 20
Parameters = TypeVar("Parameters")


class TaskType(StrEnum):
    CLASSIFICATION = "Classification"
    REGRESSION = "Regression"


class ColumnType(StrEnum):
    NUMBER = "Number"  # any integer or floating point column
    INTEGER = "Integer"
    STRING = "String"
    BOOLEAN = "Boolean"


class Mode(StrEnum):
    """Whether a miss decides, or is only reported."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


class _Json:
    """JSON with camelCase keys for flat dataclasses that may nest other plans and tuples of them."""

    __slots__ = ()

    def to_json(self) -> str:
        return json.dumps(_dump(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """ValueError names what is wrong."""
        raw = strict.parse(text, cls.__name__, max_bytes=PLAN_BYTES)
        return typing.cast(Self, _load(cls, raw, cls.__name__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(_Json):
    """An object to fetch. uri: s3://, gs://, az://, file:// or http(s)://. digest: sha256:<hex> of its bytes."""

    uri: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(_Json):
    """A column that must exist. max_null_fraction: 0..1, None = any share of nulls."""

    name: str
    type: ColumnType | None = None
    max_null_fraction: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs(_Json):
    """Which output of the model means what, where its file does not say.

    label: output with the class of each row, of a regression with its number. probabilities: output with a probability
    or score for each class. classes: of its columns, in their order, as the target column has them.
    """

    label: str | None = None
    probabilities: str | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(_Json):
    """What the model predicts.

    type, target: the kind of prediction and its column.
    features: input columns in model order; empty = every column but the target.
    outputs: of the model; None = as its file says.
    """

    type: TaskType
    target: str
    features: tuple[str, ...] = ()
    outputs: Outputs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck(_Json):
    """A check to make of the training data. name: of the check in the checker, such as `rows`.

    parameters: JSON, with camelCase keys; what they mean is up to the check.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    mode: Mode = Mode.ENFORCE

    def read(self, kind: type[Parameters]) -> Parameters:
        """The parameters as the check's own dataclass. ValueError if they are not.

        Unlike elsewhere a key that is not known is never passed over: it would be a demand that nobody keeps.
        """
        path = f"data check {self.name!r}: parameters"
        found = _load(kind, self.parameters, path)
        if lost := sorted(_lost(self.parameters, _dump(found), path)):
            raise ValueError(f"unknown field {lost[0]}: install the operator and images of the same version")
        return typing.cast(Parameters, found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparePlan(_Json):
    """`prepare`: fetch and check the training data (absent for an import), the evaluation rows and the import.

    params: written to PARAMS_FILE for the trainer, as given. imported: model to fetch to OUTPUT_DIR.
    checks: of the training data, beside those that the checker makes of every table.
    columns, min_rows, max_rows: version 0.1's form of the checks `columns`, `types`, `nulls` and `rows`. The operator
    fills in `checks` alone; `to_json` writes the form of 0.1 where it says the same, since a checker of 0.1 refuses
    `checks`; `demands` reads either.
    """

    run: str
    data: Source | None = None
    checks: tuple[DataCheck, ...] = ()
    columns: tuple[Column, ...] = ()
    min_rows: int | None = None
    max_rows: int | None = None
    evaluation: Source | None = None
    imported: Source | None = None
    task: Task | None = None
    params: dict[str, Any] | None = None

    def to_json(self) -> str:
        return _Json.to_json(_as_0_1(self) or self)

    @property
    def demands(self) -> tuple[DataCheck, ...]:
        """`checks`, and as checks what `columns`, `min_rows` and `max_rows` demand."""
        columns: dict[str, list[dict[str, Any]]] = {
            "columns": [{"name": c.name} for c in self.columns],
            "types": [{"name": c.name, "type": c.type.value} for c in self.columns if c.type is not None],
            "nulls": [
                {"name": c.name, "maxNullFraction": c.max_null_fraction}
                for c in self.columns
                if c.max_null_fraction is not None
            ],
        }
        rows = {k: v for k, v in (("min", self.min_rows), ("max", self.max_rows)) if v is not None}
        found = [DataCheck(name=name, parameters={"columns": each}) for name, each in columns.items() if each]
        return (*self.checks, *found, *([DataCheck(name="rows", parameters=rows)] if rows else ()))


def _as_0_1(plan: PreparePlan) -> PreparePlan | None:
    """The same plan without `checks`, None where 0.1 has no words for them: whether it says the same is tried."""
    given = {c.name: c.parameters for c in plan.checks}
    rows = given.get("rows", {})
    columns: dict[str, dict[str, Any]] = {}
    try:
        for check in ("columns", "types", "nulls"):
            for each in given.get(check, {}).get("columns", ()):
                columns.setdefault(each["name"], {}).update(each)
        older = dataclasses.replace(
            plan,
            checks=(),
            columns=_load(tuple[Column, ...], list(columns.values()), "columns"),
            min_rows=rows.get("min"),
            max_rows=rows.get("max"),
        )
    except (KeyError, TypeError, ValueError):
        return None
    same = sorted(older.demands, key=lambda c: c.name) == sorted(plan.demands, key=lambda c: c.name)
    return older if same else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalisePlan(_Json):
    """`finalise`: check the ONNX, evaluate it and the live model on the same rows, upload, report.

    run: <namespace>/<name> of the TrainingRun, since one store serves many namespaces. imported: the model was brought,
    not trained. task: what the evaluation needs.
    store: root URI of the artifact store. live: the model in service, None if there is none.
    live_outputs: what its outputs mean; None = as its file says, since those of the task are the candidate's.
    metrics: names to report beside the default ones of the task.
    seed, confidence: of the bootstrap, and of its two-sided intervals.
    """

    run: str
    store: str
    imported: bool = False
    task: Task | None = None
    live: Source | None = None
    live_outputs: Outputs | None = None
    metrics: tuple[str, ...] = ()
    seed: int = 0
    confidence: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan(_Json):
    """`fetch`: bring a model and its golden rows from the store into MODEL_DIR, verified.

    store: root URI of the artifact store. digest: sha256:<hex> of the model.
    """

    store: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCheckPlan(_Json):
    """`loadcheck`: open-loop load against candidate and baseline, interleaved in ABBA blocks.

    model: its name in requests. candidate_url, candidate_digest: where the candidate is and what must answer there.
    golden: model in the store whose golden rows are sent.
    baseline_url: "" when there is nothing to compare with. rate_per_second: per side.
    latency_milliseconds: objective; requests over it are counted (per side).
    warm_up_seconds: sent to each side first, and not counted. block_seconds, blocks: of the measurement.
    timeout_seconds: of one request.
    """

    model: str
    candidate_url: str
    candidate_digest: str
    golden: FetchPlan
    latency_milliseconds: float
    baseline_url: str = ""
    rate_per_second: float = 50.0
    warm_up_seconds: float = 2.0
    block_seconds: float = 2.0
    blocks: int = 8
    timeout_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectItem(_Json):
    """A run that is over and not needed any more. digest: sha256:<hex> of the model that it made.

    reference: its name among the references of that model, `<namespace>.<run>.<uid>`.
    """

    digest: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectPlan(_Json):
    """`collect`: take references away, and with the last one of a model its objects.

    store: root URI of the artifact store. items: one after the other; what is gone already is no error.
    """

    store: str
    items: tuple[CollectItem, ...] = ()


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join("URL" if w == "url" else w.capitalize() for w in rest)


def _dump(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {camel(f.name): _dump(v) for f, v in pairs if v != f.default}  # what is not set needs no reader
    if isinstance(value, tuple | list):
        return [_dump(v) for v in value]
    return value


def _lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    """Paths of what was given and did not survive reading."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from _lost(value, kept[key], f"{path}.{key}")
            elif value not in (None, []):
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(kept, list):
        for i, (value, other) in enumerate(zip(given, kept, strict=False)):
            yield from _lost(value, other, f"{path}[{i}]")


def _load(kind: Any, raw: Any, path: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        options = [a for a in args if a is not type(None)]
        return None if raw is None else _load(options[0], raw, path)
    if origin is tuple:
        if not isinstance(raw, list):
            raise ValueError(f"{path} must be a list, got {type(raw).__name__}")
        return tuple(_load(args[0], v, f"{path}[{i}]") for i, v in enumerate(raw))
    if dataclasses.is_dataclass(kind):
        return _load_dataclass(kind, raw, path)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if raw not in list(kind):
            raise ValueError(f"{path} is {raw!r}: must be one of {', '.join(kind)}")
        return kind(raw)
    if kind is float:
        return strict.finite(raw, path)
    expected = origin or kind
    if expected is not Any and (not isinstance(raw, expected) or (isinstance(raw, bool) and expected is not bool)):
        raise ValueError(f"{path} must be a {expected.__name__}, got {raw!r}")
    return raw


def _load_dataclass(kind: Any, raw: Any, path: str) -> Any:
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be an object, got {type(raw).__name__}")
    hints = typing.get_type_hints(kind)
    fields = {camel(f.name): f for f in dataclasses.fields(kind)}
    given = {fields[k].name: _load(hints[fields[k].name], v, f"{path}.{k}") for k, v in raw.items() if k in fields}
    missing = [
        k
        for k, f in fields.items()
        if f.name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{path} is missing {', '.join(missing)}")
    return kind(**given)

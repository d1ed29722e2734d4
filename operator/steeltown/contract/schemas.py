"""JSON Schemas (draft 2020-12) of every document that crosses a border, for writers and readers in other languages.

Built from the dataclasses: types from annotations, descriptions from docstrings ("name: what it is." there describes
the field of that name), limits from the strict readers. The two documents that have no class (the manifest of a model
and the report of a run, both written by the checker) and the trainer's result are written out here.
Nothing refuses a property that it does not know: a neighbouring version may have added it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from . import strict
from .batching import MAX_ROWS, Batching
from .checks import Check
from .evidence import Counts, Evidence, Pairs, Route
from .faults import Fault
from .files import GOLDEN_OBJECT, MODEL_OBJECT
from .golden import Golden
from .histogram import MAX_BUCKET, Histogram
from .plans import CollectPlan, FetchPlan, FinalisePlan, LoadCheckPlan, PreparePlan, TaskType, camel
from .reports import WORD, InterfaceReport, LoadReport, LoadSide, MetricComparison, StepReport
from .version import CONTRACT_VERSION

Schema = dict[str, Any]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_PERCENT: Final[Schema] = {"minimum": 0, "maximum": 100}
_COUNT: Final[Schema] = {"minimum": 0, "maximum": strict.MAX_COUNT}
_NUMBER_OR_WORD: Final[Schema] = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
_DIGEST: Final[Schema] = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}

_DOCUMENTS: Final[Mapping[str, type]] = {
    "prepare-plan": PreparePlan,
    "finalise-plan": FinalisePlan,
    "fetch-plan": FetchPlan,
    "load-check-plan": LoadCheckPlan,
    "collect-plan": CollectPlan,
    "step-report": StepReport,
    "load-report": LoadReport,
    "route": Route,
    "evidence": Evidence,
    "golden": Golden,
}
_COUNTED: Final = (
    Check,
    Counts,
    Evidence,
    Fault,
    InterfaceReport,
    LoadSide,
    MetricComparison,
    Pairs,
    Route,
    StepReport,
)
"""Their whole numbers are counts."""
_COMPLETE: Final = (Counts, Pairs, LoadSide)
"""Zero is a count like any other: what is not there was not counted."""
_ALWAYS: Final = frozenset({(LoadReport, "saturated")})
"""Written and required although it has a default: by it a load report is known."""
_OPTIONAL: Final[Mapping[type, frozenset[str]]] = {
    StepReport: frozenset({"message"}),
    Check: frozenset({"message"}),
    Counts: frozenset({"faults"}),
    Fault: frozenset({"first"}),
    LoadSide: frozenset({"first_error", "faults"}),
    Evidence: frozenset({"window"}),
    Route: frozenset({"window"}),
}
"""Without a default in Python, and yet left out when empty, or called otherwise by a neighbour."""
_MORE: Final[Mapping[type, Schema]] = {
    Evidence: {"anyOf": [{"required": ["window"]}, {"required": ["epoch"]}]},
    Route: {"anyOf": [{"required": ["window"]}, {"required": ["epoch"]}]},
}
_EPOCH: Final[Schema] = {"type": "string", "description": "What version 0.1 calls window; read where window is absent."}
_FIELDS: Final[Mapping[tuple[type, str], Schema]] = {
    (Batching, "rows"): {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
    (StepReport, "reason"): {"type": "string", "pattern": f"^{WORD.pattern}$"},
    (Check, "value"): _NUMBER_OR_WORD,
    (Check, "threshold"): _NUMBER_OR_WORD,
    (Check, "noise_floor"): _NUMBER_OR_WORD,
    (MetricComparison, "candidate"): _NUMBER_OR_WORD,
    (Evidence, "weight"): {"type": "integer", **_PERCENT},
    (Route, "weight"): {"type": "integer", **_PERCENT},
    (Route, "mirror"): {"type": "integer", **_PERCENT},
}


def rendered() -> dict[str, str]:
    """Text of each schema, by file name."""
    schemas = {name: document(name, cls) for name, cls in _DOCUMENTS.items()}
    schemas |= {"manifest": _manifest(), "result": _result(), "run-report": _run_report()}
    return {f"{name}.json": json.dumps(s, indent=2, ensure_ascii=False) + "\n" for name, s in sorted(schemas.items())}


def document(name: str, cls: type) -> Schema:
    """The schema of one dataclass as a document of its own."""
    definitions: dict[str, Schema] = {}
    body = _object(cls, definitions)
    head = _head(name, cls.__name__)
    return head | body | ({"$defs": dict(sorted(definitions.items()))} if definitions else {})


def _head(name: str, title: str) -> Schema:
    return {"$schema": DRAFT, "$id": f"https://steeltown.dev/contract/v{CONTRACT_VERSION}/{name}.json", "title": title}


def _object(cls: type, definitions: dict[str, Schema]) -> Schema:
    summary, described = documented(cls)
    hints = typing.get_type_hints(cls)
    properties, required = {}, []
    for each in dataclasses.fields(cls):
        schema = _FIELDS.get((cls, each.name)) or _type(hints[each.name], definitions, counted=cls in _COUNTED)
        text = described.get(each.name)
        default = None if cls in _COMPLETE else _default(each)
        properties[camel(each.name)] = {
            **schema,
            **({"description": " ".join(t for t in (text, schema.get("description")) if t)} if text else {}),
            **({} if default is None else {"default": default}),
        }
        if _is_required(cls, each):
            required.append(camel(each.name))
    if cls in (Evidence, Route):
        properties["epoch"] = _EPOCH
    return {
        "description": summary,
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        **_MORE.get(cls, {}),
    }


def _is_required(cls: type, each: dataclasses.Field[Any]) -> bool:
    if each.name in _OPTIONAL.get(cls, ()):
        return False
    if cls in _COMPLETE or (cls, each.name) in _ALWAYS:
        return True
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


def _default(each: dataclasses.Field[Any]) -> Any:
    default = each.default
    return default if isinstance(default, bool | int | float) or (isinstance(default, str) and default) else None


def _type(kind: Any, definitions: dict[str, Schema], *, counted: bool) -> Schema:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _type(next(a for a in args if a is not type(None)), definitions, counted=counted)
    if origin in (tuple, list):
        return {"type": "array", "items": _type(args[0], definitions, counted=counted)}
    if origin is dict or kind is Any:
        return {} if kind is Any else {"type": "object"}
    if kind is Histogram:
        return _histogram()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # before its fields, which may name it again
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [word.value for word in kind]}
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names[kind], **(_COUNT if counted and kind is int else {})}


def _histogram() -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,2})$"},
        "additionalProperties": {"type": "integer", **_COUNT},
        "description": "Counts by bucket, eight buckets per power of two: bucket i < 8 holds i, any other holds "
        f"from (8 + i % 8) * 2**(i // 8 - 1) up to where i + 1 begins. The last is {MAX_BUCKET}.",
    }


def documented(cls: type) -> tuple[str, dict[str, str]]:
    """The summary of a class and what its docstring says of its fields, each in one line.

    "a, b: meaning" at the beginning of a sentence describes the fields a and b up to the next such beginning.
    """
    text = " ".join((cls.__doc__ or "").split())
    fields = {f.name for f in dataclasses.fields(cls)}
    starts = [
        (m.start(), m.end(), m[1].split(", "))
        for m in re.finditer(r"(?:^|(?<=[.)] ))([a-z][a-z0-9_]*(?:, [a-z][a-z0-9_]*)*): ", text)
        if set(m[1].split(", ")) <= fields
    ]
    ends = [*(start for start, _, _ in starts[1:]), len(text)]
    described = {
        name: text[begin:end].strip() for (_, begin, names), end in zip(starts, ends, strict=False) for name in names
    }
    return text[: starts[0][0]].strip() if starts else text, described


def _file(name: str) -> Schema:
    return {
        "description": f"{name} beside the manifest.",
        "type": "object",
        "properties": {"digest": _DIGEST, "sizeBytes": {"type": "integer", **_COUNT}},
        "required": ["digest", "sizeBytes"],
    }


def _ports(what: str) -> Schema:
    port = {
        "name": {"type": "string"},
        "datatype": {"type": "string", "description": "As in the Open Inference Protocol: FP32, INT64, BYTES, ..."},
        "shape": {"type": "array", "items": {"type": "integer"}, "description": "-1 for an axis of any length."},
    }
    item = {"type": "object", "properties": port, "required": ["name", "datatype", "shape"]}
    return {"type": "array", "items": item, "description": f"{what} of the model, in its order."}


def _manifest() -> Schema:
    task = {
        "type": ["object", "null"],
        "description": "What it predicts; null where the run did not say.",
        "properties": {
            "type": {"enum": [word.value for word in TaskType]},
            "target": {"type": "string"},
            "features": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["type", "target"],
    }
    return _head("manifest", "Manifest") | {
        "description": "models/<hex>/manifest.json in the store: what a model consists of. It is written last.",
        "type": "object",
        "properties": {
            "schemaVersion": {"const": 1},
            "digest": {**_DIGEST, "description": f"Of {MODEL_OBJECT}; it names the model everywhere."},
            "run": {"type": "string", "description": "The TrainingRun that made it first."},
            "createdBy": {"type": "string"},
            "referenced": {
                "type": "boolean",
                "description": "Every run that has made it left a reference; only then is it ever removed. Absent in "
                "manifests of version 0.1.",
            },
            "task": task,
            "classes": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Of a classifier, in the order of its probabilities; empty where nothing says.",
            },
            "signature": {
                "type": "object",
                "properties": {"inputs": _ports("Inputs"), "outputs": _ports("Outputs")},
                "required": ["inputs", "outputs"],
            },
            "batching": {
                **_object(Batching, {}),
                "description": "How many rows of different clients may share a run, as finalise found; a server "
                "batches no more. Absent in manifests of earlier versions: nothing was found.",
            },
            "files": {
                "type": "object",
                "properties": {name: _file(name) for name in (MODEL_OBJECT, GOLDEN_OBJECT)},
                "required": [MODEL_OBJECT, GOLDEN_OBJECT],
            },
        },
        "required": ["schemaVersion", "digest", "files"],
    }


def _result() -> Schema:
    metric = {
        "type": "object",
        "properties": {
            "value": {"type": "number"},
            "n": {"type": "integer", **_COUNT, "description": "Rows it was measured on."},
        },
    }
    return _head("result", "Result") | {
        "description": "What a trainer leaves at STEELTOWN_RESULT_FILE: any JSON object of at most 1 MiB, kept in the "
        "report of the run. The properties are those of the built-in trainer; none is required.",
        "type": "object",
        "properties": {
            "schemaVersion": {"type": "integer"},
            "framework": {"type": "string"},
            "estimator": {"type": "string"},
            "metrics": {
                "type": "object",
                "additionalProperties": metric,
                "description": "Measured by the trainer itself; no gate reads them.",
            },
            "rows": {"type": "integer", **_COUNT, "description": "Rows that were trained on."},
            "rowsRead": {"type": "integer", **_COUNT, "description": "Rows of the data."},
            "features": {"type": "array", "items": {"type": "string"}},
            "seed": {"type": "integer"},
            "crossValidation": {"type": "object"},
        },
    }


def _run_report() -> Schema:
    definitions: dict[str, Schema] = {}
    described = _object(StepReport, definitions)["properties"]
    return _head("run-report", "RunReport") | {
        "description": "runs/<namespace>/<run>/report.json in the store: all that finalise knows of a run, without the "
        "limit of a termination message.",
        "type": "object",
        "properties": {
            "schemaVersion": {"const": 1},
            "run": {"type": "string", "description": "<namespace>/<name> of the TrainingRun."},
            **{k: described[k] for k in ("reason", "message", "digest", "uri")},
            "sizeBytes": {**described["sizeBytes"], "type": ["integer", "null"]},
            "checks": described["checks"],
            "metrics": described["metrics"],
            "result": {"type": ["object", "null"], "description": "The trainer's result; see result.json."},
            "profile": {"description": "Profile of the data, null without one."},
        },
        "required": ["schemaVersion", "run", "reason", "checks", "metrics"],
        "$defs": dict(sorted(definitions.items())),
    }

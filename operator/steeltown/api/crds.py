"""The CustomResourceDefinitions. `make crds` writes them to `crds/`; CI fails when the files differ.

Names are limited so that the names of children (which add a hash) stay within 63 characters.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from .base import GROUP, VERSION, rule
from .mlmodel import MLModelSpec, MLModelStatus
from .schema import structural_schema
from .trainingrun import TrainingRunSpec, TrainingRunStatus

MODEL_NAME_LIMIT: Final = 40
RUN_NAME_LIMIT: Final = 52


class _MLModel(BaseModel):
    """MLModel is a machine-learning model: the objectives of its versions, and how they are served and rolled out."""

    model_config = ConfigDict()
    spec: MLModelSpec = Field(description="Desired state of the model. All fields are mutable.")
    status: MLModelStatus = Field(
        default_factory=lambda: MLModelStatus.model_validate({}),
        description="Most recently observed state of the model.",
    )


class _TrainingRun(BaseModel):
    """TrainingRun is one attempt to produce a version of an MLModel, and the record of its result."""

    spec: TrainingRunSpec = Field(description="Specification of the run. Immutable.")
    status: TrainingRunStatus = Field(
        default_factory=lambda: TrainingRunStatus.model_validate({}),
        description="Most recently observed state of the run.",
    )


def column(name: str, path: str, description: str, *, kind: str = "string", wide: bool = False) -> dict[str, Any]:
    out = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**out, "priority": 1} if wide else out


def _condition(name: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].{field}'


_AGE = column("Age", ".metadata.creationTimestamp", "Time since creation.", kind="date")
_READY = column("Ready", _condition("Ready", "status"), "Status of the Ready condition.")

MLMODEL_COLUMNS = [
    _READY,
    column("Stage", ".status.stage", "Current stage of the model."),
    column("Live", ".status.versions.live.run", "TrainingRun of the version that serves traffic."),
    column("Candidate", ".status.versions.candidate.run", "TrainingRun of the newest version that is not live."),
    column("Weight", ".status.rollout.observedWeight", "Percentage of requests routed to the canary.", kind="integer"),
    column("Verdict", ".status.verdict.reason", "Latest verdict on the newest version."),
    _AGE,
    column("Message", _condition("Ready", "message"), "Message of the Ready condition.", wide=True),
    column("Digest", ".status.versions.live.digest", "Digest of the live version.", wide=True),
]
TRAININGRUN_COLUMNS = [
    _READY,
    column("Phase", ".status.phase", "Current phase of the run."),
    column("Model", ".spec.modelRef.name", "Name of the MLModel that the run belongs to."),
    column("Reason", ".status.reason", "Reason for the current phase."),
    _AGE,
    column("Message", _condition("Ready", "message"), "Message of the Ready condition.", wide=True),
    column("Digest", ".status.artifact.digest", "Digest of the produced model.", wide=True),
]


def _crd(
    kind: str,
    plural: str,
    short: str,
    model: type[BaseModel],
    columns: list[dict[str, Any]],
    *,
    name_limit: int,
    scale: bool = False,
) -> dict[str, Any]:
    schema = structural_schema(model)
    schema["properties"] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, **schema["properties"]}
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"]["status"]["default"] = {"observedGeneration": -1}
    schema["required"] = ["spec"]
    schema["x-kubernetes-validations"] = [
        rule(
            f"self.metadata.name.size() <= {name_limit}",
            f"metadata.name must be no more than {name_limit} characters: names of child objects append a hash to it",
        ),
        rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must start with a letter, end with a letter or digit and contain only a-z, 0-9 and -: "
            "a Service is named after it",
        ),
    ]
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    if scale:
        version["subresources"]["scale"] = {
            "specReplicasPath": ".spec.serving.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["ml"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def mlmodel_crd() -> dict[str, Any]:
    return _crd("MLModel", "mlmodels", "mlm", _MLModel, MLMODEL_COLUMNS, name_limit=MODEL_NAME_LIMIT, scale=True)


def trainingrun_crd() -> dict[str, Any]:
    return _crd("TrainingRun", "trainingruns", "trun", _TrainingRun, TRAININGRUN_COLUMNS, name_limit=RUN_NAME_LIMIT)


def rendered() -> dict[str, str]:
    """File name -> content of `crds/`. JSON is YAML, but people read these: block style, keys in a stable order."""
    crds = {"mlmodels.yaml": mlmodel_crd(), "trainingruns.yaml": trainingrun_crd()}
    return {name: _HEADER + _yaml(crd) for name, crd in crds.items()}


_HEADER = "# Generated from operator/steeltown/api by `make crds`. Do not edit.\n"


def _yaml(value: Any, indent: int = 0) -> str:
    """Block-style YAML of JSON data, strings double-quoted (JSON strings are YAML strings)."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{pad}{_key(k)}:{_nested(v, indent + 1)}" for k, v in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{pad}-{_item(v, indent + 1)}" for v in value)
    return f"{pad}{json.dumps(value, ensure_ascii=False)}\n"


def _key(key: str) -> str:
    return key if key.replace("-", "").isalnum() and key[0].isalpha() else json.dumps(key)


def _nested(value: Any, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        return "\n" + _yaml(value, indent)
    return " " + json.dumps(value, ensure_ascii=False) + "\n"


def _item(value: Any, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        return " " + _yaml(value, indent).lstrip(" ")
    return " " + json.dumps(value, ensure_ascii=False) + "\n"

"""From a pydantic model to a structural OpenAPI v3 schema, as a CustomResourceDefinition wants it.

pydantic writes JSON Schema: `$ref`, `anyOf [.., null]`, `title`, `const`. Structural schemas forbid all of
these, so references are inlined, null branches dropped (absent is how Kubernetes says None) and maps and
lists bounded. What a model attaches as `x-kubernetes-*` is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_DROPPED = {"title", "$defs", "additionalProperties"}


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Schema of `model` without references, titles and null branches."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(raw, raw.get("$defs", {}), ())


def _convert(node: Mapping[str, Any], defs: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    node = _resolve(node, defs, path)
    out: dict[str, Any] = {k: v for k, v in node.items() if k not in _DROPPED}
    if "properties" in node:
        out["properties"] = {
            name: _property(_convert(child, defs, (*path, name)), required=name in node.get("required", ()))
            for name, child in node["properties"].items()
        }
    if isinstance(node.get("additionalProperties"), Mapping):
        out["additionalProperties"] = _convert(node["additionalProperties"], defs, (*path, "*"))
        out.setdefault("maxProperties", 64)
    if "items" in node:
        out["items"] = _convert(node["items"], defs, (*path, "[]"))
        out.setdefault("maxItems", 64)
    if out.get("x-kubernetes-int-or-string"):
        out = _quantity(out)
    if "default" in out and out["default"] is None:
        del out["default"]
    if "properties" not in out:
        out.pop("x-absent", None)
    if "description" not in out and path and path[-1] not in ("[]", "*"):
        raise ValueError(f"{'.'.join(path)} has no description: kubectl explain would show nothing")
    return dict(sorted(out.items()))


def _property(schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """An optional object whose members have defaults gets `default: {}`, else the server would not fill them in."""
    members = schema.get("properties")
    if required or not members or "default" in schema:
        return schema
    if schema.pop("x-absent", False):
        return schema
    return {**schema, "default": {}}


def _quantity(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A quantity may be written as a number ("cpu: 2"), which no type can say; the pattern binds strings only.

    A pattern and not a rule: CEL costs more than the whole schema may cost.
    """
    kept = {k: v for k, v in schema.items() if k not in ("type", "maxLength")}
    return {**kept, "anyOf": [{"type": "integer"}, {"type": "string"}]}


def _resolve(node: Mapping[str, Any], defs: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Follow `$ref` and `anyOf [x, null]`; what stands beside a reference wins over what it refers to."""
    if len(path) > 24:
        raise ValueError(f"{'.'.join(path)}: recursive models have no structural schema")
    beside = {k: v for k, v in node.items() if k not in ("$ref", "anyOf", "allOf")}
    if "$ref" in node:
        base = _resolve(defs[node["$ref"].rsplit("/", 1)[1]], defs, (*path, "$ref"))
    elif "anyOf" in node:
        options = [o for o in node["anyOf"] if o.get("type") != "null"]
        beside["x-absent"] = True  # absent means None here: no default may fill it in
        if len(options) != 1:
            raise ValueError(f"{'.'.join(path)}: a union has no structural schema; write optional members and a rule")
        base = _resolve(options[0], defs, path)
    else:
        return dict(node)
    return {**base, **beside}

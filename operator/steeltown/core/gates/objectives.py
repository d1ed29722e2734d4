"""The objectives that a run is measured against: the model's, which a run may tighten and never loosen.

Who may create runs is not always who may change a model, and a promotion is the model's affair. So for every bound the
stricter of the two counts, and Observe in a run makes nothing of the model's less than enforced.

Which of two is stricter is told by the name of the field: of `min...` the larger, of `max...` and `...margin` the
smaller. Of any other field the model's counts where it has one. So an objective that is added needs nothing here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, TypeVar

from pydantic.fields import FieldInfo

from ...api.base import Model
from ...api.objectives import Mode, RunObjectives

M = TypeVar("M", bound=Model)

_MAP_KEYS: Final = "x-kubernetes-list-map-keys"


def effective(model: RunObjectives, run: RunObjectives | None) -> RunObjectives:
    """The stricter of both, bound by bound. For a model that enforces no quality see `basis`."""
    own = RunObjectives.model_validate({name: getattr(model, name) for name in RunObjectives.model_fields})
    return own if run is None else stricter(own, run)


def basis(model: RunObjectives) -> str:
    """Whose word the quality of a version is: "Model", or "Run" if the model enforces none (never eligible then)."""
    return "Model" if any(o.mode is Mode.ENFORCE for o in model.quality) else "Run"


def stricter(model: M, run: M) -> M:
    """Field by field."""
    fields = type(model).model_fields.items()
    return model.model_copy(update={n: _both(n, f, getattr(model, n), getattr(run, n)) for n, f in fields})


def _both(name: str, field: FieldInfo, model: Any, run: Any) -> Any:
    if model is None or run is None:
        return run if model is None else model
    if isinstance(model, Model):
        return stricter(model, run)
    if isinstance(model, list):
        return _joined(_key(field), model, run)
    if isinstance(model, Mode):
        return Mode.ENFORCE if Mode.ENFORCE in (model, run) else Mode.OBSERVE
    if name.startswith("min"):
        return max(model, run, key=Decimal)
    if name.startswith("max") or name.endswith("margin"):
        return min(model, run, key=Decimal)
    return model


def _joined(key: str | None, model: list[Any], run: list[Any]) -> list[Any]:
    """Members that name the same thing become one, the others stand beside each other. Of a list without a key the
    model's counts."""
    if key is None:
        return model or run
    own = {getattr(o, key): o for o in run}
    both = [stricter(o, other) if (other := own.pop(getattr(o, key), None)) else o for o in model]
    return [*both, *own.values()]


def _key(field: FieldInfo) -> str | None:
    """The field that names a member of the list, as the schema has it."""
    extra = field.json_schema_extra
    keys = extra.get(_MAP_KEYS) if isinstance(extra, dict) else None
    return str(keys[0]) if isinstance(keys, list) and keys else None

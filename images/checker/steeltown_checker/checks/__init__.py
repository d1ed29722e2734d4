"""The checks of a table, one module each. A new check is a new module here, found by its name `CHECK`.

The plan names a check by `TableCheck.name` and brings its parameters and its mode; docs/extending.md shows the whole
way from a field of the MLModel to a check.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Final

from ..tablecheck import TableCheck


def _found() -> dict[str, TableCheck[Any]]:
    modules = [importlib.import_module(f".{m.name}", __name__) for m in pkgutil.iter_modules(__path__)]
    checks = [module.CHECK for module in modules]
    return {check.name: check for check in sorted(checks, key=lambda c: (c.rank, c.name))}


CHECKS: Final[Mapping[str, TableCheck[Any]]] = _found()
"""Name -> check, by rank."""

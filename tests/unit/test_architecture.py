"""docs/architecture.md names every module of the operator and of the images once, and no other, each with its reason.

A module that cannot be given one short row does too much: that is what the table is for.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "architecture.md"
PACKAGES = {
    "the operator": (REPOSITORY / "operator/steeltown", ""),
    **{
        path.parent.name: (path, f"{path.parent.name}/")
        for path in sorted((REPOSITORY / "images").glob("*/steeltown_*"))
        if path.is_dir()
    },
}
"""Folder of a package, and what its names begin with in the table."""


def section() -> str:
    text = PAGE.read_text()
    return text[text.index("## Where is what") : text.index("## Invariants")]


def rows() -> list[tuple[str, str]]:
    """(module, what it does) of every row that names a module."""
    return re.findall(r"(?m)^\| `([\w/]+)` \| (.+?) \|$", section().partition("### Tests and tools")[0])


def modules(folder: Path, prefix: str) -> set[str]:
    """Those with code of their own: an `__init__` of imports alone is none, and a `__main__` only starts the others."""
    found = set()
    for path in folder.rglob("*.py"):
        if path.name == "__main__.py" or (path.name == "__init__.py" and not says_something(path)):
            continue
        parts = path.relative_to(folder).with_suffix("").parts
        found.add(prefix + "/".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def says_something(path: Path) -> bool:
    """More than words, imports, and names such as `__all__`."""
    return not all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)
        or (isinstance(node, ast.Assign) and all(ast.unparse(t).startswith("__") for t in node.targets))
        for node in ast.parse(path.read_text()).body
    )


def named(prefix: str) -> set[str]:
    others = tuple(p for _, p in PACKAGES.values() if p)
    return {m for m, _ in rows() if (m.startswith(prefix) if prefix else not m.startswith(others))}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_named_and_nothing_else(package: str) -> None:
    folder, prefix = PACKAGES[package]
    assert named(prefix) == modules(folder, prefix)


def test_every_module_is_named_once_with_what_it_does() -> None:
    names = [module for module, _ in rows()]
    assert len(names) > 100
    assert sorted(names) == sorted(set(names))
    assert [module for module, does in rows() if not does.strip()] == []

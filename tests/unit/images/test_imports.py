"""What import-linter cannot say about the images: that a list is complete, and that nothing beside it is imported."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
CONTRACTS = {
    each["name"]: each
    for each in tomllib.loads((REPOSITORY / "images/imports.toml").read_text())["tool"]["importlinter"]["contracts"]
}


def test_contract_names_every_part_of_the_operator_but_the_contract() -> None:
    folder = REPOSITORY / "operator/steeltown"
    parts = {path.parent.name for path in folder.glob("*/__init__.py")} - {"contract"}
    contract = CONTRACTS["Of the operator an image sees the contract alone"]
    assert set(contract["forbidden_modules"]) == {f"steeltown.{part}" for part in parts}


def test_contracts_hold_for_every_package_of_the_images() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "images").glob("*/steeltown_*/__init__.py")}
    contract = CONTRACTS["Of the operator an image sees the contract alone"]
    assert set(contract["source_modules"]) == packages
    layers = CONTRACTS["Images know nothing of each other; what they share knows nothing of them"]["layers"]
    assert {name for layer in layers for name in layer.split(" | ")} == packages | {"steeltown.contract"}


@pytest.mark.parametrize(
    ("package", "libraries"), [("http2/steeltown_http2", {"hpack"}), ("tensors/steeltown_tensors", {"numpy"})]
)
def test_shared_package_stands_on_the_standard_library_and_one_more(package: str, libraries: set[str]) -> None:
    found = set(imported(REPOSITORY / "images" / package))
    assert found - sys.stdlib_module_names == libraries


def imported(folder: Path) -> Iterator[str]:
    """Top-level names, without the package's own."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.split(".")[0]

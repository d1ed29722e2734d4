"""What an image is made of: all that its code imports goes in, is copied, and is part of the image's name."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from steeltown_checker.model import LOCALES

REPOSITORY = Path(__file__).parents[3]
ROLES = sorted(path.parent.name for path in (REPOSITORY / "images").glob("*/inputs"))


def inputs(role: str) -> list[str]:
    return (REPOSITORY / "images" / role / "inputs").read_text().split()


def imported(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield path, node.module


def module_of(place: str) -> str:
    """operator/steeltown/contract is steeltown.contract, images/http2/steeltown_http2 is steeltown_http2."""
    parts = place.split("/")
    return ".".join(parts[1:] if parts[0] == "operator" else parts[2:])


@pytest.mark.parametrize("role", ROLES)
def test_image_holds_every_package_of_ours_that_it_imports(role: str) -> None:
    there = [module_of(place) for place in inputs(role)]
    for place in inputs(role):
        for path, name in imported(REPOSITORY / place):
            if name.split(".")[0].startswith("steeltown"):
                held = any(name == module or name.startswith(module + ".") for module in there)
                assert held, f"{path} imports {name}, which is not in images/{role}/inputs"


@pytest.mark.parametrize("role", ROLES)
def test_every_input_is_copied_to_where_it_is_imported_from(role: str) -> None:
    containerfile = (REPOSITORY / "images" / role / "Containerfile").read_text()
    for place in inputs(role):
        assert f"COPY {place} /opt/app/{module_of(place).replace('.', '/')}\n" in containerfile


def test_every_locale_that_the_checker_names_is_in_the_image_that_all_stand_on() -> None:
    containerfile = (REPOSITORY / "images/python/Containerfile").read_text()
    assert re.search(r"apt-get install [^&]*\blocales\b", containerfile)
    made = re.findall(r"localedef --no-archive -i \w+ -f UTF-8 (\S+)", containerfile)
    assert {"C.UTF-8", *made} == set(LOCALES)  # Debian itself has C.UTF-8


@pytest.fixture
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("images_build", REPOSITORY / "images/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("shared", "roles"),
    [
        ("images/http2/steeltown_http2/connection.py", {"server"}),
        ("images/tensors/steeltown_tensors/datatypes.py", {"checker", "server"}),
        ("operator/steeltown/contract/golden.py", {"operator", "checker", "server", "trainer"}),
    ],
)
def test_change_of_a_shared_package_is_a_new_name_of_the_images_that_hold_it(
    build: ModuleType, shared: str, roles: set[str]
) -> None:
    held_by = set()
    for role in build._roles(REPOSITORY / "images", []):
        files = role.staged()
        name = build._hash(files, "base")
        if shared in files:
            held_by.add(role.name)
            assert build._hash(files | {shared: REPOSITORY / "README.md"}, "base") != name
    assert held_by == roles

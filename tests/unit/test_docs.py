"""The pages name what the code can say: reasons of a status in concepts, annotations and labels in the glossary.

And the tests that a page names are there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from steeltown.api.conditions import Reason

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
OPERATOR = REPOSITORY / "operator" / "steeltown"
NO_KEYS = {"steeltown.dev/operator"}
"""Names of the same form that are neither annotation nor label: the controller that Events come from."""


def nodes(folder: Path) -> Iterator[ast.AST]:
    for path in folder.rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def reasons_of_the_status() -> set[str]:
    """Those that core/status gives itself. Others it passes on from runs, rollouts and Pods."""
    return {
        Reason[node.attr].value
        for node in nodes(OPERATOR / "core" / "status")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }


def keys_of_the_code() -> set[str]:
    """Annotations and labels, as the operator's texts and the admission policies write them."""
    texts = (node.value for node in nodes(OPERATOR) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    found = {text for text in texts if re.fullmatch(r"steeltown\.dev/[a-z-]+", text)}
    for path in (REPOSITORY / "manifests").rglob("*.yaml"):
        found |= set(re.findall(r"\bsteeltown\.dev/[a-z-]*[a-z]\b(?!\d)", path.read_text()))
    return found - NO_KEYS


def keys_of_the_glossary() -> set[str]:
    """First cells such as "`steeltown.dev/outcome`, `/result`"."""
    cells = re.findall(r"(?m)^\| (`steeltown\.dev/[^|]*?) \|", (DOCS / "glossary.md").read_text())
    return {f"steeltown.dev/{name}" for cell in cells for name in re.findall(r"`(?:steeltown\.dev)?/([a-z-]+)`", cell)}


def test_concepts_name_every_reason_that_the_status_of_a_model_gives() -> None:
    named = set(re.findall(r"`(\w+)`", (DOCS / "concepts.md").read_text()))
    reasons = reasons_of_the_status()
    assert {"Aborted", "Withdrawn", "Serving"} <= reasons
    assert reasons - named == set()


def test_glossary_lists_every_annotation_and_label_and_no_other() -> None:
    assert keys_of_the_glossary() == keys_of_the_code()


ATTACKS = ("rapid reset", "continuation", "hpack bomb", "ping", "settings", "empty frames", "window manipulation")
MORE_ATTACKS = ("data dribble", "resource loop", "internal data buffering", "madeyoureset", "metadata")


def rows_of_attacks() -> list[str]:
    return [line for line in (DOCS / "http2.md").read_text().splitlines() if line.startswith("| ") and "::" in line]


def test_every_attack_on_http2_has_a_row() -> None:
    kinds = [row.split("|")[1].lower() for row in rows_of_attacks()]
    assert [attack for attack in ATTACKS + MORE_ATTACKS if not any(attack in kind for kind in kinds)] == []


def test_tests_that_show_an_attack_held_exist() -> None:
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row.split("|")[4]) for row in rows_of_attacks()]
    assert len(named) > 15
    assert all(named), "a row without a test"
    functions = {
        path: {n.name for n in ast.parse((REPOSITORY / path).read_text()).body if isinstance(n, ast.FunctionDef)}
        for path in {path for row in named for path, _ in row}
    }
    assert [f"{path}::{name}" for row in named for path, name in row if name not in functions[path]] == []

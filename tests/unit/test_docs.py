"""The pages name what the code can say: reasons of a status in concepts, annotations and labels in the glossary."""

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

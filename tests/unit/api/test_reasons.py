"""docs/reasons.md lists every reason that the code can give, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from steeltown.api.conditions import Reason
from steeltown_checker.checks import CHECKS
from steeltown_checker.reasons import Reason as CheckerReason

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "reasons.md"


def listed(section: str) -> list[str]:
    """First column of the tables in one `##` section."""
    parts = re.split(r"(?m)^## ", PAGE.read_text())
    text = next(p for p in parts if p.startswith(f"{section}\n"))
    return re.findall(r"(?m)^\| `(\w+)` \|", text)


def reasons_of_the_server() -> set[str]:
    """The first argument of every `StartFailure(...)`."""
    found = set()
    for path in (REPOSITORY / "images/server/steeltown_server").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "StartFailure":
                argument = node.args[0]
                assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: a reason that cannot be read here"
                found.add(str(argument.value))
    return found


def reports_of_the_trainer() -> list[str]:
    """The built-in trainer speaks by exit code and last words, as any trainer does: it has no reasons."""
    files = (REPOSITORY / "images/trainer/steeltown_trainer").glob("*.py")
    return [str(p) for p in files if "StepReport" in p.read_text()]


CODE = {
    "Operator": {r.value for r in Reason},
    "Steps of training": {r.value for r in CheckerReason}.union(*(c.reasons for c in CHECKS.values())),
    "Steps of serving": reasons_of_the_server(),
}


@pytest.mark.parametrize("section", CODE)
def test_page_lists_exactly_the_reasons_of_the_code(section: str) -> None:
    assert set(listed(section)) == CODE[section]


@pytest.mark.parametrize("section", CODE)
def test_no_reason_is_explained_twice(section: str) -> None:
    names = listed(section)
    assert sorted(names) == sorted(set(names))


def test_every_row_says_what_to_do() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 3, row
        assert all(cells), row


def test_trainer_reports_no_reason_of_its_own() -> None:
    assert reports_of_the_trainer() == []


def test_every_reason_is_a_word_that_a_condition_may_carry() -> None:
    for name in set().union(*CODE.values()):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,63}", name)

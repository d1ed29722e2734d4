"""docs/openapi.yaml says what the server does: the table's requests fit it, and schemathesis finds no difference."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from steeltown_testing.conformance import target as targets
from steeltown_testing.conformance.cases import CASES, STEELTOWN, Case
from steeltown_testing.conformance.environments import FOLDER, programs
from steeltown_testing.conformance.wire import send

DOCUMENT = targets.REPOSITORY / "docs" / "openapi.yaml"
DOCUMENTED: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
SEED = 20261125
EXAMPLES = 30

ours_only = pytest.mark.skipif(STEELTOWN not in targets.levels(), reason="the document is of our server")


def _operation(case: Case) -> dict[str, Any] | None:
    """What the document has for the case's method and path; a path without braces comes before one with, and a slash
    at the end says nothing."""
    path = case.path.partition("?")[0].removesuffix("/")
    for template, item in sorted(DOCUMENTED["paths"].items(), key=lambda entry: entry[0].count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            operation: dict[str, Any] | None = item.get(case.method.lower())
            return operation
    return None


DOCUMENTED_CASES = [pytest.param(c, id=c.name) for c in CASES if c.model == "single" and _operation(c)]


def test_every_path_of_the_table_is_documented() -> None:
    """But those that the table holds because they do not exist."""
    for case in CASES:
        absent = case.exact in (404, 405) or case.method == "HEAD"
        assert absent or _operation(case), f"{case.name}: {case.method} {case.path} is not in {DOCUMENT.name}"


@ours_only
@pytest.mark.parametrize("case", DOCUMENTED_CASES)
def test_answer_fits_the_document(case: Case, target: Callable[[str], targets.Target]) -> None:
    """Status, content type and JSON, of every request of the table to a documented operation."""
    server = target(case.model)
    operation = _operation(case)
    assert operation is not None
    answer = send(server.url, case.method, server.path(case.path), case.body)
    if answer.status == 431:
        return  # of HTTP, not of an operation
    response = operation["responses"][str(answer.status)]
    if "$ref" in response:
        response = DOCUMENTED["components"]["responses"][response["$ref"].rpartition("/")[2]]
    media = response["content"][answer.headers["content-type"].partition(";")[0]]
    schema = {"components": DOCUMENTED["components"], **media.get("schema", {})}
    Draft202012Validator(schema).validate(answer.json)


@ours_only
@pytest.mark.clients
def test_server_does_what_the_document_says(target: Callable[[str], targets.Target], tmp_path: Path) -> None:
    server = target("single")
    command: list[str | Path] = [
        programs("schemathesis") / "schemathesis", "--no-color", "--config-file", FOLDER / "schemathesis.toml",
        "run", DOCUMENT, "--url", server.url, "--max-examples", str(EXAMPLES), "--seed", str(SEED),
        "--phases", "examples,coverage,fuzzing", "--request-timeout", "20", "--continue-on-failure",
    ]  # fmt: skip
    environment = os.environ | {"MODEL": server.model, "VERSION": server.version}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

"""The documentation is true where a machine can tell: its YAML, its trainers, its links."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from steeltown_checker.exporter import said
from steeltown_testing.environment import REPOSITORY, kubeconfig
from steeltown_testing.kubectl import Kubectl, eventually, namespace

API = "steeltown.dev/v1alpha1"
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text())


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def objects() -> Iterator[Any]:
    """Every Steeltown object of every page, as a test parameter that names page and object."""
    for page in PAGES:
        for block in blocks(page, "yaml"):
            for obj in yaml.safe_load_all(block):
                if obj.get("apiVersion") == API:
                    yield pytest.param(obj, id=f"{name(page)}: {obj['kind']} {obj['metadata']['name']}")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
    titles = re.findall(r"(?m)^#+ (.+)$", prose)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    config = kubeconfig(control_plane=True)
    everywhere = Kubectl(config=config)
    everywhere.run("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    for crd in ("mlmodels", "trainingruns"):
        everywhere.wait(f"crd/{crd}.steeltown.dev", "condition=Established")
    with namespace(config, "docs") as own:
        eventually(lambda: own.attempt("get", "mlmodels,trainingruns").returncode == 0)
        yield own


@pytest.mark.parametrize("obj", list(objects()))
def test_example_is_accepted_by_the_api_server(kubectl: Kubectl, obj: dict[str, Any]) -> None:
    kubectl.run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(obj))


def test_there_are_examples_of_both_kinds() -> None:
    kinds = [param.values[0]["kind"] for param in objects()]
    assert set(kinds) == {"MLModel", "TrainingRun"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_yaml_is_yaml(page: Path) -> None:
    for block in blocks(page, "yaml"):
        assert all(isinstance(obj, dict) for obj in yaml.safe_load_all(block)), block


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if fragment:
            assert fragment in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_path_that_a_page_names_exists(page: Path) -> None:
    roots = "tests|docs|images|manifests|examples|crds|operator"
    for path in re.findall(rf"`((?:{roots})/[\w./-]+)`", page.read_text()):
        assert (REPOSITORY / path).exists(), path


@pytest.fixture
def training(tmp_path: Path) -> dict[str, str]:
    """The directories and variables of a training container."""
    source, output = tmp_path / "input", tmp_path / "output"
    source.mkdir()
    output.mkdir()
    (source / "data.csv").write_text("a,b,y\n" + "".join(f"{i},{i * i},{3 * i + 1}\n" for i in range(10)))
    task = {"type": "Regression", "target": "y", "features": ["a", "b"], "columns": {}}
    (source / "params.json").write_text(json.dumps({"task": task}))
    return {
        "STEELTOWN_INPUT_DIR": str(source),
        "STEELTOWN_OUTPUT_DIR": str(output),
        "STEELTOWN_PARAMS_FILE": str(source / "params.json"),
        "STEELTOWN_RESULT_FILE": str(output / "result.json"),
        "STEELTOWN_SEED": "0",
    }


def made_by(command: list[str], env: dict[str, str]) -> tuple[Path, dict[str, Any]]:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(Path(env["STEELTOWN_RESULT_FILE"]).read_text())
    return Path(env["STEELTOWN_OUTPUT_DIR"], "model", "model.onnx"), result


def test_example_trainer_in_python_makes_a_model(training: dict[str, str]) -> None:
    script, _ = blocks(REPOSITORY / "docs/training.md", "python")
    model, result = made_by([sys.executable, "-c", script], training)
    onnx.checker.check_model(onnx.load(str(model)))
    assert result["rows"] == 10


def test_example_that_names_classes_writes_what_finalise_reads(tmp_path: Path) -> None:
    _, script = blocks(REPOSITORY / "docs/training.md", "python")
    node = helper.make_node("Softmax", ["x"], ["p"])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "p")]
    onnx.save(helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:])), tmp_path / "model.onnx")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert said(onnx.load(str(tmp_path / "model.onnx"))).classes == ("on time", "late")


def test_example_trainer_in_shell_makes_a_model(training: dict[str, str], tmp_path: Path) -> None:
    script = next(b for b in blocks(REPOSITORY / "docs/training.md", "sh") if "STEELTOWN_INPUT_DIR" in b)
    fit = tmp_path / "fit"
    fit.write_text('#!/bin/sh\nfor last; do :; done\necho model > "$last"\n')
    fit.chmod(fit.stat().st_mode | stat.S_IXUSR)
    model, result = made_by(["sh", "-c", script], {**training, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert model.read_text() == "model\n"
    assert result["rows"] == 10

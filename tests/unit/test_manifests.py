"""What is installed beside the operator's own children keeps the same rules as they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from steeltown.core.children.pods import quantity

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"


def pods() -> dict[str, dict[str, Any]]:
    """Pod specs of all workloads, by file and name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(MANIFESTS.rglob("*.yaml")):
        for obj in yaml.safe_load_all(path.read_text()):
            template = ((obj or {}).get("spec") or {}).get("template")
            if isinstance(template, dict) and "spec" in template:
                found[f"{path.name}: {obj['metadata']['name']}"] = template["spec"]
    return found


PODS = pods()


def test_workloads_are_found() -> None:
    assert {"operator.yaml: steeltown-operator", "s3.yaml: s3"} <= set(PODS)


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_workload_does_not_fill_the_disk_of_its_node(pod: dict[str, Any]) -> None:
    containers = [c["resources"] for c in (*pod.get("initContainers", ()), *pod["containers"])]
    limits = [quantity(c["limits"]["ephemeral-storage"]) for c in containers]
    assert all(c["requests"]["ephemeral-storage"] == "0" for c in containers), "else the limit becomes the request"
    for volume in pod.get("volumes", ()):
        if "emptyDir" in volume:
            assert 0 < quantity(volume["emptyDir"]["sizeLimit"]) <= max(limits), volume["name"]

"""Least privilege, both ways: what the operator did in all other tests is what its role allows.

Taken from the API server's audit log, so what reads it runs last (marker `last`); the rest compares manifests.
"""

from __future__ import annotations

import json

import pytest
import yaml
from steeltown_testing.environment import REPOSITORY, audit_log
from steeltown_testing.kubectl import Kubectl

ACCOUNT = "system:serviceaccount:steeltown-system:steeltown-operator"
RARE = {("events.k8s.io", "events", "patch")}
"""Allowed and not seen here: a repeated Event is counted up only after five minutes."""

Right = tuple[str, str, str]


def used() -> tuple[set[Right], list[str]]:
    """(rights that were used, requests that were refused)."""
    rights, refused = set(), []
    for path in sorted(audit_log().parent.glob(audit_log().stem + "*")):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["user"]["username"] != ACCOUNT or "objectRef" not in event:
                continue
            answer = event.get("responseStatus", {})
            if answer.get("code") == 403 and "being terminated" not in answer.get("message", ""):
                refused.append(f"{event['verb']} {event['requestURI']}")
            what = event["objectRef"]
            name = what["resource"] + (f"/{what['subresource']}" if "subresource" in what else "")
            rights.add((what.get("apiGroup", ""), name, event["verb"]))
    return rights, refused


def allowed() -> set[Right]:
    rights = set()
    for path in ("overlays/cluster/rbac.yaml", "base/leader-election.yaml", "base/seal.yaml"):
        for document in yaml.safe_load_all((REPOSITORY / "manifests" / path).read_text()):
            for rule in document.get("rules", []):
                rights |= {(g, r, v) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    return rights


@pytest.fixture(scope="module")
def seen(everywhere: Kubectl) -> tuple[set[Right], list[str]]:
    return used()


@pytest.mark.last
def test_no_request_of_the_operator_was_forbidden(seen: tuple[set[Right], list[str]]) -> None:
    assert seen[1] == []


@pytest.mark.last
def test_operator_did_nothing_that_its_role_does_not_name(seen: tuple[set[Right], list[str]]) -> None:
    assert seen[0] - allowed() == set()


@pytest.mark.last
def test_role_names_nothing_that_the_operator_did_not_do(seen: tuple[set[Right], list[str]]) -> None:
    """Server-side apply of what is not there yet is a patch in the log and needs the right to create."""
    created_by_apply = {("apps", "deployments", "create"), ("", "services", "create")}
    assert allowed() - seen[0] - created_by_apply == RARE


def test_only_the_operator_may_write_records_in_either_installation() -> None:
    """Beside the break-glass group and the controllers that every installation shares (`manifests/admission`)."""
    account = {"kind": "ServiceAccount", "name": "steeltown-operator", "namespace": "steeltown-system"}
    for overlay, kind in (("cluster", "ClusterRoleBinding"), ("namespace", "RoleBinding")):
        documents = yaml.safe_load_all((REPOSITORY / f"manifests/overlays/{overlay}/rbac.yaml").read_text())
        writers = [d for d in documents if d.get("roleRef", {}).get("name") == "steeltown-record-writer"]
        assert [(d["kind"], d["subjects"]) for d in writers] == [(kind, [account])]


def test_operator_sees_no_secret_but_its_own_and_none_outside_its_namespace() -> None:
    for overlay in ("cluster", "namespace"):
        for document in yaml.safe_load_all((REPOSITORY / f"manifests/overlays/{overlay}/rbac.yaml").read_text()):
            assert not [r for r in document.get("rules", []) if "secrets" in r["resources"]]
    role = next(yaml.safe_load_all((REPOSITORY / "manifests/base/seal.yaml").read_text()))
    reads = [r for r in role["rules"] if r["verbs"] != ["create"]]
    assert role["metadata"]["namespace"] == "steeltown-system"
    assert [(r["verbs"], r["resourceNames"]) for r in reads] == [(["get"], ["steeltown-seal"])]


def test_namespaced_role_is_the_same_as_the_cluster_role() -> None:
    def rules(overlay: str) -> object:
        return next(yaml.safe_load_all((REPOSITORY / f"manifests/overlays/{overlay}/rbac.yaml").read_text()))["rules"]

    assert rules("namespace") == rules("cluster")

"""The operator as it is deployed: a process with its real planners, against a real API server.

Pods do not run here; where one must, the test plays the kubelet (`explore.real.Kubelet`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from steeltown.api.conditions import violations
from steeltown_testing.environment import REPOSITORY
from steeltown_testing.explore.nature import Behaviour
from steeltown_testing.explore.real import Kubelet, real_cluster
from steeltown_testing.explore.scenarios import model, template
from steeltown_testing.kubectl import Kubectl, eventually, namespace
from steeltown_testing.operator_process import (
    LEASE,
    AuditLog,
    OperatorProcess,
    every_version,
    install_resources,
    running,
)

Obj = dict[str, Any]
T = TypeVar("T")
NAME = LEASE
GOOD = Behaviour("good", "a")
REFUSED_AGAIN_SECONDS = 10.0
HEALED_SECONDS = 15.0  # the ten that a refused write waits, and a busy machine


@pytest.fixture(scope="module")
def config(kubeconfig: str) -> str:
    install_resources(kubeconfig)
    return kubeconfig


@pytest.fixture
def kubectl(config: str) -> Iterator[Kubectl]:
    with namespace(config, "operator") as own:
        yield own


@pytest.fixture
def operator(config: str, kubectl: Kubectl, tmp_path: Path) -> Iterator[OperatorProcess]:
    with running(config, kubectl.namespace, tmp_path / "operator.log") as process:
        eventually(lambda: process.says("became leader as"), seconds=30)
        yield process


@pytest.fixture
def audit(config: str, kubectl: Kubectl) -> AuditLog:
    return AuditLog(config, kubectl.namespace)


@pytest.fixture
def kubelet(config: str, kubectl: Kubectl) -> Iterator[Kubelet]:
    with real_cluster(config, kubectl.namespace) as cluster:
        yield Kubelet(cluster)


def with_pods(kubelet: Kubelet, look: Callable[[], T], *, seconds: float = 120) -> T:
    """`eventually`, while Pods start and end. Waits longer than the operator needs: the controllers may be busy."""

    def next_look() -> T:
        kubelet.tick()
        return look()

    return eventually(next_look, seconds=seconds, every=0.05)


def run(name: str, model_name: str) -> Obj:
    spec = {"modelRef": {"name": model_name}, **template(GOOD)}
    return {"apiVersion": "steeltown.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": name}, "spec": spec}


def condition(kubectl: Kubectl, kind: str, name: str, type: str = "Ready") -> Obj:
    """{} while there is none."""
    found = kubectl.attempt("get", kind, name, "-o", "json")
    status = json.loads(found.stdout).get("status", {}) if found.returncode == 0 else {}
    return next((c for c in status.get("conditions", []) if c["type"] == type), {})


def ready(kubectl: Kubectl, kind: str, name: str, reason: str) -> Callable[[], Obj]:
    """To be looked at until Ready carries the reason."""

    def look() -> Obj:
        found = condition(kubectl, kind, name)
        return found if found.get("reason") == reason else {}

    return look


def accepted(kubectl: Kubectl, kind: str, name: str) -> Callable[[], bool]:
    """To be looked at until nothing of the object is refused any more."""
    return lambda: condition(kubectl, kind, name)["reason"] != "ApplyRefused"


def exists(kubectl: Kubectl, *what: str) -> Callable[[], bool]:
    return lambda: kubectl.attempt("get", *what).returncode == 0


def version_now(kubectl: Kubectl) -> str:
    listed = kubectl.run("get", "--raw", f"/apis/steeltown.dev/v1alpha1/namespaces/{kubectl.namespace}/mlmodels")
    return str(json.loads(listed)["metadata"]["resourceVersion"])


def foreign_service(name: str, **spec: Any) -> Obj:
    ports = [{"name": "web", "port": 80, "protocol": "TCP"}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports, **spec}}


def lease_holder(kubectl: Kubectl) -> str:
    found = kubectl.attempt("get", "lease", LEASE, "-o", "jsonpath={.spec.holderIdentity}")
    return found.stdout if found.returncode == 0 else ""


# --- the usual course ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("operator")
def test_created_model_gets_its_run_and_job_at_once(kubectl: Kubectl) -> None:
    kubectl.apply(model(GOOD))
    eventually(exists(kubectl, "trainingrun", "m-v1"), seconds=10)
    eventually(exists(kubectl, "job", "m-v1-run"), seconds=10)
    told = eventually(ready(kubectl, "trainingrun", "m-v1", "Unschedulable"), seconds=120)
    assert "no nodes available to schedule pods" in told["message"]
    eventually(lambda: told["message"] in condition(kubectl, "mlmodel", "m").get("message", ""), seconds=10)


@pytest.mark.usefixtures("operator")
def test_rollout_writes_only_statuses_that_tools_can_trust_and_nothing_once_it_is_done(
    kubectl: Kubectl, kubelet: Kubelet, audit: AuditLog
) -> None:
    start = version_now(kubectl)
    kubectl.apply(model(GOOD))
    with_pods(kubelet, ready(kubectl, "mlmodel", "m", "Promoted"))
    with_pods(kubelet, lambda: not exists(kubectl, "service", "m-canary")())
    for plural in ("mlmodels", "trainingruns"):
        written = [o for o in every_version(kubectl, plural, since=start) if "conditions" in o["status"]]
        assert len(written) >= 3
        assert [(o["metadata"]["resourceVersion"], broken) for o in written if (broken := violations(o))] == []
    time.sleep(2.0)  # Events are written behind the reconcile
    before = len(audit.writes())
    assert before
    time.sleep(10.0)
    assert audit.writes()[before:] == []


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dead_webhook(kubectl: Kubectl) -> Iterator[Callable[[], None]]:
    """A webhook of somebody else's, asked about every new Job here, that does not answer. Returns what removes it."""
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    name = f"jobs.{kubectl.namespace}.example.com"
    webhook = {
        "name": name,
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}},
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = "ValidatingWebhookConfiguration"
    api = "admissionregistration.k8s.io/v1"
    everywhere = Kubectl(config=kubectl.config)
    everywhere.apply({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]})
    probe = ("create", "job", "probe", "--image=none", "--dry-run=server")
    eventually(lambda: "failed calling webhook" in kubectl.attempt(*probe).stderr)

    def remove() -> None:
        everywhere.run("delete", kind, name, "--ignore-not-found")

    yield remove
    remove()


@pytest.mark.usefixtures("operator")
def test_foreign_webhook_that_refuses_a_child_is_named_in_the_status_asked_rarely_and_forgotten_when_gone(
    kubectl: Kubectl, audit: AuditLog, dead_webhook: Callable[[], None]
) -> None:
    kubectl.apply(model(GOOD))
    told = eventually(ready(kubectl, "trainingrun", "m-v1", "ApplyRefused"), seconds=5)
    assert f'failed calling webhook "jobs.{kubectl.namespace}.example.com"' in told["message"]
    assert "connection refused" in told["message"]
    eventually(lambda: "failed calling webhook" in condition(kubectl, "mlmodel", "m")["message"], seconds=5)
    for number in range(12):
        kubectl.run("label", "trainingrun", "m-v1", f"look=again-{number}", "--overwrite")
        time.sleep(1.0)
    attempts = [r.at for r in audit.writes() if r.resource == "jobs"]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(attempts)]
    assert len(attempts) >= 2
    assert min(gaps) >= REFUSED_AGAIN_SECONDS
    dead_webhook()
    eventually(exists(kubectl, "job", "m-v1-run"), seconds=HEALED_SECONDS)
    eventually(ready(kubectl, "trainingrun", "m-v1", "Unschedulable"), seconds=120)


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    "foreign",
    [{"selector": {"app": "somebody-elses"}}, {"type": "ExternalName", "externalName": "elsewhere.example.com"}],
    ids=["one with a selector", "one without"],
)
def test_foreign_service_of_the_models_name_is_never_adopted_and_named_until_it_is_gone(
    kubectl: Kubectl, kubelet: Kubelet, foreign: Obj
) -> None:
    kubectl.run("create", "-f", "-", stdin=json.dumps(foreign_service("m", **foreign)))
    before = kubectl.get("service", "m")
    kubectl.apply(model(GOOD, stage="Experimental"))
    told = with_pods(kubelet, ready(kubectl, "mlmodel", "m", "ApplyRefused"))
    assert "Service m already exists and is not controlled by this object: delete or rename it" in told["message"]
    after = kubectl.get("service", "m")
    assert after["spec"] == before["spec"]
    assert not {"labels", "annotations", "ownerReferences"} & set(after["metadata"])
    kubectl.run("delete", "service", "m")
    eventually(accepted(kubectl, "mlmodel", "m"), seconds=HEALED_SECONDS)
    with_pods(kubelet, ready(kubectl, "mlmodel", "m", "AwaitingPromotion"))
    assert kubectl.get("service", "m")["spec"]["selector"]["steeltown.dev/model"] == "m"


@pytest.mark.usefixtures("operator")
def test_run_of_a_missing_model_says_so_and_starts_when_the_model_appears(kubectl: Kubectl) -> None:
    kubectl.apply(run("r", "m"))
    told = eventually(ready(kubectl, "trainingrun", "r", "ModelNotFound"), seconds=5)
    assert told["message"] == f"MLModel {kubectl.namespace}/m not found: create it"
    without_template = model(GOOD)
    del without_template["spec"]["training"]
    kubectl.apply(without_template)
    eventually(exists(kubectl, "job", "r-run"), seconds=5)
    eventually(ready(kubectl, "trainingrun", "r", "Unschedulable"), seconds=120)


@pytest.mark.usefixtures("operator")
def test_requests_above_limits_are_refused_with_the_servers_words_and_healed_by_an_edit(
    kubectl: Kubectl, kubelet: Kubelet
) -> None:
    wanted = model(GOOD, stage="Experimental")
    wanted["spec"]["serving"]["resources"] = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    kubectl.apply(wanted)
    told = with_pods(kubelet, ready(kubectl, "mlmodel", "m", "ApplyRefused"))
    assert "must be less than or equal to cpu limit" in told["message"]
    wanted["spec"]["serving"]["resources"]["limits"]["cpu"] = "3"
    kubectl.apply(wanted)
    eventually(accepted(kubectl, "mlmodel", "m"), seconds=HEALED_SECONDS)
    with_pods(kubelet, ready(kubectl, "mlmodel", "m", "AwaitingPromotion"))


@pytest.fixture
def account(config: str, kubectl: Kubectl, tmp_path: Path) -> Account:
    return Account(config, kubectl, tmp_path / "account.kubeconfig")


class Account:
    """A ServiceAccount with the rights of `manifests/`, and such that are taken from it."""

    def __init__(self, config: str, kubectl: Kubectl, path: Path) -> None:
        self._kubectl = kubectl
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": kubectl.namespace}
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": NAME},
            "roleRef": reference,
            "subjects": [subject],
        }
        kubectl.apply(account, binding)
        login = yaml.safe_load(Path(config).read_text())
        login["users"] = [{"name": NAME, "user": {"token": kubectl.run("create", "token", NAME).strip()}}]
        login["contexts"][0]["context"]["user"] = NAME
        login["current-context"] = login["contexts"][0]["name"]
        path.write_text(yaml.safe_dump(login))
        self.kubeconfig = str(path)

    def grant(self, *, but: tuple[str, str] | None = None) -> None:
        """All rights of the manifests, `but` one: (resource, verb)."""
        rules = []
        for path in ("overlays/namespace/rbac.yaml", "base/leader-election.yaml", "base/seal.yaml"):
            for document in yaml.safe_load_all((REPOSITORY / "manifests" / path).read_text()):
                rules += document.get("rules", [])
        if but:
            for rule in rules:
                if but[0] in rule["resources"]:
                    rule["verbs"].remove(but[1])
        api = "rbac.authorization.k8s.io/v1"
        self._kubectl.apply({"apiVersion": api, "kind": "Role", "metadata": {"name": NAME}, "rules": rules})


def test_missing_permission_is_named_with_verb_and_resource_and_healed_when_granted(
    kubectl: Kubectl, account: Account, tmp_path: Path
) -> None:
    account.grant(but=("jobs", "create"))
    with running(account.kubeconfig, kubectl.namespace, tmp_path / "operator.log"):
        kubectl.apply(model(GOOD))
        told = eventually(ready(kubectl, "trainingrun", "m-v1", "ApplyRefused"), seconds=15)
        assert 'cannot create resource "jobs" in API group "batch"' in told["message"]
        assert f"system:serviceaccount:{kubectl.namespace}:{NAME}" in told["message"]
        account.grant()
        eventually(exists(kubectl, "job", "m-v1-run"), seconds=HEALED_SECONDS)


# --- coming and going ------------------------------------------------------------------------------------------------


def test_sigterm_ends_the_process_with_code_0_within_five_seconds_and_frees_the_lease(
    kubectl: Kubectl, operator: OperatorProcess
) -> None:
    kubectl.apply(model(GOOD))
    eventually(exists(kubectl, "job", "m-v1-run"), seconds=10)
    assert lease_holder(kubectl).startswith("operator_")
    assert operator.terminate() < 5.0
    assert lease_holder(kubectl) == ""


def test_standby_takes_over_within_five_seconds_when_the_leader_is_stopped(
    config: str, kubectl: Kubectl, operator: OperatorProcess, tmp_path: Path
) -> None:
    with running(config, kubectl.namespace, tmp_path / "second.log", identity="second") as second:
        time.sleep(3.0)  # it fills its cache and stands for election
        assert lease_holder(kubectl).startswith("operator_")
        assert not second.says("became leader as")
        operator.terminate()
        eventually(lambda: lease_holder(kubectl).startswith("second_"), seconds=5)
        kubectl.apply(model(GOOD))
        eventually(exists(kubectl, "job", "m-v1-run"), seconds=5)

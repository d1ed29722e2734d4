"""What all our Pods share: labels, owners, Pod Security `restricted`, and the step containers.

User code and untrusted models never meet credentials: only the containers of the checker image (`prepare`,
`finalise`, `fetch`, `loadcheck`, `collect`) get the storage Secret, and no Pod gets an API token. No container fills
the node's disk: each volume and each Pod has a limit, and no two containers share a `/tmp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from ...api.base import API_VERSION, Resources
from ...contract.files import STORE_PREFIX, Env
from ...contract.version import CONTRACT_VERSION
from ..ownership import MANAGED_BY_LABEL, MANAGER, MODEL_LABEL
from ..plan import Obj

CONTRACT: Final[dict[str, str]] = {Env.CONTRACT_VERSION: str(CONTRACT_VERSION)}
USER: Final = 65532
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
INTENT_ANNOTATION: Final = "steeltown.dev/intent"

CONTAINER_SECURITY: Final[Obj] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: Final[Obj] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
STORE_KEYS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
)
"""Keys of the storage Secret that images of every version read; docs/storage.md lists them."""
STEP_RESOURCES: Final[Obj] = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"cpu": "2", "memory": "2Gi"},
}
DISK: Final = "ephemeral-storage"
STEP_DISK: Final = "8Gi"
"""Of a Pod with one step that fetches no more than a model or its golden rows."""
_FETCHED: Final = "5Gi"
"""Of a volume for one fetched file: at most 4 GiB, unless the image says otherwise, and small ones beside it."""
_TMP: Final = "tmp"


def metadata(root: Obj, name: str, component: str, labels: Mapping[str, str], **more: Any) -> Obj:
    """Name, labels and the controller reference to `root`: deleting the root deletes everything."""
    return {
        "name": name,
        "namespace": root["metadata"]["namespace"],
        "labels": {MANAGED_BY_LABEL: MANAGER, COMPONENT_LABEL: component, **labels},
        "ownerReferences": [owner_reference(root)],
        **more,
    }


def owner_reference(root: Obj) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": root["kind"],
        "name": root["metadata"]["name"],
        "uid": root["metadata"]["uid"],
        "controller": True,  # without blockOwnerDeletion, which would need a right on finalizers
    }


def pod_labels(component: str, model: str, labels: Mapping[str, str]) -> dict[str, str]:
    return {MANAGED_BY_LABEL: MANAGER, COMPONENT_LABEL: component, MODEL_LABEL: model, **labels}


def pod_spec(
    *, containers: list[Obj], volumes: list[Obj], disk: str, init: list[Obj] | None = None, **more: Any
) -> Obj:
    """disk: what all volumes and logs of the Pod may take together, in canonical form.

    Kubernetes takes the largest limit of a container for that of the Pod, so all have the same.
    """
    every = [*(init or ()), *containers]
    spec: Obj = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [_within(disk, c) for c in containers],
        "volumes": [*volumes, *(folder(_tmp(c["name"]), disk) for c in every)],
        **more,
    }
    return {**spec, "initContainers": [_within(disk, c) for c in init]} if init else spec


def _within(disk: str, c: Obj) -> Obj:
    """Nothing is reserved unless it is asked for: without a request the API server would take the limit for one."""
    given = c["resources"]
    requests, limits = {DISK: "0", **given.get("requests", {})}, {**given.get("limits", {}), DISK: disk}
    return {**c, "resources": {**given, "requests": requests, "limits": limits}}


def folder(name: str, size: str) -> Obj:
    """A volume of the Pod's own. size: in canonical form; the kubelet evicts a Pod that exceeds it."""
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def folder_for_file(name: str, disk: str) -> Obj:
    """For one file that a step fetches, in a Pod with that disk."""
    return folder(name, min(disk, _FETCHED, key=quantity))


def disk(given: Resources, default: str) -> str:
    """What a Pod may write in all: as its main container was given it, and never less than that one asks for."""
    if (limit := given.limits.get(DISK)) is not None:
        return canonical_quantity(str(limit))
    return canonical_quantity(max(default, str(given.requests.get(DISK, "0")), key=quantity))


def _tmp(container: str) -> str:
    return f"{_TMP}-{container}"


def container(
    name: str,
    image: str,
    *,
    env: Mapping[str, str],
    mounts: Mapping[str, str],
    read_only: frozenset[str] = frozenset(),
    resources: Obj,
    **more: Any,
) -> Obj:
    """mounts: volume name -> path; a writable /tmp of its own is always there. A crash leaves its last log lines as
    message."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": str(k), "value": v} for k, v in sorted({**env, **CONTRACT}.items()) if v != ""],
        "volumeMounts": [
            {"name": v, "mountPath": p, **({"readOnly": True} if v in read_only else {})}
            for v, p in {**mounts, _tmp(name): "/tmp"}.items()  # noqa: S108 (an emptyDir of the container)
        ],
        "resources": resources,
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **more,
    }


def step(
    command: str,
    image: str,
    plan: str,
    *,
    secret: str,
    env: Mapping[str, str],
    mounts: Mapping[str, str],
    read_only: frozenset[str] = frozenset(),
    resources: Obj = STEP_RESOURCES,
) -> Obj:
    """A container of the checker image, which alone may open the artifact store.

    Whoever may edit the Secret must not be able to change what our code does (`LD_PRELOAD`, `PYTHONPATH`): only the
    keys of the store keep their names, all others get a prefix under which nothing looks for them.
    """
    made = container(
        command,
        image,
        env={**env, Env.PLAN: plan},
        mounts=mounts,
        read_only=read_only,
        resources=resources,
        args=[command],
        envFrom=[{"prefix": STORE_PREFIX, "secretRef": {"name": secret}}],
    )
    opened = [_from_secret(secret, key) for key in STORE_KEYS]
    return {**made, "env": [*made["env"], *opened]}


def _from_secret(secret: str, key: str) -> Obj:
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}


def resources(given: Resources, default: Obj) -> Obj:
    """The given resources over defaults, quantities as the API server writes them back.

    A default limit gives way to a request that was given without one: it could lie below it.
    """
    limits = {k: v for k, v in default.get("limits", {}).items() if k not in given.requests}
    parts = {
        "requests": {**default.get("requests", {}), **given.requests},
        "limits": {**limits, **given.limits},
    }
    return {p: {k: canonical_quantity(str(v)) for k, v in chosen.items()} for p, chosen in parts.items() if chosen}


def canonical_quantity(text: str) -> str:
    """The form in which the API server returns a quantity, so that an unchanged intent compares equal.

    As apimachinery's Quantity does it: a binary suffix stays binary unless the value has a fraction, an exponent stays
    one, what is finer than a billionth is rounded up, and the largest suffix is taken that leaves a whole number.

    >>> [canonical_quantity(q) for q in ("1000m", "0.5", "1024Mi", "1.5Gi", "2", "0.1Gi", "0.0005")]
    ['1', '500m', '1Gi', '1536Mi', '2', '107374182400m', '500u']
    """
    value, suffix = quantity(text), _split(text)[1]
    if suffix and suffix in _BINARY and value == int(value):
        return _largest(int(value), 1024, _BINARY)
    units = _DECIMAL if suffix or "e" not in text.lower() else _EXPONENT
    return _largest(int((value * 10**9).to_integral_value(rounding=ROUND_CEILING)), 1000, units)


def quantity(text: str) -> Decimal:
    """Its value, for comparing."""
    number, suffix = _split(text)
    if suffix in _DECIMAL:
        return number * Decimal(1000) ** (_DECIMAL.index(suffix) - _DECIMAL.index(""))
    return number * Decimal(1024) ** _BINARY.index(suffix)


_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_EXPONENT = ("e-9", "e-6", "e-3", "", "e3", "e6", "e9", "e12", "e15", "e18")


def _largest(whole: int, base: int, units: tuple[str, ...]) -> str:
    exponent = 0
    while whole and whole % base == 0 and exponent + 1 < len(units):
        whole, exponent = whole // base, exponent + 1
    return f"{whole}{units[exponent]}" if whole else "0"


def _split(text: str) -> tuple[Decimal, str]:
    index = len(text)
    while index and not text[index - 1].isdigit():
        index -= 1
    number, suffix = Decimal(text[:index]), text[index:]
    if suffix in _DECIMAL or suffix in _BINARY:
        # a plain number is decimal; only Ki, Mi, ... are binary
        return number, suffix
    raise ValueError(f"invalid quantity {text!r}: unknown suffix {suffix!r}")

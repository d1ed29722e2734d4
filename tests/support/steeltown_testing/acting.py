"""kubectl as somebody else, by impersonation: RBAC and admission answer as they would answer that user.

Whoever holds the cluster's own kubeconfig may do everything, so rights and reservations show only to others.
"""

from __future__ import annotations

import subprocess

from steeltown_testing.kubectl import Kubectl

RBAC = "rbac.authorization.k8s.io"


class Acting(Kubectl):
    """`kubectl`, as `user` in `groups`; a service account is `system:serviceaccount:NAMESPACE:NAME`."""

    def __init__(self, kubectl: Kubectl, user: str, *groups: str) -> None:
        super().__init__(config=kubectl.config, namespace=kubectl.namespace)
        self.user, self.groups = user, groups

    def attempt(
        self, *arguments: str, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        groups = [f"--as-group={group}" for group in self.groups]
        return super().attempt(f"--as={self.user}", *groups, *arguments, stdin=stdin, timeout=timeout)


def grant(kubectl: Kubectl, role: str, *users: str) -> None:
    """Binds a ClusterRole to users, in the namespace of `kubectl`."""
    kubectl.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"test-{role}"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user} for user in users],
        }
    )

"""Routers: who puts a canary's share in force. The phases of a rollout see only `router.Router`."""

from __future__ import annotations

from ...api.mlmodel import MLModelSpec
from .router import Router
from .server import ServerRouter

SERVER: Router = ServerRouter()


def router_for(spec: MLModelSpec) -> Router:
    """The one that the spec asks for."""
    return SERVER

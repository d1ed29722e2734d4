"""Worlds as plain structs: one moment of one rollout, made from few arguments, for tables of rules.

A test says only what its rule depends on; everything else stands as in a rollout in which all is well. Objects are
those that the operator itself would have made, with the chain Deployment -> ReplicaSet -> Pod by uid, so that a rule
which trusts by that chain sees what it would see in a cluster. There is no time and no cluster here: whether a rule
leads anywhere is for the exploration to tell.
"""

from .objects import (
    MODEL,
    NAMESPACE,
    NEW,
    NOW,
    OLD,
    POLICY,
    ROOT,
    Fleet,
    ago,
    counts,
    fleet,
    load_check,
    run,
    stray,
    told,
)
from .situation import ID, off_route, situation, step_route
from .words import case, in_words, of_actions

__all__ = [
    "ID",
    "MODEL",
    "NAMESPACE",
    "NEW",
    "NOW",
    "OLD",
    "POLICY",
    "ROOT",
    "Fleet",
    "ago",
    "case",
    "counts",
    "fleet",
    "in_words",
    "load_check",
    "of_actions",
    "off_route",
    "run",
    "situation",
    "step_route",
    "stray",
    "told",
]

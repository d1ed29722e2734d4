"""A decision in a few words, so that a table of them can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steeltown.api.mlmodel import Phase
from steeltown.contract.evidence import Evidence, Route
from steeltown.core.plan import Action, target
from steeltown.core.record import Version
from steeltown.core.rollout.phase import Decision, Done, Fail, Inconclusive, Stay, To

from .objects import Fleet


def in_words(decision: Decision) -> str:
    """What is decided: "stay", "to Baking", "record Shifting" (moves nothing forward), "fail Loadable NotLoadable",
    "inconclusive Unschedulable (platform)", "done Promoted"; see the cases for more."""
    match decision:
        case Stay(held=held):
            return f"stay, held: {held[0]}" if held else "stay"
        case To(rollout=rollout, forward=forward):
            if rollout.phase is Phase.ROLLING_BACK:
                return f"back: {rollout.reason} ({rollout.ending})"
            at = f" {rollout.step}" if rollout.phase is Phase.SHIFTING else ""
            return f"{'to' if forward else 'record'} {rollout.phase}{at}"
        case Fail(failed=failed, reason=reason, ending=ending):
            words = ["fail", *([str(failed)] if failed else []), str(reason)]
            return " ".join(words) + ("" if ending == "RolledBack" else f" ({ending})")
        case Inconclusive(reason=reason, platform=platform):
            return f"inconclusive {reason}" + (" (platform)" if platform else "")
        case Done(result=result):
            return f"done {result}"


def case(value: Any) -> str:
    """Names a case of a table by what it situates; for `ids`."""
    if isinstance(value, Mapping) and "metadata" in value:
        return str(value["metadata"]["name"])
    if isinstance(value, Mapping):
        return ",".join(f"{k}={case(v)}" for k, v in value.items())
    match value:
        case Version(run=name) | Route(window=name) | Evidence(window=name) | Fleet(name=name):
            return name
        case list() | tuple():
            return "+".join(case(v) for v in value)
        case dict() | str() | int() | float() | None:
            return str(value)
    return type(value).__name__


def of_actions(actions: tuple[Action, ...]) -> list[str]:
    """Such as ["Create Job/m-load-012345-0", "Annotate Pod/m-h1-0"]."""
    return [f"{type(a).__name__} {target(a).kind}/{target(a).name}" for a in actions]

"""The phase of phase.patch at work: the operator's planners in the world that the exploration tests explore."""

from __future__ import annotations

from steeltown.api.mlmodel import Phase
from steeltown.core.rollout import PHASES
from steeltown_testing.explore.nature import Trouble, of_run
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, begun, create, live_is, retrain
from steeltown_testing.explore.schedule import Explorer

ORDER = [p.value for p in PHASES]
assert ORDER[1:4] == ["LoadChecking", "Soaking", "Shifting"], ORDER

SOAKING = Phase("Soaking")


def load_checked(soak_seconds: int) -> Explorer:
    """A second version, at the moment when its load check has passed."""
    explorer = begun(create(GOOD_A, soakSeconds=soak_seconds), retrain(GOOD_B))
    explorer.until(live_is("m-v1")).until(lambda x: x.phase(Phase.LOAD_CHECKING))
    return explorer.until(lambda x: not x.phase(Phase.LOAD_CHECKING))


explorer = load_checked(20)
assert explorer.phase(SOAKING)
began = explorer.tick
explorer.until(lambda x: not x.phase(SOAKING))
assert explorer.phase(Phase.SHIFTING, 0)
assert explorer.tick - began >= 19, "it soaks as long as the spec says"
explorer.until(live_is("m-v2"), within=120)

assert load_checked(0).phase(Phase.SHIFTING, 0), "without soakSeconds nothing waits"

explorer = load_checked(20)
explorer.nature.trouble(Trouble.CRASHING, of_run("m-v2"))
explorer.until(lambda x: x.rollout is None)
assert (explorer.live, explorer.status.history[0].outcome) == ("m-v1", "RolledBack")
assert "while it soaked" in explorer.status.history[0].message
assert not any(digest == GOOD_B.model_digest for _, digest, _ in explorer.routed), "and no user has met it"

"""The guardrail of guardrail.patch at work: in the canary, in the load check, and in the plan of requests."""

from __future__ import annotations

from steeltown.api.crds import rendered
from steeltown.api.objectives import ServingObjective
from steeltown.contract.evidence import Counts
from steeltown.contract.histogram import Histogram
from steeltown.contract.reports import LoadReport, LoadSide
from steeltown.core.judge.verdict import Looks, judge_canary, judge_load, needed_requests

OBJECTIVE = ServingObjective.model_validate({"latencyMilliseconds": 100, "slowRate": "0.2", "verySlowRate": "0.02"})


def answers(*milliseconds: int) -> Histogram:
    """400 answers: most take 10 ms, and one in ten takes as long as each of the given."""
    latency = Histogram()
    latency.add(10_000, 400 - 40 * len(milliseconds))
    for each in milliseconds:
        latency.add(each * 1000, 40)
    return latency


def canary(*milliseconds: int) -> tuple[str, str]:
    counts = Counts(requests=400, latency=answers(*milliseconds))
    live = Counts(requests=4000, latency=Histogram.merged([answers()] * 10))
    _, judgement = judge_canary(counts, live, OBJECTIVE, Looks())
    return judgement.result.value, judgement.message


def load_check(*milliseconds: int) -> tuple[str, str]:
    side = LoadSide(sent=400, errors=0, over=40 * len(milliseconds), latency=answers(*milliseconds))
    judgement = judge_load(LoadReport(candidate=side), OBJECTIVE)
    return judgement.result.value, judgement.message


for judged in (canary, load_check):
    result, message = judged(150)
    assert result != "Fail", message
    result, message = judged(900)
    assert result == "Fail", message
    assert "40 of 400 requests took longer than 400 ms (10.00%, limit 2.00%)" in message

stricter = OBJECTIVE.model_copy(update={"very_slow_rate": "0.005"})
assert needed_requests(stricter) > needed_requests(OBJECTIVE)

for name, text in rendered().items():
    assert ("verySlowRate" in text) == ("mlmodels" in name), name

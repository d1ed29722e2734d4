"""A dataset becomes a model in production, and a bad one does not: the whole story on real data.

Starts a cluster, builds the images, installs Steeltown, and plays five acts. Ends with a table of what was
claimed and what was seen; exits with 1 if any claim failed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

import flights  # noqa: E402
import yaml  # noqa: E402
import zoo  # noqa: E402
from steeltown_testing import environment  # noqa: E402
from steeltown_testing.installation import Bucket, bucket, condition, forwarded, give_access, install  # noqa: E402
from steeltown_testing.kubectl import Kubectl, eventually  # noqa: E402
from steeltown_testing.traffic import Totals, Traffic, traffic  # noqa: E402

NAMESPACE, MODEL = "team-ops", "flight-delay"


@dataclass
class Claim:
    what: str
    expected: str
    seen: str
    seconds: float
    sent: int = 0
    failed: int = 0
    holds: bool = True


@dataclass
class Story:
    kubectl: Kubectl
    bucket: Bucket
    evaluation: dict[str, str]
    claims: list[Claim] = field(default_factory=list)

    @property
    def model(self) -> dict[str, Any]:
        return self.kubectl.get("mlmodel", MODEL)

    def manifest(self, data: dict[str, str]) -> dict[str, Any]:
        text = (HERE / "mlmodel.yaml").read_text()
        for name, value in (("DATA", data), ("EVALUATION", self.evaluation)):
            text = text.replace(f"{name}_URI", value["uri"]).replace(f"{name}_DIGEST", value["digest"])
        found: dict[str, Any] = yaml.safe_load(text)
        return found

    def claim(self, claim: Claim) -> None:
        self.claims.append(claim)
        say(f"  {'ok  ' if claim.holds else 'FAIL'} {claim.what}: {claim.seen}")


def main() -> int:
    begun = time.monotonic()
    with step("starting a Kubernetes cluster and building images (the very first time, 15 minutes)"):
        config = environment.start()
    everywhere = Kubectl(config=config)
    with step("installing Steeltown and an S3 store"):
        install(everywhere)
        namespace(everywhere)
    kubectl = Kubectl(config=config, namespace=NAMESPACE)
    with bucket(everywhere) as store:
        story = Story(kubectl, store, store.put("demo/evaluation.csv", flights.csv(flights.evaluation())))
        january(story)
        promotion(story)
        with traffic(kubectl, MODEL, flights.requests(), rate=100) as users:
            february(story, users)
            for act in (missing_column, missing_rows, *imports()):
                act(story, users)
            all_users(story, users.stop())
        deletion(story)
    print_table(story.claims)
    failed = [c for c in story.claims if not c.holds]
    say(f"\n{len(story.claims)} claims, {len(failed)} failed, {time.monotonic() - begun:.0f} s in all.")
    look_around(config)
    return 1 if failed else 0


# --- the acts --------------------------------------------------------------------------------------------------------


def january(story: Story) -> None:
    """January trains; the version is served as an experiment; a request is answered."""
    with step("act 1: January trains, version 1 is served as an experiment") as clock:
        data = story.bucket.put("demo/2013-01.csv", flights.csv(flights.month(1)))
        story.kubectl.apply(story.manifest(data))
        story.kubectl.wait(f"mlmodel/{MODEL}", "condition=Ready", seconds=180)
        answer = ask(story.kubectl, flights.requests()[0])
    model = story.model
    live = model["status"]["versions"]["live"]["run"]
    holds = live == f"{MODEL}-v1" and "outputs" in answer and model["status"]["stage"] == "Eligible"
    story.claim(
        Claim(
            "January trains, v1 is served",
            "Eligible, a request answered",
            f"{model['status']['stage']}, live {live}, label {answer['outputs'][0]['data']}",
            clock.seconds,
            1,
            0,
            holds,
        )
    )


def promotion(story: Story) -> None:
    """The request for promotion; evidence decides."""
    with step("act 2: promotion is requested") as clock:
        patch(story.kubectl, {"spec": {"stage": "Production"}})
        story.kubectl.wait(f"mlmodel/{MODEL}", "condition=Promoted", seconds=180)
        story.kubectl.wait(f"mlmodel/{MODEL}", "condition=Ready", seconds=60)
    model = story.model
    performance = condition(model, "ServingPerformance")
    story.claim(
        Claim(
            "stage: Production is requested",
            "v1 promoted on a load check",
            f"{model['status']['stage']}; {performance['message'][:60]}",
            clock.seconds,
            holds=model["status"]["stage"] == "Production" and performance["status"] == "True",
        )
    )


def february(story: Story, users: Traffic) -> None:
    """A good version, promoted while users send a constant stream."""
    with step("act 3: February comes, version 2 is promoted under load") as clock:
        before = users.totals()
        data = story.bucket.put("demo/2013-02.csv", flights.csv(flights.month(2)))
        retrain(story, data)
        eventually(lambda: settled(story.model, f"{MODEL}-v2"), seconds=240, every=1)
    after = users.totals()
    sent, failed = after.sent - before.sent, after.failed - before.failed
    live = story.model["status"]["versions"]["live"]["run"]
    story.claim(
        Claim(
            "February trains, v2 under load",
            "promoted, 0 requests failed",
            f"live {live}, {failed} of {sent} failed {after.failures or ''}",
            clock.seconds,
            sent,
            failed,
            live == f"{MODEL}-v2" and failed == 0 and sent > 500,
        )
    )


def missing_column(story: Story, users: Traffic) -> None:
    table = flights.month(3).drop(columns="dep_delay")
    data = story.bucket.put("demo/2013-03-missing.csv", flights.csv(table))
    stopped(story, users, "a data file with a column missing", "SchemaMissingColumn", lambda: retrain(story, data))


def missing_rows(story: Story, users: Traffic) -> None:
    table = flights.month(3)
    data = story.bucket.put("demo/2013-03-cut.csv", flights.csv(table[: len(table) // 3]))
    stopped(story, users, "two thirds of the rows gone", "TooFewRows", lambda: retrain(story, data))


def imports() -> Iterator[Callable[[Story, Traffic], None]]:
    animals = (
        ("a model that returns NaN", "NumericallyUnstable", "nan", zoo.returns_nan, 0.0),
        ("a model worse by 5 points", "QualityWorseThanLive", "worse", zoo.worse, 0.0),
        ("a model that does not load", "ModelDoesNotLoad", "unloadable", zoo.does_not_load, 0.0),
        ("a model that is 10x slower", "SlowerThanLive", "slow", zoo.slow, 0.0),
        ("a model that answers 500", "ErrorRateTooHigh", "fails", zoo.answers_500, 0.1),
    )
    for what, reason, name, make, share in animals:

        def act(
            story: Story,
            users: Traffic,
            what: str = what,
            reason: str = reason,
            name: str = name,
            make: Callable[[], bytes] = make,
            share: float = share,
        ) -> None:
            source = story.bucket.put(f"demo/{name}.onnx", make())
            stopped(story, users, what, reason, lambda: bring(story, name, source), share=share)

        yield act


def stopped(
    story: Story, users: Traffic, what: str, reason: str, do: Callable[[], None], *, share: float = 0.0
) -> None:
    """A bad version is stopped, users notice nothing, and `kubectl get mlm` says why.

    share: of the requests that the version may have answered at most, the weight of the step that stopped it.
    """
    with step(f"act 4: {what}") as clock:
        before, live = users.totals(), story.model["status"]["versions"]["live"]["run"]
        known = story.model["status"]["verdict"]["run"]
        do()

        def verdict() -> dict[str, Any]:
            found: dict[str, Any] = story.model["status"].get("verdict") or {}
            return found if found.get("run") != known and found.get("result") == "Fail" else {}

        seen = eventually(verdict, seconds=240, every=0.5)
    eventually(lambda: not story.model["status"].get("rollout"), seconds=90, every=0.5)
    after, now_live = users.totals(), story.model["status"]["versions"]["live"]["run"]
    sent, failed = after.sent - before.sent, after.failed - before.failed
    column = story.kubectl.run("get", "mlm", MODEL)
    known_digests = set(before.digests)
    by_it = sum(n for digest, n in after.digests.items() if digest not in known_digests)
    holds = seen["reason"] == reason and now_live == live and failed == 0 and reason in column
    holds = holds and by_it <= share * sent
    told = f"{seen['reason']}, live {now_live}, {by_it} answers by it" + (f", {after.failures}" if failed else "")
    story.claim(Claim(what, f"stopped: {reason}", told, clock.seconds, sent, failed, holds))


def all_users(story: Story, totals: Totals) -> None:
    story.claim(
        Claim(
            "all users, from act 3 to here",
            "0 requests failed",
            f"{totals.failed} of {totals.sent} failed, p99 {totals.p99_milliseconds or 0:.0f} ms",
            0,
            totals.sent,
            totals.failed,
            totals.failed == 0 and totals.sent > 1000,
        )
    )


def deletion(story: Story) -> None:
    """Nothing stays behind."""
    with step("act 5: kubectl delete mlm") as clock:
        story.kubectl.run("delete", "mlmodel", MODEL, "--timeout=60s")
        story.kubectl.run("delete", "trainingrun", "--all", "--timeout=60s")
        kinds = "mlmodels,trainingruns,deployments,services,jobs,pods"
        marks = ("-l", "app.kubernetes.io/managed-by=steeltown")
        left = eventually(lambda: story.kubectl.find(kinds, *marks), until=lambda x: not x, seconds=90)
    story.claim(Claim("kubectl delete mlm", "nothing left behind", f"{len(left)} objects left", clock.seconds))


# --- doing -----------------------------------------------------------------------------------------------------------


def retrain(story: Story, data: dict[str, str]) -> None:
    patch(story.kubectl, {"spec": {"training": {"template": {"train": {"data": data}}}}})


def bring(story: Story, name: str, source: dict[str, str]) -> None:
    template = story.model["spec"]["training"]["template"]
    story.kubectl.apply(
        {
            "apiVersion": "steeltown.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": f"{MODEL}-{name}"},
            "spec": {
                "modelRef": {"name": MODEL},
                "task": template["task"],
                "import": source,
                "evaluation": template["evaluation"],
            },
        }
    )


def patch(kubectl: Kubectl, change: dict[str, Any]) -> None:
    kubectl.run("patch", "mlmodel", MODEL, "--type=merge", "-p", json.dumps(change))


def settled(model: dict[str, Any], live: str) -> bool:
    status = model["status"]
    ready = condition(model, "Ready")
    return bool(
        status["versions"]["live"]["run"] == live and not status.get("rollout") and ready.get("status") == "True"
    )


def ask(kubectl: Kubectl, request: dict[str, Any]) -> dict[str, Any]:
    import urllib.request

    with forwarded(kubectl, NAMESPACE, f"service/{MODEL}", 8080) as port:
        url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer"
        call = urllib.request.Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(call, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def namespace(kubectl: Kubectl) -> None:
    marks = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": marks}})
    own = Kubectl(config=kubectl.config, namespace=NAMESPACE)
    own.run("delete", "mlmodels,trainingruns", "--all", "--timeout=60s")  # of an earlier demo
    give_access(own)


# --- telling ---------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    seconds: float = 0.0


@contextmanager
def step(what: str) -> Iterator[Clock]:
    say(f"{what} ...")
    clock, start = Clock(), time.monotonic()
    yield clock
    clock.seconds = time.monotonic() - start
    say(f"  done in {clock.seconds:.1f} s")


def say(text: str) -> None:
    print(text, flush=True)


def print_table(claims: list[Claim]) -> None:
    rows = [("", "what was tried", "expected", "seen", "seconds", "sent", "failed")]
    rows += [
        ("ok" if c.holds else "FAIL", c.what, c.expected, c.seen, f"{c.seconds:.1f}", str(c.sent), str(c.failed))
        for c in claims
    ]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    say("")
    for number, row in enumerate(rows):
        say("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            say("  ".join("-" * w for w in widths))


def look_around(config: str) -> None:
    say(f"""
Look around:   export KUBECONFIG={config}
               kubectl explain mlmodel.spec.rollout
               kubectl -n {NAMESPACE} get mlm,trun
Run it again:  make demo
Clean up:      make cluster-down""")


if __name__ == "__main__":
    sys.exit(main())

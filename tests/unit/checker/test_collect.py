"""Collecting: with the last reference of a model its objects go, and never those that anybody still refers to.

The interleavings are all of them: each process is run up to its next request to the store, every process may be the
next one whose request is carried out, and equal states are visited once. The requests are those of the real code,
carried out by the real client on a store in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore
from steeltown.contract import files
from steeltown.contract.plans import CollectItem, CollectPlan, FetchPlan, FinalisePlan
from steeltown_checker import goldenrows, publish, references
from steeltown_checker.binding import bind
from steeltown_checker.collect import collect
from steeltown_checker.model import open_model
from steeltown_checker.publish import Publication
from steeltown_checker.reasons import StepFailed
from steeltown_checker.store import ArtifactStore

OLD, NEW, OTHER = "team-a.m-v1.u1", "team-b.n-v7.u2", "team-a.m-v2.u3"
OBJECTS = {"golden.json", "manifest.json", "model.onnx"}


class InMemory(ArtifactStore):
    """The real client over a store in memory."""

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        self.root, self._prefix, self._store = "memory://", "", MemoryStore()
        for key, body in (contents or {}).items():
            self.put(key, body)

    def contents(self) -> dict[str, bytes]:
        return {key: self.read(key) or b"" for key in self.keys("")}

    def names(self, prefix: str) -> set[str]:
        return {key.rpartition("/")[2] for key in self.keys(prefix)}


@pytest.fixture
def new(tmp_path: Path, models: Any) -> Publication:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.per_column(("a", "b")).SerializeToString())
    model = open_model(path)
    golden = goldenrows.make(model, bind(model, ("a", "b"), None), None)
    digest = f"sha256:{'ab' * 32}"
    return Publication(
        run="team-b/n-v7",
        reference=NEW,
        path=path,
        digest=digest,
        size_bytes=path.stat().st_size,
        model=model,
        golden=golden,
        task=None,
    )


def published(new: Publication, *names: str) -> InMemory:
    artifacts = InMemory()
    for name in names:
        publish.publish(artifacts, replace(new, reference=name))
    return artifacts


def item(new: Publication, reference: str) -> CollectItem:
    return CollectItem(digest=new.digest, reference=reference)


# --- one after the other ---------------------------------------------------------------------------------------------


def test_last_reference_takes_the_objects_with_it(new: Publication) -> None:
    artifacts = published(new, OLD, NEW)
    first = collect(artifacts, item(new, OLD), token="t")
    assert (first.removed, first.message) == (False, f"kept: other references remain (1), such as {NEW}")
    assert artifacts.names(files.model_prefix(new.digest)) == OBJECTS
    assert collect(artifacts, item(new, NEW), token="t").removed
    assert artifacts.keys("") == [files.COLLECTED_STORE]


def test_same_bytes_can_be_made_again(new: Publication) -> None:
    artifacts = published(new, OLD)
    before = artifacts.contents()
    collect(artifacts, item(new, OLD), token="t")
    publish.publish(artifacts, replace(new, reference=OLD))
    assert artifacts.contents() == {**before, files.COLLECTED_STORE: b""}


def test_reference_that_is_not_there_removes_nothing(new: Publication) -> None:
    """A run of version 0.1 left none, one that was restored had another uid."""
    artifacts = published(new, OLD)
    before = artifacts.contents()
    fate = collect(artifacts, item(new, NEW), token="t")
    assert (fate.removed, fate.message.split(":")[0]) == (False, "kept")
    assert artifacts.contents() == before


def test_what_version_0_1_has_stored_stays(new: Publication) -> None:
    artifacts = published(new, OLD)
    manifest_key = f"{files.model_prefix(new.digest)}/{files.MANIFEST_OBJECT}"
    artifacts.put(manifest_key, (artifacts.read(manifest_key) or b"").replace(b'"referenced": true,', b""))
    fate = collect(artifacts, item(new, OLD), token="t")
    assert (fate.removed, fate.message) == (False, "kept: stored by version 0.1, whose runs left no references")
    assert artifacts.names(files.model_prefix(new.digest)) == OBJECTS


def test_mended_upload_of_version_0_1_is_still_its_own(new: Publication) -> None:
    artifacts = published(new, OLD)
    prefix = files.model_prefix(new.digest)
    manifest = (artifacts.read(f"{prefix}/manifest.json") or b"").replace(b'"referenced": true,', b"")
    artifacts.put(f"{prefix}/manifest.json", manifest)
    artifacts.delete(f"{prefix}/model.onnx")
    publish.publish(artifacts, new)
    assert artifacts.read_json(f"{prefix}/manifest.json") is not None
    assert collect(artifacts, item(new, NEW), token="t").removed is False


def test_run_without_a_name_keeps_its_model_for_good(new: Publication) -> None:
    """An older operator gives it none."""
    artifacts = published(new, OLD, files.UNNAMED_REFERENCE)
    assert collect(artifacts, item(new, OLD), token="t").message == "kept: other references remain (1), such as unnamed"


def test_manifest_that_cannot_be_read_keeps_the_objects(new: Publication) -> None:
    artifacts = published(new, OLD)
    artifacts.put(f"{files.model_prefix(new.digest)}/manifest.json", b"{")
    assert collect(artifacts, item(new, OLD), token="t").message == "kept: cannot read their manifest"


def test_slow_store_ends_the_attempt_and_leaves_its_mark(new: Publication) -> None:
    artifacts = published(new, OLD)
    times = iter([0.0, 1.0, references.COLLECT_SECONDS + 1])
    with pytest.raises(StepFailed, match="retrying later"):
        collect(artifacts, item(new, OLD), token="t", clock=lambda: next(times))
    assert artifacts.names(files.model_prefix(new.digest)) == OBJECTS - {"manifest.json"}
    assert collect(artifacts, item(new, OLD), token="u").removed
    assert artifacts.keys("") == [files.COLLECTED_STORE]


def test_mark_of_the_dead_is_waited_for_and_then_removed(new: Publication) -> None:
    artifacts = InMemory()
    mark = f"{files.collecting_prefix(new.digest)}/{OLD}/t"
    artifacts.put(files.COLLECTED_STORE, b"")
    artifacts.put(mark, b"")
    slept: list[float] = []
    references.leave(artifacts, new.digest, NEW, sleep=slept.append, clock=lambda: sum(slept))
    assert sum(slept) == references.WAIT_SECONDS
    assert artifacts.keys("") == [files.COLLECTED_STORE, f"{files.reference_prefix(new.digest)}/{NEW}"]


def test_waiting_outlasts_every_request_of_a_collect() -> None:
    """60 s of retries and 30 s of a last attempt, for the request that began just in time."""
    assert references.WAIT_SECONDS > references.COLLECT_SECONDS + 60 + 30


def test_keys_are_those_below_the_root_and_the_prefix() -> None:
    artifacts = InMemory()
    artifacts._prefix = "team/a/"
    for key in ("references/ab/x.y.z", "references/abc/x.y.z", "other"):
        artifacts.put(key, b"")
    assert artifacts.keys("references/ab") == ["references/ab/x.y.z"]
    artifacts.delete("references/ab/x.y.z")
    artifacts.delete("references/ab/x.y.z")
    assert artifacts.keys("references/ab") == []
    assert artifacts.keys("references") == ["references/abc/x.y.z"]


def test_store_in_which_nothing_was_ever_collected_is_not_listed(new: Publication) -> None:
    """Credentials that cannot list go on working until somebody sets a limit."""

    class Unlisted(InMemory):
        def keys(self, prefix: str) -> list[str]:
            raise AssertionError(f"{prefix} was listed")

    publish.publish(Unlisted(), new)


# --- as the operator starts it ---------------------------------------------------------------------------------------


def test_step_reports_what_became_of_each_run(workspace: Any, models: Any) -> None:
    workspace.trained(models.per_column(("a", "b")))
    plan = FinalisePlan(run="r", store=workspace.store)
    _, made = workspace.step("finalise", plan, STEELTOWN_REFERENCE=OLD)
    items = tuple(CollectItem(digest=made.digest, reference=r) for r in (NEW, OLD))
    code, report = workspace.step("collect", CollectPlan(store=workspace.store, items=items))
    assert (code, report.reason) == (0, "Collected")
    assert report.message == "removed the artifacts of 1 of 2 runs from the store"
    assert [(c.name, c.message.split(":")[0]) for c in report.checks] == [(NEW, "kept"), (OLD, "removed")]
    assert workspace.step("fetch", FetchPlan(store=workspace.store, digest=made.digest))[1].reason == "ManifestMissing"


def test_collecting_twice_on_files_is_no_error(workspace: Any, models: Any) -> None:
    workspace.trained(models.per_column(("a", "b")))
    _, made = workspace.step("finalise", FinalisePlan(run="r", store=workspace.store), STEELTOWN_REFERENCE=OLD)
    plan = CollectPlan(store=workspace.store, items=(CollectItem(digest=made.digest, reference=OLD),))
    assert [workspace.step("collect", plan)[0] for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"reference": "../../models"}, "InvalidPlan"),
        ({"reference": files.UNNAMED_REFERENCE}, "InvalidPlan"),
        ({"digest": "sha256:.."}, "InvalidDigest"),
    ],
)
def test_plan_that_could_reach_elsewhere_is_refused_before_anything_is_done(
    wrong: dict[str, str], reason: str, workspace: Any
) -> None:
    good = {"digest": f"sha256:{'a' * 64}", "reference": OLD}
    items = (CollectItem(**good), CollectItem(**{**good, **wrong}))
    code, report = workspace.step("collect", CollectPlan(store=workspace.store, items=items))
    assert (code, report.reason) == (64, reason)
    assert not (workspace.root / "store").exists()


# --- at the same time ------------------------------------------------------------------------------------------------

SLEEP = "sleep"


class NextRequest(Exception):
    """Of a process that is run again from its beginning with the answers that it has had."""


@dataclass
class Remote:
    """Answers what was answered before, then stops at the next request."""

    answers: tuple[Any, ...]
    position: int = 0
    request: tuple[str, tuple[Any, ...]] = ("", ())

    def ask(self, name: str, *arguments: Any) -> Any:
        self.request = name, arguments
        if self.position == len(self.answers):
            raise NextRequest
        self.position += 1
        answer = self.answers[self.position - 1]
        return list(answer) if name == "keys" else answer

    def uri(self, key: str) -> str:
        return f"memory://{key}"

    def read_json(self, key: str) -> dict[str, Any] | None:
        return ArtifactStore.read_json(self, key)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(self.ask, name)


Process = Callable[[Any], Any]


@dataclass(frozen=True)
class Running:
    """attempts: the one at work, and those that a crash begins. answers: that the one at work has had."""

    attempts: tuple[Process, ...]
    answers: tuple[Any, ...] = ()

    def next_request(self) -> tuple[str, tuple[Any, ...]] | None:
        """None when it is through."""
        remote = Remote(self.answers)
        try:
            self.attempts[0](remote)
        except NextRequest:
            return remote.request
        return None


class World:
    """Visits every state that the processes can bring the store to."""

    def __init__(self, contents: dict[str, bytes], check: Callable[[dict[str, bytes], list[bool]], None]) -> None:
        self._start, self._check = contents, check
        self._seen: set[Any] = set()
        self._carried_out: dict[Any, tuple[Any, dict[str, bytes]]] = {}
        self._next = functools.cache(Running.next_request)
        self.ends: list[dict[str, bytes]] = []

    def explore(self, *processes: tuple[Process, ...]) -> World:
        ready = [(self._start, tuple(Running(p) for p in processes))]
        while ready:
            contents, running = ready.pop()
            key = frozenset(contents.items()), tuple((len(r.attempts), r.answers) for r in running)
            if key in self._seen:
                continue
            self._seen.add(key)
            requests = [self._next(r) for r in running]
            self._check(contents, [r is None for r in requests])
            moves = [m for i in range(len(running)) for m in self._moves(contents, running, i, requests[i])]
            assert moves or all(r is None for r in requests), f"nobody gets on: {requests}"
            if not moves:
                self.ends.append(contents)
            ready += moves
        return self

    def _moves(self, contents: Any, running: Any, index: int, request: Any) -> list[Any]:
        if request is None:
            return []
        one = running[index]
        moves = []
        if len(one.attempts) > 1:
            moves.append((contents, Running(one.attempts[1:])))
        if request[0] == SLEEP:
            if self._answer(contents, request[1][0])[0] != request[1][1]:
                moves.append((contents, Running(one.attempts, (*one.answers, None))))
        else:
            answer, after = self._answer(contents, request)
            moves.append((after, Running(one.attempts, (*one.answers, answer))))
        return [(after, (*running[:index], r, *running[index + 1 :])) for after, r in moves]

    def _answer(self, contents: dict[str, bytes], request: Any) -> tuple[Any, dict[str, bytes]]:
        key = frozenset(contents.items()), request
        if key not in self._carried_out:
            artifacts = InMemory(contents)
            answer = getattr(artifacts, request[0])(*request[1])
            self._carried_out[key] = tuple(answer) if isinstance(answer, list) else answer, artifacts.contents()
        return self._carried_out[key]


@pytest.fixture
def publisher(new: Publication, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Process]:
    """A finalise that stores `new`. It sleeps until what it waits for has changed, and never loses patience."""
    leave = references.leave

    def patient(artifacts: Any, digest: str, reference: str) -> None:
        marks = ("keys", (files.collecting_prefix(digest),))

        def sleep(seconds: float) -> None:
            before = artifacts.answers[artifacts.position - 1]
            artifacts.ask(SLEEP, marks, before)

        leave(artifacts, digest, reference, sleep=sleep, clock=lambda: 0.0)

    monkeypatch.setattr(references, "leave", patient)
    return lambda reference: lambda artifacts: publish.publish(artifacts, replace(new, reference=reference))


@pytest.fixture
def collector(new: Publication) -> Callable[[str, str], Process]:
    return lambda reference, token: lambda artifacts: collect(artifacts, item(new, reference), token=token)


def whole(contents: dict[str, bytes], new: Publication) -> bool:
    there = {key.rpartition("/")[2] for key in contents if key.startswith(f"{files.model_prefix(new.digest)}/")}
    return there == OBJECTS


@pytest.mark.parametrize("crash", [False, True], ids=["", "crash"])
@pytest.mark.parametrize("others", [(), (OTHER,)], ids=["one", "two"])
def test_model_that_is_stored_while_it_is_collected_is_whole_for_good(
    others: tuple[str, ...], crash: bool, new: Publication, publisher: Any, collector: Any
) -> None:
    attempts = {OLD: ("t", "u") if crash else ("t",), OTHER: ("t",)}
    start = published(new, OLD, *others).contents()

    def check(contents: dict[str, bytes], through: list[bool]) -> None:
        assert not through[0] or whole(contents, new)

    world = World(start, check).explore(
        (publisher(NEW),), *(tuple(collector(r, token) for token in attempts[r]) for r in (OLD, *others))
    )
    for contents in world.ends:
        kept = {key for key in contents if not key.startswith("models/")}
        assert kept == {files.COLLECTED_STORE, f"{files.reference_prefix(new.digest)}/{NEW}"}


def test_finalise_that_dies_and_begins_again_finds_or_stores_all(
    new: Publication, publisher: Any, collector: Any
) -> None:
    def check(contents: dict[str, bytes], through: list[bool]) -> None:
        assert not through[0] or whole(contents, new)

    start = published(new, OLD).contents()
    World(start, check).explore((publisher(NEW), publisher(NEW)), (collector(OLD, "t"),))


def test_two_that_store_what_one_collects_both_find_it_whole(new: Publication, publisher: Any, collector: Any) -> None:
    def check(contents: dict[str, bytes], through: list[bool]) -> None:
        assert not (through[0] or through[1]) or whole(contents, new)

    start = published(new, OLD).contents()
    World(start, check).explore((publisher(NEW),), (publisher(OTHER),), (collector(OLD, "t"),))


def test_nothing_stays_behind_when_all_references_are_collected_at_once(new: Publication, collector: Any) -> None:
    start = published(new, OLD, OTHER).contents()
    world = World(start, lambda contents, through: None).explore(
        (collector(OLD, "t"), collector(OLD, "u")), (collector(OTHER, "t"), collector(OTHER, "u"))
    )
    assert {frozenset(contents) for contents in world.ends} == {frozenset({files.COLLECTED_STORE})}


def test_no_reader_finds_a_manifest_of_objects_that_are_gone(new: Publication, publisher: Any, collector: Any) -> None:
    manifest = f"{files.model_prefix(new.digest)}/{files.MANIFEST_OBJECT}"

    def check(contents: dict[str, bytes], through: list[bool]) -> None:
        assert manifest not in contents or whole(contents, new)

    World(published(new, OLD).contents(), check).explore((publisher(NEW),), (collector(OLD, "t"),))

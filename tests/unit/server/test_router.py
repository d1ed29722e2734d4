"""The router by itself: an exact share, routes that take force, files that are swapped, broken or gone."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.contract.evidence import Route
from steeltown_server.canary import Address
from steeltown_server.counters import Counters
from steeltown_server.router import Router, RouteWatch, drawn_turns

URL = "http://127.0.0.1:1"


def new_router() -> tuple[Router, Counters]:
    counters = Counters("sha256:live")
    return Router(counters, max_in_flight=4, body_limit_bytes=1000), counters


@given(st.integers(0, 100))
def test_every_hundred_requests_hold_exactly_the_weight(weight: int) -> None:
    router, _ = new_router()
    router.route = Route(window="", weight=weight, mirror=weight)
    for _ in range(3):
        assert sum(router.takes_next() for _ in range(100)) == weight
        assert sum(router.mirrors_next() for _ in range(100)) == weight


@given(st.integers(1, 50))
def test_turns_are_spread_over_the_hundred(weight: int) -> None:
    """The rarer side of a hundred has one turn in each of its blocks: never a burst, never a long pause."""
    rarer = drawn_turns(weight)
    more = [not turn for turn in drawn_turns(100 - weight)]
    size = -(-100 // weight)
    for turns in (rarer, more):
        places = [i for i, turn in enumerate(turns) if turn]
        assert len(places) == weight
        assert max(b - a for a, b in itertools.pairwise([-1, *places, 100])) <= 2 * size
        assert all(sum(turns[i : i + size]) <= 2 for i in range(100))


@pytest.mark.parametrize("weight", [1, 5, 25, 30, 50, 70, 95])
def test_no_place_in_a_rhythm_is_the_canarys(weight: int) -> None:
    """Of a client's every second, third, ... request the canary gets its share, whichever of them is asked about."""
    router, _ = new_router()
    router.route = Route(window="", weight=weight)
    turns = [router.takes_next() for _ in range(40_000)]
    for period in (2, 3, 4, 5, 10, 20):
        for place in range(period):
            seen = turns[place::period]
            expected = weight / 100
            spread = (expected * (1 - expected) / len(seen)) ** 0.5
            assert abs(sum(seen) / len(seen) - expected) < 6 * spread, (period, place)


def test_who_saw_one_hundred_does_not_know_the_next() -> None:
    assert len({tuple(drawn_turns(5)) for _ in range(50)}) == 50
    assert len({tuple(drawn_turns(95)) for _ in range(50)}) == 50


async def test_new_epoch_starts_at_zero_and_leaves_requests_under_way_in_the_old_one() -> None:
    router, counters = new_router()
    router.apply(Route(window="one", weight=10, canary_url=URL))
    under_way = counters.current
    under_way.live.ok(100)
    router.apply(Route(window="two", weight=20, canary_url=URL))
    under_way.live.ok(100)
    evidence = counters.evidence()
    assert (evidence.window, evidence.weight, evidence.live.requests) == ("two", 20, 0)
    assert under_way.live.requests == 2


async def test_same_route_again_changes_nothing() -> None:
    router, counters = new_router()
    route = Route(window="one", weight=10, canary_url=URL)
    router.apply(route)
    counters.current.live.ok(100)
    router.apply(Route.from_json(route.to_json()))
    assert counters.evidence().live.requests == 1


@pytest.mark.parametrize(
    "change",
    [
        {"window": "two"},
        {"weight": 11},
        {"weight": 0, "mirror": 0},
        {"canary_url": "http://127.0.0.1:2"},
        {"canary_digest": "sha256:other"},
        {"mirror": 5},
        {"timeout_milliseconds": 10_000},
    ],
)
async def test_any_change_of_the_route_starts_at_zero_under_its_own_fingerprint(change: dict[str, Any]) -> None:
    """Bent for a while and put back, the route has lost what was counted; what was counted meanwhile is nobody's."""
    router, counters = new_router()
    written = Route(window="one", weight=10, canary_url=URL, canary_digest="sha256:canary")
    router.apply(written)
    counters.current.live.ok(100)
    bent = replace(written, **change)
    router.apply(bent)
    evidence = counters.evidence()
    assert (evidence.route, evidence.live.requests) == (bent.fingerprint, 0)
    under_way = counters.current
    router.apply(written)
    under_way.canary.ok(100)
    evidence = counters.evidence()
    assert (evidence.route, evidence.live.requests, evidence.canary.requests) == (written.fingerprint, 0, 0)


async def test_without_a_route_evidence_names_none() -> None:
    router, counters = new_router()
    assert counters.evidence().route == ""
    router.apply(Route(window="one", weight=10, canary_url=URL))
    router.apply(None)
    evidence = counters.evidence()
    assert (evidence.route, evidence.window, evidence.weight) == ("", "", 0)


async def test_route_without_weight_keeps_its_epoch_and_sends_nothing() -> None:
    router, counters = new_router()
    router.apply(Route(window="one", weight=50, canary_url=URL))
    router.apply(Route(window="two"))
    assert (counters.evidence().window, counters.evidence().weight) == ("two", 0)
    assert not any(router.takes_next() for _ in range(200))


@pytest.mark.parametrize("url", ["https://a:1", "a:1", "http://", "http://a:1/path", "http://a:1?x=1", "http://a:x"])
def test_canary_url_must_be_plain_http(url: str) -> None:
    with pytest.raises(ValueError):
        Address.of(url)


def test_canary_url_may_be_ipv6() -> None:
    assert Address.of("http://[::1]:80") == ("::1", 80)
    assert Address.of("http://[::1]:80").header == b"[::1]:80"


def swap(volume: Path, text: str) -> Path:
    """As the kubelet does: a new directory, then one rename of the symlink `..data`."""
    count = len(list(volume.glob("..v*")))
    folder = volume / f"..v{count}"
    folder.mkdir()
    (folder / "route.json").write_text(text)
    link = volume / "..data_tmp"
    link.symlink_to(folder.name)
    os.replace(link, volume / "..data")
    path = volume / "route.json"
    if not path.is_symlink():
        path.symlink_to("..data/route.json")
    return path


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    return path


async def test_swapped_file_is_read_and_an_empty_one_is_no_route(volume: Path) -> None:
    router, counters = new_router()
    watch = RouteWatch(swap(volume, Route(window="one", weight=5, canary_url=URL).to_json()), router, counters)
    watch.poll()
    assert (counters.current.window, router.weight) == ("one", 5)
    swap(volume, Route(window="two", weight=25, canary_url=URL).to_json())
    watch.poll()
    assert (counters.current.window, router.weight) == ("two", 25)
    swap(volume, "")
    watch.poll()
    assert (counters.current.window, router.weight) == ("", 0)


async def test_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    router, counters = new_router()
    path = tmp_path / "route.json"
    path.write_text(Route(window="one", weight=5, canary_url=URL).to_json())
    watch = RouteWatch(path, router, counters)
    watch.poll()
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text(Route(window="two", weight=6, canary_url=URL).to_json())
    os.utime(path, ns=times)
    watch.poll()
    assert router.weight == 5
    os.utime(path)
    watch.poll()
    assert router.weight == 6


GOOD = Route(window="one", weight=5, canary_url=URL)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"window":"two","weight":101,"canaryURL":"http://a"}',
        '{"window":"two","weight":5}',
        '{"window":"two","weight":"many"}',
        '{"window":"two","weight":null}',
        '{"window":"two","weight":5,"canaryURL":"ftp://a"}',
        '{"window":"two","weight":5,"canaryURL":"http://a:1","timeoutMilliseconds":0}',
        "\udcff",
    ],
)
async def test_malformed_route_changes_nothing_and_is_counted_and_logged_once(
    volume: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    router, counters = new_router()
    watch = RouteWatch(swap(volume, GOOD.to_json()), router, counters)
    watch.poll()
    counters.current.live.ok(1)
    path = swap(volume, "")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    capsys.readouterr()
    for _ in range(3):
        watch.poll()
    assert (counters.route_errors, counters.current.window, router.weight) == (1, "one", 5)
    assert counters.current.live.requests == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["msg"] for line in lines] == ["invalid route, keeping the last valid one"]
    swap(volume, Route(window="three").to_json())
    watch.poll()
    assert counters.current.window == "three"


async def test_file_that_is_gone_is_no_route_but_not_in_the_moment_of_a_swap(volume: Path) -> None:
    router, counters = new_router()
    path = swap(volume, GOOD.to_json())
    watch = RouteWatch(path, router, counters)
    watch.poll()
    (volume / "..data").unlink()
    watch.poll()
    assert router.weight == 5
    watch.poll()
    assert (router.weight, counters.current.window) == (0, "")


async def test_file_that_was_never_there_is_no_route_and_no_error(tmp_path: Path) -> None:
    router, counters = new_router()
    watch = RouteWatch(tmp_path / "absent", router, counters)
    for _ in range(3):
        watch.poll()
    assert (counters.route_errors, router.weight) == (0, 0)


async def test_path_that_is_a_directory_is_counted_once(tmp_path: Path) -> None:
    router, counters = new_router()
    watch: Any = RouteWatch(tmp_path, router, counters)
    for _ in range(3):
        watch.poll()
    assert counters.route_errors == 1

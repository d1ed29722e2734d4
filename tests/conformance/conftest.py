"""One server a model, started when the first test asks for it and shared: the protocol has no state but counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from steeltown_testing.conformance import target as targets


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], targets.Target]]:
    """target(model): where that model of the set is served; skips where the server under test has another one."""
    with ExitStack() as stack:

        @cache
        def find(model: str) -> targets.Target:
            if not targets.variable("URL"):
                return stack.enter_context(targets.started_from_source(model, tmp_path_factory.mktemp("models")))
            return targets.named_by_url(model)

        def of(model: str) -> targets.Target:
            served = targets.variable("MODEL", model)
            if served != model:
                pytest.skip(f"the server under test has {served!r}, not {model!r}")
            return find(model)

        yield of

"""One installation for all tests, a namespace of its own for each module or test, an S3 bucket to put data in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from steeltown_testing.environment import kubeconfig
from steeltown_testing.installation import Bucket, bucket, install, team
from steeltown_testing.kubectl import Kubectl
from steeltown_testing.status_watch import watched


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges all that happened comes after all that makes it happen, whatever its file is called."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def everywhere() -> Iterator[Kubectl]:
    """The whole cluster, with Steeltown and a store on it. Every status written on it keeps the rules."""
    kubectl = Kubectl(config=kubeconfig())
    install(kubectl)
    with watched(kubectl):
        yield kubectl


@pytest.fixture(scope="session")
def store(everywhere: Kubectl) -> Iterator[Bucket]:
    with bucket(everywhere) as reached:
        yield reached


@pytest.fixture(scope="module")
def shared_team(everywhere: Kubectl) -> Iterator[Kubectl]:
    """A team's namespace that the tests of one module share."""
    with team(everywhere.config) as kubectl:
        yield kubectl


@pytest.fixture
def own_team(everywhere: Kubectl) -> Iterator[Kubectl]:
    """A team's namespace of this test alone."""
    with team(everywhere.config) as kubectl:
        yield kubectl

"""What a step takes over from the storage Secret, and what it leaves alone."""

from __future__ import annotations

import pytest
from steeltown_checker.environment import unprefixed


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"STEELTOWN_STORE_AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "1"}, {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "1"}),
        ({"STEELTOWN_STORE_AZURE_STORAGE_SAS_KEY": "s"}, {"AZURE_STORAGE_SAS_KEY": "s"}),
        ({"STEELTOWN_STORE_AWS_REGION": "theirs", "AWS_REGION": "ours"}, {}),
        ({"STEELTOWN_STORE_LD_PRELOAD": "/output/x.so"}, {}),
        ({"STEELTOWN_STORE_PYTHONPATH": "/output"}, {}),
        ({"STEELTOWN_STORE_aws_region": "x"}, {}),
        ({"STEELTOWN_STORE_": "x", "OTHER_AWS_REGION": "x"}, {}),
    ],
)
def test_only_settings_of_a_store_are_taken(given: dict[str, str], taken: dict[str, str]) -> None:
    assert unprefixed(given) == taken

"""Which version of the contract a process speaks, and which others it works with.

Within one version fields are only ever added, and everybody ignores fields that they do not know; so operator and
images may be upgraded in any order. A new version is a new meaning of something old. A process works with its own
version, the one before and the one after, and refuses every other by name before it does anything.
Version 0 is what Steeltown 0.1 speaks: it sets no variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .files import Env

CONTRACT_VERSION: Final = 1


def check_version(env: Mapping[str, str]) -> None:
    """ValueError if the operator that set `env` is no neighbour of this image; it names both versions."""
    given = env.get(Env.CONTRACT_VERSION, "").strip() or "0"
    first, last = max(0, CONTRACT_VERSION - 1), CONTRACT_VERSION + 1
    speaks = f"this image speaks version {CONTRACT_VERSION} of the contract and works with {first}..{last}"
    if not (given.isascii() and given.isdecimal() and len(given) <= 9):
        raise ValueError(f"{Env.CONTRACT_VERSION} is {given[:80]!r}: must be a whole number; {speaks}")
    if not first <= int(given) <= last:
        raise ValueError(
            f"{Env.CONTRACT_VERSION} is {given}, the operator's; {speaks}: install operator and images of neighbouring "
            "releases"
        )

"""The fuzz target of tests/fuzz on its seeds and on bent ones: quick, the same every time, without a fuzzer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from fuzz_target import Target, seeds
from steeltown_server import engine, log, service

INPUTS = 3000


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:  # what the target changes for its process
        patch.setattr(engine, "INLINE_SECONDS", engine.INLINE_SECONDS)
        patch.setattr(service, "INLINE_BYTES", service.INLINE_BYTES)
        patch.setattr(log, "error", log.error)
        yield Target()


@pytest.mark.parametrize("pieces", [b"\x01", b"\x05", b"\xff"], ids=["byte by byte", "small", "whole"])
def test_seeds_are_valid(target: Target, pieces: bytes) -> None:
    for seed in seeds():
        target.one_input(pieces + seed)


def test_bent_requests_end_in_whole_answers_and_leave_nothing_behind(target: Target) -> None:
    generator = random.Random(20261125)
    bases = seeds()
    for _ in range(INPUTS):
        data = bytearray(generator.choice(bases))
        for _ in range(generator.randint(1, 6)):
            at = generator.randrange(len(data))
            match generator.randrange(5):
                case 0:
                    data[at] = generator.randrange(256)
                case 1:
                    del data[at : at + generator.randint(1, 40)]
                case 2:
                    data[at:at] = generator.choice((b"\r\n", b"\r\n\r\n", b"\0", b"[", b'"', b"-1", b"9" * 25, b"NaN"))
                case 3:
                    data[at:at] = data[at : at + generator.randint(1, 200)]
                case 4:
                    other = generator.choice(bases)
                    data[at:] = other[generator.randrange(len(other)) :]
            if not data:
                data = bytearray(b"x")
        target.one_input(bytes([generator.randrange(1, 256)]) + bytes(data))

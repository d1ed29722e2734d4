"""The fuzz targets of the server on their seeds and on bent ones: quick, the same every time, without a fuzzer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from steeltown_server import engine, log, service
from steeltown_server.rpc import server as port
from steeltown_testing.fuzzing import grpc as fuzz_grpc
from steeltown_testing.fuzzing import http2 as fuzz_http2
from steeltown_testing.fuzzing.grpc import GrpcTarget
from steeltown_testing.fuzzing.http import Target, seeds
from steeltown_testing.fuzzing.http2 import Http2Target

INPUTS = 3000
PROGRAMS = 400
FLOODS = 200


@pytest.fixture(scope="module", autouse=True)
def unchanged() -> Iterator[None]:
    """What the targets change for their process."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (engine, service, port):
            for name in ("INLINE_SECONDS", "INLINE_BYTES"):
                if hasattr(module, name):
                    patch.setattr(module, name, getattr(module, name))
        patch.setattr(log, "error", log.error)
        yield


@pytest.fixture(scope="module")
def target() -> Target:
    return Target()


@pytest.fixture(scope="module")
def grpc_target() -> GrpcTarget:
    return GrpcTarget()


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


@pytest.mark.parametrize("pieces", [b"\x01", b"\xff"], ids=["byte by byte", "whole"])
def test_programs_of_frames_are_answered_as_they_must(grpc_target: GrpcTarget, pieces: bytes) -> None:
    before = grpc_target.right
    for seed in fuzz_grpc.seeds():
        grpc_target.one_input(pieces + seed)
    assert grpc_target.right - before > 50


def test_bent_programs_break_no_rule_of_http2_and_leave_nothing_behind(grpc_target: GrpcTarget) -> None:
    generator = random.Random(20261127)
    bases = fuzz_grpc.seeds()
    for _ in range(PROGRAMS):
        program = bytearray(b"".join(generator.choices(bases, k=generator.randint(1, 4))))
        for _ in range(generator.randint(1, 8)):
            program[generator.randrange(1, len(program))] = generator.randrange(256)
        grpc_target.one_input(bytes([generator.randrange(1, 256)]) + bytes(program))


@pytest.mark.parametrize("pieces", [b"\x04", b"\xff"], ids=["small", "whole"])
def test_floods_are_bounded_whatever_the_owner_does(pieces: bytes) -> None:
    target = Http2Target()
    for seed in fuzz_http2.seeds():
        target.one_input(pieces + seed)
    assert target.ended > 20


def test_bent_floods_break_no_sum() -> None:
    target, generator = Http2Target(), random.Random(20261128)
    bases = fuzz_http2.seeds()
    for _ in range(FLOODS):
        program = bytearray(b"".join(generator.choices(bases, k=generator.randint(1, 4))))
        for _ in range(generator.randint(1, 8)):
            program[generator.randrange(len(program))] = generator.randrange(256)
        target.one_input(bytes([generator.randrange(1, 256)]) + bytes(program))

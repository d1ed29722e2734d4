"""The fuzz target of what the operator parses, on its seeds, on bent ones and on hostile texts: without a fuzzer."""

from __future__ import annotations

import random

import pytest
from steeltown_testing.fuzzing.operator import HOSTILE, READERS, OperatorTarget, Reader, seeds, spoiled

INPUTS = 6000
each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)


def test_seeds_are_read() -> None:
    target = OperatorTarget()
    for seed in seeds():
        target.one_input(seed)
    assert all(target.read.values()), target.read


@each_reader
def test_hostile_text_is_refused_in_the_documented_way(reader: Reader) -> None:
    target = OperatorTarget()
    for text in HOSTILE:
        target.one_text(reader, text)
    assert target.refused[reader.name] == len(HOSTILE)


@each_reader
def test_any_value_in_any_place_is_read_or_refused(reader: Reader) -> None:
    target = OperatorTarget()
    for text in spoiled(reader.seeds[0]):
        target.one_text(reader, text.encode())
    assert target.refused[reader.name] > 10


def test_bent_documents_are_read_or_refused() -> None:
    generator = random.Random(20261128)
    target, bases = OperatorTarget(), seeds()
    for _ in range(INPUTS):
        data = bytearray(generator.choice(bases))
        for _ in range(generator.randint(1, 6)):
            at = generator.randrange(1, len(data)) if len(data) > 1 else len(data)
            match generator.randrange(5):
                case 0:
                    data[at : at + 1] = bytes([generator.randrange(256)])
                case 1:
                    del data[at : at + generator.randint(1, 40)]
                case 2:
                    data[at:at] = generator.choice(
                        (b"[" * 50, b"{", b'"', b"-1", b"9" * 25, b"NaN", b"1e999", b"\\ud8")
                    )
                case 3:
                    data[at:at] = data[at : at + generator.randint(1, 200)]
                case 4:
                    other = generator.choice(bases)
                    data[at:] = other[generator.randrange(1, len(other)) :]
        target.one_input(bytes(data))
    assert sum(target.read.values()) > INPUTS // 100
    assert sum(target.refused.values()) > INPUTS // 2

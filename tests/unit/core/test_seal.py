"""Seals: what opens, and all that does not and costs nobody anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.core import seal

KEY, ABOUT = b"of the operator", ("outcome", "team", "m-v1")
PAYLOAD: dict[str, Any] = {"result": "Promoted", "digest": "sha256:aa", "findings": [{"type": "Loadable"}]}
GOOD = seal.sealed(KEY, ABOUT, PAYLOAD)


def edited(**change: Any) -> str:
    return json.dumps({**json.loads(GOOD), **change})


def deep(levels: int) -> str:
    return '{"a":' + "[" * levels + "]" * levels + ',"seal":"' + "0" * 64 + '"}'


def test_record_opens_as_what_was_sealed() -> None:
    assert seal.opened(KEY, ABOUT, GOOD) == PAYLOAD


def test_backup_tool_may_write_the_same_json_in_another_manner() -> None:
    assert seal.opened(KEY, ABOUT, json.dumps(json.loads(GOOD), indent=4)) == PAYLOAD


CLOSED: dict[str, tuple[bytes, tuple[str, ...], Any]] = {
    "another key": (b"of somebody", ABOUT, GOOD),
    "no key": (b"", ABOUT, GOOD),
    "another kind of record": (KEY, ("result", "team", "m-v1"), GOOD),
    "another namespace": (KEY, ("outcome", "other", "m-v1"), GOOD),
    "another name": (KEY, ("outcome", "team", "m-v2"), GOOD),
    "about more": (KEY, (*ABOUT, "x"), GOOD),
    "names that only read the same": (KEY, ("outcome", "team,m-v1"), GOOD),
    "absent": (KEY, ABOUT, None),
    "empty": (KEY, ABOUT, ""),
    "truncated": (KEY, ABOUT, GOOD[:-9]),
    "changed": (KEY, ABOUT, edited(result="RolledBack")),
    "one field more": (KEY, ABOUT, edited(retry="1")),
    "one field less": (KEY, ABOUT, json.dumps({k: v for k, v in json.loads(GOOD).items() if k != "digest"})),
    "no seal": (KEY, ABOUT, json.dumps(PAYLOAD)),
    "empty seal": (KEY, ABOUT, edited(seal="")),
    "seal that is no text": (KEY, ABOUT, edited(seal=7)),
    "seal that is a list": (KEY, ABOUT, edited(seal=["0" * 64])),
    "seal in capitals": (KEY, ABOUT, edited(seal=json.loads(GOOD)["seal"].upper())),
    "seal with half a surrogate pair": (KEY, ABOUT, edited(seal="\ud800")),
    "seal in another script": (KEY, ABOUT, edited(seal="ЖЖ")),
    "two seals": (KEY, ABOUT, GOOD[:-1] + ',"seal":"0"}'),
    "a list": (KEY, ABOUT, "[1]"),
    "a text": (KEY, ABOUT, '"Promoted"'),
    "a number": (KEY, ABOUT, "7"),
    "null": (KEY, ABOUT, "null"),
    "no JSON": (KEY, ABOUT, "Promoted"),
    "a number without end": (KEY, ABOUT, '{"a":' + "9" * 20_000 + ',"seal":"0"}'),
    "not a number": (KEY, ABOUT, '{"a":NaN,"seal":"0"}'),
    "1 MB of brackets": (KEY, ABOUT, "[" * (1 << 20)),
    "1 MB that would open": (KEY, ABOUT, GOOD + " " * (1 << 20)),
}


@pytest.mark.parametrize(("key", "about", "text"), CLOSED.values(), ids=CLOSED)
def test_anything_else_opens_as_nothing(key: bytes, about: tuple[str, ...], text: str | None) -> None:
    assert seal.opened(key, about, text) is None


def test_no_depth_is_an_error() -> None:
    """What can just be read may still be too deep to be written again for its seal."""
    for levels in (*range(700, 1100), 5_000, 16_000):
        assert seal.opened(KEY, ABOUT, deep(levels)) is None


whole_numbers = st.integers(-(2**53), 2**53)  # what any JSON reader can hold
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | st.dictionaries(st.text() | st.just(seal.SEAL), anything).map(json.dumps))
def test_no_text_of_a_stranger_opens_or_is_an_error(text: str) -> None:
    assert seal.opened(KEY, ABOUT, text) is None


@given(st.dictionaries(st.text(), st.none() | st.booleans() | whole_numbers | st.text(), max_size=5))
def test_what_is_sealed_opens_again(payload: dict[str, Any]) -> None:
    payload.pop(seal.SEAL, None)
    assert seal.opened(KEY, ABOUT, seal.sealed(KEY, ABOUT, payload)) == payload


@given(st.integers(0, len(GOOD) - 1), st.characters(min_codepoint=32, max_codepoint=126))
def test_no_character_can_be_changed(at: int, other: str) -> None:
    text = GOOD[:at] + other + GOOD[at + 1 :]
    assert seal.opened(KEY, ABOUT, text) in (None, PAYLOAD)
    assert text == GOOD or seal.opened(KEY, ABOUT, text) is None

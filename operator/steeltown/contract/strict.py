"""Reading JSON that a stranger wrote: bounded before it is parsed, and field by field.

Whoever can answer on a Pod's port, end a container with a message or edit an annotation decides what stands in these
documents, and the operator reads those of all tenants in one process. So every reader of the contract starts from
`parse_object` (bytes and depth have a limit before the parser sees them) and takes what it needs through `Fields`
(type, range and length of each). Whatever is wrong is a ValueError that names field, value and what it must be;
nothing else is ever raised. Fields that nobody asks for are ignored, whatever they hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

MAX_COUNT: Final = 10**12
"""No server, table or file here has more; and far beyond it doubles no longer tell the terms of exact tests apart."""
MAX_DEPTH: Final = 16
_MAX_DIGITS: Final = 19
_SHOWN: Final = 80

# An unfinished string matches to the end of the text, so that no text is scanned twice.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")

Word = TypeVar("Word", bound=StrEnum)


def parse_object(text: str | bytes | bytearray, name: str, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Fields:
    """The JSON object that `text` is; see `parse`."""
    return object_of(parse(text, name, max_bytes=max_bytes, max_depth=max_depth), name)


def parse(text: str | bytes | bytearray, name: str, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """The JSON that `text` is. name: of the document, for messages. Bytes are read as UTF-8.

    NaN, Infinity and 1e999 are parsed and then refused by whoever asks for such a number, so that one that nobody asks
    for spoils nothing.
    """
    try:
        raw = text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)
        if len(raw) > max_bytes:
            raise ValueError(f"{name} has {len(raw)} bytes: must have at most {max_bytes}")
        decoded = raw.decode(errors="surrogatepass" if isinstance(text, str) else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None
    check_depth(decoded, name, max_depth)
    try:
        return json.loads(decoded, parse_int=_integer)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None


def check_depth(text: str, name: str, max_depth: int) -> None:
    """ValueError for JSON nested deeper than `max_depth`. The parser itself would recurse."""
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > max_depth:
            raise ValueError(f"{name} is nested too deep: must be nested at most {max_depth} levels")


def object_of(value: Any, path: str) -> Fields:
    if not isinstance(value, Mapping):
        raise _wrong(path, value, "a JSON object")
    return Fields(value, path)


def finite(value: Any, path: str) -> float:
    """A number that is one: neither true nor text, neither NaN nor infinite."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise _wrong(path, value, "a finite number")


def whole(value: Any, path: str, *, least: int = 0, most: int = MAX_COUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(path, value, f"a whole number {least}..{most}")
    return value


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object on its way in. path: where it stands in its document, for messages.

    A reader with a default gives it for a field that is absent; without one the field is required. For `maybe_...` and
    `each`, null counts as absent.
    """

    raw: Mapping[str, Any]
    path: str

    def text(self, key: str, most: int, default: str | None = None) -> str:
        """most: characters. Half a surrogate pair, which no API server keeps, is refused."""
        value = self._value(key, default)
        if not isinstance(value, str) or len(value) > most or not _encodes(value):
            raise self.wrong(key, value, f"text of at most {most} characters")
        return value

    def word(self, key: str, words: type[Word]) -> Word:
        """A member of an enumeration; one of a newer version is refused by name rather than guessed at."""
        value = self._value(key, None)
        if not isinstance(value, str) or value not in list(words):
            raise self.wrong(key, value, f"one of {', '.join(words)}")
        return words(value)

    def whole(self, key: str, default: int | None = None, *, least: int = 0, most: int = MAX_COUNT) -> int:
        return whole(self._value(key, default), f"{self.path}.{key}", least=least, most=most)

    def maybe_whole(self, key: str) -> int | None:
        return None if self.raw.get(key) is None else self.whole(key)

    def number(self, key: str, default: float | None = None, *, least: float = -math.inf) -> float:
        value = finite(self._value(key, default), f"{self.path}.{key}")
        if value < least:
            raise self.wrong(key, value, f"at least {least:g}")
        return value

    def flag(self, key: str) -> bool:
        value = self._value(key, None)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def inner(self, key: str) -> Fields:
        return object_of(self._value(key, None), f"{self.path}.{key}")

    def maybe_inner(self, key: str) -> Fields | None:
        return None if self.raw.get(key) is None else self.inner(key)

    def each(self, key: str, most: int) -> list[Fields]:
        """The objects of a list of at most `most`; [] for an absent one."""
        value = self.raw.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, value, f"a list of at most {most} objects")
        return [object_of(v, f"{self.path}.{key}[{i}]") for i, v in enumerate(value)]

    def texts(self, key: str, most: int, longest: int) -> tuple[str, ...]:
        """The texts of a list of at most `most`, each of at most `longest` characters; () for an absent one."""
        value = self.raw.get(key)
        if value is None:
            return ()
        wanted = f"a list of at most {most} texts of at most {longest} characters"
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, value, wanted)
        for each in value:
            if not isinstance(each, str) or len(each) > longest or not _encodes(each):
                raise self.wrong(key, each, wanted)
        return tuple(value)

    def wholes(self, key: str, most: int, *, least: int = 0) -> tuple[int, ...]:
        """The whole numbers of a list of at most `most`. It is required."""
        value = self._value(key, None)
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, value, f"a list of at most {most} whole numbers")
        return tuple(whole(n, f"{self.path}.{key}[{i}]", least=least) for i, n in enumerate(value))

    def wrong(self, key: str, value: Any, wanted: str) -> ValueError:
        return _wrong(f"{self.path}.{key}", value, wanted)

    def _value(self, key: str, default: Any) -> Any:
        if key in self.raw:
            return self.raw[key]
        if default is None:
            raise ValueError(f"{self.path}.{key} is missing")
        return default


def _wrong(path: str, value: Any, wanted: str) -> ValueError:
    shown = "null" if value is None else repr(value)
    if isinstance(value, Mapping | list):
        shown = f"of type {type(value).__name__}"
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}... ({len(shown)} characters)"
    return ValueError(f"{path} is {shown}: must be {wanted}")


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(digits: str) -> int:
    """Independent of the interpreter's own limit, above which reading takes quadratic time."""
    if len(digits) > _MAX_DIGITS + 1:
        raise ValueError(f"a number has {len(digits)} digits: must have at most {_MAX_DIGITS}")
    return int(digits)

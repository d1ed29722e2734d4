"""What went wrong, by kind, with the first of each: a share of failed requests says that, these say what.

Few kinds and short texts, since they travel in evidence and in termination messages. What is beyond the bound is not
lost: it is counted among the errors like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from . import strict

MOST_KINDS: Final = 4
_KIND: Final = 64
_FIRST: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Requests that failed in one way.

    kind: such as "timeout" or "HTTP 500". first: what the first of them said. count: how many there were.
    """

    kind: str
    first: str
    count: int = 1

    @classmethod
    def of(cls, kind: str, text: str) -> Fault:
        """One request. The texts may be anything: a model's words, or bytes that were no answer."""
        return cls(kind=_clean(kind, _KIND), first=_clean(text, _FIRST))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "count": self.count, "first": self.first}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "fault") -> Fault:
        """ValueError names what is wrong. path: where it stands, for the message."""
        fields = strict.Fields(raw, path)
        return cls(
            kind=fields.text("kind", _KIND),
            first=fields.text("first", 4 * _FIRST, ""),
            count=fields.whole("count", least=1),
        )


Faults = tuple[Fault, ...]


def read(fields: strict.Fields, errors: int) -> Faults:
    """Of a side with so many errors, [] where its writer tells none."""
    found = tuple(Fault.from_json(each.raw, each.path) for each in fields.each("faults", MOST_KINDS))
    if sum(f.count for f in found) > errors:
        raise ValueError(f"{fields.path}.faults are more than the {errors} errors of {fields.path}")
    return found


def merged(parts: Iterable[Faults]) -> Faults:
    """By kind, in the order of their first; as many kinds as there is room for."""
    total: dict[str, Fault] = {}
    for fault in (f for part in parts for f in part):
        known = total.get(fault.kind)
        if known is not None:
            total[fault.kind] = replace(known, count=known.count + fault.count)
        elif len(total) < MOST_KINDS:
            total[fault.kind] = fault
    return tuple(total.values())


def told(faults: Faults) -> str:
    """For a message, the most frequent first.

    >>> told((Fault(kind="timeout", first="no response within 1 s"), Fault(kind="HTTP 500", first="boom", count=11)))
    '11 times boom; once no response within 1 s'
    """
    return "; ".join(_told(f) for f in sorted(faults, key=lambda f: -f.count))


def _told(fault: Fault) -> str:
    if not fault.kind:  # a writer that keeps only the first of all
        return f"first: {fault.first}"
    return f"{'once' if fault.count == 1 else f'{fault.count} times'} {fault.first or fault.kind}"


def _clean(text: str, most: int) -> str:
    """One line of at most so many bytes."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return line.encode(errors="replace")[:most].decode(errors="ignore")

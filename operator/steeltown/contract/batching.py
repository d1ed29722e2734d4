"""How many rows of different clients may share a run of a model, as `finalise` found: in the model's manifest.

`finalise` has the evaluation rows, more and other than the golden rows that a server has; so what it finds holds, and a
server, which tries for itself too, batches no more than both allow. The file comes from a store: what cannot be read
allows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from . import strict

MAX_ROWS: Final = 1 << 20
MAX_WHY: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """rows: the most rows that may share a run; 1: none. why: it is not more, for a person; empty where nothing stands
    against more. refuted: rows were seen, or are known from the graph, to change each other's answers."""

    rows: int
    why: str = ""
    refuted: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "why": self.why[:MAX_WHY], "refuted": self.refuted}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Batching:
        """ValueError names what is wrong."""
        fields = strict.object_of(raw, "batching")
        return cls(
            rows=fields.whole("rows", least=1, most=MAX_ROWS),
            why=fields.text("why", MAX_WHY, ""),
            refuted="refuted" in raw and fields.flag("refuted"),
        )

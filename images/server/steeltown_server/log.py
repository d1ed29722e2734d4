"""Log lines: one JSON object a line on standard output, with stable keys.

There is no access log: at thousands of requests a second it would cost more than the requests, and the counters
say the same. What is logged is what a person looks for after an incident: start, route changes, drain, faults.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any


def _write(level: str, message: str, fields: dict[str, Any]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = json.dumps(
        {"ts": now, "level": level, "logger": "steeltown.server", "msg": message, **fields},
        default=str,
        ensure_ascii=False,
    )
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def info(message: str, **fields: Any) -> None:
    _write("info", message, fields)


def warning(message: str, **fields: Any) -> None:
    _write("warning", message, fields)


def error(message: str, **fields: Any) -> None:
    _write("error", message, fields)

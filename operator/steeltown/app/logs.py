"""One JSON object per line, with keys that log queries can rely on.

ts, level, logger, msg; about a reconcile also controller, namespace, name, uid, generation, reconcileID.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

_NOT_OURS = ("k8s_ref", "k8s_skip", "settings")  # what kopf attaches to its records for its own formatter


class _Formatter(JsonFormatter):
    def __init__(self) -> None:
        super().__init__(
            "%(message)s",
            rename_fields={"message": "msg", "object": "name", "exc_info": "error"},
            rename_fields_keep_missing=False,
        )

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["ts"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        super().add_fields(log_data, record, message_dict)
        for key in _NOT_OURS:
            log_data.pop(key, None)


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """For the whole process. kopf and the libraries below it speak only when something is wrong."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("kopf", "asyncio", "aiohttp.access", "client"):
        logging.getLogger(name).setLevel(logging.WARNING)

"""Reading what a trainer left behind: regular files only, and documents with limits.

The trainer is a stranger, and `finalise` sees more than it does: the evaluation rows, its own environment. A link named
result.json would have it read those, a pipe would keep it waiting for ever, and a document that no reader or writer of
JSON stands would end it after the model is published. So a file counts only where no link leads to it, and a document
is measured before it is parsed.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, Final

from steeltown.contract import strict

from .reasons import Reason, StepFailed

MAX_RESULT_BYTES: Final = 1 << 20
MAX_FIDELITY_BYTES: Final = 256 << 20
MAX_DEPTH: Final = 64
MAX_PARTS: Final = 1_000_000
"""Lists and objects of a document: an empty one takes twenty times the memory of its two bytes."""
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def find(path: Path, root: Path) -> Path | None:
    """`path` if a regular file is there, None if nothing is. root: the trainer may write below it, and not beside it.

    StepFailed(ResultInvalid) for anything else: a link, also one of a folder on the way, a folder, a pipe, a file
    without the right to read it.
    """
    try:
        for place in _way(path, root):
            mode = place.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise _invalid(path, f"{place} is a symbolic link: write the file itself, links are not followed")
        if not stat.S_ISREG(mode):
            raise _invalid(path, "not a regular file: write the file itself")
        if not os.access(path, os.R_OK):
            raise _invalid(path, "permission denied: make it readable for its owner")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise _invalid(path, f"permission denied for {error.filename}: make it readable for its owner") from error
    return path


def read_json(path: Path, *, max_bytes: int) -> Any:
    """The document in a file that `find` has found. ValueError if it is no JSON.

    StepFailed(ResultInvalid) if it is larger or nested deeper than any reader should bear, or if a text in it is none
    (half a surrogate pair, which cannot be encoded).
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise _invalid(path, f"{size} bytes exceed the limit of {max_bytes}: write less")
    raw = path.read_bytes()
    if (parts := raw.count(b"[") + raw.count(b"{")) > MAX_PARTS:
        raise _invalid(path, f"{parts} lists and objects exceed the limit of {MAX_PARTS}: write lists of plain values")
    try:
        strict.check_depth(raw.decode(errors="replace"), path.name, MAX_DEPTH)
    except ValueError as error:
        raise _invalid(path, str(error)) from error
    document = strict.parse(raw, path.name, max_bytes=max_bytes, max_depth=MAX_DEPTH)
    if _SURROGATE.search(raw) and (text := _half_pair(document)) is not None:
        raise _invalid(path, f"text {text!r} has half of a surrogate pair: write the whole character")
    return document


def _way(path: Path, root: Path) -> list[Path]:
    """`path` and the folders that lead to it, from below `root` on."""
    between = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
    start = root if path.is_relative_to(root) else path.parent
    return [start.joinpath(*between[: i + 1]) for i in range(len(between))]


def _half_pair(value: Any) -> str | None:
    """The first 80 characters of a text that cannot be encoded, None if there is none."""
    if isinstance(value, str):
        return value[:80] if not value.isascii() and _unencodable(value) else None
    inner = (*value.keys(), *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for each in inner if (found := _half_pair(each)) is not None), None)


def _unencodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _invalid(path: Path, why: str) -> StepFailed:
    return StepFailed(Reason.RESULT_INVALID, f"invalid {path}: {why}")

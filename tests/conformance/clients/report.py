"""How a client's script tells what it saw: one JSON line a check, {name, ok, detail}; it goes on after a failure.

A script runs in the client's own environment, so this needs the standard library alone. Its arguments say where each
model is: `single=127.0.0.1:8080 types=127.0.0.1:8081`.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


def addresses() -> dict[str, str]:
    """Model -> host:port, from the command line."""
    return dict(argument.split("=", 1) for argument in sys.argv[1:])


@contextmanager
def check(name: str) -> Iterator[None]:
    """Whatever the body raises is this check's failure."""
    try:
        yield
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        say(name, False, f"{type(error).__name__}: {error} ({where.name}: {where.line})")
    else:
        say(name, True, "")


@contextmanager
def refusal(name: str, kind: type[Exception], *words: str) -> Iterator[None]:
    """The body must raise the client's own error, with these words in its message."""
    with check(name):
        try:
            yield
        except kind as error:
            said = str(error)
        else:
            raise AssertionError("nothing was refused")
        assert all(word in said for word in words), f"{words} are not all in: {said}"


def say(name: str, ok: bool, detail: str) -> None:
    print(json.dumps({"name": name, "ok": ok, "detail": detail}), flush=True)

"""`python -m steeltown.contract FOLDER` writes the JSON Schemas of the contract there; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from .schemas import rendered


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    folder = Path(next(a for a in arguments if not a.startswith("--")))
    wanted = rendered()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    if check:
        stale = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        if stale:
            print(f"{', '.join(stale)} in {folder} differ from operator/steeltown/contract: run `make contract`")
        return 1 if stale else 0
    for name in there.keys() - wanted.keys():
        (folder / name).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

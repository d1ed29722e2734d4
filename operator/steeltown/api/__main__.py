"""`python -m steeltown.api FOLDER` writes the CustomResourceDefinitions there; `--check` only compares."""

from __future__ import annotations

import sys

from .crds import rendered


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    folder = next(a for a in arguments if not a.startswith("--"))
    stale = []
    for name, text in rendered().items():
        path = f"{folder}/{name}"
        if check:
            with open(path, encoding="utf-8") as file:
                stale += [path] if file.read() != text else []
        else:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    if stale:
        print(f"{', '.join(stale)} differ from operator/steeltown/api: run `make crds` and commit the result")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

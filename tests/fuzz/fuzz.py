"""Fuzzes the model server's parser and protocol core, guided by coverage: `python tests/fuzz/fuzz.py --minutes 10`.

Needs atheris beside the development environment (`pip install --require-hashes -r tests/fuzz/requirements.txt`).
Ends with a line of what was done and what the process weighs; a crash leaves the input in the corpus folder.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "images" / "server"), str(Path(__file__).parent)]

with atheris.instrument_imports(include=["steeltown_server", "steeltown.contract"]):
    from fuzz_target import Target, seeds


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--corpus", type=Path, help="folder to keep inputs in; default: a temporary one")
    options = parser.parse_args()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="steeltown-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        for pieces in (b"\x03", b"\xff"):
            (corpus / f"seed-{number}-{pieces.hex()}").write_bytes(pieces + seed)
    target = Target()
    seen = {"inputs": 0, "early": 0.0}

    def one_input(data: bytes) -> None:
        seen["inputs"] += 1
        if seen["inputs"] == 50_000:
            seen["early"] = resident_mib()
            print(f"after 50000 inputs: {seen['early']:.1f} MiB", flush=True)
        elif seen["inputs"] % 500_000 == 0:
            print(f"after {seen['inputs']} inputs: {resident_mib():.1f} MiB", flush=True)
        target.one_input(data)

    # Leaks are judged by the lines above: libFuzzer's own detector does not know Python's allocator.
    limits = [f"-max_total_time={int(options.minutes * 60)}", "-max_len=4096", "-rss_limit_mb=2048", "-timeout=10"]
    atheris.Setup(
        [sys.argv[0], *limits, f"-artifact_prefix={corpus}/crash-", "-print_final_stats=1", str(corpus)], one_input
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()

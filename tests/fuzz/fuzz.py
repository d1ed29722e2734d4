"""Fuzzes the ports of the model server and what the operator parses, guided by coverage.

HTTP/1.1: `python tests/fuzz/fuzz.py --minutes 10`, gRPC: `python tests/fuzz/fuzz.py --target grpc --minutes 10`, what
the operator parses: `python tests/fuzz/fuzz.py --target operator --minutes 10`, HTTP/2 without a server around it:
`python tests/fuzz/fuzz.py --target http2 --minutes 10`.

Needs atheris beside the development environment (`pip install --require-hashes -r tests/fuzz/requirements.txt`).
Ends with a line of what was done and what the process weighs; a crash leaves the input in the corpus folder.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("operator", "images/server", "images/http2", "images/tensors", "tests/support")
sys.path[:0] = [str(ROOT / part) for part in SOURCES]

with atheris.instrument_imports(include=["steeltown_server", "steeltown_http2", "steeltown_tensors", "steeltown"]):
    from steeltown_testing.fuzzing import grpc as fuzz_grpc
    from steeltown_testing.fuzzing import http as fuzz_target
    from steeltown_testing.fuzzing import http2 as fuzz_http2
    from steeltown_testing.fuzzing import operator as fuzz_operator


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=("http", "grpc", "http2", "operator"), default="http")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--corpus", type=Path, help="folder to keep inputs in; default: a temporary one")
    options = parser.parse_args()
    seeds = {
        "http": fuzz_target.seeds,
        "grpc": fuzz_grpc.seeds,
        "http2": fuzz_http2.seeds,
        "operator": fuzz_operator.seeds,
    }[options.target]()
    first_bytes = (b"",) if options.target == "operator" else (b"\x03", b"\xff")  # there, the size of the pieces
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="steeltown-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        for first in first_bytes:
            (corpus / f"seed-{number}-{first.hex()}").write_bytes(first + seed)
    targets: dict[str, Callable[[], Any]] = {
        "http": fuzz_target.Target,
        "grpc": fuzz_grpc.GrpcTarget,
        "http2": fuzz_http2.Http2Target,
        "operator": fuzz_operator.OperatorTarget,
    }
    target = targets[options.target]()
    early = 5_000 if options.target in ("grpc", "http2") else 50_000  # an input is a conversation there
    seen = {"inputs": 0}

    def one_input(data: bytes) -> None:
        seen["inputs"] += 1
        if seen["inputs"] == early or seen["inputs"] % (10 * early) == 0:
            print(f"after {seen['inputs']} inputs: {resident_mib():.1f} MiB", flush=True)
        target.one_input(data)

    # Leaks are judged by the lines above: libFuzzer's own detector does not know Python's allocator.
    longest = 1 << 17 if options.target == "operator" else 4096
    limits = [
        f"-max_total_time={int(options.minutes * 60)}",
        f"-max_len={longest}",
        "-rss_limit_mb=2048",
        "-timeout=10",
    ]
    atheris.Setup(
        [sys.argv[0], *limits, f"-artifact_prefix={corpus}/crash-", "-print_final_stats=1", str(corpus)], one_input
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""`python3 -m steeltown_checker <step>`: run one step, leave its report, exit with its code.

Whatever happens, a report is written: a step that dies without a word would leave the operator guessing from
log lines. Steps are imported when they are chosen, so `fetch`, which every server waits for, does not load
the data and model libraries of the others.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping
from typing import Final

from steeltown.contract.files import ExitCode
from steeltown.contract.reports import StepReport

from .environment import Environment, termination_log, unprefixed
from .reasons import Reason, StepFailed

STEPS: Final = ("prepare", "finalise", "fetch", "loadcheck", "collect")
INTERNAL_ERROR_EXIT: Final = 1

log = logging.getLogger("steeltown.checker")


def main(arguments: list[str], env: Mapping[str, str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if len(arguments) != 1 or arguments[0] not in STEPS:
        log.error("usage: python3 -m steeltown_checker <%s>, got %r", "|".join(STEPS), arguments)
        return ExitCode.USAGE
    if arguments[0] == "loadcheck":
        text, exit_code = importlib.import_module(".load.step", __package__).run(env)
    else:
        report, exit_code = run_step(arguments[0], env)
        text = report.encode()
    log.info("%s: %s", arguments[0], text)
    try:
        termination_log(env).write_text(text, encoding="utf-8")
    except OSError as error:  # outside of a container there is none; the log above has the report
        log.warning("failed to write the report: %s", error)
    return int(exit_code)


def run_step(step: str, env: Mapping[str, str]) -> tuple[StepReport, int]:
    """The report of `prepare`, `finalise`, `fetch` or `collect`, and the exit code that goes with it."""
    try:
        report: StepReport = importlib.import_module(f".{step}", __package__).run(Environment.of(env))
        return report, ExitCode.OK
    except StepFailed as failure:
        return StepReport(reason=failure.reason, message=failure.message, **failure.known), failure.exit_code
    except Exception as error:
        log.exception("unexpected error in %s", step)
        return StepReport(reason=Reason.INTERNAL_ERROR, message=one_line(error)), INTERNAL_ERROR_EXIT


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


if __name__ == "__main__":
    os.environ.update(unprefixed(os.environ))  # obstore reads the environment itself
    sys.exit(main(sys.argv[1:], os.environ))

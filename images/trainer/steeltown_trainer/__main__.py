"""`python3 -m steeltown_trainer`: read, choose, fit, export; every file of the contract in its place at the end.

model.onnx is written before result.json, which says that the training is complete.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sklearn
from steeltown.contract import files, reports
from steeltown.contract.files import Env, ExitCode
from steeltown.contract.version import check_version

from . import dataset, export, parameters, pipelines, selection
from .progress import Progress, write_atomically

MAX_FAILURE = 1024
INTERNAL_ERROR_EXIT = 1
TERMINATION_LOG = "STEELTOWN_TERMINATION_LOG"

log = logging.getLogger("steeltown.trainer")


def main(env: Mapping[str, str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        train(env)
        return ExitCode.OK
    except parameters.TrainingFailed as failure:
        log.error("%s", failure)
        _say(env, str(failure))
        return failure.exit_code
    except Exception as error:
        log.exception("training failed")
        _say(env, f"InternalError: {type(error).__name__}: {' '.join(str(error).split())}")
        return INTERNAL_ERROR_EXIT


def train(env: Mapping[str, str]) -> None:
    try:
        check_version(env)
    except ValueError as error:
        raise parameters.usage(str(error)) from None
    output = _path(env, Env.OUTPUT_DIR, files.OUTPUT_DIR)
    given = parameters.read(_path(env, Env.PARAMS_FILE, files.PARAMS_FILE))
    seed = parameters.seed_of(env.get(Env.SEED) or "0")
    steps = selection.FOLDS * len(selection.candidates(given.estimator)) + 3
    progress = Progress(_path(env, Env.STATUS_FILE, files.STATUS_FILE), steps)
    data = dataset.load(_path(env, Env.INPUT_DIR, files.INPUT_DIR), given, seed)
    progress.advance()
    log.info("%d rows, %d features", len(data), len(data.features))
    progress.phase("CrossValidating")
    selected = selection.select(data, given.task, given.estimator, seed, progress.advance)
    log.info("chosen: %s, %s", selected.chosen, selected.metrics())
    progress.phase("Fitting")
    pipeline = pipelines.build(selected.chosen, data, given.task, seed).fit(data.frame(), data.target)
    progress.advance()
    progress.phase("Exporting")
    proto = export.to_onnx(pipeline, data, given.task)
    write_atomically(output / files.MODEL_PATH, export.encode(proto))
    golden = export.fidelity(pipeline, data, given.task)
    write_atomically(output / files.FIDELITY_PATH, json.dumps(golden.to_json(), allow_nan=False).encode())
    result = json.dumps(_result(data, selected, seed), indent=1, sort_keys=True, allow_nan=False)
    write_atomically(_path(env, Env.RESULT_FILE, files.RESULT_FILE), result.encode())
    progress.advance()


def _result(data: dataset.Dataset, selected: selection.Selection, seed: int) -> dict[str, Any]:
    return {
        "schemaVersion": 1,
        "framework": f"scikit-learn {sklearn.__version__}",
        "estimator": selected.chosen.value,
        "metrics": selected.metrics(),
        "rows": len(data),
        "rowsRead": data.rows_read,
        "features": [f.name for f in data.features],
        "seed": seed,
        "crossValidation": selected.to_json(),
    }


def _say(env: Mapping[str, str], text: str) -> None:
    """Into the failure file, and into the termination message where the container has one.

    Written in place: either may be a bind mount of its own, which nothing can be renamed onto.
    """
    log_file = _path(env, TERMINATION_LOG, reports.TERMINATION_LOG)
    places = [_path(env, Env.FAILURE_FILE, files.FAILURE_FILE), *([log_file] if log_file.is_file() else [])]
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text[:MAX_FAILURE], encoding="utf-8")
        except OSError as error:
            log.error("failed to write %s: %s", place, error)


def _path(env: Mapping[str, str], name: str, default: str) -> Path:
    return Path(env.get(name) or default)


if __name__ == "__main__":
    sys.exit(main(os.environ))

"""The file contract of one training run: where a trainer finds its input and where it leaves its result.

Any image in any language can train: it reads `INPUT_DIR/data.<csv|parquet>` and `PARAMS_FILE`, writes
`OUTPUT_DIR/model/model.onnx` and `RESULT_FILE`, and says how it went by its exit code. It needs no library,
no credentials and no network.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class Env(StrEnum):
    """Environment variables that the operator sets on the containers it starts."""

    CONTRACT_VERSION = "STEELTOWN_CONTRACT_VERSION"  # version.CONTRACT_VERSION of the operator
    RUN = "STEELTOWN_RUN"  # name of the TrainingRun
    REFERENCE = "STEELTOWN_REFERENCE"  # finalise: what the run is called among the references of its model in the store
    LIVE_DIGEST = (
        "STEELTOWN_LIVE_DIGEST"  # loadcheck: of the model in service, to compare the candidate's interface with
    )
    INPUT_DIR = "STEELTOWN_INPUT_DIR"
    OUTPUT_DIR = "STEELTOWN_OUTPUT_DIR"
    EVALUATION_DIR = "STEELTOWN_EVALUATION_DIR"  # prepare writes, finalise reads; the trainer never sees it
    CHECKPOINT_DIR = "STEELTOWN_CHECKPOINT_DIR"
    PARAMS_FILE = "STEELTOWN_PARAMS_FILE"
    RESULT_FILE = "STEELTOWN_RESULT_FILE"
    STATUS_FILE = "STEELTOWN_STATUS_FILE"
    FAILURE_FILE = "STEELTOWN_FAILURE_FILE"  # what is written here is shown when training fails
    ALLOWED_SOURCES = "STEELTOWN_ALLOWED_SOURCES"  # prepare: where data and imports may come from, see sources.py
    SEED = "STEELTOWN_SEED"
    PLAN = "STEELTOWN_PLAN"  # JSON of a plan in plans.py
    MODEL_DIR = "STEELTOWN_MODEL_DIR"  # server: holds what `fetch` brought
    MODEL_NAME = "STEELTOWN_MODEL_NAME"
    MODEL_VERSION = "STEELTOWN_MODEL_VERSION"  # name of the TrainingRun that made it
    MODEL_DIGEST = "STEELTOWN_MODEL_DIGEST"  # "sha256:<hex>" of model.onnx
    ROUTE_FILE = "STEELTOWN_ROUTE_FILE"  # downward API file with evidence.Route as JSON, or empty
    PORT = "STEELTOWN_PORT"
    GRPC_PORT = "STEELTOWN_GRPC_PORT"


STORE_PREFIX: Final = "STEELTOWN_STORE_"
"""Under this prefix a step finds every key of the storage Secret, so that none can be taken for anything else."""


class ExitCode(IntEnum):
    """Exit codes of `prepare`, `train` and `finalise`, after sysexits.h; 64 and 65 are never retried."""

    OK = 0
    USAGE = 64  # configuration: bad parameters, no such column
    DATA = 65  # the data or the model is bad: retrying cannot help
    TRANSIENT = 75  # try again


# Paths inside the containers of a training Pod.
INPUT_DIR: Final = "/steeltown/input"
OUTPUT_DIR: Final = "/steeltown/output"
EVALUATION_DIR: Final = "/steeltown/evaluation"
CHECKPOINT_DIR: Final = "/steeltown/checkpoint"
PARAMS_FILE: Final = "/steeltown/input/params.json"
RESULT_FILE: Final = "/steeltown/output/result.json"
STATUS_FILE: Final = "/steeltown/output/status.json"
FAILURE_FILE: Final = "/dev/termination-log"  # Kubernetes hands its first 4096 bytes to the operator
MODEL_DIR: Final = "/steeltown/model"
ROUTE_FILE: Final = "/steeltown/route/route.json"

# Names inside those directories.
MODEL_PATH: Final = "model/model.onnx"  # below OUTPUT_DIR
FIDELITY_PATH: Final = "model/fidelity.json"  # below OUTPUT_DIR, optional: golden.Golden by the trainer's own model
DATA_STEM: Final = "data"  # INPUT_DIR/data.csv, EVALUATION_DIR/data.parquet, ...

# The object store: content-addressed, the manifest last. No manifest, no model.
MODEL_OBJECT: Final = "model.onnx"
GOLDEN_OBJECT: Final = "golden.json"
MANIFEST_OBJECT: Final = "manifest.json"


# Who needs the objects of a model, and who is about to remove them: see docs/adr/015. All of these objects are empty.
UNNAMED_REFERENCE: Final = "unnamed"
"""Of a run whose operator gave it no name for its reference. Nobody ever removes it."""
COLLECTED_STORE: Final = "collecting/on"
"""It is there once anything has ever been collected from this store."""


def model_prefix(digest: str) -> str:
    """Key prefix of a model below the store's root: `models/<hex>`.

    >>> model_prefix("sha256:ab12")
    'models/ab12'
    """
    return f"models/{_hexadecimal(digest)}"


def reference_prefix(digest: str) -> str:
    """Key prefix of the references to a model: one object for each run that made it.

    >>> reference_prefix("sha256:ab12")
    'references/ab12'
    """
    return f"references/{_hexadecimal(digest)}"


def collecting_prefix(digest: str) -> str:
    """Key prefix of the marks of those who may be removing a model: `<reference>/<random>` below it.

    >>> collecting_prefix("sha256:ab12")
    'collecting/ab12'
    """
    return f"collecting/{_hexadecimal(digest)}"


def _hexadecimal(digest: str) -> str:
    algorithm, _, hexadecimal = digest.partition(":")
    if algorithm != "sha256" or not hexadecimal:
        raise ValueError(f"invalid digest {digest!r}: must be sha256:<hex>")
    return hexadecimal

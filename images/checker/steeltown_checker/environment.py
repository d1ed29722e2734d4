"""Where things are in the container: the contract's paths, each of which an environment variable can move."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steeltown.contract import files, reports, sources
from steeltown.contract.files import STORE_PREFIX, Env, ExitCode
from steeltown.contract.sources import Place
from steeltown.contract.version import check_version

from .reasons import Reason, StepFailed

TERMINATION_LOG: Final = "STEELTOWN_TERMINATION_LOG"
MAX_ARTIFACT_BYTES: Final = "STEELTOWN_MAX_ARTIFACT_BYTES"
DEFAULT_MAX_ARTIFACT_BYTES: Final = 4 << 30
_OF_A_STORE: Final = re.compile(r"(AWS|AZURE|GOOGLE)_[A-Z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """reference: what this run is called among those who need the model that it makes. live_digest: of the model whose
    interface a load check compares, "" for none.
    max_artifact_bytes: nothing larger is fetched, so that a wrong URI cannot fill the node's disk.
    allowed_sources: where data and imports may come from."""

    plan: str
    reference: str
    live_digest: str
    input_dir: Path
    output_dir: Path
    evaluation_dir: Path
    params_file: Path
    result_file: Path
    model_dir: Path
    termination_log: Path
    max_artifact_bytes: int
    allowed_sources: tuple[Place, ...]

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Environment:
        def path(name: str, default: str) -> Path:
            return Path(env.get(name) or default)

        try:
            check_version(env)
            allowed = sources.places(env.get(Env.ALLOWED_SOURCES) or sources.DEFAULT_SOURCES)
        except ValueError as error:
            raise StepFailed(Reason.INVALID_PLAN, str(error), ExitCode.USAGE) from None
        return cls(
            plan=env.get(Env.PLAN, ""),
            reference=env.get(Env.REFERENCE) or files.UNNAMED_REFERENCE,
            live_digest=env.get(Env.LIVE_DIGEST, ""),
            input_dir=path(Env.INPUT_DIR, files.INPUT_DIR),
            output_dir=path(Env.OUTPUT_DIR, files.OUTPUT_DIR),
            evaluation_dir=path(Env.EVALUATION_DIR, files.EVALUATION_DIR),
            params_file=path(Env.PARAMS_FILE, files.PARAMS_FILE),
            result_file=path(Env.RESULT_FILE, files.RESULT_FILE),
            model_dir=path(Env.MODEL_DIR, files.MODEL_DIR),
            termination_log=termination_log(env),
            max_artifact_bytes=_positive(env, MAX_ARTIFACT_BYTES, DEFAULT_MAX_ARTIFACT_BYTES),
            allowed_sources=allowed,
        )

    @property
    def model_file(self) -> Path:
        return self.output_dir / files.MODEL_PATH

    @property
    def fidelity_file(self) -> Path:
        return self.output_dir / files.FIDELITY_PATH

    @property
    def profile_file(self) -> Path:
        return self.evaluation_dir / "profile.json"


def termination_log(env: Mapping[str, str]) -> Path:
    return Path(env.get(TERMINATION_LOG) or reports.TERMINATION_LOG)


def _positive(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise StepFailed(
            Reason.INVALID_PLAN,
            f"invalid environment variable {name} {text!r}: must be an integer greater than 0",
            ExitCode.USAGE,
        )
    return int(text)


def unprefixed(env: Mapping[str, str]) -> dict[str, str]:
    """Settings of the store from keys of the storage Secret that have no name of their own in the plan of the Pod.

    Only `AWS_*`, `AZURE_*` and `GOOGLE_*`: whoever may edit the Secret must not steer anything else in this process.
    """
    keys = {k.removeprefix(STORE_PREFIX): v for k, v in env.items() if k.startswith(STORE_PREFIX)}
    return {k: v for k, v in keys.items() if _OF_A_STORE.fullmatch(k) and k not in env}

"""Why a step ended: the one word that becomes the reason of a condition.

Exit codes follow from what a retry could change: 64 nothing until the plan changes, 65 nothing until the data
or the model changes, 75 perhaps the next attempt.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from steeltown.contract.checks import Check
from steeltown.contract.files import ExitCode
from steeltown.contract.reports import MetricComparison


class Reason(StrEnum):
    # Success.
    DATA_VALID = "DataValid"
    OBSERVED_ONLY = "ObservedOnly"  # the data is not as demanded, and the demand is not enforced
    MODEL_READY = "ModelReady"
    MODEL_FETCHED = "ModelFetched"
    COLLECTED = "Collected"

    # The plan or the configuration is wrong: exit 64.
    INVALID_PLAN = "InvalidPlan"  # operator and image are no neighbouring versions, or the plan is no JSON
    INVALID_URI = "InvalidURI"  # the scheme is unknown or bucket or key are missing
    INVALID_DIGEST = "InvalidDigest"  # not sha256:<64 hexadecimal digits>
    STORE_NOT_CONFIGURED = "StoreNotConfigured"  # the credentials' Secret lacks a setting
    UNKNOWN_METRIC = "UnknownMetric"  # the plan names a metric that the task does not have

    # The store: exit 65, or 75 where a retry can help.
    ARTIFACT_NOT_FOUND = "ArtifactNotFound"
    STORE_ACCESS_DENIED = "StoreAccessDenied"
    STORE_UNAVAILABLE = "StoreUnavailable"  # exit 75
    DIGEST_MISMATCH = "DigestMismatch"  # the bytes are not the ones that the plan names
    ARTIFACT_TOO_LARGE = "ArtifactTooLarge"
    MANIFEST_MISSING = "ManifestMissing"  # no manifest, no model: its upload never ended
    MANIFEST_INVALID = "ManifestInvalid"  # the manifest is about another model, or no manifest at all

    # The data: exit 65. The checks of `checks/` bring further reasons of their own.
    DATA_UNREADABLE = "DataUnreadable"

    # The model: exit 65.
    RESULT_MISSING = "ResultMissing"  # the trainer ended with 0 and left no model.onnx or no result.json
    RESULT_INVALID = "ResultInvalid"  # what the trainer left is no regular file, or no document with limits
    MODEL_TOO_LARGE = "ModelTooLarge"
    MODEL_INVALID = "ModelInvalid"  # not ONNX, or refused by onnx.checker
    EXTERNAL_DATA = "ExternalDataNotAllowed"  # weights beside model.onnx are not part of its digest
    OPSET_UNSUPPORTED = "OpsetUnsupported"
    MODEL_DOES_NOT_LOAD = "ModelDoesNotLoad"
    SIGNATURE_MISMATCH = "SignatureMismatch"
    MODEL_FAILS_ON_DATA = "ModelFailsOnData"
    NUMERICALLY_UNSTABLE = "NumericallyUnstable"
    NOT_DETERMINISTIC = "NotDeterministic"  # asked twice, it answers differently
    EXPORT_UNFAITHFUL = "ExportUnfaithful"

    INTERNAL_ERROR = "InternalError"  # exit 1: a defect of this image


class StepFailed(Exception):
    """Ends a step. reason: a Reason, or one that a data check brings.

    `known` are further fields of its StepReport (checks, metrics, rows, ...).
    """

    def __init__(self, reason: str, message: str, exit_code: ExitCode = ExitCode.DATA, **known: Any) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.exit_code = exit_code
        self.known: dict[str, Any] = known

    def knowing(
        self, *, checks: tuple[Check, ...] = (), metrics: tuple[MetricComparison, ...] = (), **known: Any
    ) -> StepFailed:
        """The same failure, with what the step had found out until then in front."""
        checks = (*checks, *self.known.get("checks", ()))
        metrics = (*metrics, *self.known.get("metrics", ()))
        return StepFailed(
            self.reason, self.message, self.exit_code, **{**known, **self.known, "checks": checks, "metrics": metrics}
        )

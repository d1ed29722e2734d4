"""Building blocks of the resources: camelCase models, quantities, decimals, metadata-free common parts.

Numbers with a fraction are strings ("0.05"): Kubernetes API conventions forbid floats, which do not survive
a round trip through every client. Each field has a description, since `kubectl explain` is documentation.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "steeltown.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """Immutable; unknown fields are ignored because the API server has already pruned or refused them."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    def dump(self) -> dict[str, Any]:
        """As JSON for the API server: camelCase, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(expression: str, message: str) -> dict[str, Any]:
    """One CEL rule of `x-kubernetes-validations`. The message says what to write instead."""
    return {"rule": expression, "message": message}


def rules(*each: dict[str, Any]) -> ConfigDict:
    """Model configuration that attaches CEL rules to the object's schema."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": [*each]})


Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
URI = Annotated[str, Field(pattern=r"^(s3|gs|az|file|https?)://[^\s]+$", max_length=1024)]
StoreURI = Annotated[str, Field(pattern=r"^(s3|gs|az|file)://[^\s]+$", max_length=1024)]
Decimal = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", max_length=19)]
Share = Annotated[str, Field(pattern=r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$", max_length=11)]
Quantity = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
        json_schema_extra={"x-kubernetes-int-or-string": True},
    ),
    BeforeValidator(str),  # outermost: it sees the number that the pattern then reads as text
]


class Resources(Model):
    """Compute resource requirements of a container."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=8,
        description='Minimum amount of compute resources reserved, such as {cpu: "1", memory: 512Mi}.',
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=8,
        description='Maximum amount of compute resources allowed, such as {cpu: "1", memory: 512Mi}.',
    )


class Storage(Model):
    """Location of the artifact store and the credentials for it."""

    uri: StoreURI | None = Field(
        None,
        description="Root of the artifact store: s3://bucket/prefix, gs://, az:// or file://. "
        "Defaults to the store configured for the operator.",
    )
    secret_name: Name | None = Field(
        None,
        description="Name of a Secret in the same namespace. Its keys are exposed as environment variables to the "
        "containers that access the store, never to user code: credentials and endpoint (AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, GOOGLE_SERVICE_ACCOUNT_KEY, AZURE_STORAGE_ACCOUNT_KEY, ...) under "
        "their own names, all other keys with the prefix STEELTOWN_STORE_, of which only AWS_*, GOOGLE_* and AZURE_* "
        "are read. Defaults to the name configured for the operator.",
    )


class Source(Model):
    """Object at a URI, pinned by its digest."""

    uri: URI = Field(
        description="URI of the object: s3://, gs://, az://, https:// or http://, among the sources that the platform "
        "allows (file:// only where it allows a folder). Redirects are not followed."
    )
    digest: Digest = Field(
        description="SHA-256 digest of the object, sha256:<64 lowercase hexadecimal digits>. A mismatch fails the run."
    )

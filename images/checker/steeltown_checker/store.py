"""The one door to objects: s3://, gs://, az://, file:// through obstore, and http(s):// for reading.

Credentials and endpoints come from the environment alone (`AWS_*`, `GOOGLE_*`, `AZURE_*`: the keys of a
Secret), so no plan ever carries one. What a run names must be among the places that the platform allows, and no
redirect leads away from there. Bytes stream to disk while they are hashed; a file gets its name only
after its digest was found right. What goes wrong is translated once, here, into the reasons that tell a
retry from a lost cause.
"""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import obstore
from obstore import exceptions
from obstore import store as stores
from steeltown.contract import sources, strict
from steeltown.contract.files import ExitCode
from steeltown.contract.plans import Source
from steeltown.contract.sources import Place

from .reasons import Reason, StepFailed

CHUNK_BYTES: Final = 1 << 20
HTTP_TIMEOUT_SECONDS: Final = 60
MAX_DOCUMENT_BYTES: Final = 16 << 20  # manifest, golden rows
# The Job retries too: give up early enough that its reason is seen, late enough to outlive a restarting store.
RETRIES: Final[Any] = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
BUCKET_SCHEMES: Final = ("s3", "gs", "az")


@dataclass(frozen=True, slots=True)
class Location:
    """scheme://bucket/key; for file:// the bucket is empty and the key is the absolute path less its first slash."""

    scheme: str
    bucket: str
    key: str


def parse(uri: str) -> Location:
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in (*BUCKET_SCHEMES, "file", "http", "https"):
        raise _invalid(uri, "must start with s3://, gs://, az://, file://, https:// or http://")
    bucket, _, key = rest.partition("/")
    if scheme == "file":
        if bucket or not key:
            raise _invalid(uri, "must be an absolute path, such as file:///data/rows.csv")
    elif not bucket:
        raise _invalid(uri, "bucket is missing" if scheme in BUCKET_SCHEMES else "host is missing")
    elif "@" in bucket:
        raise _invalid(uri, "names a user: use a presigned URL, or a bucket and the credentials Secret")
    if "" in key.rstrip("/").split("/") and scheme in BUCKET_SCHEMES and key:
        raise _invalid(uri, "empty path segment (//)")
    return Location(scheme, bucket, key)


def check_allowed(uri: str, allowed: Iterable[Place]) -> None:
    """StepFailed(InvalidURI) unless the platform allows to read from there. A link out of an allowed folder is out."""
    place, among = parse(uri), tuple(allowed)
    inside = sources.allows(among, uri)
    if inside and place.scheme == "file":
        real = Path("/", place.key).resolve()
        inside = any(real.is_relative_to(Path("/", *p.folders).resolve()) for p in among if p.scheme == "file")
    if not inside:
        named = ", ".join(f"{p.scheme}://{p.authority}{''.join(f'/{f}' for f in p.folders)}" for p in among)
        raise _invalid(uri, f"the platform allows data and imports from {named} only (--allowed-sources)")


def fetch(source: Source, target: Path, *, limit_bytes: int) -> int:
    """Stream an object to `target`, hashing it on the way; its size in bytes. Nothing stays behind on failure."""
    expected = checked_digest(source.digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    sha, size = hashlib.sha256(), 0
    try:
        with part.open("wb") as out:
            for chunk in _stream(source.uri):
                size += len(chunk)
                if size > limit_bytes:
                    raise StepFailed(
                        Reason.ARTIFACT_TOO_LARGE,
                        f"{without_credentials(source.uri)} exceeds the limit of {limit_bytes} bytes: "
                        "reduce its size or raise STEELTOWN_MAX_ARTIFACT_BYTES",
                    )
                sha.update(chunk)
                out.write(chunk)
        if f"sha256:{sha.hexdigest()}" != expected:  # not shown: it would prove what bytes are that nobody gave away
            raise StepFailed(
                Reason.DIGEST_MISMATCH,
                f"the {size} bytes of {without_credentials(source.uri)} have another digest than {expected}: "
                "the object was changed, or the digest is wrong; compare it with that of your copy (sha256sum)",
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return size


def checked_digest(digest: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise StepFailed(
            Reason.INVALID_DIGEST, f"invalid digest {digest!r}: must be sha256:<64 hexadecimal digits>", ExitCode.USAGE
        )
    return digest


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class ArtifactStore:
    """The objects below one root URI."""

    def __init__(self, root: str) -> None:
        place = parse(root)
        if place.scheme in ("http", "https"):
            raise _invalid(root, "not writable: use s3://, gs://, az:// or file:// as the store")
        self.root = root.rstrip("/")
        self._prefix = f"{place.key.strip('/')}/" if place.key.strip("/") and place.scheme != "file" else ""
        self._store = _open(root, place, create=True)

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    def size(self, key: str) -> int | None:
        """Size of an object in bytes, None if there is none."""
        with _translated(self.uri(key)):
            try:
                return int(obstore.head(self._store, self._prefix + key)["size"])
            except (exceptions.NotFoundError, FileNotFoundError):
                return None

    def read(self, key: str) -> bytes | None:
        """A small object, None if there is none. ValueError if it is too large for a document."""
        with _translated(self.uri(key)):
            try:
                result = obstore.get(self._store, self._prefix + key)
                size = result.meta["size"]
                body = bytes(result.bytes()) if size <= MAX_DOCUMENT_BYTES else None
            except (exceptions.NotFoundError, FileNotFoundError):
                return None
        if body is None:
            raise ValueError(f"{self.uri(key)} exceeds the limit of {MAX_DOCUMENT_BYTES} bytes ({size} bytes)")
        return body

    def read_json(self, key: str) -> dict[str, Any] | None:
        """A small JSON object, None if there is none. ValueError if it is not one."""
        body = self.read(key)
        if body is None:
            return None
        return dict(strict.parse_object(body, self.uri(key), max_bytes=MAX_DOCUMENT_BYTES).raw)

    def put_file(self, key: str, path: Path) -> None:
        """Upload in parts, replacing what is there: right for content-addressed keys and for large files."""
        with _translated(self.uri(key)):
            obstore.put(self._store, self._prefix + key, path)

    def put(self, key: str, body: bytes) -> None:
        with _translated(self.uri(key)):
            obstore.put(self._store, self._prefix + key, body)

    def create(self, key: str, body: bytes) -> bool:
        """Write unless it exists; whether it was written. For small objects only (not every store can do more)."""
        with _translated(self.uri(key)):
            try:
                obstore.put(self._store, self._prefix + key, body, mode="create", use_multipart=False)
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileExistsError):
                return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """Keys of all objects below `prefix/`, sorted."""
        with _translated(self.uri(prefix)):
            batches = obstore.list(self._store, prefix=f"{self._prefix}{prefix}")
            return sorted(str(o["path"])[len(self._prefix) :] for batch in batches for o in batch)

    def delete(self, key: str) -> None:
        """An object that is not there is success."""
        with _translated(self.uri(key)), suppress(exceptions.NotFoundError, FileNotFoundError):
            obstore.delete(self._store, self._prefix + key)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: whoever answers does not choose where to ask next."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirects)


def _stream(uri: str) -> Iterator[bytes]:
    place = parse(uri)
    with _translated(uri):
        if place.scheme in ("http", "https"):
            # The scheme was checked above; the standard library keeps the query of a presigned URL as it is.
            with _OPENER.open(uri, timeout=HTTP_TIMEOUT_SECONDS) as response:
                while chunk := response.read(CHUNK_BYTES):
                    yield chunk
        else:
            if not place.key:
                raise _invalid(uri, "object key is missing")
            result = obstore.get(_open(uri, place), place.key)
            for buffer in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(buffer)


def _open(uri: str, place: Location, *, create: bool = False) -> Any:
    """The store that holds `uri`: for file:// the folder itself when writing, the whole disk when reading."""
    try:
        if place.scheme == "file":
            return stores.LocalStore(f"/{place.key}" if create else "/", mkdir=create)
        return stores.from_url(f"{place.scheme}://{place.bucket}", retry_config=RETRIES)
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise StepFailed(
            Reason.STORE_NOT_CONFIGURED,
            f"cannot use the store of {without_credentials(uri)}: {_first_line(error)}: "
            "check the keys of the credentials Secret (AWS_*, GOOGLE_*, AZURE_*)",
            ExitCode.USAGE,
        ) from error


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    shown = without_credentials(uri)
    try:
        yield
    except urllib.error.HTTPError as error:
        raise _http_failure(shown, error.code) from error
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise _failure(Reason.ARTIFACT_NOT_FOUND, f"{shown} not found: check the URI") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as error:
        raise _access_denied(shown, _first_line(error)) from error
    except (exceptions.BaseError, OSError, HTTPException) as error:
        raise _unavailable(shown, _first_line(error)) from error


def _http_failure(shown: str, status: int) -> StepFailed:
    if 300 <= status < 400:
        return _invalid(shown, f"it redirects (HTTP {status}), which is not followed: name the address of the object")
    if status in (404, 410):
        return _failure(Reason.ARTIFACT_NOT_FOUND, f"{shown} not found (HTTP {status}): check the URI")
    if status in (401, 403, 407):
        return _access_denied(shown, f"HTTP {status}")
    return _unavailable(shown, f"HTTP {status}")


def _access_denied(shown: str, why: str) -> StepFailed:
    return _failure(
        Reason.STORE_ACCESS_DENIED,
        f"access to {shown} denied ({why}): check the credentials Secret and its permissions",
    )


def _unavailable(shown: str, why: str) -> StepFailed:
    return StepFailed(Reason.STORE_UNAVAILABLE, f"cannot reach {shown}: {why}", ExitCode.TRANSIENT)


def _failure(reason: Reason, message: str) -> StepFailed:
    return StepFailed(reason, message, ExitCode.DATA)


def _invalid(uri: str, why: str) -> StepFailed:
    return StepFailed(Reason.INVALID_URI, f"invalid URI {without_credentials(uri)!r}: {why}", ExitCode.USAGE)


def without_credentials(uri: str) -> str:
    """As it may be shown: without its query and password, since a presigned URL is a credential."""
    return re.sub(r"//[^/@]*@", "//", uri.partition("?")[0])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]

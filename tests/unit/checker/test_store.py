"""The door to objects: what is refused, what is retried, and that nothing half-fetched is left behind."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from steeltown.contract.files import ExitCode
from steeltown.contract.plans import Source
from steeltown.contract.sources import places
from steeltown_checker import store
from steeltown_checker.reasons import Reason, StepFailed

BODY = b"a,b\n1,2\n" * 1000
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


def failure_of(uri: str, target: Path, *, digest: str = DIGEST, limit: int = 1 << 20) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        store.fetch(Source(uri=uri, digest=digest), target, limit_bytes=limit)
    assert list(target.parent.glob("target*")) == []  # neither the file nor a part of it
    return caught.value


def test_fetch_of_a_file_writes_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(BODY)
    size = store.fetch(
        Source(uri=f"file://{tmp_path}/data.csv", digest=DIGEST), tmp_path / "new/target", limit_bytes=len(BODY)
    )
    assert size == len(BODY)
    assert (tmp_path / "new/target").read_bytes() == BODY
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["target"]


def test_wrong_digest_names_uri_and_the_digest_of_the_spec_alone(tmp_path: Path) -> None:
    """That of the bytes would prove what they are to somebody who cannot read them."""
    (tmp_path / "data.csv").write_bytes(BODY + b"x")
    failure = failure_of(f"file://{tmp_path}/data.csv", tmp_path / "target")
    got = hashlib.sha256(BODY + b"x").hexdigest()
    assert (failure.reason, failure.exit_code) == (Reason.DIGEST_MISMATCH, ExitCode.DATA)
    assert all(part in failure.message for part in (f"{tmp_path}/data.csv", DIGEST, f"{len(BODY) + 1} bytes"))
    assert got not in failure.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(status: int, tmp_path: Path, serve: Any) -> None:
    """Whoever answers would choose what is asked next, from inside the platform's network."""
    asked: list[str] = []

    def inner(path: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        return 200, {}, BODY

    target = serve(inner)
    url = serve(lambda path, _: (status, {"Location": f"{target}/secret?token=x"}, b""))
    failure = failure_of(f"{url}/data.csv", tmp_path / "target")
    assert (failure.reason, failure.exit_code) == (Reason.INVALID_URI, ExitCode.USAGE)
    assert f"redirects (HTTP {status}), which is not followed" in failure.message
    assert ("token" in failure.message, asked) == (False, [])


def test_link_out_of_an_allowed_folder_leads_nowhere(tmp_path: Path) -> None:
    data, allowed = tmp_path / "data", places(f"file://{tmp_path}/data")
    data.mkdir()
    (data / "inside").symlink_to(data / "rows.csv")
    (data / "outside").symlink_to("/etc/passwd")
    store.check_allowed(f"file://{data}/rows.csv", allowed)
    store.check_allowed(f"file://{data}/inside", allowed)
    with pytest.raises(StepFailed, match=rf"the platform allows data and imports from file://{data} only"):
        store.check_allowed(f"file://{data}/outside", allowed)


def test_allowed_folder_may_itself_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "real")
    store.check_allowed(f"file://{tmp_path}/data/rows.csv", places(f"file://{tmp_path}/data"))


def test_object_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(BODY)
    failure = failure_of(f"file://{tmp_path}/data.csv", tmp_path / "target", limit=len(BODY) - 1)
    assert failure.reason is Reason.ARTIFACT_TOO_LARGE


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    failure = failure_of(f"file://{tmp_path}/nothing.csv", tmp_path / "target")
    assert (failure.reason, failure.exit_code) == (Reason.ARTIFACT_NOT_FOUND, ExitCode.DATA)


@pytest.mark.parametrize(
    "uri",
    ["data.csv", "ftp://host/data.csv", "s3:///key", "s3://bucket//key", "file://relative/data.csv", "http:///x", ""],
)
def test_unusable_uri_is_invalid(uri: str, tmp_path: Path) -> None:
    failure = failure_of(uri, tmp_path / "target")
    assert (failure.reason, failure.exit_code) == (Reason.INVALID_URI, ExitCode.USAGE)
    assert repr(uri) in failure.message


def test_bucket_without_a_key_is_invalid(tmp_path: Path) -> None:
    assert failure_of("s3://bucket", tmp_path / "target").reason is Reason.INVALID_URI


@pytest.mark.parametrize("digest", ["", "md5:abc", "sha256:abc", DIGEST.upper()])
def test_malformed_digest_is_refused_before_anything_is_fetched(digest: str, tmp_path: Path) -> None:
    failure = failure_of("https://192.0.2.1/never-asked", tmp_path / "target", digest=digest)
    assert (failure.reason, failure.exit_code) == (Reason.INVALID_DIGEST, ExitCode.USAGE)


def test_azure_without_an_account_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    failure = failure_of("az://container/key", tmp_path / "target")
    assert (failure.reason, failure.exit_code) == (Reason.STORE_NOT_CONFIGURED, ExitCode.USAGE)


def test_http_keeps_the_query_and_never_shows_it(tmp_path: Path, serve: Any) -> None:
    asked: list[str] = []

    def answer(path: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        return 200, {}, BODY

    url = serve(answer)
    store.fetch(Source(uri=f"{url}/d.csv?X-Signature=secret", digest=DIGEST), tmp_path / "target", limit_bytes=1 << 20)
    assert asked == ["/d.csv?X-Signature=secret"]
    (tmp_path / "target").unlink()
    failure = failure_of(f"{url}/d.csv?X-Signature=secret", tmp_path / "target", digest="sha256:" + "0" * 64)
    assert "secret" not in failure.message


def test_password_in_a_uri_is_refused_and_never_shown(tmp_path: Path) -> None:
    """It was taken for a port, and stood in the message that says so."""
    failure = failure_of("https://me:hunter2@data.invalid/d.csv", tmp_path / "target")
    assert (failure.reason, failure.exit_code) == (Reason.INVALID_URI, ExitCode.USAGE)
    assert "invalid URI 'https://data.invalid/d.csv': names a user" in failure.message
    assert "hunter2" not in failure.message


@pytest.mark.parametrize(
    ("status", "reason", "exit_code"),
    [
        (404, Reason.ARTIFACT_NOT_FOUND, ExitCode.DATA),
        (403, Reason.STORE_ACCESS_DENIED, ExitCode.DATA),
        (503, Reason.STORE_UNAVAILABLE, ExitCode.TRANSIENT),
        (429, Reason.STORE_UNAVAILABLE, ExitCode.TRANSIENT),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_status_of_the_store_becomes_a_reason(
    status: int,
    reason: Reason,
    exit_code: ExitCode,
    scheme: str,
    tmp_path: Path,
    serve: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = serve(lambda path, body: (status, {}, b"<Error/>"))
    s3(monkeypatch, url)
    failure = failure_of("s3://bucket/key.csv" if scheme == "s3" else f"{url}/key.csv", tmp_path / "target")
    assert (failure.reason, failure.exit_code) == (reason, exit_code)


def test_s3_is_configured_by_the_environment_alone(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(path: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        return 200, {"ETag": '"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, BODY

    s3(monkeypatch, serve(answer))
    store.fetch(Source(uri="s3://bucket/a/key.csv", digest=DIGEST), tmp_path / "target", limit_bytes=1 << 20)
    assert asked == ["/bucket/a/key.csv"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9/x", "s3://bucket/x"])
def test_store_that_does_not_answer_is_tried_again_later(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3(monkeypatch, "http://127.0.0.1:9")
    failure = failure_of(uri, tmp_path / "target")
    assert (failure.reason, failure.exit_code) == (Reason.STORE_UNAVAILABLE, ExitCode.TRANSIENT)


def test_create_writes_once(tmp_path: Path) -> None:
    artifacts = store.ArtifactStore(f"file://{tmp_path}/store/")
    assert artifacts.create("models/ab/manifest.json", b'{"a":1}')
    assert not artifacts.create("models/ab/manifest.json", b'{"a":2}')
    assert artifacts.read_json("models/ab/manifest.json") == {"a": 1}
    assert artifacts.size("models/ab/manifest.json") == 7
    assert artifacts.uri("models/ab") == f"file://{tmp_path}/store/models/ab"


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    artifacts = store.ArtifactStore(f"file://{tmp_path}/store")
    assert (artifacts.read("x"), artifacts.read_json("x"), artifacts.size("x")) == (None, None, None)


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 17 + b"1" + b"}" * 17, b"[1]", b"{", b"\xff"])
def test_document_of_the_store_that_nobody_can_read_is_a_value_error(body: bytes, tmp_path: Path) -> None:
    """Whoever writes to the bucket ends no step with an error of ours."""
    artifacts = store.ArtifactStore(f"file://{tmp_path}/store")
    artifacts.put("x.json", body)
    with pytest.raises(ValueError, match=r"/store/x.json"):
        artifacts.read_json("x.json")


def test_http_is_no_store_to_write_to() -> None:
    with pytest.raises(StepFailed, match=r"InvalidURI.*not writable"):
        store.ArtifactStore("https://example.org/store")


def s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(store, "RETRIES", {"max_retries": 0})
    for name, value in {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)

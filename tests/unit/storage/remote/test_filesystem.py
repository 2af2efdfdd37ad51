"""Storage through fsspec, against a server that speaks the S3 protocol on loopback."""

import os
import time
from collections.abc import Iterator

import fsspec
import pytest

from keisei_ray.cli import main
from keisei_ray.errors import StorageError
from keisei_ray.storage.remote import filesystem
from keisei_ray.storage.remote.filesystem import Storage, check_uri
from tests.helpers.s3 import S3, closed_port, s3_server, silent_port


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh_clients() -> None:
    """Clears the clients that fsspec caches by their options, regardless of the environment."""
    fsspec.filesystem("s3").clear_instance_cache()


def test_files_are_written_read_listed_copied_and_removed(s3: S3) -> None:
    storage = Storage.open(f"s3://{s3.bucket()}/runs/first/")
    storage.check_writable("token")
    assert storage.names() == {}
    storage.write("a/b", b"123")
    storage.write("ab", b"")
    storage.copy("a/b", "c/d")
    assert storage.names() == {"a/b": 3, "ab": 0, "c/d": 3}
    assert storage.names("a") == {"a/b": 3}
    assert (storage.read("c/d"), storage.read("nothing")) == (b"123", None)
    storage.remove("a")
    storage.remove("a")
    assert storage.names() == {"ab": 0, "c/d": 3}


def check(uri: str) -> None:
    storage = Storage.open(uri)
    storage.check_readable()
    storage.check_writable("token")


LIMIT_S = 2 * filesystem.CHECK_TIMEOUT_S
"""Time limit of both checks together, in seconds."""


def refusal(uri: str) -> str:
    """Returns the one-line error for a URI and checks that it comes in bounded time."""
    began_s = time.monotonic()
    with pytest.raises(StorageError) as caught:
        check(uri)
    assert time.monotonic() - began_s < LIMIT_S
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_bucket_that_is_missing_is_refused(s3: S3) -> None:
    assert "bucket" in refusal("s3://no-such-bucket/runs/first")


def test_a_server_that_does_not_run_is_refused(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{closed_port()}")
    assert "Could not connect" in refusal("s3://bucket/runs/first")


def test_a_server_that_hangs_is_refused_in_bounded_time(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "CHECK_TIMEOUT_S", 0.5)
    with silent_port() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        assert "within 0.5 s" in refusal("s3://bucket/runs/first")


def test_no_credentials_are_refused(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket()
    for name in [n for n in os.environ if n.startswith("AWS_") and "KEY" in n]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    assert "credentials" in refusal(f"s3://{bucket}/runs/first")


@pytest.mark.slow
def test_no_right_to_write_is_refused(s3: S3) -> None:
    bucket = s3.bucket()
    s3.deny(bucket, "s3:PutObject")
    message = refusal(f"s3://{bucket}/runs/first")
    assert message.startswith(f"cannot write s3://{bucket}/runs/first/.writable-token: Permission")


@pytest.mark.parametrize(
    "uri", ["s3://me:hunter2@bucket/x", "sftp://me:hunter2@host/x", "s3://me:hunter2@bucket/x[1]"]
)
def test_a_password_in_a_uri_is_refused_and_not_repeated(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--run-dir", uri], ["--resume", uri], ["status", uri], ["report", uri]):
        assert main(arguments) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert "hunter2" not in errors
        assert "password" in errors


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3://b?x=1",
        "s3://b#x",
        "zip::s3://b/x",
        "://b",
        "s3://b/x[1]",
        "s3://b/x*",
        "s3://[b/x",
    ],
)
def test_a_text_that_is_not_the_uri_of_a_run_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="not a URI of files"):
        check_uri(uri)


def test_a_password_is_not_repeated_where_the_uri_cannot_be_split() -> None:
    with pytest.raises(StorageError, match=r"s3://\[b/x: not a URI of files") as refused:
        check_uri("s3://me:hunter2@[b/x")
    assert "hunter2" not in str(refused.value)


def test_a_driver_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(scheme: str, **options: object) -> None:
        raise ImportError("Install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(StorageError, match=r"pip install -e '\.\[gcs\]'\.$"):
        Storage.open("gs://bucket/x")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(StorageError, match="unknown scheme 's33'"):
        Storage.open("s33://bucket/x")


@pytest.mark.parametrize("command", ["status", "watch"])
def test_commands_that_follow_files_say_what_to_name_instead_of_a_uri(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "s3://bucket/runs/first"]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert "runs/first-" in errors

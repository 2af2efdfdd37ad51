"""Files below a URI (`s3://bucket/runs/first`, `gs://`, `file://`), through fsspec.

The only module that uses fsspec. Its drivers raise exceptions of any type; each becomes a
`StorageError` of one line. The drivers find their credentials by themselves (environment, profile,
role): this module neither reads nor writes any, and it refuses a URI that contains some.

A file is written by one call. On an object store and at `file://` it then exists completely or not
at all; elsewhere (`sftp://`) a crash may leave a part of it.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import fsspec

from keisei_ray.errors import StorageError, installing
from keisei_ray.storage.run_layout import CONFIG_FILE, TEMPORARY_PREFIX, WRITABLE_FILE

T = TypeVar("T")

CHECK_TIMEOUT_S: Final = 30.0
"""Seconds within which a URI must answer before a run begins."""
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "file": {"auto_mkdir": True},
    # By default botocore and s3fs try one request 25 times; the uploader tries again by itself.
    "s3": {
        "config_kwargs": {
            "connect_timeout": 10,
            "read_timeout": 30,
            "retries": {"total_max_attempts": 2},
        },
        "use_listings_cache": False,
    },
    "gs": {"use_listings_cache": False},
}
"""Scheme -> options of its driver."""
EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Scheme -> the extra of this package that installs its driver."""
LOGGERS: Final = ("aiobotocore", "botocore", "s3fs", "gcsfs", "fsspec", "google", "urllib3")
"""Loggers of drivers. At level DEBUG they write requests with signatures and session tokens."""


def is_uri(text: str) -> bool:
    """Returns whether a run directory or checkpoint is named by a URI."""
    return "://" in text


def check_uri(uri: str) -> str:
    """Returns a URI in its normal form, with a lower-case scheme and no slash at the end.

    Raises:
        StorageError: it is not a URI, contains a password, or a character that file systems take
            for a pattern: what is removed would be what matches.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:  # Brackets in its host.
        raise _not_of_files(uri) from error
    credentials, at, _ = parts.netloc.rpartition("@")
    if at and ":" in credentials:
        # The message does not repeat the URI, which would write the password into logs.
        raise StorageError(
            f"a {parts.scheme}:// URI with a user and password, expected one without: it is "
            f"written to logs and {CONFIG_FILE}. Give credentials as the driver takes them, e.g. "
            "by environment variables or a profile."
        )
    path = parts.netloc + parts.path
    is_pattern = any(character in uri for character in "*[]")
    is_more = "::" in uri or parts.query or parts.fragment
    if not parts.scheme or not path.strip("/") or is_pattern or is_more:
        raise _not_of_files(uri)
    return f"{parts.scheme.lower()}://{path.rstrip('/')}"


def _not_of_files(uri: str) -> StorageError:
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"  # No password.
    return StorageError(
        f"{shown}: not a URI of files, expected one like s3://bucket/runs/first, without "
        "'?', '#', '*', '[', ']' or '::'."
    )


class Storage:
    """The files below one URI. Safe for any thread; every call blocks on the network."""

    def __init__(self, uri: str, fs: Any) -> None:
        """Args:
        uri: as `check_uri` returns it.
        fs: file system of fsspec for this URI.
        """
        self.uri = uri
        self._fs = fs
        self._root = str(fs._strip_protocol(uri)).rstrip("/")

    @classmethod
    def open(cls, uri: str) -> "Storage":
        """Opens the files below a URI, without using the network.

        Raises:
            StorageError: not a URI, or its driver is not installed.
        """
        uri = check_uri(uri)
        scheme = uri.partition("://")[0]
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            return cls(uri, fsspec.filesystem(scheme, **OPTIONS.get(scheme, {})))
        except ImportError as error:
            extra = EXTRAS.get(scheme)
            if extra is None:
                raise StorageError(
                    f"{uri} needs a package that cannot be imported: {_brief(error)}."
                ) from error
            raise StorageError(
                f"{uri} needs packages that cannot be imported. Install them by "
                f"{installing(extra)}."
            ) from error
        except ValueError as error:
            raise StorageError(
                f"{uri}: unknown scheme {scheme!r}, expected s3, gs, file or another of fsspec's."
            ) from error
        except Exception as error:  # a driver may raise exceptions of any type
            raise StorageError(f"{uri} cannot be used: {_brief(error)}.") from error

    def check_readable(self) -> None:
        """Asks for a file; takes CHECK_TIMEOUT_S at most.

        Raises:
            StorageError: no answer in time, no such bucket, no credentials or no right to read.
        """
        within(CHECK_TIMEOUT_S, self.uri, lambda: self.names(".nothing"))

    def check_writable(self, token: str) -> None:
        """Writes a small file and removes it; takes CHECK_TIMEOUT_S at most.

        Args:
            token: part of the file's name, so that two processes can check at the same time.

        Raises:
            StorageError: as for `check_readable`, or no right to write or to delete.
        """
        probe = f"{WRITABLE_FILE}-{token}"

        def check() -> None:
            self.write(probe, b"")
            self.remove(probe)

        within(CHECK_TIMEOUT_S, self.uri, check)

    def names(self, under: str = "") -> dict[str, int]:
        """Returns every file below `under`: name relative to the URI -> size in bytes."""
        where = f"{self._root}/{under}".rstrip("/")
        with self._named_errors("list", under):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(where, detail=True)
            except FileNotFoundError:
                # An object store has no directories: only the bucket itself can be missing, and
                # writing to it raises an error then.
                return {}
        start = len(self._root) + 1
        return {
            path[start:]: int(info["size"] or 0)
            for path, info in found.items()
            if info["type"] == "file" and len(path) > start
        }

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file; None if there is no such file."""
        with self._named_errors("read", name):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{name}"))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """Returns the bytes of a file from `start` to before `stop`; None if there is no file."""
        with self._named_errors("read", name):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{name}", start=start, end=stop))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file; None if there is no such file."""
        with self._named_errors("read", name):
            try:
                info = self._fs.info(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
        return int(info["size"]) if info["type"] == "file" else None

    def write(self, name: str, content: bytes) -> None:
        """Replaces or creates a file."""
        path = f"{self._root}/{name}"
        with self._named_errors("write", name):
            if "file" not in self._protocols:
                self._fs.pipe_file(path, content)
                return
            folder, _, last = path.rpartition("/")
            self._fs.pipe_file(f"{folder}/{TEMPORARY_PREFIX}{last}", content)
            self._fs.mv(f"{folder}/{TEMPORARY_PREFIX}{last}", path)

    def copy(self, name: str, to: str) -> None:
        """Copies a file, on the server if the driver supports it."""
        with self._named_errors("copy", name):
            if (parent := to.rpartition("/")[0]) and "file" in self._protocols:
                self._fs.makedirs(f"{self._root}/{parent}", exist_ok=True)
            self._fs.cp_file(f"{self._root}/{name}", f"{self._root}/{to}")

    def remove(self, name: str) -> None:
        """Removes a file, or everything below a directory; does nothing if there is none."""
        with self._named_errors("remove", name), contextlib.suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            self._fs.rm(f"{self._root}/{name}", recursive=True)

    @property
    def _protocols(self) -> tuple[str, ...]:
        found = self._fs.protocol
        return (found,) if isinstance(found, str) else tuple(found)

    @contextlib.contextmanager
    def _named_errors(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a driver may raise exceptions of any type
            where = f"{self.uri}/{name}" if name else self.uri
            raise StorageError(f"cannot {what} {where}: {_brief(error)}") from error


def download(storage: Storage, name: str, path: Path) -> None:
    """Writes a file of the storage to `path` and makes the directory for it.

    Raises:
        StorageError: the file cannot be read, or does not exist any more.
        OSError: `path` cannot be written.
    """
    content = storage.read(name)
    if content is None:
        raise StorageError(f"{storage.uri}/{name} is gone, expected it to stay while it is read.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def within(timeout_s: float, uri: str, call: Callable[[], object]) -> None:
    """Makes a call in a daemon thread, which is abandoned if it hangs.

    Raises:
        StorageError: the call raised one, whose message gets a remedy; or no answer in time.
    """
    errors: list[StorageError] = []

    def run() -> None:
        try:
            call()
        except StorageError as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="storage check", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise StorageError(
            f"{uri} did not answer within {timeout_s:g} s. Check the network and the address, or "
            "use a local --run-dir."
        )
    if errors:
        raise StorageError(
            f"{errors[0]}. Expected a bucket that exists, and credentials that may list, read, "
            "write and delete there; check them, or use a local --run-dir."
        ) from errors[0]


def _brief(error: BaseException) -> str:
    """Returns the type and the first line of an error."""
    text = str(error).split("\n", 1)[0].strip().rstrip(".")[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

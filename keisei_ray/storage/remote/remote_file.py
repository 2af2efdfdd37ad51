"""A file below a URI, read piece by piece: never more of it in memory than the buffer."""

import io
from typing import BinaryIO, Final

import tenacity

from keisei_ray.errors import StorageError
from keisei_ray.storage.remote.filesystem import Storage

BUFFER_BYTES: Final = 1 << 20
"""Bytes that one request asks for."""
ATTEMPTS: Final = 4
"""Requests for the same bytes before the reading fails."""
BACK_OFF: Final = tenacity.wait_random_exponential(multiplier=1, max=10)
"""Seconds between them."""


def open_remote(
    storage: Storage, name: str, size: int, *, back_off: tenacity.wait.wait_base = BACK_OFF
) -> BinaryIO:
    """Opens a file for reading; asks for nothing yet.

    Reading raises a StorageError where the bytes cannot be had, also after further attempts.

    Args:
        storage: where the file is.
        name: its name there.
        size: bytes of the file; what it has grown by since is not read.
        back_off: seconds between attempts.
    """
    return io.BufferedReader(_RemoteFile(storage, name, size, back_off), BUFFER_BYTES)


class _RemoteFile(io.RawIOBase):
    """Ranges of a file, asked for as they are read."""

    def __init__(
        self, storage: Storage, name: str, size: int, back_off: tenacity.wait.wait_base
    ) -> None:
        self._storage, self._name, self._size = storage, name, size
        self._at = 0
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StorageError),
            wait=back_off,
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            reraise=True,
        )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        stop = min(self._size, self._at + len(buffer))
        if stop <= self._at:
            return 0
        content = self._retrying(self._storage.read_range, self._name, self._at, stop)
        if content is None:
            raise StorageError(f"{self._storage.uri}/{self._name} is gone")
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

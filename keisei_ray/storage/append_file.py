"""A file that a run only appends to, and that it keeps however others treat its path.

A file that was removed would go on growing where it cannot be found. So before each piece the path
is compared with the open file. A file that was removed is written again, whole; one that was
replaced or moved is followed by what is at its path now, or by a new one. The directory is held
open too: when that is moved, its files go with it, and when it is deleted, nothing can be written
any more, and nothing is written into another directory of its name.
"""

import errno
import io
import logging
import os
import shutil
from pathlib import Path

from keisei_ray.storage.run_layout import TEMPORARY_PREFIX

logger = logging.getLogger(__name__)


class AppendFile:
    """A file in a run directory. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Opens the file, and makes it if it is missing.

        Raises:
            OSError: it cannot be opened.
        """
        self.path = path
        can_hold = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
        self._directory = os.open(path.parent, os.O_RDONLY) if can_hold else None
        self._file = self._open(path.name, "ab")

    def append(self, content: bytes) -> None:
        """Appends everything or nothing.

        Raises:
            OSError: it could not be written, and names the file, which is as it was before.
        """
        try:
            if not self._is_in_place():
                self._restore()
            append_whole(self._file, content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        if self._directory is not None:
            os.close(self._directory)

    def _is_in_place(self) -> bool:
        if self._directory is None:
            return True
        try:
            found = os.stat(self.path.name, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._file.fileno()))

    def _restore(self) -> None:
        """Opens what is at the path now; writes a file that was removed again."""
        name, aside = self.path.name, f"{TEMPORARY_PREFIX}{self.path.name}"
        before = self._file
        is_removed = os.fstat(before.fileno()).st_nlink == 0
        if is_removed and not self._exists(name) and os.path.exists("/proc/self/fd"):
            with (
                open(f"/proc/self/fd/{before.fileno()}", "rb") as content,
                self._open(aside, "wb") as new,
            ):
                shutil.copyfileobj(content, new)
            os.rename(aside, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._file = self._open(name, "ab")
        before.close()
        if is_removed:
            logger.warning("%s was removed: it is written again", self.path)
        else:
            logger.warning(
                "%s was replaced or moved: the run goes on with its successor", self.path
            )

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        return True

    def _open(self, name: str, mode: str) -> io.FileIO:
        if self._directory is None:
            return io.FileIO(self.path.with_name(name), mode)
        return io.FileIO(
            name, mode, opener=lambda n, flags: os.open(n, flags, 0o666, dir_fd=self._directory)
        )


def append_whole(file: io.FileIO, content: bytes) -> None:
    """Appends to an unbuffered file everything or nothing.

    Raises:
        OSError: it could not be written; the file is as it was before.
    """
    end = os.fstat(file.fileno()).st_size
    try:
        written = file.write(content)
        if written != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(file.fileno(), end)
        raise

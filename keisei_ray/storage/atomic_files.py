"""Writing files so that a crash leaves the old content or the new, never half of one.

The one place that knows about temporary names, fsync and rename. It writes bytes and
decides nothing about them. Errors of the operating system pass through as `OSError`;
callers name them for their own user.
"""

import os
from pathlib import Path

from keisei_ray.storage.run_layout import TEMPORARY_PREFIX


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Write a file and wait until its content is on the disk. Not atomic by itself.

    Raises:
        OSError: the file cannot be created or written in full.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the directory's entries (creations, renames) are on the disk.

    Raises:
        OSError: the directory cannot be opened or synced.
    """
    if os.name == "nt":  # Windows cannot open a directory; its renames are journaled.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace or create a file in one step: readers see the old content or all of the new.

    The directory must exist. One writer at a time per process and path; writers in
    different processes do not disturb each other, the last rename wins.

    Raises:
        OSError: writing failed; the old file, if any, is untouched and nothing is left over.
    """
    aside = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        write_synced(aside, data)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)

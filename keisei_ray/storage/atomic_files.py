"""Writing of files such that a crash leaves the old content or the new, never half of one.

It writes bytes, through a temporary name, fsync and rename. Errors of the operating system pass
through as `OSError`; callers turn them into messages for their users.
"""

import os
from pathlib import Path

from keisei_ray.storage.run_layout import TEMPORARY_PREFIX


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Writes a file and waits until its content is on the disk. Not atomic by itself.

    Raises:
        OSError: the file cannot be created or written in full.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Waits until the entries of a directory (creations, renames) are on the disk.

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
    """Replaces or creates a file in one step: readers see the old content or all of the new.

    The directory must exist. Within a process only one thread may write a path at a time. Writers
    in different processes do not disturb each other; the last rename wins.

    Raises:
        OSError: writing failed; an old file is untouched and no temporary file is left.
    """
    aside = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        write_synced(aside, data)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)

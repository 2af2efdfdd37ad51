"""Files that a reader on another machine has open, as NFS keeps them."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def held_open(name: str) -> Iterator[None]:
    """Lets every file of a name be open elsewhere on NFS inside the block.

    The client renames a file that is removed while it is open; its directory cannot be removed.
    """
    hidden = ".nfs0001"
    unlink = os.unlink

    def remove(path: Any, *, dir_fd: int | None = None) -> None:
        last = os.path.basename(path)
        if last == hidden:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        if last != name:
            unlink(path, dir_fd=dir_fd)
            return
        renamed = os.path.join(os.path.dirname(path), hidden)
        os.rename(path, renamed, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    with pytest.MonkeyPatch.context() as nfs:
        nfs.setattr(os, "unlink", remove)
        yield

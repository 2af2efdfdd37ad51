"""Files that the system does not let be read, though they are there and intact."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

SYSTEM_ERRORS = (errno.EIO, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT)
"""A disk that fails, rights that lack, and two errors of network file systems."""


def refuse_reading(
    monkeypatch: pytest.MonkeyPatch, path: Path, number: int = errno.EIO, call: str = "open"
) -> None:
    """Makes a call of a path fail as the system would. Rights do not stop root.

    Args:
        monkeypatch: undoes it.
        path: the path.
        number: of the error.
        call: method of `Path`: open or stat.
    """
    real = getattr(Path, call)

    def fail(used: Path, *args: Any, **kwargs: Any) -> Any:
        if used.absolute() == path.absolute():
            raise OSError(number, os.strerror(number), str(used))
        return real(used, *args, **kwargs)

    monkeypatch.setattr(Path, call, fail)

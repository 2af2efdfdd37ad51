"""A run whose process was killed, and whose standby process is still saving it."""

import contextlib
import dataclasses
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from keisei_ray.storage.run_lock import Owner


@contextlib.contextmanager
def being_saved(run_dir: Path) -> Iterator[Callable[[], None]]:
    """Holds the lock of a process that has ended, as its standby process does.

    Args:
        run_dir: directory of the run, which must exist.

    Yields:
        What ends the standby process.
    """
    killed = subprocess.Popen(["true"])
    killed.wait()
    with contextlib.ExitStack() as standby:
        lock = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT)
        standby.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, dataclasses.replace(Owner.new(), pid=killed.pid).record(0))
        yield standby.close

"""Ends what a raylet that is killed leaves: workers, and agents that look for it once a minute."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def children_ended(parent: int) -> Iterator[None]:
    """Ends, after the block, the processes that were children of a process before the block.

    Does nothing on systems that have no /proc.
    """
    # A descriptor of a process stays that of the process, also if its number is given to another.
    descriptors = []
    for child in _children(parent):
        with contextlib.suppress(OSError):
            descriptors.append(os.pidfd_open(child))
    try:
        yield
    finally:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)


def _children(parent: int) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            after_name = (process / "stat").read_text(errors="replace").rpartition(")")[2]
            if int(after_name.split()[1]) == parent:
                yield int(process.name)

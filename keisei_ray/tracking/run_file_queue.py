"""Writes the files of a run directory in a thread, and waits while the disk has no room.

Records are the truth about a run, so none is dropped while it trains: lines that cannot be written
stay in memory, in order, and are tried again every RETRY_S. Where more than MAX_WAITING_BYTES wait,
`check` raises, and the run ends as it does when a checkpoint cannot be saved. What still waits at
the end of the run is lost, and its last notice says how much that is.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from keisei_ray.errors import RunDirError
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.call_queue import CallQueue
from keisei_ray.tracking.event_messages import counted
from keisei_ray.tracking.late_notice import publish_or_log

logger = logging.getLogger(__name__)

RETRY_S: Final = 0.5
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that closing waits for the thread."""
MAX_WAITING_BYTES: Final = 64 << 20
"""Upper limit of the lines in memory: 30,000 games with their moves."""

Write = Callable[[bytes], object]


class Writing(Protocol):
    """How a subscriber has its lines written."""

    def put(self, write: Write, content: bytes) -> None:
        """Has `write(content)` called; it may raise OSError, having written nothing."""

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until everything is written, and returns whether it was in time."""


class WriteAtOnce:
    """Writes in the caller's thread, which gets the error."""

    def put(self, write: Write, content: bytes) -> None:
        """Writes."""
        write(content)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Returns True: nothing waits."""
        del timeout_s
        return True


AT_ONCE: Final = WriteAtOnce()


class RunFileQueue:
    """Writes in a thread of its own, in order, each as often as it takes."""

    def __init__(
        self,
        publish: Callable[[ev.Event], object],
        *,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        retry_s: float = RETRY_S,
    ) -> None:
        """Starts the thread, which ends with `close` or with the process.

        Args:
            publish: puts an event on the run's bus.
            max_waiting_bytes: bytes beyond which `check` raises.
            retry_s: seconds between two attempts.
        """
        self._publish = publish
        self._max_waiting_bytes = max_waiting_bytes
        self._retry_s = retry_s
        self._calls = CallQueue("run files", sys.maxsize)
        self._lock = threading.Lock()
        """Held while the two counts change."""
        self._waiting_bytes = 0
        self._waiting_lines = 0
        self._lost_lines = 0
        self._cause: OSError | None = None
        """Error of the newest attempt; None if it wrote."""
        self._is_given_up = threading.Event()
        """Set when what waits is dropped, and later lines are tried once."""

    def put(self, write: Write, content: bytes) -> None:
        """Queues a call of `write(content)`. Never blocks.

        Args:
            write: called in the thread, again after an OSError; then it must have written nothing.
            content: whole lines.
        """
        self._count(content, 1)
        self._calls.put(partial(self._write, write, content, self._is_given_up.is_set()))

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until everything that was put is written.

        Args:
            timeout_s: longest wait; None: no limit.

        Returns:
            Whether it was written in time.
        """
        return self._calls.flush(timeout_s)

    def check(self) -> None:
        """Ends the run when too much waits; called by the driver's thread.

        Raises:
            RunDirError: more than `max_waiting_bytes` wait.
        """
        if self._waiting_bytes > self._max_waiting_bytes:
            raise RunDirError(
                f"the run's records cannot be written: {_brief(self._cause)}. "
                f"{self._waiting_lines} lines wait in memory, more than "
                f"{self._max_waiting_bytes >> 20} MiB. Free space, then --resume latest."
            )

    def finish(self, timeout_s: float) -> None:
        """Waits at the end of a run until everything is written, or gives it up and publishes that.

        What is put later is tried once.

        Args:
            timeout_s: longest wait.
        """
        if self.flush(timeout_s):
            return
        self.give_up()
        # With a disk that answers, the thread drops the lines at once.
        self.flush(CLOSE_TIMEOUT_S)
        lost = counted(self._lost_lines or self._waiting_lines, "line")
        notice = ev.Notice(
            f"{lost} of the run's files could not be written and are lost: {_brief(self._cause)}",
            "ERROR",
        )
        publish_or_log(self._publish, notice, logger)

    def give_up(self) -> None:
        """Drops what waits, for instance because the files are another process's now."""
        self._is_given_up.set()

    def close(self) -> None:
        """Ends the thread."""
        self.give_up()
        self._calls.close(CLOSE_TIMEOUT_S)

    def _write(self, write: Write, content: bytes, is_late: bool) -> None:
        """Writes, as often as it takes; a late line once. Called in the thread."""
        is_written = False
        while not is_written and (is_late or not self._is_given_up.is_set()):
            is_written = self._try(write, content)
            if is_late:
                break
            if not is_written:
                self._is_given_up.wait(self._retry_s)
        self._count(content, -1)
        self._lost_lines += not is_written

    def _try(self, write: Write, content: bytes) -> bool:
        """Writes once; returns whether it worked, and publishes where that has changed."""
        before, self._cause = self._cause, None
        try:
            write(content)
        except OSError as error:
            self._cause = error
        if self._is_given_up.is_set():
            return self._cause is None
        if self._cause is not None and before is None:
            notice = ev.Notice(
                f"the run's records cannot be written: {_brief(self._cause)}. They wait in memory, "
                "and training goes on. Free space",
                "WARNING",
            )
            publish_or_log(self._publish, notice, logger)
        elif self._cause is None and before is not None:
            notice = ev.Notice("the run's records can be written again; none is lost")
            publish_or_log(self._publish, notice, logger)
        return self._cause is None

    def _count(self, content: bytes, sign: int) -> None:
        with self._lock:
            self._waiting_lines += sign
            self._waiting_bytes += sign * len(content)


@contextlib.contextmanager
def run_file_queue(publish: Callable[[ev.Event], object]) -> Iterator[RunFileQueue]:
    """Has a queue inside the `with` block and closes it afterwards."""
    files = RunFileQueue(publish)
    try:
        yield files
    finally:
        files.close()


def _brief(error: OSError | None) -> str:
    """Returns an error's message, with the file if it has one."""
    if error is None:
        return "the disk does not answer"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"

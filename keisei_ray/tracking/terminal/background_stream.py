"""Standard output that cannot hold up its writer, however it is read.

A reader may stall (a pager, Ctrl-S), leave (`| head`), or vanish with its terminal. A console that
writes here only queues its text; a thread hands it on as fast as it is read. Text that finds the
queue full is dropped and counted; after the reader has left, all is dropped. Both are logged.
"""

import contextlib
import errno
import io
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import IO, Final, cast

from rich.console import Console

from keisei_ray.telemetry.call_queue import CallQueue

logger = logging.getLogger(__name__)

TEXTS_WAITING: Final = 1000
"""Texts that may wait for the reader: a line or a frame each, 10 MB at most."""
STALLED_S: Final = 5.0
"""Seconds without reading after which the log says so."""
LOOK_S: Final = 0.1
"""Seconds between two looks at whether the text that a reader does not take is given up."""
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that closing waits for the thread, once nothing waits for the reader any more."""
GONE: Final = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF)
"""Errors that mean that the reader has left."""


class BackgroundStream(io.TextIOBase):
    """Text stream over a file descriptor; writing never blocks and never fails."""

    def __init__(self, descriptor: int, encoding: str, *, waiting: int = TEXTS_WAITING) -> None:
        """Starts the thread, which ends with `finish` or with the process.

        Args:
            descriptor: where the text goes; stays open.
            encoding: its encoding. A character that it lacks becomes "?".
            waiting: texts that may wait.
        """
        self._descriptor = descriptor
        self._encoding = encoding
        self._calls = CallQueue("terminal", waiting)
        self._is_gone = threading.Event()
        self._is_given_up = threading.Event()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the text."""
        return self._encoding

    def isatty(self) -> bool:
        """Returns whether the text goes to a terminal."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """Returns the file descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, text: str) -> int:
        """Queues a text; returns its length, as all streams do."""
        if text and not self._is_gone.is_set():
            self._calls.put(partial(self._write, text.encode(self._encoding, "replace")))
        return len(text)

    def console(self) -> Console:
        """Returns a console that writes here."""
        return Console(file=cast("IO[str]", self))

    def finish(self, timeout_s: float | None) -> None:
        """Waits until all is read, and ends the thread: the descriptor may be closed then.

        Args:
            timeout_s: longest wait; None: no limit. What is not read by then is dropped.
        """
        self._calls.flush(timeout_s)
        self._is_given_up.set()
        self._calls.close(CLOSE_TIMEOUT_S)
        missed = self._calls.refused
        if missed:
            logger.warning("standard output was read too slowly: %d texts were not shown", missed)

    def _write(self, data: bytes) -> None:
        """Hands a text on, at the reader's pace. Called in the thread."""
        last_read_s, is_stalled = time.monotonic(), False
        while data and not self._is_gone.is_set():
            try:
                _, ready, _ = select.select([], [self._descriptor], [], LOOK_S)
                if self._is_given_up.is_set():
                    return
                if ready:
                    data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
            except OSError as error:
                if error.errno in GONE:
                    self._is_gone.set()
                logger.warning(
                    "standard output: %s. Nothing more is shown there; the run goes on",
                    error.strerror,
                )
                return
            if ready:
                last_read_s = time.monotonic()
            elif not is_stalled and time.monotonic() - last_read_s >= STALLED_S:
                is_stalled = True
                logger.warning("standard output is not read; the run goes on without it")


@contextlib.contextmanager
def background_console(timeout_s: float | None) -> Iterator[Console]:
    """Makes a console on standard output that cannot hold up the `with` block.

    Args:
        timeout_s: seconds that leaving the block waits for a reader that stalls; None: no limit.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError):  # Closed, or replaced by something that is no file.
        yield Console()
        return
    sys.stdout.flush()
    stream = BackgroundStream(descriptor, sys.stdout.encoding)
    try:
        yield stream.console()
    finally:
        stream.finish(timeout_s)

"""Logging of the driver process for the length of a run.

`run.log` gets every record of the configured level, with tracebacks; its lines wait in memory while
the disk has no room. Warnings also go to the
console, one line each, through the console that a live view draws on, so that neither garbles
the other. Events are logged under EVENT_LOGGER, so `run.log` alone tells the course of a run.

Every message has the process it is about in front: `[actor 3]` for records with
`extra={"actor_id": 3}` and for an actor's events, else `[driver]`.
"""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from keisei_ray.errors import RunDirError
from keisei_ray.storage.append_file import AppendFile
from keisei_ray.storage.run_layout import LOG_FILE
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.tracking.event_messages import Message, message_of
from keisei_ray.tracking.run_file_queue import AT_ONCE, Writing

EVENT_LOGGER: Final = "keisei_ray.run"
FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: [%(source)s] %(message)s"
CLOSE_TIMEOUT_S: Final = 1.0
"""Seconds that closing `run.log` waits for its last lines."""
TAKEN_OVER: Final = ("ray",)
"""Libraries that write to the terminal with handlers of their own."""


class SourceFormatter(logging.Formatter):
    """Formatter with UTC times in milliseconds, and `%(source)s`: "driver" or "actor 3"."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Formats one record, with its source."""
        actor_id = getattr(record, "actor_id", None)
        record.source = "driver" if actor_id is None else f"actor {actor_id}"
        return super().formatMessage(record)


class FileHandler(logging.Handler):
    """Has records appended to a file, with tracebacks."""

    def __init__(self, path: Path, files: Writing) -> None:
        """Opens the file for appending.

        Args:
            path: the file.
            files: has the lines written.

        Raises:
            OSError: the file cannot be opened.
        """
        super().__init__()
        self._file = AppendFile(path)
        self._files = files
        self.setFormatter(SourceFormatter(FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Has the record written; an error goes to logging's handleError."""
        try:
            line = self.format(record) + "\n"
            self._files.put(self._file.append, line.encode("utf-8", "backslashreplace"))
        except Exception:  # noqa: BLE001  no error in logging may stop the program
            self.handleError(record)

    def close(self) -> None:
        """Closes the file, after waiting a moment for the lines that are not in it yet."""
        if self._files.flush(CLOSE_TIMEOUT_S):
            self._file.close()
        super().close()


class ConsoleHandler(logging.Handler):
    """Writes warnings and errors to a rich console, one line each; only files get tracebacks."""

    def __init__(self, console: Console) -> None:
        """Takes the console to write to."""
        super().__init__(logging.WARNING)
        self._console = console
        self._formatter = SourceFormatter("%(levelname)s [%(source)s] %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record's first line; an error while writing goes to logging's handleError."""
        try:
            record.message = record.getMessage()
            line = self._formatter.formatMessage(record).split("\n", 1)[0]
            if record.exc_info:
                line += f" (traceback in {LOG_FILE})"
            style = "yellow" if record.levelno < logging.ERROR else "bold red"
            self._console.print(Text(visible(line), style=style), soft_wrap=True)
        except Exception:  # noqa: BLE001  no error in logging may stop the program
            self.handleError(record)


def log_event(event: ev.Event) -> None:
    """Subscriber that writes the message of an event to `run.log`, with the full cause, if any."""
    message = message_of(event)
    if isinstance(event, ev.ActorReady):
        place = f"pid {event.pid} on {event.node}"
        message = Message("INFO", f"ready: incarnation {event.incarnation}, {place}")
    if message is None:
        return
    text = message.text
    if isinstance(event, ev.ActorLost | ev.RolloutRejected | ev.RunEnded):
        cause = event.cause
        if cause and cause not in text:
            text += f"\n{cause}"
    actor_id = None
    if isinstance(event, ev.ActorReady | ev.ActorLost | ev.RolloutRejected):
        actor_id = event.actor_id
    level = logging.getLevelNamesMapping()[message.level]
    logging.getLogger(EVENT_LOGGER).log(level, "%s", text, extra={"actor_id": actor_id})


@contextmanager
def configure(
    run_dir: Path,
    level: str,
    console: Console,
    *,
    is_showing_events: bool = False,
    files: Writing = AT_ONCE,
) -> Iterator[None]:
    """Logs to `run_dir/run.log` and to `console` inside the `with` block.

    Handlers of the root logger, and those with which TAKEN_OVER libraries write to the terminal,
    are removed meanwhile; Python's warnings are logged. On leaving, also by an exception,
    everything is restored.

    Args:
        run_dir: existing directory; `run.log` is appended to.
        level: least severe level written to the file: DEBUG, INFO, WARNING or ERROR.
        console: where warnings and errors are shown. With a live view, the view's console.
        is_showing_events: whether warnings that are events are shown as well; False where a
            view shows them already.
        files: has the lines of `run.log` written.

    Raises:
        RunDirError: the file cannot be opened.
    """
    try:
        file = FileHandler(run_dir / LOG_FILE, files)
    except OSError as error:
        path = run_dir / LOG_FILE
        raise RunDirError(f"{path} cannot be written: {error}. Check the disk.") from error
    shown = ConsoleHandler(console)
    if not is_showing_events:
        shown.addFilter(lambda record: record.name != EVENT_LOGGER)

    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in TAKEN_OVER)]
    before = [(lg, lg.handlers[:], lg.level, lg.propagate) for lg in loggers]
    shows_warnings = warnings.showwarning
    try:
        for other in loggers[1:]:
            other.handlers, other.propagate = [], True
        root.handlers = [file, shown]
        root.setLevel(level)
        logging.captureWarnings(True)
        yield
    finally:
        if warnings.showwarning is not shows_warnings:
            logging.captureWarnings(False)
        for lg, handlers, lg_level, propagate in before:
            lg.handlers, lg.propagate = handlers, propagate
            lg.setLevel(lg_level)
        file.close()

"""The `status` and `watch` commands for a run in a directory of this machine."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from keisei_ray.errors import RunDirError
from keisei_ray.status.liveness import Liveness
from keisei_ray.status.reader import LocalRunReader, RunReader
from keisei_ray.status.run_status import Status
from keisei_ray.status.screen import status_lines
from keisei_ray.storage.run_dirs import RUNS_DIR, newest_run_dir, runs_dir
from keisei_ray.storage.run_layout import CONFIG_FILE, EVENTS_FILE, LOG_FILE, METRICS_FILE
from keisei_ray.telemetry.events import Notice
from keisei_ray.tracking.subscribers import choose_view
from keisei_ray.tracking.terminal.lines import LinesView
from keisei_ray.tracking.terminal.live import LiveView
from keisei_ray.tracking.terminal.text import duration, glyphs_for
from keisei_ray.tracking.terminal.view_state import ViewState

POLL_S: Final = 1.0
"""Seconds between two readings of the files; the view is drawn as often."""
RUN_FILES: Final = (CONFIG_FILE, LOG_FILE, EVENTS_FILE, METRICS_FILE)
"""A directory with any of these files is that of a run. While Ray starts there is only the log."""


def find_run(run_dir: str | None) -> Path:
    """Returns the run that is named, or the one under `runs/` that was started last.

    Raises:
        RunDirError: there is no run, or the directory is not that of a run.
    """
    try:
        if run_dir is None:
            newest = newest_run_dir(RUN_FILES)
            if newest is None:
                raise RunDirError(
                    f"there is no run under {runs_dir()}/, expected at least one. "
                    "Name its directory, e.g. runs/20260101-120000."
                )
            return newest
        path = Path(run_dir)
        if not path.is_dir():
            raise RunDirError(f"{path} is not a directory, expected that of a run. Check the name.")
        if not any((path / name).exists() for name in RUN_FILES):
            raise RunDirError(
                f"{path} has neither {CONFIG_FILE} nor {LOG_FILE}, expected the directory of a "
                "run. Name the one that training was given or has made."
            )
    except OSError as error:
        raise RunDirError(f"{run_dir or RUNS_DIR} cannot be read: {error.strerror}.") from error
    return path


def show_status(run_dir: Path, console: Console) -> Status:
    """Draws the status of a run on one screen and returns it.

    Raises:
        RunDirError: a file of the run cannot be read.
    """
    status = LocalRunReader(run_dir).status()
    draw_status(status, console)
    return status


def draw_status(status: Status, console: Console) -> None:
    """Draws a status on one screen."""
    is_rich = choose_view("auto", console) == "rich"
    fitted = (glyphs_for(console.encoding), console.width) if is_rich else (None, None)
    for line in status_lines(status, *fitted):
        console.print(line, soft_wrap=True)


def watch(run_dir: Path, console: Console, wait: Callable[[float], object] = time.sleep) -> None:
    """Shows the run in a directory until it ends; see `watch_reader`."""
    watch_reader(LocalRunReader(run_dir), console, wait)


def watch_reader(
    run: RunReader, console: Console, wait: Callable[[float], object] = time.sleep
) -> None:
    """Shows a run as its own terminal does. Blocks until the run ends, or until Ctrl-C.

    The run is not affected. A silence that is longer than expected is shown as a notice, and so is
    a time without an update.

    Args:
        run: reader of a run in any state.
        console: a terminal gets the live view, anything else gets lines.
        wait: called with the seconds until the next reading.

    Raises:
        RunDirError: the directory is gone, or a file of the run cannot be read.
    """
    is_rich = choose_view("auto", console) == "rich"
    view = (LiveView if is_rich else LinesView)(console, time.time)
    before = False, False
    try:
        while True:
            for timed in run.poll():
                view.handle(timed.event, timed.time_s)
            if view.state.ended is not None:
                return
            if view.state == ViewState():
                view.handle(Notice("the run is about to begin"))
            liveness = run.liveness(view.state)
            found = liveness.may_be_dead, liveness.stands_still
            if any(found) and found != before:
                view.handle(Notice(_doubt(liveness), "WARNING"))
            before = found
            wait(POLL_S)
    except KeyboardInterrupt:
        pass  # The user's way to stop watching.
    finally:
        view.close()


def _doubt(liveness: Liveness) -> str:
    """Returns what is odd about a run that is silent or stands still."""
    if not liveness.may_be_dead:
        return f"no update for {duration(liveness.idle_s)}"
    since = "so far" if liveness.silent_s is None else f"for {duration(liveness.silent_s)}"
    return f"nothing was written {since}: it may be dead"

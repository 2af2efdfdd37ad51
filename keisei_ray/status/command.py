"""`status` and `watch` as a person calls them: a run's directory in, a screen out."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from keisei_ray.errors import RunDirError
from keisei_ray.status.reader import Reader, RunReader
from keisei_ray.status.show import lines
from keisei_ray.status.state import Status
from keisei_ray.storage.run_dirs import RUNS_DIR, newest_run_dir, runs_dir
from keisei_ray.storage.run_layout import CONFIG_FILE, EVENTS_FILE, LOG_FILE, METRICS_FILE
from keisei_ray.telemetry.events import Notice
from keisei_ray.tracking import choose_view
from keisei_ray.tracking.terminal.lines import LinesView
from keisei_ray.tracking.terminal.live import TerminalView
from keisei_ray.tracking.terminal.text import duration, glyphs_for
from keisei_ray.tracking.terminal.view_state import ViewState

POLL_S: Final = 1.0
"""Seconds between two looks at the files; the view is drawn as often."""
_MARKS: Final = (CONFIG_FILE, LOG_FILE, EVENTS_FILE, METRICS_FILE)
"""Any of them makes a directory a run's. The log alone is there while Ray starts."""


def find_run(run_dir: str | None) -> Path:
    """The run that is meant: the one named, else the one under `runs/` that was begun last.

    Raises:
        RunDirError: there is none, or the directory is not a run's.
    """
    try:
        if run_dir is None:
            newest = newest_run_dir(_MARKS)
            if newest is None:
                raise RunDirError(
                    f"there is no run under {runs_dir()}/, expected one to look at. "
                    "Name its directory, e.g. status runs/20260101-120000."
                )
            return newest
        path = Path(run_dir)
        if not path.is_dir():
            raise RunDirError(f"{path} is no directory, expected that of a run. Check the name.")
        if not any((path / mark).exists() for mark in _MARKS):
            raise RunDirError(
                f"{path} has neither {CONFIG_FILE} nor {LOG_FILE}, expected the directory of a "
                "run. Name the one that training was given or made."
            )
    except OSError as error:
        raise RunDirError(f"{run_dir or RUNS_DIR} cannot be read: {error.strerror}.") from error
    return path


def show_status(run_dir: Path, console: Console) -> Status:
    """Draws one screen about a run.

    Raises:
        RunDirError: a file of the run cannot be read.
    """
    status = RunReader(run_dir).status()
    draw(status, console)
    return status


def draw(status: Status, console: Console) -> None:
    """Draws one screen."""
    is_rich = choose_view("auto", console) == "rich"
    for line in lines(status, glyphs_for(console.encoding) if is_rich else None):
        console.print(line, soft_wrap=True)


def watch(run_dir: Path, console: Console, wait: Callable[[float], object] = time.sleep) -> None:
    """Shows the run of a directory; see `watch_reader`."""
    watch_reader(RunReader(run_dir), console, wait)


def watch_reader(
    run: Reader, console: Console, wait: Callable[[float], object] = time.sleep
) -> None:
    """Shows a run as its own terminal does. Blocks until the run ends, or until Ctrl-C.

    The run does not notice. A silence longer than expected is told among the notices.

    Args:
        run: in any state.
        console: a terminal gets the live view, anything else its lines.
        wait: called with the seconds until the next look.

    Raises:
        RunDirError: the directory is gone, or a file of the run cannot be read.
    """
    is_rich = choose_view("auto", console) == "rich"
    view = (TerminalView if is_rich else LinesView)(console, time.time)
    was_lost = False
    try:
        while True:
            for happened in run.poll():
                view.handle(happened.event, happened.time_s)
            if view.state.ended is not None:
                return
            if view.state == ViewState():
                view.handle(Notice("the run is about to begin"))
            life = run.life(view.state)
            if life.is_lost and not was_lost:
                since = f"for {duration(life.silent_s)}" if life.silent_s is not None else "so far"
                view.handle(Notice(f"nothing was written {since}: it may be dead", "WARNING"))
            was_lost = life.is_lost
            wait(POLL_S)
    except KeyboardInterrupt:
        pass  # How a person leaves.
    finally:
        view.close()

"""Signs of life of a run: when its files were last written, and which process has them open.

A run that is killed with SIGKILL, or whose machine loses power, cannot report its end. Its files
only stop growing. This module decides whether the silence is longer than expected of this run.
On Linux, for a run on this machine, it also finds the driver by the files that it has open.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

from keisei_ray.storage.run_layout import (
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    LOG_FILE,
    METRICS_FILE,
)
from keisei_ray.tracking.terminal.view_state import ViewState

DRIVER_FILES: Final = (
    METRICS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    LOG_FILE,
)
"""Files that the driver holds open for writing from the run's beginning to its end."""
EXPECTED_SILENCE_S: Final = 120.0
"""Silence that is expected of any run: a checkpoint on a slow disk, an actor that is replaced, the
last matches of a run, which get 60 s."""
EXPECTED_SILENCE_UPDATES: Final = 5.0
"""Further silence that is expected, in multiples of the longest time between two updates."""
EXPECTED_SILENCE_AT_START_S: Final = 600.0
"""Silence that is expected before a session has made two updates."""


@dataclass(frozen=True)
class Liveness:
    """Signs of life of a run that has not reported its end."""

    run_dir: Path
    silent_s: float | None
    """Seconds since one of the run's files was last written; None if none exists."""
    patience_s: float
    """Silence of up to this many seconds is expected."""
    idle_s: float | None = None
    """Seconds since the last update of this session was recorded; None before the first."""

    @cached_property
    def pid(self) -> int | None:
        """Process of this machine that writes the run's files, if one can be seen.

        It is looked for once, at the first access.
        """
        return next(writing_processes(self.run_dir), None)

    @property
    def is_overdue(self) -> bool:
        """Whether the run has been silent for longer than expected."""
        return self.silent_s is None or self.silent_s > self.patience_s

    @property
    def stands_still(self) -> bool:
        """Whether there was no update for longer than expected, whatever else was written."""
        return self.idle_s is not None and self.idle_s > self.patience_s

    @property
    def may_be_dead(self) -> bool:
        """Whether the run has been silent for too long and no process has its files open."""
        return self.is_overdue and self.pid is None


def liveness_of(run_dir: Path, view_state: ViewState, now_s: float) -> Liveness:
    """Looks for signs of life.

    Args:
        run_dir: the run's directory; it may be on another machine's disk.
        view_state: the view's state of the run's newest session.
        now_s: seconds since 1970.
    """
    ages = {}
    for name in DRIVER_FILES:
        with contextlib.suppress(OSError):
            ages[name] = max(0.0, now_s - (run_dir / name).stat().st_mtime)
    idle_s = ages.get(METRICS_FILE) if view_state.metrics else None
    return Liveness(run_dir, min(ages.values(), default=None), patience_s(view_state), idle_s)


def patience_s(view_state: ViewState) -> float:
    """Returns how many seconds of silence are expected of a run."""
    gaps = [after - before for (_, before), (_, after) in pairwise(view_state.pace)]
    if not gaps:
        return EXPECTED_SILENCE_AT_START_S
    return EXPECTED_SILENCE_S + EXPECTED_SILENCE_UPDATES * max(gaps)


def writing_processes(run_dir: Path) -> Iterator[int]:
    """Yields the ids of the processes that have a file of `DRIVER_FILES` open for writing.

    It sees only processes of this machine that this user may inspect, and none where there is no
    /proc.
    """
    directory = run_dir.resolve()
    wanted = {str(directory / name) for name in DRIVER_FILES}
    for process in _entries("/proc"):
        if not process.isdecimal():
            continue
        for descriptor in _entries(f"/proc/{process}/fd"):
            try:
                if os.readlink(f"/proc/{process}/fd/{descriptor}") not in wanted:
                    continue
                info = Path(f"/proc/{process}/fdinfo/{descriptor}").read_text()
            except OSError:
                continue  # The file was closed meanwhile.
            flags = next(line for line in info.splitlines() if line.startswith("flags:"))
            if int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY:
                yield int(process)
                break


def _entries(directory: str) -> list[str]:
    """Returns the names in a directory; none if it may not be read or is gone."""
    try:
        return os.listdir(directory)
    except OSError:
        return []

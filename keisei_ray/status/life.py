"""Whether anybody still works on a run: when its files were last written, and who has them open.

A run that is killed with SIGKILL, or whose machine loses power, cannot say so. Its files then stop
growing. Whether that is long, compared with what the run did before, is decided here; on Linux,
for a run on this very machine, the driver is also found by the files that it writes.
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

WRITTEN: Final = (
    METRICS_FILE,
    EVENTS_FILE,
    GAMES_FILE,
    DIAGNOSTICS_FILE,
    EVALUATIONS_FILE,
    LOG_FILE,
)
"""Files that the driver has open, from the run's beginning to its end, and writes to."""
QUIET_S: Final = 120.0
"""Silence that is never remarkable: a checkpoint on a slow disk, an actor that is replaced, the
last matches of a run, which get 60 s."""
QUIET_UPDATES: Final = 5.0
"""Silence that is not remarkable, in times between the updates of this session."""
QUIET_START_S: Final = 600.0
"""Silence that is not remarkable before a session has made two updates."""


@dataclass(frozen=True)
class Life:
    """Signs of life of a run that has not said that it ended."""

    run_dir: Path
    silent_s: float | None
    """Seconds since one of its files was last written; None if there is none of them."""
    patience_s: float
    """Silence up to this is expected."""

    @cached_property
    def pid(self) -> int | None:
        """A process of this machine that writes the run's files, if one can be seen; looked for
        once, when first asked."""
        return next(writers(self.run_dir), None)

    @property
    def is_late(self) -> bool:
        """Whether it has been silent for longer than expected."""
        return self.silent_s is None or self.silent_s > self.patience_s

    @property
    def is_lost(self) -> bool:
        """Whether it may be dead: silent for too long, and no process has its files."""
        return self.is_late and self.pid is None


def life_of(run_dir: Path, view_state: ViewState, now_s: float) -> Life:
    """Looks for signs of life.

    Args:
        run_dir: the run's directory, also on another machine's disk.
        view_state: of its newest session.
        now_s: seconds since 1970.
    """
    times = []
    for name in WRITTEN:
        with contextlib.suppress(OSError):
            times.append((run_dir / name).stat().st_mtime)
    silent_s = max(0.0, now_s - max(times)) if times else None
    return Life(run_dir, silent_s, patience_s(view_state))


def patience_s(view_state: ViewState) -> float:
    """Seconds without a sign of life that are to be expected of a run."""
    gaps = [after - before for (_, before), (_, after) in pairwise(view_state.pace)]
    return QUIET_S + QUIET_UPDATES * max(gaps) if gaps else QUIET_START_S


def writers(run_dir: Path) -> Iterator[int]:
    """Ids of the processes that have a file of `WRITTEN` open for writing.

    Other machines' processes, and those of users whose processes this one may not look at, are
    not seen; nor is any where there is no /proc.
    """
    directory = run_dir.resolve()
    wanted = {str(directory / name) for name in WRITTEN}
    for process in _entries("/proc"):
        if not process.isdecimal():
            continue
        for descriptor in _entries(f"/proc/{process}/fd"):
            try:
                if os.readlink(f"/proc/{process}/fd/{descriptor}") not in wanted:
                    continue
                info = Path(f"/proc/{process}/fdinfo/{descriptor}").read_text()
            except OSError:
                continue  # Closed meanwhile.
            flags = next(line for line in info.splitlines() if line.startswith("flags:"))
            if int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY:
                yield int(process)
                break


def _entries(directory: str) -> list[str]:
    """Names in a directory; none if it may not be read or is gone."""
    try:
        return os.listdir(directory)
    except OSError:
        return []

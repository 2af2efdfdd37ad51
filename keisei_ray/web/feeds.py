"""Runs as they grow, each read on from where it was left, once for all clients.

`RunFeed` reads, in the thread of `keys.READER`. `Feeds` decides in the event loop how often: the
files of a run are looked at once in LOOK_S, and its charts are made again only when their making
has taken less than MOST_LOAD of the time since, however many clients ask.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from keisei_ray.errors import RunDirError
from keisei_ray.report import charts
from keisei_ray.report.chart_data import Chart, ShareChart, charts_data
from keisei_ray.report.curves import Floats
from keisei_ray.report.run_files import Run, RunFiles
from keisei_ray.status.liveness import DRIVER_FILES
from keisei_ray.status.run_status import StatusFollower, as_json
from keisei_ray.storage.run_layout import CONFIG_FILE, MATCHES_FILE, RATINGS_FILE
from keisei_ray.web.answers import json_text
from keisei_ray.web.shown_runs import ShownRuns

LOOK_S: Final = 2.0
"""Seconds between two looks at the files of a run."""
CHARTS_S: Final = 5.0
"""Least age at which charts are made again."""
MOST_LOAD: Final = 0.01
"""Part of a core that making the charts of a run may take."""
IDLE_S: Final = 600.0
"""Seconds after which the columns of a run that no client looks at are forgotten."""
GROUPS: Final[Mapping[str, Callable[[Run], Sequence[Chart | ShareChart]]]] = {
    "Strength": charts.strength_charts,
    "Results": charts.result_charts,
    "Learning": charts.learning_charts,
    "Speed": charts.speed_charts,
}
"""Titles of the groups of charts, as in the page of `report`."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Snapshot:
    """State of a run at one moment."""

    revision: int
    """Number that grows whenever the run's files have changed."""
    status: dict[str, Any]
    """State as `status --json` writes it."""


class RunFeed:
    """Reader of one run. For one thread only."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self._path = path
        self._status = StatusFollower(path)
        self._files: RunFiles | None = None
        self._run: Run | None = None
        self._run_revision = -1
        self._seen: tuple[tuple[int, int] | None, ...] = ()
        # Not from 0: a browser keeps what another server, or a run of this name, gave it.
        self._revision = time.time_ns() // 1_000_000
        self._newest: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """Returns the state now.

        Raises:
            RunDirError: the directory is gone, or a file cannot be read.
        """
        if not self._path.is_dir():
            raise RunDirError(f"{self._path} is gone, expected the directory of a run.")
        seen = _signature(self._path)
        is_changed = seen != self._seen
        ended = self._newest is not None and self._newest.status["silent_s"] is None
        if self._newest is None or is_changed or not ended:
            status = as_json(self._status.status(time.time()))
            self._revision += is_changed
            self._newest = Snapshot(self._revision, status)
            self._seen = seen
        return self._newest

    def run(self) -> Run:
        """Returns the content of the files now.

        Raises:
            RunDirError: it is not a run's directory, or a file cannot be read.
        """
        revision = self.snapshot().revision
        if self._files is None:
            self._files = RunFiles(self._path)
        if self._run is None or revision != self._run_revision:
            self._run = self._files.read()
            self._run_revision = revision
        return self._run

    def charts(self) -> tuple[bytes, float]:
        """Returns all charts as JSON, and the CPU time of making them, in seconds."""
        run = self.run()
        began_s = time.thread_time()
        frame, wall_of = charts.frame(run), _wall_times(run)
        groups = [
            {"title": title} | charts_data(make(run), frame, wall_of)
            for title, make in GROUPS.items()
        ]
        text = json_text({"revision": self._run_revision, "groups": groups})
        return text.encode(), time.thread_time() - began_s

    def forget_columns(self) -> None:
        """Frees the memory of what only `run` and `charts` need."""
        self._files = self._run = None


@dataclass
class _Shared:
    """Record of what all clients of a run have together, in the event loop."""

    feed: RunFeed
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the run is read, so that one client reads for all."""
    snapshot: Snapshot | None = None
    looked_s: float = -math.inf
    charts: bytes = b""
    charts_revision: int = -1
    charts_due_s: float = -math.inf
    used_s: float = -math.inf
    """When the columns were last needed."""


class Feeds:
    """Newest state of every shown run, for the handlers in the event loop."""

    def __init__(self, runs: ShownRuns, reader: Executor) -> None:
        """Reads nothing yet."""
        self._runs = runs
        self._reader = reader
        self._shared: dict[Path, _Shared] = {}
        self._listed_s = -math.inf
        self._list_lock = asyncio.Lock()

    async def current_runs(self) -> Mapping[str, Path]:
        """Returns name -> directory of all shown runs, looked up at most LOOK_S ago.

        Raises:
            RunDirError: a directory cannot be read.
        """
        async with self._list_lock:
            if time.monotonic() - self._listed_s >= LOOK_S:
                await self._read(self._runs.refresh)
                self._listed_s = time.monotonic()
        return self._runs.current()

    def known(self, name: str) -> Snapshot | None:
        """Returns the newest state that has been read, without reading."""
        return self._of(name).snapshot

    async def snapshot(self, name: str) -> Snapshot:
        """Returns the state of a run, at most LOOK_S old.

        Raises:
            HTTPNotFound: there is no such run.
            RunDirError: a file cannot be read.
        """
        await self.current_runs()
        shared = self._of(name)
        async with shared.lock:
            now_s = time.monotonic()
            if shared.snapshot is None or now_s - shared.looked_s >= LOOK_S:
                shared.snapshot = await self._read(shared.feed.snapshot)
                shared.looked_s = time.monotonic()
            if now_s - shared.used_s > IDLE_S:
                await self._read(shared.feed.forget_columns)
                shared.used_s = math.inf
        return shared.snapshot

    async def charts(self, name: str) -> tuple[int, bytes]:
        """Returns the charts of a run as JSON, and the revision of the files they show.

        Raises:
            HTTPNotFound: there is no such run.
            RunDirError: it has not begun yet, or a file cannot be read.
        """
        revision = (await self.snapshot(name)).revision
        shared = self._of(name)
        async with shared.lock:
            shared.used_s = began_s = time.monotonic()
            if shared.charts_revision != revision and began_s >= shared.charts_due_s:
                shared.charts, cost_s = await self._read(shared.feed.charts)
                shared.charts_revision = revision
                shared.charts_due_s = time.monotonic() + max(CHARTS_S, cost_s / MOST_LOAD)
        return shared.charts_revision, shared.charts

    async def run(self, name: str) -> Run:
        """Returns the content of a run's files.

        Raises:
            HTTPNotFound: there is no such run.
            RunDirError: it has not begun yet, or a file cannot be read.
        """
        await self.current_runs()
        shared = self._of(name)
        async with shared.lock:
            shared.used_s = time.monotonic()
            return await self._read(shared.feed.run)

    def _of(self, name: str) -> _Shared:
        path = self._runs.path(name)
        if path not in self._shared:
            self._shared = {p: s for p, s in self._shared.items() if p.is_dir()}
            self._shared[path] = _Shared(RunFeed(path))
        return self._shared[path]

    async def _read(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._reader, function)


def _signature(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Returns size and time of each file whose change shows."""
    names = (*DRIVER_FILES, CONFIG_FILE, MATCHES_FILE, RATINGS_FILE)
    return tuple(_size_and_time(path / name) for name in names)


def _size_and_time(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _wall_times(run: Run) -> Callable[[Floats], Floats]:
    """Returns a function from timesteps to the run's wall time there, in seconds."""
    begin = charts.frame(run).x_range[0]
    timesteps, walls = run.metrics["timestep"], run.metrics["wall_time_s"]
    is_known = np.isfinite(walls) & (timesteps > begin) & (walls >= 0)
    x = np.concatenate([[begin], timesteps[is_known]])
    y = np.maximum.accumulate(np.concatenate([[0.0], walls[is_known]]))
    return lambda at: np.interp(at, x, y)

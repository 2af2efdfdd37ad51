"""Event files for TensorBoard in RUN_DIR/tensorboard. The only module that imports `tensorboard`.

They are written with TensorBoard's own writer; neither torch nor TensorFlow is needed. The x-axis
is the timestep; the wall time is the time of the event.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import RecordWriter

from keisei_ray.errors import RunDirError
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import TENSORBOARD_DIR
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.curves import curve_points

METRICS_PREFIX: Final = "metrics/"
"""Prefix of the metrics' curves: TensorBoard groups curves by the part before the slash, which all
other curves have in their names."""


class TensorBoardWriter:
    """Subscriber that writes the curve points of each event."""

    def __init__(
        self, run_dir: Path, resumed_timestep: int | None, clock: Callable[[], float]
    ) -> None:
        """Opens a new file for this session of the run.

        On a resume, the points beyond the resumed timestep are removed from the earlier files:
        their plies will be played again. (`metrics.jsonl.superseded` keeps them.)

        Args:
            run_dir: existing directory of the run.
            resumed_timestep: None for a fresh run.
            clock: seconds since 1970.

        Raises:
            RunDirError: the file cannot be written.
        """
        self._clock = clock
        directory = run_dir / TENSORBOARD_DIR
        try:
            if resumed_timestep is not None:
                for path in directory.glob("*tfevents*"):
                    _cut(path, resumed_timestep)
            self._writer = EventFileWriter(str(directory))
            if resumed_timestep is not None:
                # For a viewer that has read the earlier files already: a session that starts at
                # step k makes it drop its points from k on. The resumed timestep is kept.
                self._add(
                    Event(
                        step=resumed_timestep + 1,
                        session_log=SessionLog(status=SessionLog.START),
                    )
                )
        except OSError as error:
            raise RunDirError(f"{directory} cannot be written: {error}. Check the disk.") from error

    def handle(self, event: ev.Event) -> None:
        """Adds an event's curve points. Blocks until the operating system has them.

        Raises:
            OSError: the points could not be written.
        """
        points = curve_points(event)
        if points is None:
            return
        prefix = METRICS_PREFIX if isinstance(event, ev.UpdateFinished) else ""
        values = [
            Summary.Value(tag=prefix + name, simple_value=value)
            for name, value in points.values.items()
        ]
        self._add(Event(step=points.timestep, summary=Summary(value=values)))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _add(self, record: Event) -> None:
        record.wall_time = self._clock()
        self._writer.add_event(record)
        # The writer writes in a thread: without this, an error would show one event late.
        self._writer.flush()


def _cut(path: Path, timestep: int) -> None:
    """Removes records beyond `timestep`, and one cut short by a crash, from a file."""
    kept = io.BytesIO()
    records = RecordWriter(kept)
    for data in RawEventFileLoader(str(path)).Load():
        if Event.FromString(data).step <= timestep:
            records.write(data)
    if kept.tell() < path.stat().st_size:
        write_atomically(path, kept.getvalue())

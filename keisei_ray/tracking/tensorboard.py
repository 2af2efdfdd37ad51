"""TensorBoard event files in RUN_DIR/tensorboard. The only module that imports `tensorboard`.

Written with TensorBoard's own writer; neither torch nor TensorFlow is needed. The x-axis is the
timestep, the wall time that of the event.
"""

import io
from collections.abc import Callable
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import RecordWriter

from keisei_ray.errors import RunDirError
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.run_layout import TENSORBOARD_DIR
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.scalars import scalars


class EventFiles:
    """Subscriber: every number that `scalars` finds in an event."""

    def __init__(
        self, run_dir: Path, resumed_timestep: int | None, clock: Callable[[], float]
    ) -> None:
        """Opens a file of its own for this session of the run.

        On a resume the points beyond the resumed timestep leave the earlier files: their plies
        will be played again. (They still stand in `metrics.jsonl.superseded`.)

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
                # For a viewer that has read the earlier files already. A start at step k takes
                # back k and all beyond; the resumed timestep is kept.
                self._add(
                    Event(
                        step=resumed_timestep + 1,
                        session_log=SessionLog(status=SessionLog.START),
                    )
                )
        except OSError as error:
            raise RunDirError(f"{directory} cannot be written: {error}. Check the disk.") from error

    def handle(self, event: ev.Event) -> None:
        """Adds an event's numbers. Blocks until the system has them.

        Raises:
            OSError: they could not be written.
        """
        found = scalars(event)
        if found is None or not found.values:
            return
        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in found.values.items()
        ]
        self._add(Event(step=found.timestep, summary=Summary(value=values)))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _add(self, record: Event) -> None:
        record.wall_time = self._clock()
        self._writer.add_event(record)
        # The writer has a thread of its own: without this, an error would show one event late.
        self._writer.flush()


def _cut(path: Path, timestep: int) -> None:
    """Takes the records beyond `timestep`, and one cut short by a crash, out of a file."""
    kept = io.BytesIO()
    records = RecordWriter(kept)
    for data in RawEventFileLoader(str(path)).Load():
        if Event.FromString(data).step <= timestep:
            records.write(data)
    if kept.tell() < path.stat().st_size:
        write_atomically(path, kept.getvalue())

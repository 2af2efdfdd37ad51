"""Saving of a run: when a checkpoint is due, who writes it, and where it is.

A checkpoint is written by a thread (`background_save`) while training goes on, one at a time. The
driver asks at its own turns whether it is on the disk.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ray.exceptions import RayError

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import KeiseiError, RunDirError, RunDirLostError
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.counted_records import sync_records
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR
from keisei_ray.telemetry.events import CheckpointSaved, EventBus, Notice
from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.background_save import BackgroundSave
from keisei_ray.training.saved_run import RunState, write_state

logger = logging.getLogger(__name__)

FLUSH_S: Final = 10.0
"""Seconds that a checkpoint waits for the records of its plies; longer only if the disk is full or
does not answer, when saving will fail too."""


class RunSaver:
    """Checkpoints of one run, each of its newest finished update.

    Attributes:
        run_dir: directory of the run; another after it was lost, see `save_after_failure`.
        last_checkpoint: newest checkpoint that is on the disk.
    """

    def __init__(
        self,
        settings: CheckpointConfig,
        bus: EventBus,
        run_dir: Path,
        progress: Progress,
        *,
        newest_state: Callable[[], RunState],
        check_place: Callable[[], object],
        saved: Callable[[Path], None],
        moved: Callable[[Path], None],
        resume: Checkpoint | None = None,
        waits: bool = False,
    ) -> None:
        """Args:
        settings: when a checkpoint is due and which older ones stay.
        bus: gets CheckpointSaved, and a notice if a checkpoint has vanished.
        run_dir: directory of the run.
        progress: counts of the run.
        newest_state: returns everything that a checkpoint of the newest finished update keeps.
        check_place: raises RunDirLostError if `run_dir` is no longer the run's directory; called
            before each checkpoint, in the thread that writes it.
        saved: called with the directory of checkpoints when one is complete and none is being
            written.
        moved: called with the run's new directory after the old one was lost.
        resume: checkpoint that the run goes on from.
        waits: whether training waits for each checkpoint.
        """
        self.run_dir = run_dir
        self.last_checkpoint = resume.path if resume else None
        self._settings = settings
        self._bus = bus
        self._progress = progress
        self._newest_state = newest_state
        self._check_place = check_place
        self._saved = saved
        self._moved = moved
        self._waits = waits
        self._writer = BackgroundSave(self._write)
        self._due = PeriodicTrigger(settings.interval_timesteps, last=progress.timestep)
        self._saved_timestep = resume.timestep if resume else -1

    def save(self) -> None:
        """Saves the newest finished update, once. Blocks until the disk has it.

        Raises:
            RunDirError: it cannot be saved, or the one under way could not.
        """
        try:
            self.take_saved(wait=True)
        except KeiseiError:
            self._save_newest()
            raise
        self._save_newest()

    def save_if_due(self) -> None:
        """Has a checkpoint written while training goes on; waits only for the one before it.

        Raises:
            RunDirError: the one before it could not be saved.
        """
        is_due = self._due.is_due(self._progress.timestep)
        if is_due or self._is_newest_gone():
            self.take_saved(wait=True)
            self._begin()
            if self._waits:
                self.take_saved(wait=True)

    def take_saved(self, *, wait: bool) -> None:
        """Publishes the checkpoint under way once the disk has it.

        Raises:
            RunDirError: it could not be saved.
        """
        saved = self._writer.take(wait=wait)
        if saved is None:
            return
        self._saved_timestep = saved.timestep
        self.last_checkpoint = saved.path
        self._saved(self._checkpoints_dir)
        self._bus.publish(CheckpointSaved(path=str(saved.path), timestep=saved.timestep))

    def save_after_failure(self) -> None:
        """Saves on the way out of a failure, which no error of the saving must hide.

        Where the run's directory was moved or deleted, the checkpoint goes to where it is now.
        """
        try:
            self._follow_place()
            self.save()
        except (KeiseiError, RayError, OSError):
            logger.exception("the last state could not be saved")

    @property
    def _checkpoints_dir(self) -> Path:
        return self.run_dir / CHECKPOINTS_DIR

    def _save_newest(self) -> None:
        self._begin()
        self.take_saved(wait=True)

    def _begin(self) -> None:
        """Hands the newest finished update to the thread that writes, unless it is saved already.

        Nothing may be under way.
        """
        if self._saved_timestep != self._progress.timestep:
            self._writer.begin(self._newest_state())

    def _write(self, state: RunState) -> Path:
        """Writes a checkpoint. Called in the thread that writes.

        The records come first: those of plies that a checkpoint counts cannot be made again.
        """
        self._bus.flush(FLUSH_S)
        self._check_place()
        try:
            sync_records(self.run_dir)
        except OSError as error:
            raise RunDirError(
                f"the records in {self.run_dir} cannot be kept: {error.strerror}. Check the disk."
            ) from error
        return write_state(self.run_dir, state, self._settings)

    def _is_newest_gone(self) -> bool:
        """Returns whether the run's newest checkpoint was removed or moved; says so."""
        newest = self.last_checkpoint
        if newest is None or self._writer.is_under_way:  # The thread that writes prunes, too.
            return False
        if newest.parent != self._checkpoints_dir or newest.exists():
            return False
        self.last_checkpoint = None
        self._bus.publish(Notice(f"checkpoint {newest} is gone: saving another", "WARNING"))
        return True

    def _follow_place(self) -> None:
        """Lets the last checkpoint be written where the run's directory is now.

        Raises:
            RunDirError: it was deleted and cannot be made again, or a snapshot cannot be written.
        """
        try:
            self._check_place()
        except RunDirLostError as lost:
            with contextlib.suppress(RunDirError):
                self.take_saved(wait=True)  # Wherever it was going.
            self._check_place = lambda: None
            self._saved_timestep = -1
            self.run_dir = lost.place
            self._moved(lost.place)

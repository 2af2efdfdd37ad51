"""Saving of a run: in the background, what is saved when, and where a lost directory is now."""

import errno
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import safetensors.numpy

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import RunDirError, RunDirLostError
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.events import CheckpointSaved, Event, Notice
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.saved_run import RunState, state_of
from keisei_ray.training.saving import RunSaver

MODEL = safetensors.numpy.save({"head": np.zeros(1, np.float32)})


class SlowSaver(RunSaver):
    """The saving of a run whose disk writes when the test lets it."""

    def __init__(self, run_dir: Path, *, waits: bool = False) -> None:
        self.disk = threading.Event()
        """Set while the disk answers."""
        self.happened: list[str] = []
        """Calls and events, in order."""
        self.moved_to: list[Path] = []
        self.counts = Progress()
        self.bus = cast(Any, SimpleNamespace(publish=self._published, flush=self._flushed))
        super().__init__(
            CheckpointConfig(interval_timesteps=100),
            self.bus,
            run_dir,
            self.counts,
            newest_state=self._state,
            check_place=lambda: None,
            saved=lambda path: self.happened.append("pool pruned"),
            moved=self.moved_to.append,
            waits=waits,
        )

    @property
    def checkpoints_dir(self) -> Path:
        return self.run_dir / "checkpoints"

    def _state(self) -> RunState:
        files = {"model.safetensors": MODEL}
        return state_of(Config(), self.counts, files, "d", {}, None)

    def _flushed(self, timeout_s: float) -> None:
        assert self.disk.wait(60)
        self.happened.append("records written")

    def _published(self, event: Event) -> None:
        assert isinstance(event, CheckpointSaved)
        assert threading.current_thread() is threading.main_thread()
        assert checkpoint.load(Path(event.path)).timestep == event.timestep
        self.happened.append(f"saved {event.timestep}")

    def train_to(self, timestep: int) -> None:
        """Counts as after an update."""
        self.counts.timestep = timestep
        self.save_if_due()


@pytest.fixture
def saver(tmp_path: Path) -> SlowSaver:
    return SlowSaver(tmp_path)


def names(saver: SlowSaver) -> list[str]:
    return sorted(path.name for path in saver.checkpoints_dir.iterdir())


def test_training_goes_on_while_a_checkpoint_of_its_moment_is_written(saver: SlowSaver) -> None:
    saver.train_to(100)
    saver.train_to(150)
    saver.take_saved(wait=False)
    assert saver.happened == [], "the disk does not answer yet"
    saver.disk.set()
    saver.take_saved(wait=True)
    assert saver.happened == ["records written", "pool pruned", "saved 100"]
    saved = checkpoint.load(saver.checkpoints_dir / "step-000000000100")
    assert saver.last_checkpoint == saved.path
    assert Progress.from_json(saved.files["progress.json"]).timestep == 100


def test_the_disk_has_the_records_before_the_checkpoint_that_counts_them(
    saver: SlowSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def synced(run_dir: Path) -> None:
        assert not (run_dir / "checkpoints").exists()
        saver.happened.append(f"records of {run_dir} synced")

    monkeypatch.setattr("keisei_ray.training.saving.sync_records", synced)
    saver.disk.set()
    saver.train_to(100)
    saver.take_saved(wait=True)
    assert saver.happened[:2] == ["records written", f"records of {saver.run_dir} synced"]
    assert names(saver) == ["step-000000000100"]


def test_records_that_the_disk_does_not_take_are_no_checkpoint(
    saver: SlowSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_dir: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("keisei_ray.training.saving.sync_records", refuse)
    saver.disk.set()
    saver.train_to(100)
    with pytest.raises(RunDirError, match="cannot be kept: Input/output error"):
        saver.take_saved(wait=True)
    assert not saver.checkpoints_dir.exists()


def test_each_checkpoint_that_is_due_is_saved_though_the_disk_is_slow(saver: SlowSaver) -> None:
    saver.train_to(100)
    threading.Timer(0.05, saver.disk.set).start()
    saver.train_to(200)  # It waits for the one before.
    saver.train_to(250)
    saver.save()
    saver.save()
    found = [what for what in saver.happened if what.startswith("saved")]
    assert found == ["saved 100", "saved 200", "saved 250"]
    assert names(saver) == ["step-000000000100", "step-000000000200", "step-000000000250"]


def test_a_second_interrupt_does_not_wait_for_the_disk(saver: SlowSaver) -> None:
    def interrupted(*, wait: bool) -> None:
        raise KeyboardInterrupt

    saver.train_to(100)
    saver.train_to(150)
    saver._writer.take = interrupted
    with pytest.raises(KeyboardInterrupt):
        saver.save()
    saver.disk.set()


def test_a_sweeps_trial_waits_for_each(tmp_path: Path, saver: SlowSaver) -> None:
    trial = SlowSaver(tmp_path / "trial", waits=True)
    trial.disk.set()
    trial.train_to(100)
    assert trial.happened[-1] == "saved 100"


def test_a_failed_write_is_raised_at_the_next_turn_and_the_state_counts_as_unsaved(
    saver: SlowSaver,
) -> None:
    saver.disk.set()
    saver.checkpoints_dir.write_text("not a directory")
    saver.train_to(100)
    with pytest.raises(RunDirError, match="step-000000000100"):
        saver.take_saved(wait=True)
    saver.take_saved(wait=True)
    assert saver.happened == ["records written"]
    saver.checkpoints_dir.unlink()
    saver.save()
    assert names(saver) == ["step-000000000100"]


def test_the_newest_state_is_saved_though_the_one_before_could_not_be(saver: SlowSaver) -> None:
    saver.checkpoints_dir.write_text("not a directory")
    saver.train_to(100)
    saver.disk.set()
    under_way = saver._writer._under_way
    assert under_way is not None
    under_way.exception()  # The write has failed.
    saver.checkpoints_dir.unlink()
    saver.counts.timestep = 150
    with pytest.raises(RunDirError, match="step-000000000100"):
        saver.save()
    assert names(saver) == ["step-000000000150"]


def test_a_checkpoint_that_was_removed_is_saved_anew(saver: SlowSaver) -> None:
    saver.disk.set()
    saver.train_to(100)
    saver.take_saved(wait=True)
    shutil.rmtree(saver.checkpoints_dir)
    published: list[Event] = []
    saver.bus.publish = published.append
    saver.train_to(120)
    saver.take_saved(wait=True)
    saver.train_to(130)
    assert names(saver) == ["step-000000000120"]
    assert [event.level for event in published if isinstance(event, Notice)] == ["WARNING"]


def test_the_last_checkpoint_follows_the_runs_directory(saver: SlowSaver, tmp_path: Path) -> None:
    def lost() -> None:
        raise RunDirLostError("moved", tmp_path / "moved")

    saver.disk.set()
    saver.train_to(100)
    saver.take_saved(wait=True)
    saver._check_place = lost
    saver.save_after_failure()
    assert saver.last_checkpoint == tmp_path / "moved" / "checkpoints" / "step-000000000100"
    assert saver.moved_to == [saver.run_dir] == [tmp_path / "moved"]

"""Saving by the driver: in the background, and when its loop ends by an exception. No Ray."""

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from keisei_ray.config.schema import Config
from keisei_ray.errors import KeiseiError, RunDirError, RunDirLostError, TakenOverError
from keisei_ray.rollouts.actor_state import pack_states
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import ACTORS_FILE
from keisei_ray.telemetry.events import CheckpointSaved, Event, Notice
from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.actor_states import ActorStates
from keisei_ray.training.background_save import BackgroundSave
from keisei_ray.training.driver import Driver

MODEL = safetensors.numpy.save({"head": np.zeros(1, np.float32)})


@pytest.mark.parametrize(
    ("error", "is_saved"),
    [(KeiseiError("x"), True), (TakenOverError("x"), False), (KeyboardInterrupt(), False)],
)
def test_a_run_that_another_process_has_taken_over_saves_nothing(
    error: BaseException, is_saved: bool
) -> None:
    saved: list[str] = []

    def train() -> None:
        raise error

    driver: Any = SimpleNamespace(
        _train=train, _save_after_failure=lambda: saved.append("state"), save=pytest.fail
    )
    with pytest.raises(type(error)):
        Driver._train_and_save(driver)
    assert saved == (["state"] if is_saved else [])


class SavingDriver(Driver):
    """A driver of which only the saving is used; its disk writes when the test lets it."""

    def __init__(self, run_dir: Path, *, waits_for_saving: bool = False) -> None:
        self.config = Config.model_validate({"checkpoint": {"interval_timesteps": 100}})
        self.checkpoints_dir = run_dir / "checkpoints"
        self.progress = Progress()
        self.last_checkpoint = None
        self.disk = threading.Event()
        """Set while the disk answers."""
        self.happened: list[str] = []
        """Calls and events, in order."""
        self.bus: Any = SimpleNamespace(publish=self._published, flush=self._flushed)
        self.pool: Any = SimpleNamespace(
            files=dict,
            forget_former=lambda in_play: None,
            prune=lambda path: self.happened.append("pool pruned"),
        )
        self._learner: Any = SimpleNamespace(
            published=SimpleNamespace(state={"model.safetensors": MODEL}), digest="d"
        )
        self._health: Any = SimpleNamespace(trouble=None)
        self._evaluation: Any = SimpleNamespace(versions_under_way=frozenset())
        self._states = ActorStates(None)
        self._checkpoint_due = PeriodicTrigger(100, last=0)
        self._saving = BackgroundSave(self._write_state)
        self._waits_for_saving = waits_for_saving
        self._saved_timestep = -1
        self._check_place = lambda: None

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
        self.progress.timestep = timestep
        self._save_if_due()


@pytest.fixture
def driver(tmp_path: Path) -> SavingDriver:
    return SavingDriver(tmp_path)


def names(driver: SavingDriver) -> list[str]:
    return sorted(path.name for path in driver.checkpoints_dir.iterdir())


def test_training_goes_on_while_a_checkpoint_of_its_moment_is_written(driver: SavingDriver) -> None:
    driver.train_to(100)
    driver.train_to(150)
    driver._take_saved(wait=False)
    assert driver.happened == [], "the disk does not answer yet"
    driver.disk.set()
    driver._take_saved(wait=True)
    assert driver.happened == ["records written", "pool pruned", "saved 100"]
    saved = checkpoint.load(driver.checkpoints_dir / "step-000000000100")
    assert driver.last_checkpoint == saved.path
    assert Progress.from_json(saved.files["progress.json"]).timestep == 100


def test_each_checkpoint_that_is_due_is_saved_though_the_disk_is_slow(driver: SavingDriver) -> None:
    driver.train_to(100)
    threading.Timer(0.05, driver.disk.set).start()
    driver.train_to(200)  # It waits for the one before.
    driver.train_to(250)
    driver.save()
    driver.save()
    found = [what for what in driver.happened if what.startswith("saved")]
    assert found == ["saved 100", "saved 200", "saved 250"]
    assert names(driver) == ["step-000000000100", "step-000000000200", "step-000000000250"]


def test_a_second_interrupt_does_not_wait_for_the_disk(driver: SavingDriver) -> None:
    def interrupted(*, wait: bool) -> None:
        raise KeyboardInterrupt

    driver.train_to(100)
    driver.train_to(150)
    driver._saving.take = interrupted
    with pytest.raises(KeyboardInterrupt):
        driver.save()
    driver.disk.set()


def test_a_sweeps_trial_waits_for_each(tmp_path: Path, driver: SavingDriver) -> None:
    trial = SavingDriver(tmp_path / "trial", waits_for_saving=True)
    trial.disk.set()
    trial.train_to(100)
    assert trial.happened[-1] == "saved 100"


def test_a_failed_write_is_raised_at_the_next_turn_and_the_state_counts_as_unsaved(
    driver: SavingDriver,
) -> None:
    driver.disk.set()
    driver.checkpoints_dir.write_text("not a directory")
    driver.train_to(100)
    with pytest.raises(RunDirError, match="step-000000000100"):
        driver._take_saved(wait=True)
    driver._take_saved(wait=True)
    assert driver.happened == ["records written"]
    driver.checkpoints_dir.unlink()
    driver.save()
    assert names(driver) == ["step-000000000100"]


def test_the_newest_state_is_saved_though_the_one_before_could_not_be(driver: SavingDriver) -> None:
    driver.checkpoints_dir.write_text("not a directory")
    driver.train_to(100)
    driver.disk.set()
    under_way = driver._saving._under_way
    assert under_way is not None
    under_way.exception()  # The write has failed.
    driver.checkpoints_dir.unlink()
    driver.progress.timestep = 150
    with pytest.raises(RunDirError, match="step-000000000100"):
        driver.save()
    assert names(driver) == ["step-000000000150"]


def test_a_checkpoint_that_was_removed_is_saved_anew(driver: SavingDriver) -> None:
    driver.disk.set()
    driver.train_to(100)
    driver._take_saved(wait=True)
    shutil.rmtree(driver.checkpoints_dir)
    published: list[Event] = []
    driver.bus.publish = published.append
    driver.train_to(120)
    driver._take_saved(wait=True)
    driver.train_to(130)
    assert names(driver) == ["step-000000000120"]
    assert [event.level for event in published if isinstance(event, Notice)] == ["WARNING"]


def test_the_last_checkpoint_follows_the_runs_directory(
    driver: SavingDriver, tmp_path: Path
) -> None:
    def lost() -> None:
        raise RunDirLostError("moved", tmp_path / "moved")

    moved: list[Path] = []
    driver.pool.move_to = moved.append
    driver.disk.set()
    driver.train_to(100)
    driver._take_saved(wait=True)
    driver._check_place = lost
    driver._follow_place()
    driver.save()
    assert driver.last_checkpoint == tmp_path / "moved" / "checkpoints" / "step-000000000100"
    assert moved == [driver.run_dir] == [tmp_path / "moved"]


@pytest.mark.parametrize(
    ("files", "lost", "said"),
    [
        ({ACTORS_FILE: pack_states([])}, 0, []),
        ({}, 0, [f"games in play are not kept: runs/a has no {ACTORS_FILE}"]),
        (
            {ACTORS_FILE: pack_states([])},
            1024,
            [
                "1,024 plies that actors had delivered are lost: no update had consumed them; they "
                "are played again"
            ],
        ),
    ],
)
def test_a_resumed_run_says_what_it_could_not_keep(
    files: dict[str, bytes], lost: int, said: list[str]
) -> None:
    messages: list[str] = []
    driver: Any = SimpleNamespace(
        bus=SimpleNamespace(publish=lambda notice: messages.append(notice.message)),
        config=Config(),
        progress=Progress(),
        pool=None,
        _states=ActorStates(files.get(ACTORS_FILE)),
        _lost_timesteps=lost,
    )
    Driver._say_what_is_not_kept(driver, Checkpoint(Path("runs/a"), 0, {}, files))
    assert messages == said

"""The driver at its beginning and when its loop ends by an exception. No Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from keisei_ray.config.schema import Config
from keisei_ray.distributed.learner_handle import StateRefused
from keisei_ray.errors import (
    CheckpointError,
    ClusterError,
    DeviceMemoryError,
    KeiseiError,
    RefusedStateError,
    TakenOverError,
)
from keisei_ray.rollouts.actor_state import pack_states
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import ACTORS_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.actor_states import ActorStates
from keisei_ray.training.driver import Driver
from keisei_ray.training.reader_states import ReaderStates

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
        _train=train,
        save_after_failure=lambda: saved.append("state"),
        saver=SimpleNamespace(save=pytest.fail),
    )
    with pytest.raises(type(error)):
        Driver._train_and_save(driver)
    assert saved == (["state"] if is_saved else [])


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
        _readers=ReaderStates(None),
        _lost_timesteps=lost,
    )
    Driver._say_what_is_not_kept(driver, Checkpoint(Path("runs/a"), 0, {}, files))
    assert messages == said


@pytest.mark.parametrize(
    ("error", "digest", "refused"),
    [
        (StateRefused("learner.pt is not"), "", "runs/a: learner.pt is not"),
        (None, "another", "runs/a: its weights have the digest another"),
        (CheckpointError("of the network that it is pulled to"), "", None),
        (DeviceMemoryError("no room"), "", None),
    ],
)
def test_a_checkpoint_is_refused_only_for_what_the_learner_says_of_it(
    error: Exception | None, digest: str, refused: str | None
) -> None:
    """Only a refused checkpoint is passed over by `--resume latest`, and set aside."""

    def launch(*_: object) -> Any:
        if error is not None:
            raise error

    driver: Any = SimpleNamespace(
        _resume=Checkpoint(Path("runs/a"), 7, {"weights_digest": "own"}, {}),
        _initial=None,
        _learner=SimpleNamespace(launch=launch, digest=digest),
        progress=Progress(),
    )
    with pytest.raises(KeiseiError) as caught:
        Driver._start_learner(driver)
    if refused is None:
        assert caught.value is error
    else:
        assert isinstance(caught.value, RefusedStateError)
        assert str(caught.value).startswith(refused)
        assert caught.value.timestep == 7


def test_nothing_is_taken_once_ray_is_gone() -> None:
    """Ray ends a process that reads from an object store whose raylet is gone."""

    def check() -> None:
        raise ClusterError("Ray is gone")

    ref: Any = object()
    driver: Any = SimpleNamespace(
        _awaited=lambda: {ref: pytest.fail}, _ray=SimpleNamespace(check=check)
    )
    with pytest.raises(ClusterError):
        Driver._take(driver, ref)

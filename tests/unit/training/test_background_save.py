"""The thread that writes checkpoints: what it holds up, and how its errors come back."""

import threading
from pathlib import Path

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.training.background_save import BackgroundSave, SavedState
from keisei_ray.training.saved_run import RunState
from tests.helpers.waiting import wait_until

STATE = RunState(64, {"model.safetensors": b"weights"}, {})


def test_begin_returns_while_the_disk_is_still_busy_and_the_result_comes_once() -> None:
    disk = threading.Event()
    writers: list[str] = []

    def write(state: RunState) -> Path:
        writers.append(threading.current_thread().name)
        assert disk.wait(60)
        return Path("step", str(state.timestep))

    saving = BackgroundSave(write)
    assert saving.take(wait=True) is None, "nothing was begun"
    saving.begin(STATE)
    assert saving.take(wait=False) is None, "it is not complete"
    disk.set()
    assert saving.take(wait=True) == SavedState(Path("step/64"), 64)
    assert saving.take(wait=True) is None
    saving.begin(STATE)
    wait_until(lambda: saving.take(wait=False) is not None)
    assert writers == ["checkpoint"] * 2


def test_two_are_never_written_at_once() -> None:
    disk = threading.Event()
    saving = BackgroundSave(lambda state: Path(str(disk.wait(60))))
    saving.begin(STATE)
    with pytest.raises(AssertionError, match="two checkpoints at once"):
        saving.begin(STATE)
    disk.set()
    assert saving.take(wait=True) is not None


def test_the_error_of_a_write_is_raised_once_and_the_next_one_can_begin() -> None:
    answers: list[Path | Exception] = [RunDirError("the disk is full"), Path("saved")]

    def write(state: RunState) -> Path:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    saving = BackgroundSave(write)
    saving.begin(STATE)
    with pytest.raises(RunDirError, match="the disk is full"):
        saving.take(wait=True)
    saving.begin(STATE)
    assert saving.take(wait=True) == SavedState(Path("saved"), 64)

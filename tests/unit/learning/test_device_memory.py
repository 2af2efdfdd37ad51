"""Memory that does not suffice for an update, or for the start of a learner.

For an update: half as many rows at a time, once; then advice. For a start: advice at once.
"""

from typing import Any

import pytest
import torch

from keisei_ray.errors import DeviceMemoryError, UserError
from keisei_ray.learning import learner as learner_module
from keisei_ray.learning.learner import Learner
from keisei_ray.storage.run_layout import LEARNER_FILE, MODEL_FILE
from tests.helpers.tiny import N, T, played, tiny_config

MESSAGE = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB.\n"
    "Of the allocated memory 70 GiB is allocated by PyTorch."
)


class SmallDevice:
    """A device with room for so many rows of a pass with gradient, after some passes."""

    def __init__(self, learner: Learner, rows: int, *, passes_before: int) -> None:
        self.passes_left = passes_before
        self.rows = rows
        learner.model.register_forward_pre_hook(self.check)

    def check(self, model: Any, positions: tuple[torch.Tensor, ...]) -> None:
        if not torch.is_grad_enabled():
            return
        self.passes_left -= 1
        if self.passes_left < 0 and len(positions[0]) > self.rows:
            raise torch.OutOfMemoryError(MESSAGE)


def state(learner: Learner) -> tuple[Any, ...]:
    files = learner.state_files()
    return files[MODEL_FILE], files[LEARNER_FILE], learner.weights_version


@pytest.mark.parametrize("passes_before", [0, 3])
def test_an_update_that_does_not_fit_is_made_with_half_as_many_rows_at_a_time(
    passes_before: int,
) -> None:
    """It equals the update of a learner that has had this many rows at a time all along."""
    config = tiny_config(learner={"num_minibatches": 2})
    learner = Learner(config)
    expected = Learner(tiny_config(learner={"num_minibatches": 2, "micro_batch": T * N // 4}))
    SmallDevice(learner, T * N // 4, passes_before=passes_before)
    buffer = played(config, expected)
    report = learner.update([buffer], 0)
    assert report.notice == (
        "The learner's device has too little memory: CUDA out of memory. Tried to allocate 20.00 "
        "MiB. GPU 0 has a total capacity of 79.11 GiB. From now on it processes 8 rows at a time, "
        "half as many."
    )
    expected.update([buffer], 0)
    before = learner.weights_digest()
    assert before == expected.weights_digest()
    assert state(learner) == state(expected)
    buffer = played(config, expected)
    assert learner.update([buffer], T * N).notice == ""
    assert learner.weights_digest() != before


def test_a_device_that_is_too_small_for_half_ends_the_run_with_advice() -> None:
    config = tiny_config(learner={"num_minibatches": 2, "lr_schedule": "constant"})
    learner = Learner(config)
    learner.update([played(config, learner)], 0)
    before = state(learner)
    buffer = played(config, learner)
    SmallDevice(learner, T * N // 4 - 1, passes_before=3)
    with pytest.raises(DeviceMemoryError, match=r"--resume latest .*num_minibatches") as caught:
        learner.update([buffer], T * N)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError)
    assert state(learner) == before


SHORT = [
    torch.OutOfMemoryError(MESSAGE),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes\n"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORT, ids=["device", "allocator", "host"])
@pytest.mark.parametrize(
    "name", ["build_model", "read_learner_state", "read_network", "host_weights"]
)
def test_a_learner_without_memory_to_start_says_so_and_blames_no_checkpoint(
    name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stands for a part of the start: to build, to resume, to begin with another network."""
    learner = Learner(tiny_config())
    files = learner.state_files()

    def fail(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(learner_module, name, fail)

    def start() -> None:
        started = Learner(tiny_config())
        started.load_state_files(files)
        started.begin_as(files[MODEL_FILE])
        started.snapshot()

    with pytest.raises(DeviceMemoryError) as caught:
        start()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("The learner does not get the memory that it needs: ")
    assert "No checkpoint is at fault." in message


def test_another_error_of_a_start_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise RuntimeError("another")

    monkeypatch.setattr(learner_module, "build_model", fail)
    with pytest.raises(RuntimeError, match=r"^another$"):
        Learner(tiny_config())

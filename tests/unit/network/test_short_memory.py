"""Errors that say that memory is short are told from those about a file."""

import numpy as np
import pytest
import safetensors.torch
import torch

from keisei_ray.errors import CheckpointError
from keisei_ray.learning.learner import Learner
from keisei_ray.network.short_memory import is_short_of_memory, shortage
from keisei_ray.network.weights import read_model_file
from keisei_ray.storage.run_layout import MODEL_FILE
from tests.helpers.tiny import tiny_config

TOO_MUCH = 1 << 52
"""Bytes beyond every address space."""


def test_what_torch_and_numpy_raise_on_the_host_is_recognised() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(TOO_MUCH, np.uint8)
    for caught in (of_torch, of_numpy):
        assert is_short_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (MemoryError(), True),
        (RuntimeError("PytorchStreamReader failed reading zip archive"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_a_shortage_of_memory_is_one(error: Exception, expected: bool) -> None:
    assert is_short_of_memory(error) == expected


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "MemoryError"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be x"),
         "CUDA error: out of memory"),
        (torch.OutOfMemoryError("No room. GPU 0 is full. Of the allocated memory 70 GiB is x"),
         "No room. GPU 0 is full"),
    ],
)  # fmt: skip
def test_a_shortage_is_told_in_one_line_without_advice(error: Exception, told: str) -> None:
    assert shortage(error) == told


def test_a_model_file_is_not_damaged_because_there_is_no_room_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = Learner(tiny_config()).state_files()[MODEL_FILE]
    raised: Exception = torch.OutOfMemoryError("CUDA out of memory")

    def load(content: bytes) -> object:
        raise raised

    monkeypatch.setattr(safetensors.torch, "load", load)
    with pytest.raises(torch.OutOfMemoryError):
        read_model_file(content)
    raised = RuntimeError("of the file")
    with pytest.raises(CheckpointError, match="not a safetensors file: of the file"):
        read_model_file(content)

"""Tests that need a CUDA device: `pytest tests/gpu`. Without one they are skipped.

With GPU_TESTS_DEVICE=cpu they run on the CPU, which shows that the tests themselves work.
"""

import os
from pathlib import Path

import pytest
import torch

DEVICE = os.environ.get("GPU_TESTS_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test of this folder; skips it where the device is not there."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            # Notices of torch and its compiler, which differ from version to version.
            item.add_marker(pytest.mark.filterwarnings("default"))
            if DEVICE == "cuda" and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture
def device() -> torch.device:
    """The device that the tests are about."""
    return torch.device(DEVICE)

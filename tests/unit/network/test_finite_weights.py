"""Weights that are not finite are refused by name, without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from keisei_ray.errors import CheckpointError
from keisei_ray.network.finite_weights import check_model_file, check_weights
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import MODEL_FILE


def model_file(value: float) -> bytes:
    arrays = {"stem": np.ones((2, 3), np.float32), "head": np.array([0, value, 1], np.float32)}
    return safetensors.numpy.save(arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    with pytest.raises(CheckpointError, match="the weights 'head' are not finite") as caught:
        check_model_file(model_file(value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 3.4e38, -3.4e38, 1e-45])
def test_weights_of_any_finite_size_are_accepted(value: float) -> None:
    check_model_file(model_file(value))


@pytest.mark.parametrize("content", [b"", b"not a model", model_file(1)[:-5]])
def test_a_file_of_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        check_model_file(content)


def test_a_checkpoint_is_refused_by_its_weights() -> None:
    check_weights(Checkpoint(Path("x"), 1, {}, {MODEL_FILE: model_file(1)}))
    with pytest.raises(CheckpointError, match="not finite"):
        check_weights(Checkpoint(Path("x"), 1, {}, {MODEL_FILE: model_file(np.nan)}))


def test_the_check_does_not_load_torch() -> None:
    program = "import sys, keisei_ray.network.finite_weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

"""A checkpoint of a run says whether its weights are healthy, and never holds broken ones."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import MODEL_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.saved_run import state_of, trouble_of, write_state
from tests.helpers.held_files import held_open


def save(run_dir: Path, timestep: int, trouble: str | None = None, weight: float = 1.0) -> Path:
    config = Config.model_validate({"checkpoint": {"keep_last": 1}})
    model = safetensors.numpy.save({"head": np.array([weight], np.float32)})
    progress = Progress(timestep=timestep)
    state = state_of(config, progress, {MODEL_FILE: model}, "digest", {}, trouble)
    return write_state(run_dir, state, config.checkpoint)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    save(tmp_path, 10)
    with pytest.raises(CheckpointError, match="not finite"):
        save(tmp_path, 20, weight=np.nan)
    kept = list((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-000000000010"]


def test_the_way_back_stays_while_a_run_diverges(tmp_path: Path) -> None:
    save(tmp_path, 10)
    save(tmp_path, 20)
    for timestep in (30, 40, 50):
        save(tmp_path, timestep, "diverging: kl_proximal 1e+08 (expected up to 0.2)")
    kept = [checkpoint.load(path) for path in checkpoint.list_complete(tmp_path / "checkpoints")]
    assert [(found.timestep, trouble_of(found)) for found in kept] == [
        (20, None),
        (50, "diverging: kl_proximal 1e+08 (expected up to 0.2)"),
    ]


def test_a_checkpoint_of_before_counts_as_healthy() -> None:
    assert trouble_of(checkpoint.Checkpoint(Path("x"), 1, {}, {})) is None


def test_a_run_goes_on_while_a_reader_has_its_old_checkpoints_open(tmp_path: Path) -> None:
    with held_open(MODEL_FILE):
        for timestep in (10, 20, 30):
            assert checkpoint.load(save(tmp_path, timestep)).timestep == timestep

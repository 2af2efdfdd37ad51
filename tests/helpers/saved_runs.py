"""Runs with checkpoints of learners that have not been trained."""

from pathlib import Path

from keisei_ray.learning.learner import Learner
from keisei_ray.storage import checkpoint
from tests.helpers.tiny import tiny_config


def save_untrained(
    run_dir: Path, *, timestep: int, seed: int = 3, weights_version: int = 0
) -> Path:
    """Saves the initial weights of a run with this seed, with the entries that the driver makes.

    Returns:
        The checkpoint's directory.
    """
    config = tiny_config(run={"seed": seed})
    learner = Learner(config)
    info: dict[str, str | int | float | bool | None] = {
        "weights_version": weights_version,
        "weights_digest": learner.weights_digest(),
        "model": config.model.model_dump_json(),
    }
    return checkpoint.save(run_dir / "checkpoints", timestep, learner.state_files(), info)

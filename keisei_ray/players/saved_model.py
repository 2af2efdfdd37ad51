"""The network of a saved checkpoint, checked and ready to play."""

import logging
from pathlib import Path
from typing import Final

from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError
from keisei_ray.network.finite_weights import check_weights
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.weights import digest, load_arrays, read_model_file
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.remote.filesystem import is_uri
from keisei_ray.storage.remote.remote_run import load_checkpoint
from keisei_ray.storage.run_dirs import newest_run_dir, runs_dir
from keisei_ray.storage.run_layout import (
    CHECKPOINT_GLOB,
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    EVENTS_FILE,
    MODEL_FILE,
)

LATEST: Final = "latest"
"""Name of the newest run, in place of a path."""

logger = logging.getLogger(__name__)


def find_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; of several the newest one that is intact.

    Args:
        path: a run directory, a `checkpoints` directory or the directory of one checkpoint.

    Raises:
        CheckpointError: there is none, or the one named is damaged. Of several, damaged ones and
            those whose weights are not finite are skipped with a warning.
    """
    inside = path / CHECKPOINTS_DIR
    directory = inside if inside.is_dir() else path
    if not any(directory.glob(CHECKPOINT_GLOB)):
        if directory is inside or path.name == CHECKPOINTS_DIR:
            raise CheckpointError(f"{directory} holds no checkpoint. Train for longer first.")
        return checkpoint.load(path)
    found = checkpoint.find_latest(
        directory,
        on_skip=lambda bad, cause: logger.warning("skipping checkpoint %s: %s", bad, cause),
        check=check_weights,
    )
    if found is None:
        raise CheckpointError(f"{directory} holds no intact checkpoint.")
    return found


def open_checkpoint(path: Path | str) -> tuple[str, Checkpoint]:
    """Reads the checkpoint that a path or a URI stands for.

    Args:
        path: a run, its `checkpoints` directory or one checkpoint, the URI of one of these, or
            `LATEST`. Of several checkpoints the newest intact one counts.

    Returns:
        The checkpoint's path or URI, and its content.

    Raises:
        CheckpointError: missing or damaged, or there is no run.
        StorageError: the URI cannot be reached or read.
    """
    if path == LATEST:
        path = _newest_run()
    if isinstance(path, str) and is_uri(path):
        return load_checkpoint(path, warn=logger.warning)
    found = find_checkpoint(Path(path))
    return str(found.path), found


def _newest_run() -> Path:
    """Directory of the run that began last."""
    found = newest_run_dir([CONFIG_FILE, EVENTS_FILE])
    if found is None:
        raise CheckpointError(
            f"there is no run under {runs_dir()}/, expected a checkpoint. Name one: "
            "--checkpoint PATH, or the option Checkpoint."
        )
    return found


def load_model(saved: Checkpoint) -> PolicyValueNet:
    """Returns the network of a checkpoint, on the CPU and in eval mode.

    Raises:
        CheckpointError: it holds no weights or no model section, they do not fit each other, the
            weights are not finite, or their digest is not the one in the checkpoint's `info`.
    """
    missing = [key for key in ("model", "weights_digest") if key not in saved.info]
    if missing or MODEL_FILE not in saved.files:
        what = f"info {missing[0]!r}" if missing else MODEL_FILE
        raise CheckpointError(f"{saved.path} has no {what}: not a training checkpoint.")
    try:
        config = ModelConfig.model_validate_json(str(saved.info["model"]))
    except ValueError as error:
        raise CheckpointError(
            f"{saved.path}: its info 'model' is not a model section of this version: "
            f"{saved.info['model']}."
        ) from error
    arrays = read_model_file(saved.files[MODEL_FILE])
    found, expected = digest(arrays), saved.info["weights_digest"]
    if found != expected:
        raise CheckpointError(
            f"{saved.path / MODEL_FILE}: the weights' digest is {found[:16]}..., the checkpoint "
            f"names {str(expected)[:16]}...: not the weights that were saved with it."
        )
    model = build_model(config, seed=0).eval()
    load_arrays(model, arrays)
    return model

"""The checkpoint that a path, a URI or `latest` stands for. Knows no torch."""

import logging
import os
from pathlib import Path
from typing import Final

from keisei_ray.errors import CheckpointError
from keisei_ray.network.finite_weights import check_weights
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
)

LATEST: Final = "latest"
"""Name of the newest run, in place of a path."""

logger = logging.getLogger(__name__)


def find_checkpoint(path: Path, *, skips_unreadable: bool = True) -> Checkpoint:
    """Reads a checkpoint; of several the newest one that is intact.

    Args:
        path: a run directory, a `checkpoints` directory or the directory of one checkpoint.
        skips_unreadable: whether one of several that cannot be read is skipped with a warning.

    Raises:
        CheckpointError: there is none, or the one named is damaged. Of several, damaged ones and
            those whose weights are not finite are skipped with a warning.
        UnreadableCheckpointError: one cannot be read, and is not to be skipped.
    """
    if not os.path.isdir(path):
        return checkpoint.load(path)  # It says what is wrong.
    inside = path / CHECKPOINTS_DIR
    directory = inside if os.path.isdir(inside) else path
    if not any(directory.glob(CHECKPOINT_GLOB)):
        if directory is inside or path.name == CHECKPOINTS_DIR:
            raise CheckpointError(f"{directory} holds no checkpoint. Train for longer first.")
        return checkpoint.load(path)
    found = checkpoint.find_latest(
        directory,
        on_skip=lambda bad, cause: logger.warning("skipping checkpoint %s: %s", bad, cause),
        check=check_weights,
        skips_unreadable=skips_unreadable,
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
        CheckpointError: missing or damaged, no path is given, or there is no run.
        StorageError: the URI cannot be reached or read.
    """
    if path == "":
        raise CheckpointError(
            "the path of the checkpoint is empty, expected that of a run or a checkpoint, or "
            f"{LATEST}. Name one."
        )
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
            f"there is no run under {runs_dir()}/, expected one with a checkpoint. Name a run or a "
            "checkpoint by its path."
        )
    return found

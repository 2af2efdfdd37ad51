"""The checkpoint of a run: state of learner and actors, counts, pool, settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgpack

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import RefusedStateError
from keisei_ray.network.finite_weights import check_files
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import HEALTH, HEALTHY, Checkpoint
from keisei_ray.storage.manifest import Scalar
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, CONFIG_FILE, PROGRESS_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.tracking.evaluation_records import elo_by_version


@dataclass(frozen=True)
class RunState:
    """Everything that a checkpoint keeps of a run after an update. Nothing changes it any more."""

    timestep: int
    files: Mapping[str, bytes]
    """Content of the checkpoint's files by name."""
    info: Mapping[str, Scalar]
    awaited: frozenset[int] = frozenset()
    """Weights versions whose rating may still come. Not part of the checkpoint."""


def state_of(
    config: Config,
    progress: Progress,
    learner_files: Mapping[str, bytes],
    weights_digest: str,
    driver_files: Mapping[str, bytes],
    trouble: str | None,
    awaited: frozenset[int] = frozenset(),
) -> RunState:
    """Returns the state of a run as it is now; what changes later does not change it.

    Args:
        config: effective settings.
        progress: counts after the update whose state `learner_files` is.
        learner_files: everything that a learner needs to go on, by name.
        weights_digest: digest of the weights among them.
        driver_files: table of the opponent pool and states of the actors, by name.
        trouble: the objection to the weights, see `RunHealth`; None if they are healthy.
        awaited: weights versions whose rating may still come.
    """
    files = dict(learner_files)
    files[PROGRESS_FILE] = progress.to_json().encode()
    files |= driver_files
    files[CONFIG_FILE] = config.model_dump_json(indent=2).encode()
    info: dict[str, Scalar] = {
        "weights_version": progress.weights_version,
        "weights_digest": weights_digest,
        "model": config.model.model_dump_json(),
        HEALTH: HEALTHY if trouble is None else trouble,
    }
    return RunState(progress.timestep, files, info, awaited)


def pack_state(state: RunState) -> bytes:
    """Returns a state as bytes, for another process of this run."""
    packed: bytes = msgpack.packb(
        [state.timestep, dict(state.files), dict(state.info), sorted(state.awaited)]
    )
    return packed


def unpack_state(packed: bytes) -> RunState:
    """Returns the state that `pack_state` has packed."""
    timestep, files, info, awaited = msgpack.unpackb(packed)
    return RunState(timestep, files, info, frozenset(awaited))


def write_state(run_dir: Path, state: RunState, keep: CheckpointConfig) -> Path:
    """Saves a checkpoint of the run and prunes older ones. Blocks until the disk has it.

    An older one that cannot be removed is warned of and left, see `checkpoint.prune`.

    Args:
        run_dir: directory of the run.
        state: content of the checkpoint.
        keep: settings that say which older ones stay.

    Returns:
        The checkpoint's directory.

    Raises:
        RunDirError: the checkpoint cannot be written; older checkpoints are untouched.
        CheckpointError: the weights are not finite; nothing has been written.
    """
    check_files(state.files)
    checkpoints_dir = run_dir / CHECKPOINTS_DIR
    path = checkpoint.save(checkpoints_dir, state.timestep, state.files, state.info)
    elo_of = elo_by_version(run_dir) if keep.keep_best else {}
    checkpoint.prune(checkpoints_dir, keep, elo_of, state.awaited)
    return path


def trouble_of(saved: Checkpoint) -> str | None:
    """Returns the objection to the weights of a checkpoint; None if they are healthy."""
    health = checkpoint.health_of(saved.info)
    return None if health == HEALTHY else health


def check_digest(resumed: Checkpoint, digest: str) -> None:
    """Refuses weights that are not those that the checkpoint was saved with.

    Args:
        resumed: the checkpoint.
        digest: digest of the weights that a learner has read from it.

    Raises:
        RefusedStateError: the digests differ.
    """
    if digest != resumed.info.get("weights_digest"):
        raise RefusedStateError(
            f"{resumed.path}: its weights have the digest {digest}, its manifest says "
            f"{resumed.info.get('weights_digest')}. Resume from another checkpoint.",
            resumed.timestep,
        )

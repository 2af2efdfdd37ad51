"""Who plays a match: random, greedy, and networks from checkpoints.

A player is asked for all positions it is to move in at once and answers with one legal move
each. What it leaves to chance is decided by the uniform draws it is handed, so a match is a
function of its seed.

K: lanes asked for. L: legal moves of those lanes together.
"""

import difflib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keisei_ray import checkpoint
from keisei_ray.checkpoint import Checkpoint
from keisei_ray.config import ModelConfig
from keisei_ray.errors import CheckpointError, OpponentError
from keisei_ray.manifest import Scalar
from keisei_ray.model import PolicyValueNet, build_model
from keisei_ray.policies import Choose, choose_greedy, choose_random, network_policy
from keisei_ray.weights import MODEL_FILE, digest, load_arrays, read_model_file

logger = logging.getLogger(__name__)

OPPONENTS = ("random", "greedy", "checkpoint:PATH")
"""What `parse_opponent` understands."""


@dataclass(frozen=True)
class Player:
    """One side of a match."""

    name: str
    """As the person named it."""
    choose: Choose
    """Its moves."""
    identity: dict[str, Scalar] = field(default_factory=dict)
    """What exactly played: weights_version, weights_digest and timestep of a checkpoint."""


def parse_opponent(spec: str, *, temperature: float = 0.0) -> Player:
    """The player that an `--opponent` names.

    Args:
        spec: one of `OPPONENTS`.
        temperature: of a checkpoint's policy, see `checkpoint_player`.

    Raises:
        OpponentError: unknown, or not available.
        CheckpointError: its checkpoint is missing, damaged, or not what it says it is.
    """
    kind, colon, argument = spec.partition(":")
    if spec == "random":
        return Player("random", choose_random)
    if spec == "greedy":
        return Player("greedy", choose_greedy)
    if kind == "checkpoint" and argument:
        return checkpoint_player(Path(argument), temperature=temperature)
    if kind == "usi" and colon:
        raise OpponentError(
            f"opponent {spec!r}: USI engines are not available in this version. "
            f"Use {', '.join(OPPONENTS)}."
        )
    names = {known.partition(":")[0]: known for known in OPPONENTS}
    near = difflib.get_close_matches(kind.lower(), names, n=1, cutoff=0.0)
    raise OpponentError(
        f"unknown opponent {spec!r}: expected one of {', '.join(OPPONENTS)}. "
        f"Did you mean {names[near[0]]!r}?"
    )


def checkpoint_player(path: Path, *, temperature: float = 0.0) -> Player:
    """The network of a checkpoint, without search.

    Args:
        path: a run, its `checkpoints` or one checkpoint; of several, the newest intact one.
        temperature: 0 plays the policy's likeliest move: its strength as it would be used, and
            random openings already vary the games. Above 0 samples from
            softmax(logits / temperature); 1 is how self-play acts.

    Raises:
        CheckpointError: missing, damaged, or the weights are not those that its `info` names.
        ValueError: a negative temperature.
    """
    if temperature < 0:
        raise ValueError(f"temperature = {temperature}: expected 0 or more.")
    found = find_checkpoint(path)
    model = load_model(found)
    identity: dict[str, Scalar] = {
        "checkpoint": str(found.path),
        "timestep": found.timestep,
        "weights_version": found.info.get("weights_version"),
        "weights_digest": found.info["weights_digest"],
    }
    return Player(found.path.name, network_policy(model, temperature), identity)


def find_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint from a run directory, a `checkpoints` directory, or its own.

    Raises:
        CheckpointError: there is none, or it is damaged. In a directory of several, damaged
            ones are skipped with a warning.
    """
    inside = path / "checkpoints"
    directory = inside if inside.is_dir() else path
    if not any(directory.glob("step-*")):
        if directory is inside or path.name == "checkpoints":
            raise CheckpointError(f"{directory} holds no checkpoint. Train for longer first.")
        return checkpoint.load(path)
    found = checkpoint.find_latest(
        directory,
        on_skip=lambda bad, cause: logger.warning("skipping checkpoint %s: %s", bad, cause),
    )
    if found is None:
        raise CheckpointError(f"{directory} holds no intact checkpoint.")
    return found


def load_model(saved: Checkpoint) -> PolicyValueNet:
    """The network of a checkpoint, on the CPU, for playing.

    Raises:
        CheckpointError: no weights or model section in it, they do not fit each other, or the
            weights' digest is not the one in the checkpoint's `info`.
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
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise CheckpointError(f"{saved.path / MODEL_FILE}: weights that are not finite.")
    model = build_model(config, seed=0).eval()
    load_arrays(model, arrays)
    return model

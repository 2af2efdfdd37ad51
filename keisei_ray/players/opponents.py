"""Who plays a match: random, greedy, networks from checkpoints, and USI engines.

A player is asked for all positions it is to move in at once and answers with one legal move
each. What it leaves to chance is decided by the uniform draws it is handed, so a match is a
function of its seed.

K: lanes asked for. L: legal moves of those lanes together.
"""

import difflib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from keisei_ray.config.player_names import FINISHING_SUFFIX
from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError, OpponentError
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.weights import digest, load_arrays, read_model_file
from keisei_ray.players.policies import (
    Choose,
    choose_greedy,
    choose_random,
    finishing,
    network_policy,
)
from keisei_ray.players.usi import USI_PREFIX, USI_SYNTAX, UsiSpec
from keisei_ray.players.usi_player import UsiPlayer
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.manifest import Scalar
from keisei_ray.storage.remote.filesystem import is_uri
from keisei_ray.storage.remote.remote_run import load_checkpoint
from keisei_ray.storage.run_layout import CHECKPOINT_GLOB, CHECKPOINTS_DIR, MODEL_FILE

logger = logging.getLogger(__name__)

OPPONENTS = ("random", "greedy", "checkpoint:PATH", USI_SYNTAX)
"""What `parse_opponent` understands."""


def _nothing() -> None:
    """What a player without processes has to close."""


@dataclass(frozen=True)
class Player:
    """One side of a match."""

    name: str
    """As the person named it."""
    choose: Choose
    """Its moves."""
    identity: dict[str, Scalar] = field(default_factory=dict)
    """What exactly played: weights_version, weights_digest and timestep of a checkpoint; how an
    engine calls itself."""
    close: Callable[[], None] = _nothing
    """Ends the processes it has; leaving a `with` block calls it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_opponent(spec: str, *, temperature: float = 0.0, finish_mates: bool = False) -> Player:
    """The player that an `--opponent` names. To be closed: an engine is started here.

    Args:
        spec: one of `OPPONENTS`; `checkpoint:PATH+mate1` finishes mates.
        temperature: of a checkpoint's policy, see `checkpoint_player`.
        finish_mates: of a checkpoint as well.

    Raises:
        OpponentError: unknown, or an engine that cannot be started.
        CheckpointError: its checkpoint is missing, damaged, or not what it says it is.
    """
    kind, _, argument = spec.partition(":")
    if finish_mates and kind != "checkpoint":
        raise OpponentError(f"player {spec!r}: only a network can be made to finish mates.")
    if spec == "random":
        return Player("random", choose_random)
    if spec == "greedy":
        return Player("greedy", choose_greedy)
    if kind == "checkpoint" and argument:
        return checkpoint_player(
            argument.removesuffix(FINISHING_SUFFIX),
            temperature=temperature,
            finish_mates=finish_mates or argument.endswith(FINISHING_SUFFIX),
        )
    if spec.startswith(USI_PREFIX):
        engine = UsiPlayer(UsiSpec.parse(spec))
        return Player(spec, engine.choose, {"engine": engine.engine_name}, engine.close)
    names = {known.partition(":")[0]: known for known in OPPONENTS}
    near = difflib.get_close_matches(kind.lower(), names, n=1, cutoff=0.0)
    raise OpponentError(
        f"unknown opponent {spec!r}: expected one of {', '.join(OPPONENTS)}. "
        f"Did you mean {names[near[0]]!r}?"
    )


def checkpoint_player(
    path: Path | str, *, temperature: float = 0.0, finish_mates: bool = False
) -> Player:
    """The network of a checkpoint, without search.

    Args:
        path: a run, its `checkpoints` or one checkpoint, or a URI of any; of several, the newest
            intact one.
        temperature: 0 plays the policy's likeliest move: its strength as it would be used, and
            random openings already vary the games. Above 0 samples from
            softmax(logits / temperature); 1 is how self-play acts.
        finish_mates: plays every mate in one it has, which the bare policy need not see; its
            name then ends in `+mate1`.

    Raises:
        CheckpointError: missing, damaged, or the weights are not those that its `info` names.
        StorageError: the URI cannot be reached or read.
        ValueError: a negative temperature.
    """
    if temperature < 0:
        raise ValueError(f"temperature = {temperature}: expected 0 or more.")
    if isinstance(path, str) and is_uri(path):
        where, found = load_checkpoint(path, warn=logger.warning)
    else:
        found = find_checkpoint(Path(path))
        where = str(found.path)
    model = load_model(found)
    identity: dict[str, Scalar] = {
        "checkpoint": where,
        "timestep": found.timestep,
        "weights_version": found.info.get("weights_version"),
        "weights_digest": found.info["weights_digest"],
    }
    policy = network_policy(model, temperature)
    if finish_mates:
        return Player(found.path.name + FINISHING_SUFFIX, finishing(policy), identity)
    return Player(found.path.name, policy, identity)


def find_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint from a run directory, a `checkpoints` directory, or its own.

    Raises:
        CheckpointError: there is none, or it is damaged. In a directory of several, damaged
            ones are skipped with a warning.
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

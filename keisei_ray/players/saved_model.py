"""The network of a saved checkpoint, checked and ready to play."""

from reprlib import repr as shortened
from typing import Final

from keisei_ray.config.memory import max_parameters
from keisei_ray.config.saved_model_section import read_model_section
from keisei_ray.errors import CheckpointError
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.saved_checkpoint import LATEST, find_checkpoint, open_checkpoint
from keisei_ray.network.weights import digest, load_arrays, read_model_file
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import MODEL_FILE

MOST_MISSED: Final = 3
"""Factor beyond which `max_parameters` is above no network; 1.7 is the largest, of a tiny one."""

__all__ = ["LATEST", "find_checkpoint", "load_model", "open_checkpoint"]


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
        config = read_model_section(str(saved.info["model"]))
    except ValueError as error:
        raise CheckpointError(
            f"{saved.path}: its info 'model' is not a model section of this version: "
            f"{shortened(saved.info['model'])}."
        ) from error
    arrays = read_model_file(saved.files[MODEL_FILE])
    found, expected = digest(arrays), saved.info["weights_digest"]
    if found != expected:
        raise CheckpointError(
            f"{saved.path / MODEL_FILE}: the weights' digest is {found[:16]}..., the checkpoint "
            f"names {str(expected)[:16]}...: not the weights that were saved with it."
        )
    # Before the network is built: the section may ask for any number of layers and channels.
    held = sum(array.size for array in arrays.values())
    if max_parameters(config) > MOST_MISSED * held:
        raise CheckpointError(
            f"{saved.path}: its info 'model' is of a larger network than {MODEL_FILE} has weights "
            f"of, {held:,} numbers: not those that were saved with it."
        )
    model = build_model(config, seed=0).eval()
    load_arrays(model, arrays)
    return model

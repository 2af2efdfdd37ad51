"""The network that the engine's options name, as a search asks for it."""

import numpy as np

from keisei_ray.errors import ConfigError
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.players.saved_model import LATEST, load_model, open_checkpoint
from keisei_ray.players.searching import network_evaluation
from keisei_ray.search.search import Evaluate


def load_network(checkpoint: str, device: str, threads: int) -> tuple[str, Evaluate]:
    """Loads the network of a checkpoint.

    Args:
        checkpoint: as `open_checkpoint` reads it; empty: the newest run.
        device: as torch names it.
        threads: CPU threads that compute it, in the whole process.

    Returns:
        The path or URI of the checkpoint, and its network.

    Raises:
        CheckpointError: missing, damaged, or there is no run.
        StorageError: the URI cannot be reached or read.
        ConfigError: there is no such device, or it does not compute the network.
    """
    where, saved = open_checkpoint(checkpoint or LATEST)
    prepare_cpu(threads)
    try:
        evaluate = network_evaluation(load_model(saved).to(device))
        # A device may take a network and then not compute it. An empty board is enough to see that.
        evaluate(*(np.zeros((1, size), np.uint8) for size in (81, 14, 3)))
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise ConfigError(
            f"option Device = {device!r}: {cause}. Expected a device of this machine, e.g. cpu."
        ) from error
    return where, evaluate

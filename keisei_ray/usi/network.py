"""The network that the engine's options name, as a search asks for it."""

from typing import Final

from keisei_ray.errors import CheckpointError, ConfigError
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.players.searching import network_evaluation
from keisei_ray.search.search import Evaluate
from keisei_ray.storage.run_dirs import newest_run_dir, runs_dir
from keisei_ray.storage.run_layout import CONFIG_FILE, EVENTS_FILE

LATEST: Final = "latest"
"""Name of the newest run in place of a path, as is no name at all."""


def load_network(checkpoint: str, device: str, threads: int) -> tuple[str, Evaluate]:
    """Loads the network of a checkpoint.

    Args:
        checkpoint: as `open_checkpoint` reads it; empty or `LATEST`: the newest run.
        device: as torch names it.
        threads: CPU threads that compute it, in the whole process.

    Returns:
        The path or URI of the checkpoint, and its network.

    Raises:
        CheckpointError: missing, damaged, or there is no run.
        StorageError: the URI cannot be reached or read.
        ConfigError: there is no such device.
    """
    where, saved = open_checkpoint(_newest_run() if checkpoint in ("", LATEST) else checkpoint)
    prepare_cpu(threads)
    try:
        model = load_model(saved).to(device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).partition("\n")[0]
        raise ConfigError(
            f"option Device = {device!r}: {cause}. Expected a device of this machine, e.g. cpu."
        ) from error
    return where, network_evaluation(model)


def _newest_run() -> str:
    """Directory of the run that began last."""
    found = newest_run_dir([CONFIG_FILE, EVENTS_FILE])
    if found is None:
        raise CheckpointError(
            f"there is no run under {runs_dir()}/, expected a checkpoint. Name one: "
            "--checkpoint PATH, or the option Checkpoint."
        )
    return str(found)

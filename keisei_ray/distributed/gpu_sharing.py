"""Where self-play and learner share a GPU: whether NVIDIA's MPS is there, and what it is worth.

MPS (Multi-Process Service) lets the kernels of several processes run at the same time. Here is
only looked for it: the user starts it, see docs/train.md.

Source: https://docs.nvidia.com/deploy/mps/
"""

import os
from collections.abc import Mapping
from typing import Final

from keisei_ray.config.autosize import learner_gpus
from keisei_ray.config.schema import Config

DEFAULT_PIPE_DIRECTORY: Final = "/tmp/nvidia-mps"
CONTROL_SOCKET: Final = "control"
"""File in the pipe directory by which CUDA finds the control daemon."""


def describe_missing_mps(config: Config, environ: Mapping[str, str]) -> str | None:
    """Returns what sharing a GPU costs here without MPS.

    Args:
        config: with every hardware-dependent choice made, for this machine alone.
        environ: the environment that learner and actors inherit.

    Returns:
        A sentence for the user; None where MPS is there or no GPU is shared.
    """
    if config.self_play.device != "cuda" or not 0 < learner_gpus(config) < 1:
        return None  # A learner that Ray gives a whole GPU shares it with no actor.
    directory = environ.get("CUDA_MPS_PIPE_DIRECTORY", DEFAULT_PIPE_DIRECTORY)
    if os.path.exists(os.path.join(directory, CONTROL_SOCKET)):
        return None
    # 33,600 timesteps/s instead of 40,400: one H200, 16 cores, the sizes of configs/gpu.yaml.
    return (
        f"self-play and learner share a GPU without NVIDIA's MPS (no daemon in {directory}) and "
        "take turns on it: 17% fewer timesteps/s on an H200. To start MPS before the next run: "
        "docs/train.md#sharing-a-gpu-mps"
    )

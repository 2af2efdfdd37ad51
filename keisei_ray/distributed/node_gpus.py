"""The question to all nodes of a cluster how much memory their GPUs have."""

import logging
import subprocess
from collections.abc import Iterable
from typing import Final

import ray
from ray.exceptions import RayError

from keisei_ray.distributed.actors import ask_node

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S: Final = 30.0
"""Seconds that all nodes together get to answer; each starts a process for it."""
QUERY: Final = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
"""Prints MiB, a line for each GPU. It does not load CUDA, which would take memory of each."""
QUERY_TIMEOUT_S: Final = 10.0
MIB: Final = 2**20


def smallest_gpu_bytes(*, is_one_machine: bool) -> int:
    """Returns the memory of the GPU that has least, of all that are there now; 0 if unknown.

    Args:
        is_one_machine: whether this machine is the only node, which needs no question.
    """
    if is_one_machine:
        return own_smallest_gpu_bytes()
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and _has_gpu(node)]
    answers = [ask_node(own_smallest_gpu_bytes, str(node)) for node in nodes]
    try:
        found: Iterable[int] = ray.get(answers, timeout=ANSWER_TIMEOUT_S)
    except RayError as error:
        logger.info("not all nodes say how much memory their GPUs have: %s", error)
        return 0
    return min(found, default=0)


def _has_gpu(node: dict[str, dict[str, float]]) -> bool:
    return node["Resources"].get("GPU", 0) > 0


def own_smallest_gpu_bytes() -> int:
    """Returns the memory of the GPU of this machine that has least; 0 if unknown."""
    try:
        done = subprocess.run(
            QUERY, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=True
        )
        return min((int(line) * MIB for line in done.stdout.splitlines()), default=0)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        logger.info("no GPU's memory is known here: %s", error)
        return 0

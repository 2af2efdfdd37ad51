"""A network's forward pass as a recording that runs without Python.

Threads of one process run Python in turn. A forward pass of a small network is a hundred short
operations that Python calls one by one, so two threads that make a pass each wait for each other at
every few of them. torch records the operations once (`torch.jit.trace`) and then runs them by
itself: the same ones in the same order, so outputs and gradients are the same bits.
"""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from keisei_ray.network.listed_moves import ListedMoves
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.rollouts.rollout import NUM_ACTIONS

Outputs = tuple[Tensor, Tensor]
logger = logging.getLogger(__name__)


class _ByTensors(nn.Module):
    """A network that takes tensors alone, as a recording does."""

    def __init__(self, model: PolicyValueNet) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, boards: Tensor, hands: Tensor, scalars: Tensor, rows: Tensor, labels: Tensor
    ) -> Outputs:
        outputs: Outputs = self.model(boards, hands, scalars, ListedMoves(rows, labels))
        return outputs


def traced(model: PolicyValueNet) -> Callable[[Tensor, Tensor, Tensor, ListedMoves], Outputs]:
    """Records the forward pass of a network, for any number of positions and moves.

    Args:
        model: on the CPU. The recording has its parameters: what is written into them in place, and
            what their `grad` is, counts.

    Returns:
        Function like `PolicyValueNet.forward` with listed moves; the network itself, where torch
        cannot record it.
    """
    bytes_of_two = (torch.zeros(2, size, dtype=torch.uint8) for size in (81, 14, 3))
    moves = torch.tensor([[0, 1], [0, NUM_ACTIONS - 1]])
    try:
        with warnings.catch_warnings():
            # That tracing is old, and that sizes which never change are recorded as they are.
            warnings.simplefilter("ignore")
            recording = torch.jit.trace(
                _ByTensors(model), (*bytes_of_two, *moves), check_trace=False
            )
    except (AttributeError, RuntimeError) as error:
        logger.warning("torch cannot record the network, so its threads are slower: %s", error)
        return model

    def forward(boards: Tensor, hands: Tensor, scalars: Tensor, moves: ListedMoves) -> Outputs:
        # Optimized for the sizes of its first calls it would have to be optimized again for others.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            outputs: Outputs = recording(boards, hands, scalars, *moves)
        return outputs

    return forward

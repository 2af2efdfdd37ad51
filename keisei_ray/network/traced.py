"""A network's forward pass as a recording, so that threads do not wait for each other's Python.

Threads of one process run Python in turn. A forward pass of a small network is a hundred short
operations that Python calls one by one, so two threads that make a pass each wait for each other at
every few of them. torch records the operations once (`torch.jit.trace`) and then runs them by
itself: the same ones in the same order, so outputs and gradients are the same bits. Python is left
in one place, the sum of the attackers' vectors (`attackers.py`).
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
        model: on the CPU. The recording has the same parameters: it sees what is written into them
            in place, and adds to their `grad`.

    Returns:
        Function like `PolicyValueNet.forward`, but always of listed moves, and without hooks; the
        network itself, where torch cannot record it.
    """
    positions = (torch.zeros(2, size, dtype=torch.uint8) for size in (81, 14, 3))
    moves = torch.tensor([[0, 1], [0, NUM_ACTIONS - 1]])
    try:
        with warnings.catch_warnings():
            # torch warns that tracing is deprecated, and that constant sizes become constants.
            warnings.simplefilter("ignore")
            recording = torch.jit.trace(_ByTensors(model), (*positions, *moves), check_trace=False)
    except (AttributeError, RuntimeError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning("torch cannot record the network, so its threads are slower: %s", cause)
        return model

    def forward(boards: Tensor, hands: Tensor, scalars: Tensor, moves: ListedMoves) -> Outputs:
        # The optimizer would make code for the sizes of the first calls, and anew for others.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            outputs: Outputs = recording(boards, hands, scalars, *moves)
        return outputs

    return forward

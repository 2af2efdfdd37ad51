"""Legal moves of many positions as one list, so that a learner on a CPU computes these alone.

Of the 1,496 labels some ninety are legal in a position. A CPU takes a fraction of the time for the
logits and the probabilities of these, most of all in the backward pass. On a GPU the number of
legal moves is known on the device only, and would have to be waited for: there all labels are
computed and masked (`masked_log_probs` of `model.py`).

B: positions. L: legal moves of all positions together.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from keisei_ray.rollouts.rollout import NUM_ACTIONS


class ListedMoves(NamedTuple):
    """Moves of many positions, those of the first position first."""

    rows: Tensor
    """[L] int64, the position of each move."""
    labels: Tensor
    """[L] int64, its policy label; ascending within a position."""


def can_list(positions: Tensor) -> bool:
    """Returns whether legal moves of these positions can be listed without waiting for a device."""
    return not (positions.is_cuda or torch.compiler.is_compiling())


def list_moves(legal_bits: Tensor) -> ListedMoves:
    """Lists the legal moves of each position.

    Args:
        legal_bits: [B, 187] uint8 on the CPU, most significant bit first.
    """
    bits = np.unpackbits(legal_bits.numpy(), axis=1)
    rows, labels = np.divmod(np.flatnonzero(bits.view(np.bool_)), NUM_ACTIONS)
    return ListedMoves(torch.from_numpy(rows), torch.from_numpy(labels))


def listed_log_probs(logits: Tensor, moves: ListedMoves, num_rows: int) -> Tensor:
    """Computes the log-probability of each move among those of its position.

    Args:
        logits: [L] float32.
        moves: the moves.
        num_rows: B.

    Returns:
        [L] float32.
    """
    lowest = logits.new_full((num_rows,), -torch.inf)
    peaks = lowest.scatter_reduce(0, moves.rows, logits.detach(), "amax")
    shifted = logits - peaks[moves.rows]
    totals = logits.new_zeros(num_rows).index_add(0, moves.rows, shifted.exp())
    return shifted - totals.log()[moves.rows]

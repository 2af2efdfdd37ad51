"""Loss and diagnostics of some rows of an update: what a gradient is computed from.

B: rows of the update. M: rows of the minibatch.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from keisei_ray.learning.ppo import LossCoefs, PPOSums, ppo_sums
from keisei_ray.network.model import legal_mask, masked_log_probs

Forward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Boards, hands and scalars -> logits and outcomes, see `PolicyValueNet.forward`."""


def minibatch_sums(
    forward: Forward,
    fields: Mapping[str, Tensor],
    rows: Tensor,
    coefs: LossCoefs[float] | LossCoefs[Tensor],
    is_counted: Tensor | None = None,
) -> PPOSums[Tensor]:
    """Computes the loss of some rows of an update and its diagnostics, with a gradient.

    Args:
        forward: the network.
        fields: [B, ...] rows of the update where the network is, see `BATCH_FIELDS`.
        rows: [M] int64, indices of rows.
        coefs: numbers of the loss.
        is_counted: [M] bool, rows that enter the sums. None: all.
    """
    boards, hands, scalars = (fields[name][rows] for name in ("boards", "hands", "scalars"))
    logits, outcomes = forward(boards, hands, scalars)
    return ppo_sums(
        masked_log_probs(logits, legal_mask(fields["legal_bits"][rows])),
        outcomes,
        fields["actions"][rows].long(),
        fields["behavior_log_probs"][rows],
        fields["proximal_log_probs"][rows],
        fields["is_forced"][rows],
        fields["advantages"][rows],
        fields["value_targets"][rows],
        fields["draw_targets"][rows],
        coefs,
        is_counted,
    )

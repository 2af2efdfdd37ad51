"""Loss and diagnostics of some rows of an update: what a gradient is computed from.

B: rows of the update. M: rows of the minibatch.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from keisei_ray.learning.ppo import LossCoefs, PPOSums, ppo_sums
from keisei_ray.network.model import legal_labels, legal_mask, masked_log_probs

Forward = Callable[..., tuple[Tensor, Tensor]]
"""Boards, hands, scalars and labels -> logits and outcomes, see `PolicyValueNet.forward`."""


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
    log_probs, played, outcomes = policy_outputs(forward, fields, rows)
    return ppo_sums(
        log_probs,
        outcomes,
        played,
        fields["behavior_log_probs"][rows],
        fields["proximal_log_probs"][rows],
        fields["is_forced"][rows],
        fields["advantages"][rows],
        fields["value_targets"][rows],
        fields["draw_targets"][rows],
        coefs,
        is_counted,
    )


def policy_outputs(
    forward: Forward, fields: Mapping[str, Tensor], rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the policy and the outcome logits of some rows of an update.

    On a CPU the policy's columns are the legal labels of each row. Elsewhere they are all labels:
    how many are legal is known on the device only, so a GPU would have to be waited for.

    Args:
        forward, fields, rows: as of `minibatch_sums`.

    Returns:
        log_probs: [M, L] or [M, A] float32, masked.
        played: [M] int64, column of the move that was played.
        outcomes: see `PolicyValueNet.forward`.
    """
    names = ("boards", "hands", "scalars", "legal_bits", "actions")
    boards, hands, scalars, legal_bits, actions = (fields[name][rows] for name in names)
    played = actions.long()
    if boards.is_cuda or torch.compiler.is_compiling():
        logits, outcomes = forward(boards, hands, scalars)
        return masked_log_probs(logits, legal_mask(legal_bits)), played, outcomes
    labels, is_legal = legal_labels(legal_bits)
    logits, outcomes = forward(boards, hands, scalars, labels)
    # The first column with the label: beyond a row's own labels all are 0.
    column = (labels == played[:, None]).byte().argmax(1)
    return masked_log_probs(logits, is_legal), column, outcomes

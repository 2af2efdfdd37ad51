"""Loss and diagnostics of some rows of an update: what a gradient is computed from.

B: rows of the update. M: rows of the minibatch.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from keisei_ray.learning.ppo import (
    LossCoefs,
    PlayedPolicy,
    PPOSums,
    entropy_terms,
    masked_policy,
    ppo_sums,
)
from keisei_ray.network.listed_moves import can_list, list_moves, listed_log_probs
from keisei_ray.network.model import legal_mask, masked_log_probs

Forward = Callable[..., tuple[Tensor, Tensor]]
"""Boards, hands, scalars, and moves where they are listed -> logits and outcomes, see
`PolicyValueNet.forward`."""


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
    policy, outcomes = outputs_of(forward, fields, rows)
    return ppo_sums(
        policy,
        outcomes,
        fields["behavior_log_probs"][rows],
        fields["proximal_log_probs"][rows],
        fields["is_forced"][rows],
        fields["advantages"][rows],
        fields["value_targets"][rows],
        fields["draw_targets"][rows],
        coefs,
        is_counted,
    )


def outputs_of(
    forward: Forward, fields: Mapping[str, Tensor], rows: Tensor
) -> tuple[PlayedPolicy, Tensor]:
    """Computes the current policy and the outcome logits of some rows of an update.

    On a CPU from the logits of the legal moves, elsewhere from those of all labels: see
    `network/listed_moves.py`.

    Args:
        forward, fields, rows: as of `minibatch_sums`.
    """
    names = ("boards", "hands", "scalars", "legal_bits", "actions")
    boards, hands, scalars, legal_bits, actions = (fields[name][rows] for name in names)
    if not can_list(boards):
        logits, outcomes = forward(boards, hands, scalars)
        log_probs = masked_log_probs(logits, legal_mask(legal_bits))
        return masked_policy(log_probs, actions.long()), outcomes
    moves = list_moves(legal_bits)
    logits, outcomes = forward(boards, hands, scalars, moves)
    log_probs = listed_log_probs(logits, moves, len(rows))
    # True for one move of each row: `Rollout.validate` refuses a played move that is not legal.
    is_played = moves.labels == actions[moves.rows]
    entropies = outcomes.new_zeros(len(rows)).index_add(0, moves.rows, entropy_terms(log_probs))
    return PlayedPolicy(log_probs[is_played], entropies), outcomes

"""Loss and diagnostics of some rows of an update: what a gradient is computed from.

B: rows of the update. M: rows of the minibatch.
"""

from collections.abc import Callable, Mapping
from typing import Final

from torch import Tensor

from keisei_ray.learning.ppo import (
    LossCoefs,
    PlayedPolicy,
    PPOSums,
    entropy_terms,
    masked_policy,
    ppo_sums,
)
from keisei_ray.network.listed_moves import ListedMoves, can_list, list_moves, listed_log_probs
from keisei_ray.network.model import legal_mask, masked_log_probs

Forward = Callable[..., tuple[Tensor, Tensor]]
"""Boards, hands, scalars, and moves where they are listed -> logits and outcomes, see
`PolicyValueNet.forward`."""
LISTED_FIELDS: Final = ("boards", "hands", "scalars", "actions")
"""Fields of `BATCH_FIELDS` that `listed_outputs` reads."""


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
    return loss_of(policy, outcomes, fields, rows, coefs, is_counted)


def loss_of(
    policy: PlayedPolicy,
    outcomes: Tensor,
    fields: Mapping[str, Tensor],
    rows: Tensor,
    coefs: LossCoefs[float] | LossCoefs[Tensor],
    is_counted: Tensor | None = None,
) -> PPOSums[Tensor]:
    """Computes the loss of some rows and its diagnostics from the outputs of the network.

    Args:
        policy: the current policy, of M rows.
        outcomes: [M, 3] or [M, 1] float32 logits, see `PolicyValueNet.forward`.
        fields, rows, coefs, is_counted: as of `minibatch_sums`.
    """
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
    legal_bits = fields["legal_bits"][rows]
    if can_list(legal_bits):
        return listed_outputs(forward, fields, rows, list_moves(legal_bits))
    boards, hands, scalars, actions = (fields[name][rows] for name in LISTED_FIELDS)
    logits, outcomes = forward(boards, hands, scalars)
    log_probs = masked_log_probs(logits, legal_mask(legal_bits))
    return masked_policy(log_probs, actions.long()), outcomes


def listed_outputs(
    forward: Forward, fields: Mapping[str, Tensor], rows: Tensor, moves: ListedMoves
) -> tuple[PlayedPolicy, Tensor]:
    """Computes the current policy and the outcome logits by the logits of the legal moves alone.

    Args:
        forward, fields, rows: as of `minibatch_sums`.
        moves: the legal moves of these rows, as positions 0 to M - 1.
    """
    boards, hands, scalars, actions = (fields[name][rows] for name in LISTED_FIELDS)
    logits, outcomes = forward(boards, hands, scalars, moves)
    num_rows = rows.shape[0]  # Not `len`, which would be a constant in a recording.
    log_probs = listed_log_probs(logits, moves, num_rows)
    # True for one move of each row: `Rollout.validate` refuses a played move that is not legal.
    is_played = moves.labels == actions[moves.rows]
    entropies = outcomes.new_zeros(num_rows).index_add(0, moves.rows, entropy_terms(log_probs))
    return PlayedPolicy(log_probs[is_played], entropies), outcomes

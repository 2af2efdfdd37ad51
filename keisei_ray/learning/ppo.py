"""Proximal policy optimization: the loss of one minibatch and its diagnostics.

Pure functions of tensors. They return sums over rows, not means, so that a minibatch may be
processed in pieces; the caller divides by the number of rows of the whole minibatch.

B: rows. A: policy labels.

Source: Schulman et al. 2017, arXiv:1707.06347; details as in CleanRL's ppo.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from keisei_ray.network.model import DRAW, LOSS, WIN

MIN_LOG_PROB = -80.0
"""Moves with a lower log-probability are left out of the entropy.

Their probabilities are subnormal or zero. Computing them took a CPU 17 times as long, 9% of an
update of a 1x32 network."""


class PPOSums(NamedTuple):
    """Sums over rows; each is a float32 scalar. Only `loss` has a gradient."""

    loss: Tensor
    """policy_loss + vf_coef * value_loss - ent_coef * entropy."""
    policy_loss: Tensor
    """Negated clipped surrogate objective."""
    value_loss: Tensor
    """Cross-entropy of the outcome in nats, or half the squared error of a scalar head."""
    entropy: Tensor
    """Entropy of the policy over legal moves, in nats."""
    approx_kl: Tensor
    """Estimate of KL(behaviour policy || current policy), in nats."""
    clipped: Tensor
    """Number of rows whose ratio is outside [1 - clip_coef, 1 + clip_coef]."""


def ppo_sums(
    log_probs: Tensor,
    outcomes: Tensor,
    actions: Tensor,
    behavior_log_probs: Tensor,
    advantages: Tensor,
    value_targets: Tensor,
    draw_targets: Tensor,
    *,
    clip_coef: float,
    vf_coef: float,
    ent_coef: float,
) -> PPOSums:
    """Computes the clipped surrogate objective with value loss and entropy bonus.

    For each row, with advantage A:

        ratio       = exp(log_prob - behavior_log_prob)
        policy_loss = -min(ratio * A, clip(ratio, 1 - clip_coef, 1 + clip_coef) * A)
        value_loss  = -sum_k target(k) * log P(k),  k = win, draw, loss
                      or 0.5 * (value - value_target)^2 for a scalar head
        entropy     = -sum_a p(a) * log p(a),  a = legal moves
        approx_kl   = (ratio - 1) - log(ratio) >= 0
        loss        = policy_loss + vf_coef * value_loss - ent_coef * entropy

    approx_kl is the k3 estimator of KL(behaviour || current); source: J. Schulman 2020,
    http://joschu.net/blog/kl-approx.html. The value head's targets are

        target(win)  = (1 - draw_target + value_target) / 2
        target(loss) = (1 - draw_target - value_target) / 2
        target(draw) = draw_target

    Args:
        log_probs: [B, A] float32, masked log-probabilities of the current policy.
        outcomes: [B, 3] or [B, 1] float32, current logits, see `PolicyValueNet.forward`.
        actions: [B] int64, policy labels that were played.
        behavior_log_probs: [B] float32, from the weights that played.
        advantages: [B] float32, normalized or not.
        value_targets: [B] float32 in [-1, 1], P(win) - P(loss).
        draw_targets: [B] float32 in [0, 1], P(draw); not used for a scalar head.
        clip_coef: the ratio counts only within 1 - clip_coef .. 1 + clip_coef.
        vf_coef: weight of the value loss.
        ent_coef: weight of the entropy bonus.

    Returns:
        Sums over the B rows.
    """
    log_ratio = log_probs.gather(1, actions[:, None]).squeeze(1) - behavior_log_probs
    ratio = log_ratio.exp()
    clipped_ratio = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    policy_loss = -torch.minimum(ratio * advantages, clipped_ratio * advantages).sum()
    value_loss = _value_loss(outcomes, value_targets, draw_targets)
    probs = log_probs.clamp(min=MIN_LOG_PROB).exp()
    entropy = -(probs * log_probs).where(log_probs > MIN_LOG_PROB, 0.0).sum()
    with torch.no_grad():
        # expm1, because ratio - 1 loses all digits in float32 where the ratio is close to 1.
        approx_kl = (log_ratio.expm1() - log_ratio).sum()
        clipped = ((ratio - 1).abs() > clip_coef).float().sum()
    return PPOSums(
        loss=policy_loss + vf_coef * value_loss - ent_coef * entropy,
        policy_loss=policy_loss.detach(),
        value_loss=value_loss.detach(),
        entropy=entropy.detach(),
        approx_kl=approx_kl,
        clipped=clipped,
    )


def _value_loss(outcomes: Tensor, value_targets: Tensor, draw_targets: Tensor) -> Tensor:
    """Sum over rows of the value head's loss, see `ppo_sums`."""
    if outcomes.shape[1] == 1:
        return 0.5 * (torch.tanh(outcomes[:, 0]) - value_targets).square().sum()
    log_probs = functional.log_softmax(outcomes, 1)
    decided = 1 - draw_targets
    # |value_target| <= decided, except for rounding.
    win = (0.5 * (decided + value_targets)).clamp(min=0)
    loss = (0.5 * (decided - value_targets)).clamp(min=0)
    by_outcome = win * log_probs[:, WIN] + loss * log_probs[:, LOSS]
    return -(by_outcome + draw_targets * log_probs[:, DRAW]).sum()

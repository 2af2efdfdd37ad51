"""Proximal policy optimization: the loss of one minibatch and its diagnostics.

Pure functions of tensors. They return sums over rows, not means, so that a minibatch may be
processed in pieces; the caller divides by the number of rows of the whole minibatch.

B: rows. A: policy labels.

Source: Schulman et al. 2017, arXiv:1707.06347; details as in CleanRL's ppo.py.
"""

from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from keisei_ray.network.model import outcome_values

MIN_LOG_PROB = -80.0
"""Moves with a lower log-probability are left out of the entropy.

Their probabilities are subnormal or zero. Computing them took a CPU 17 times as long, 9% of an
update of a 1x32 network."""

MAX_SQUARED_KL = 1e15
"""Upper bound of a row's kl_proximal, in nats, before it is squared: squares stay finite."""

Number = TypeVar("Number")


class LossCoefs(NamedTuple, Generic[Number]):
    """Numbers of the loss that stay the same over the minibatches of an update.

    Plain ones, or scalars on the device.
    """

    clip_coef: Number
    """Bound of the policy ratio: it counts only within 1 - clip_coef .. 1 + clip_coef."""
    max_importance_weight: Number
    """Upper bound of a row's importance weight, >= 1."""
    mate_coef: Number
    """Weight of the mate loss."""
    vf_coef: Number
    """Weight of the value loss."""
    ent_coef: Number
    """Weight of the entropy bonus."""


class PlayedPolicy(NamedTuple):
    """The current policy, as far as the loss depends on it."""

    log_probs: Tensor
    """[B] float32, log-probability of the move that was played."""
    entropies: Tensor
    """[B] float32, entropy over the legal moves, in nats."""


class PPOSums(NamedTuple, Generic[Number]):
    """Sums over rows: float32 scalars, of which only `loss` has a gradient, or plain numbers.

    A row is *sampled* if the policy chose its ply, and a forced mate otherwise.
    """

    loss: Number
    """policy_loss + mate_coef * mate_loss + vf_coef * value_loss - ent_coef * entropy."""
    policy_loss: Number
    """Negated clipped surrogate objective of the sampled rows."""
    mate_loss: Number
    """Cross-entropy of the forced mates, in nats."""
    value_loss: Number
    """Cross-entropy of the outcome in nats, or half the squared error of a scalar head."""
    value_errors: Number
    """Value target minus value."""
    value_error_squares: Number
    """Squares of these errors."""
    entropy: Number
    """Entropy of the policy over legal moves, in nats."""
    kl_proximal: Number
    """Estimate of KL(proximal policy || current policy) on sampled rows, in nats."""
    kl_proximal_squares: Number
    """Sum of the squares of these estimates, in nats squared."""
    kl_behavior: Number
    """Estimate of KL(behavior policy || current policy) on sampled rows, in nats."""
    clipped: Number
    """Number of sampled rows whose ratio is outside [1 - clip_coef, 1 + clip_coef]."""
    truncated_weights: Number
    """Number of sampled rows whose importance weight was cut to max_importance_weight."""
    sampled: Number
    """Number of sampled rows."""


def masked_policy(log_probs: Tensor, actions: Tensor) -> PlayedPolicy:
    """Returns the policy of log-probabilities of all labels.

    Args:
        log_probs: [B, A] float32, see `masked_log_probs`.
        actions: [B] int64, policy labels that were played.
    """
    played = log_probs.gather(1, actions[:, None]).squeeze(1)
    return PlayedPolicy(played, entropy_terms(log_probs).sum(1))


def entropy_terms(log_probs: Tensor) -> Tensor:
    """Returns -p * log(p) for each log(p), 0 where p is next to nothing."""
    probs = log_probs.clamp(min=MIN_LOG_PROB).exp()
    return -(probs * log_probs).where(log_probs > MIN_LOG_PROB, 0.0)


def ppo_sums(
    policy: PlayedPolicy,
    outcomes: Tensor,
    behavior_log_probs: Tensor,
    proximal_log_probs: Tensor,
    is_forced: Tensor,
    advantages: Tensor,
    value_targets: Tensor,
    draw_targets: Tensor,
    coefs: LossCoefs[float] | LossCoefs[Tensor],
    is_counted: Tensor | None = None,
) -> PPOSums[Tensor]:
    """Computes the decoupled clipped objective with mate loss, value loss and entropy bonus.

    The behavior policy played the plies. The proximal policy is the learner's own at the start of
    the update; the policy lag is what it differs by from the behavior policy. The current policy is
    the one being updated. Its ratio is clipped against the proximal policy; an importance weight
    accounts for the policy lag. For each sampled row, with advantage A:

        ratio       = exp(log_prob - proximal_log_prob)
        weight      = min(exp(proximal_log_prob - behavior_log_prob), max_importance_weight)
        policy_loss = -weight * min(ratio * A, clip(ratio, 1 - clip_coef, 1 + clip_coef) * A)
        kl_proximal = (ratio - 1) - log(ratio) >= 0
        kl_behavior = the same with exp(log_prob - behavior_log_prob) as the ratio

    Without policy lag both policies are the same, every weight is 1, and this is PPO's loss.

    A forced mate was not sampled from any policy, so its ratio would say nothing: its only policy
    loss is the cross-entropy

        mate_loss   = -log_prob

    For every row:

        value_loss  = -sum_k target(k) * log P(k),  k = win, draw, loss
                      or 0.5 * (value - value_target)^2 for a scalar head
        entropy     = -sum_a p(a) * log p(a),  a = legal moves
        loss        = policy_loss + mate_coef * mate_loss + vf_coef * value_loss
                      - ent_coef * entropy

    Both KL estimates are the k3 estimator; source: J. Schulman 2020,
    http://joschu.net/blog/kl-approx.html. The value head's targets are

        target(win)  = (1 - draw_target + value_target) / 2
        target(loss) = (1 - draw_target - value_target) / 2
        target(draw) = draw_target

    Args:
        policy: the current policy.
        outcomes: [B, 3] or [B, 1] float32, current logits, see `PolicyValueNet.forward`.
        behavior_log_probs: [B] float32, from the weights that played.
        proximal_log_probs: [B] float32, from the learner's weights before the update.
        is_forced: [B] bool, the ply is a forced mate, see `Rollout.is_forced`.
        advantages: [B] float32, normalized or not.
        value_targets: [B] float32 in [-1, 1], P(win) - P(loss).
        draw_targets: [B] float32 in [0, 1], P(draw); not used for a scalar head.
        coefs: numbers of the loss.
        is_counted: [B] bool, rows that enter the sums. None: all.

    Returns:
        Sums over the rows that count.

    Source: Hilton, Cobbe and Schulman 2021, "Batch size-invariance for policy optimization",
    arXiv:2110.00641, section 3. The bound of the weight is that of Espeholt et al. 2018, IMPALA,
    arXiv:1802.01561.
    """
    log_prob, entropies = policy
    is_sampled = ~is_forced
    if is_counted is not None:
        is_sampled, is_forced = is_sampled & is_counted, is_forced & is_counted
    # 0 before the exponential, which overflows where a mate had next to no probability.
    log_ratio = (log_prob - proximal_log_probs).where(is_sampled, 0.0)
    ratio = log_ratio.exp()
    bounds = 1 - coefs.clip_coef, 1 + coefs.clip_coef
    clipped_ratio = ratio.clamp(*bounds)  # type: ignore[arg-type]  # Both are of one type.
    surrogate = torch.minimum(ratio * advantages, clipped_ratio * advantages)
    importance = (proximal_log_probs - behavior_log_probs).exp()
    weight = importance.clamp(max=coefs.max_importance_weight).where(is_sampled, 0.0)
    policy_loss = -(weight * surrogate).sum()
    mate_loss = -log_prob.where(is_forced, 0.0).sum()
    value_losses = _value_losses(outcomes, value_targets, draw_targets)
    errors = value_targets - outcome_values(outcomes.detach())[0]
    if is_counted is not None:
        value_losses = value_losses.where(is_counted, 0.0)
        errors = errors.where(is_counted, 0.0)
        entropies = entropies.where(is_counted, 0.0)
    value_loss = value_losses.sum()
    entropy = entropies.sum()
    # Not by `torch.no_grad`, which a recording (`recorded_passes.py`) would leave out.
    kl_proximal, kl_proximal_squares = kl_sums(log_ratio.detach())
    kl_behavior = k3(log_prob.detach() - behavior_log_probs).where(is_sampled, 0.0)
    clipped = (ratio.detach() - 1).abs() > coefs.clip_coef
    truncated = (importance > coefs.max_importance_weight) & is_sampled
    return PPOSums(
        loss=policy_loss
        + coefs.mate_coef * mate_loss
        + coefs.vf_coef * value_loss
        - coefs.ent_coef * entropy,
        policy_loss=policy_loss.detach(),
        mate_loss=mate_loss.detach(),
        value_loss=value_loss.detach(),
        value_errors=errors.sum(),
        value_error_squares=errors.square().sum(),
        entropy=entropy.detach(),
        kl_proximal=kl_proximal,
        kl_proximal_squares=kl_proximal_squares,
        kl_behavior=kl_behavior.sum(),
        clipped=clipped.float().sum(),
        truncated_weights=truncated.float().sum(),
        sampled=is_sampled.float().sum(),
    )


def k3(log_ratio: Tensor) -> Tensor:
    """Estimates the KL divergence from an old policy to a new one, for each sampled action.

    Args:
        log_ratio: log-probability by the new policy minus that by the old.
    """
    # expm1, because ratio - 1 loses all digits in float32 where the ratio is close to 1.
    return log_ratio.expm1() - log_ratio


def kl_sums(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the rows of the KL estimate `k3` and of its square.

    Args:
        log_ratio: [B] float32, as of `k3`; a 0 adds nothing to either sum.

    Returns:
        Two float32 scalars, in nats and in nats squared.
    """
    estimates = k3(log_ratio)
    return estimates.sum(), estimates.clamp(max=MAX_SQUARED_KL).square().sum()


def _value_losses(outcomes: Tensor, value_targets: Tensor, draw_targets: Tensor) -> Tensor:
    """[B] loss of the value head on each row, see `ppo_sums`."""
    if outcomes.shape[1] == 1:
        return 0.5 * (torch.tanh(outcomes[:, 0]) - value_targets).square()
    log_probs = functional.log_softmax(outcomes, 1)
    decided = 1 - draw_targets
    # |value_target| <= decided, except for rounding.
    win = (0.5 * (decided + value_targets)).clamp(min=0)
    loss = (0.5 * (decided - value_targets)).clamp(min=0)
    targets = torch.stack([win, draw_targets, loss], 1)  # In the order WIN, DRAW, LOSS.
    return -(targets * log_probs).sum(1)

"""A pull towards the policy that a run began with, through the advantages.

The gradient of the KL divergence from the policy p to a reference policy q is

    grad KL(p || q) = E_{a ~ p} [ (log p(a) - log q(a)) * grad log p(a) ]

since E[grad log p] = 0. So it is a policy gradient whose advantage is -(log p(a) - log q(a)), and

    A' = A - weight * (log p(a) - log q(a))

adds weight * KL(p || q) to what is minimized, within the clip range of PPO like everything else.
The loss itself does not change.

B: rows.
"""

from torch import Tensor


def anchored_advantages(
    advantages: Tensor,
    log_probs: Tensor,
    reference_log_probs: Tensor,
    is_forced: Tensor,
    weight: float,
) -> Tensor:
    """Returns advantages with the penalty on leaving the reference policy.

    Args:
        advantages: [B] float32; weight is in their unit per nat.
        log_probs: [B] log-probability of the action by the policy that drew it.
        reference_log_probs: [B] the same by the reference policy.
        is_forced: [B] bool, rows whose action no policy drew; their advantages stay.
        weight: at least 0.
    """
    penalty = weight * (log_probs - reference_log_probs)
    return advantages - penalty.where(~is_forced, 0.0)


def mean_divergence(log_probs: Tensor, reference_log_probs: Tensor, is_forced: Tensor) -> float:
    """Returns the mean of log p(a) - log q(a) over drawn actions: an estimate of KL(p || q), nats.

    0 where no action was drawn.
    """
    drawn = (~is_forced).sum().clamp(min=1)
    return float((log_probs - reference_log_probs).where(~is_forced, 0.0).sum() / drawn)

"""KL stop: when a minibatch shows that the update has changed the policy too much.

Pure functions of sums over the minibatch's rows; `Learner` undoes the step that led there.
"""

import torch
from torch import Tensor

KL_STOP_FACTOR = 1.5
"""An update ends early at the first minibatch for which

    least_mean(kl_proximal) > KL_STOP_FACTOR * target_kl

The factor is that of Stable-Baselines3."""


def is_beyond(
    kl_sum: Tensor, kl_squares: Tensor, num_rows: Tensor, target_kl: float | None
) -> Tensor:
    """Whether these rows show a larger change of the policy than the settings allow.

    Args:
        kl_sum: sum of kl_proximal over the sampled rows, in nats.
        kl_squares: sum of its squares, see `PPOSums`.
        num_rows: number of sampled rows.
        target_kl: `learner.target_kl`. None: everything is allowed.

    Returns:
        Bool scalar where the sums are. False where there are no rows or a sum is not a number.
    """
    if target_kl is None:
        return torch.zeros_like(kl_sum, dtype=torch.bool)
    return least_mean(kl_sum, kl_squares, num_rows) > KL_STOP_FACTOR * target_kl


def least_mean(total: Tensor, squares: Tensor, num_rows: Tensor) -> Tensor:
    """Mean less its standard error: what one row far above the others does not raise.

    For a move whose log-probability rose by x, kl_proximal is exp(x) - 1 - x. So a single move that
    was unlikely when it was played can put the mean of a minibatch above the limit, however little
    the policy changed elsewhere. Such a row raises the mean and its standard error alike.

    Args:
        total: scalar, sum over the rows.
        squares: scalar, sum of the rows' squares.
        num_rows: scalar, number of rows. 0: the result is NaN.

    Returns:
        float64 scalar.
    """
    n = num_rows.double()
    mean = total.double() / n
    variance = (squares.double() / n - mean.square()).clamp(min=0)
    return mean - (variance / n).sqrt()

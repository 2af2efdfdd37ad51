"""Generalized advantage estimation for two players who move in turn, with a zero-sum result.

Pure numpy functions on time-major arrays. Every reward and value is from the point of view of the
side to move at its own ply, so everything that is carried from one ply to the next changes sign.

T: plies of a rollout. N: games side by side.

Source: Schulman et al. 2016, arXiv:1506.02438; the sign change for alternating players is derived
in tests/unit/learning/test_advantages.py.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from keisei_ray.errors import RolloutFormatError

FloatTN = npt.NDArray[np.float32]
"""[T, N] float32."""
BoolTN = npt.NDArray[np.bool_]
"""[T, N] bool."""


def next_values(values: FloatTN, bootstrap_values: FloatTN, truncated: BoolTN) -> FloatTN:
    """Collects the value of the position after each ply, for the side then to move.

        v'_t = bootstrap_t     where truncated_t, and for t = T - 1
        v'_t = v_{t+1}         elsewhere

    Where the trajectory is cut (the game was truncated, or the rollout ends), the position after
    the ply is in no row. The actor evaluated it before it started a new game. The first position
    of the next game is never used for it.

    Args:
        values: [T, N] float32, value of the position before ply t.
        bootstrap_values: [T, N] float32, read only where `truncated` and in the
            last time slice.
        truncated: [T, N] bool, the ply cap ended the game at ply t.

    Returns:
        [T, N] float32. Where the game terminated at ply t, the entry is the first value of the next
        game; `generalized_advantages` ignores it.
    """
    following = np.empty_like(values)
    following[:-1] = np.where(truncated[:-1], bootstrap_values[:-1], values[1:])
    following[-1] = bootstrap_values[-1]
    return following


def fill_untrained(
    values: FloatTN,
    rewards: FloatTN,
    bootstrap_values: FloatTN,
    terminated: BoolTN,
    truncated: BoolTN,
    is_trained: BoolTN,
    *,
    gamma: float,
    sign: int,
) -> FloatTN:
    """Fills in values for plies that an opponent chose: the discounted value of the next position.

        v_t = r_t + sign * gamma * (1 - terminated_t) * v'_t     where not is_trained_t

    with v'_t as in `next_values`, computed backwards from t = T - 1. The opponent's ply then has no
    error of its own (delta_t = 0), so a result or a value that follows it reaches the learner's ply
    before it, with the right sign.

    Args:
        values: [T, N] float32; entries where not `is_trained` are not read.
        rewards: [T, N] float32, reward to the player who moved at ply t.
        bootstrap_values: [T, N] float32, see `next_values`.
        terminated: [T, N] bool, the rules ended the game at ply t.
        truncated: [T, N] bool, the ply cap ended the game at ply t.
        is_trained: [T, N] bool, the learner chose ply t.
        gamma: discount per ply, in [0, 1].
        sign: see `generalized_advantages`.

    Returns:
        [T, N] float32; `values` itself, not a copy, if every ply is trained.
    """
    if is_trained.all():
        return values
    filled = values.copy()
    following = np.zeros_like(values[0])
    for t in reversed(range(len(values))):
        is_cut = truncated[t] | (t == len(values) - 1)
        after = np.where(is_cut, bootstrap_values[t], following)
        led_to = rewards[t] + np.float32(sign * gamma) * np.where(terminated[t], 0, after)
        filled[t] = np.where(is_trained[t], values[t], led_to)
        following = filled[t]
    return filled


def generalized_advantages(
    rewards: FloatTN,
    values: FloatTN,
    next_values: FloatTN,
    terminated: BoolTN,
    done: BoolTN,
    *,
    gamma: float,
    gae_lambda: float,
    sign: int = -1,
) -> FloatTN:
    """Generalized advantage estimation for two alternating players.

    Rewards and values are from the point of view of the side to move, so the next ply's value and
    advantage change sign (sign = -1):

        delta_t = r_t + sign * gamma * (1 - terminated_t) * v'_t - v_t
        A_t     = delta_t + sign * gamma * gae_lambda * (1 - done_t) * A_{t+1},   A_T = 0

    The two masks differ: `terminated` stops the bootstrap; `done` (terminated or truncated) stops
    the carry, so that nothing leaks into the next game of the column.

    Example: a game won at its third ply, with v = 0 and gamma = gae_lambda = 1, has r = [0, 0, 1]
    and A = [1, -1, 1].

    Args:
        rewards: [T, N] float32, reward to the player who moved at ply t, in [-1, 1].
        values: [T, N] float32, value of the position before ply t.
        next_values: [T, N] float32, value of the position after ply t, *before* any
            auto-reset, for the side then to move. Ignored where `terminated`.
        terminated: [T, N] bool, the rules ended the game at ply t.
        done: [T, N] bool, the game ended at ply t for any reason.
        gamma: discount per ply, in [0, 1].
        gae_lambda: in [0, 1]; 0 is one-step TD, 1 is the full return.
        sign: factor on the next ply's value and advantage: -1 for a quantity that changes its sign
            with the side to move; 1 for one that is the same for both sides, such as the
            probability that the game has a winner.

    Returns:
        [T, N] float32 advantages, not normalized.

    Raises:
        RolloutFormatError: shapes differ, or `terminated` where not `done`.

    Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16.
    """
    arrays = {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": terminated,
        "done": done,
    }
    for name, array in arrays.items():
        if array.shape != rewards.shape or array.ndim != 2:
            raise RolloutFormatError(
                f"{name} has shape {array.shape}, expected [T, N] = {rewards.shape} like rewards."
            )
    if bool((terminated & ~done).any()):
        raise RolloutFormatError("terminated is set where done is not; done = terminated or cut.")
    bootstrap = np.where(terminated, np.float32(0), next_values)
    deltas = rewards + np.float32(sign * gamma) * bootstrap - values
    carry = np.where(done, np.float32(0), np.float32(sign * gamma * gae_lambda))
    advantages = np.empty_like(values)
    following = np.zeros_like(values[0])
    for t in reversed(range(len(values))):
        following = deltas[t] + carry[t] * following
        advantages[t] = following
    return advantages


def explained_variance(
    values: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    variance_of: Callable[[npt.NDArray[np.float32]], float] = lambda array: float(
        np.var(array, dtype=np.float64)
    ),
) -> float:
    """Share of the targets' variance that the values explain.

        1 - Var(targets - values) / Var(targets)

    Args:
        values: [B] float32, predictions.
        targets: [B] float32.
        variance_of: computes the variance of [B] float32; of several learners', over all of them.

    Returns:
        1 if the values are perfect, 0 if they are no better than a constant; may be negative. 0.0
        if the targets do not vary.
    """
    return explained_share(variance_of(targets - values), variance_of(targets))


def explained_share(error_variance: float, target_variance: float) -> float:
    """Share of the targets' variance that is not in the errors, see `explained_variance`."""
    return 1.0 - error_variance / target_variance if target_variance >= 1e-12 else 0.0

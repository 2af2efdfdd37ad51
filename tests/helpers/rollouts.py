"""Valid rollouts without a game: random fields that obey every rule of the record."""

from dataclasses import replace

import numpy as np

from keisei_ray.rollouts.rollout import NUM_ACTIONS, Rollout, RolloutHeader


def random_rollout(
    T: int, N: int, seed: int = 0, *, opponents_share: float = 0.0, **header: int
) -> Rollout:
    """Returns a valid rollout of random content with some terminated and some truncated plies.

    Positions are noise, not Shogi: whatever needs real games plays some.

    Args:
        opponents_share: about this share of the plies was played by an opponent.
    """
    rng = np.random.default_rng(seed)
    rollout = Rollout.allocate(T, N)
    rollout.boards[...] = rng.integers(0, 29, rollout.boards.shape)
    rollout.hands[...] = rng.integers(0, 3, rollout.hands.shape)
    rollout.scalars[...] = rng.integers(0, 4, rollout.scalars.shape)
    mask = rng.random((T, N, NUM_ACTIONS)) < 0.04
    rollout.actions[...] = rng.integers(0, NUM_ACTIONS, (T, N))
    np.put_along_axis(mask, rollout.actions[..., None].astype(np.int64), True, axis=2)
    rollout.legal_bits[...] = np.packbits(mask, axis=2)
    rollout.behavior_log_probs[...] = -rng.exponential(3.0, (T, N))
    rollout.values[...] = np.tanh(rng.normal(0, 0.5, (T, N)))
    end = rng.random((T, N))
    rollout.terminated[...] = end < 0.1
    rollout.truncated[...] = (end >= 0.1) & (end < 0.15)
    rollout.rewards[...] = np.where(rollout.terminated, rng.choice([-1, 0, 1], (T, N)), 0)
    rollout.bootstrap_values[...] = np.where(rollout.is_cut, rng.uniform(-1, 1, (T, N)), 0)
    chances = rng.random((T, N)) * (1 - np.abs(rollout.values))
    rollout.draw_probs[...] = chances
    chances = rng.random((T, N)) * (1 - np.abs(rollout.bootstrap_values))
    rollout.bootstrap_draw_probs[...] = np.where(rollout.is_cut, chances, 0)
    rollout.is_trained[...] = rng.random((T, N)) >= opponents_share
    for name in ("values", "draw_probs", "behavior_log_probs"):
        getattr(rollout, name)[~rollout.is_trained] = 0
    return rollout.with_header(replace(RolloutHeader(0, 0, 0, 0, T, N), **header))

"""Valid rollouts without a game: random fields that obey every rule of the record."""

from dataclasses import replace

import numpy as np

from keisei_ray.rollout import NUM_ACTIONS, Rollout, RolloutHeader


def random_rollout(T: int, N: int, seed: int = 0, **header: int) -> Rollout:
    """A valid rollout of random content with some terminated and some truncated plies.

    Positions are noise, not Shogi: whatever needs real games plays some.
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
    rollout.bootstrap_values[...] = np.where(rollout.cut, rng.uniform(-1, 1, (T, N)), 0)
    return rollout.with_header(replace(RolloutHeader(0, 0, 0, 0, T, N), **header))

"""Zero-sum GAE against closed forms and a double loop that follows one game at a time.

The sign: let A be the advantage seen by the mover of ply t, and zero-sum play. What the
opponent, who moves next, gains is what the mover loses, so the value and the advantage of ply
t + 1 enter with a minus: delta_t = r_t - gamma v_{t+1} - v_t and A_t = delta_t - gamma lambda
A_{t+1}. For two plies, lambda = gamma = 1, V = 0 and a win by the second: A_1 = 1, A_0 = -1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.errors import RolloutFormatError
from keisei_ray.learning.advantages import explained_variance, generalized_advantages, next_values


class Data(NamedTuple):
    """A rollout's columns as GAE sees them; all [T, N]."""

    rewards: np.ndarray
    values: np.ndarray
    bootstrap_values: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    def advantages(self, gamma: float, gae_lambda: float) -> np.ndarray:
        return generalized_advantages(
            self.rewards,
            self.values,
            next_values(self.values, self.bootstrap_values, self.truncated),
            self.terminated,
            self.terminated | self.truncated,
            gamma=gamma,
            gae_lambda=gae_lambda,
        )


def random_data(T: int, N: int, seed: int, end_share: float = 0.3) -> Data:
    rng = np.random.default_rng(seed)
    end = rng.random((T, N))
    terminated = end < end_share / 2
    truncated = (end < end_share) & ~terminated
    cut = truncated.copy()
    cut[-1] |= ~terminated[-1]
    return Data(
        np.where(terminated, rng.choice([-1, 0, 1], (T, N)), 0).astype(np.float32),
        rng.uniform(-1, 1, (T, N)).astype(np.float32),
        np.where(cut, rng.uniform(-1, 1, (T, N)), 0).astype(np.float32),
        terminated,
        truncated,
    )


def brute_force(data: Data, gamma: float, gae_lambda: float) -> np.ndarray:
    """For every ply, the weighted sum of later TD errors of its own game, in float64.

    A_t = sum_k (-gamma lambda)^k delta_{t+k}, up to the ply where the game or the rollout ends.
    """
    T, N = data.rewards.shape
    out = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                if data.terminated[k, n]:
                    after = 0.0
                elif data.truncated[k, n] or k == T - 1:
                    after = float(data.bootstrap_values[k, n])
                else:
                    after = float(data.values[k + 1, n])
                delta = float(data.rewards[k, n]) - gamma * after - float(data.values[k, n])
                out[t, n] += weight * delta
                if data.terminated[k, n] or data.truncated[k, n]:
                    break
                weight *= -gamma * gae_lambda
    return out


def column(values: Sequence[float], dtype: type = np.float32) -> np.ndarray:
    return np.array(values, dtype)[:, None]


def test_a_game_won_on_the_third_ply_gives_plus_minus_plus() -> None:
    data = Data(
        rewards=column([0, 0, 1]),
        values=column([0, 0, 0]),
        bootstrap_values=column([0, 0, 0]),
        terminated=column([0, 0, 1], bool),
        truncated=column([0, 0, 0], bool),
    )
    advantages = data.advantages(gamma=1.0, gae_lambda=1.0)
    assert advantages.shape == (3, 1)
    assert advantages.dtype == np.float32
    assert advantages[:, 0].tolist() == [1, -1, 1]


@settings(max_examples=150, deadline=None)
@given(
    T=st.integers(1, 12),
    N=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    end_share=st.sampled_from([0.0, 0.3, 0.9]),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
)
def test_the_recursion_equals_a_double_loop_over_games(
    T: int, N: int, seed: int, end_share: float, gamma: float, gae_lambda: float
) -> None:
    data = random_data(T, N, seed, end_share)
    advantages = data.advantages(gamma, gae_lambda)
    assert advantages.shape == (T, N)
    np.testing.assert_allclose(advantages, brute_force(data, gamma, gae_lambda), atol=2e-5)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_at_lambda_one_advantage_plus_value_is_the_discounted_outcome_for_each_mover(
    gamma: float,
) -> None:
    """For any values: the sum telescopes and only the result remains, seen by its side."""
    T, result = 7, -1.0  # The last mover walks into a perpetual check, say.
    values = np.random.default_rng(0).uniform(-1, 1, (T, 1)).astype(np.float32)
    data = Data(
        rewards=column([0] * (T - 1) + [result]),
        values=values,
        bootstrap_values=np.zeros((T, 1), np.float32),
        terminated=column([0] * (T - 1) + [1], bool),
        truncated=np.zeros((T, 1), bool),
    )
    plies_left = np.arange(T)[::-1]
    same_side_as_last = np.where(plies_left % 2 == 0, 1.0, -1.0)
    outcome = same_side_as_last * gamma**plies_left * result
    np.testing.assert_allclose((data.advantages(gamma, 1.0) + values)[:, 0], outcome, atol=1e-6)


def test_at_lambda_one_a_cut_game_returns_the_value_of_the_position_it_was_cut_at() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, (4, 1)).astype(np.float32)
    data = Data(
        rewards=np.zeros((4, 1), np.float32),
        values=values,
        bootstrap_values=column([0, 0.5, 0, -0.25]),
        terminated=np.zeros((4, 1), bool),
        truncated=column([0, 1, 0, 0], bool),
    )
    returns = (data.advantages(1.0, 1.0) + values)[:, 0]
    # Rows 0 and 1 are one game, cut where the side to move, row 0's, stands at +0.5.
    np.testing.assert_allclose(returns, [0.5, -0.5, -0.25, 0.25], atol=1e-6)


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_nothing_after_the_end_of_a_game_reaches_into_it(ending: str) -> None:
    data = random_data(10, 3, seed=5, end_share=0.0)
    getattr(data, ending)[4, 1] = True
    data.rewards[4, 1] = 1.0 if ending == "terminated" else 0.0
    data.bootstrap_values[4, 1] = 0.0 if ending == "terminated" else 0.3
    before = data.advantages(0.99, 0.9)
    rng = np.random.default_rng(6)
    for name in ("values", "rewards", "bootstrap_values"):
        getattr(data, name)[5:, 1] = rng.uniform(-1, 1, 5)
    after = data.advantages(0.99, 0.9)
    assert (before[5:, 1] != after[5:, 1]).all()
    after[5:, 1] = before[5:, 1]
    np.testing.assert_array_equal(before, after)


def test_a_game_does_not_reach_into_the_one_before_it() -> None:
    data = random_data(10, 1, seed=8, end_share=0.0)
    data.truncated[4, 0] = True
    before = data.advantages(0.99, 0.9)
    data.values[:5] *= 0.5
    data.bootstrap_values[4] = 0.9
    np.testing.assert_array_equal(before[5:], data.advantages(0.99, 0.9)[5:])


def test_games_side_by_side_do_not_touch() -> None:
    data = random_data(9, 3, seed=2)
    before = data.advantages(0.99, 0.9)
    for name in ("values", "rewards", "bootstrap_values"):
        getattr(data, name)[:, 1] = 0.7
    after = data.advantages(0.99, 0.9)
    np.testing.assert_array_equal(before[:, [0, 2]], after[:, [0, 2]])


def test_the_mated_sides_last_move_has_a_negative_advantage() -> None:
    """The loser does not play the last ply, so the result reaches it only by the carry."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        T = 6
        data = Data(
            rewards=column([0] * (T - 1) + [1]),
            values=rng.uniform(-0.5, 0.5, (T, 1)).astype(np.float32),
            bootstrap_values=np.zeros((T, 1), np.float32),
            terminated=column([0] * (T - 1) + [1], bool),
            truncated=np.zeros((T, 1), bool),
        )
        advantages = data.advantages(0.997, 0.95)[:, 0]
        assert advantages[-1] > 0
        assert advantages[-2] < 0


def test_a_correct_value_leaves_no_advantage() -> None:
    """The winner's positions are worth +gamma^k, the loser's -gamma^k: nothing to learn."""
    gamma = 0.9
    left = np.arange(5)[::-1]
    data = Data(
        rewards=column([0, 0, 0, 0, 1]),
        values=column(list((-1.0) ** left * gamma**left)),
        bootstrap_values=np.zeros((5, 1), np.float32),
        terminated=column([0, 0, 0, 0, 1], bool),
        truncated=np.zeros((5, 1), bool),
    )
    np.testing.assert_allclose(data.advantages(gamma, 0.95), 0, atol=1e-6)


def test_ends_that_contradict_each_other_are_refused() -> None:
    zeros = np.zeros((2, 2), np.float32)
    ended = np.ones((2, 2), bool)
    with pytest.raises(RolloutFormatError, match="terminated"):
        generalized_advantages(zeros, zeros, zeros, ended, ~ended, gamma=1, gae_lambda=1)


@pytest.mark.parametrize("place", range(5))
def test_arrays_of_different_shapes_are_refused(place: int) -> None:
    arrays: list[Any] = [np.zeros((3, 2), dtype) for dtype in (np.float32,) * 3 + (np.bool_,) * 2]
    arrays[place] = arrays[place].T.copy()
    with pytest.raises(RolloutFormatError, match="shape"):
        generalized_advantages(*arrays, gamma=1, gae_lambda=1)


def test_explained_variance_is_one_zero_or_negative() -> None:
    targets = np.array([1, -1, 1, -1], np.float32)
    assert explained_variance(targets, targets) == 1
    assert explained_variance(np.full(4, 0.3, np.float32), targets) == pytest.approx(0, abs=1e-6)
    assert explained_variance(-targets, targets) == pytest.approx(-3)
    assert explained_variance(targets, np.full(4, 0.5, np.float32)) == 0

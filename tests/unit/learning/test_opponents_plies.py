"""Plies that an opponent chose: what comes after them reaches the learner, and they are no rows.

The oracle is written for the learner's decisions alone. Let j be a ply of the learner's and m its
next one in the same game. What the learner's side gets between them is the reward of j's own ply
and, if an opponent's ply ended the game, that ply's reward, each with the sign of its mover; then
comes the value of the position at m, or of the one where the game was cut:

    delta_j = sum_i (-gamma)^(i - j) r_i + (-gamma)^(m - j) v_m - v_j
    A_j     = sum_k (-gamma lambda)^(k - j) delta_k, over the learner's plies from j on

With sign = 1 the minus before gamma is a plus.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.errors import EmptyUpdateError
from keisei_ray.learning.advantages import (
    explained_variance,
    fill_untrained,
    generalized_advantages,
    next_values,
)
from keisei_ray.learning.update_batch import COPIED_FIELDS, UpdateBatch
from keisei_ray.rollouts.rollout import Rollout
from tests.helpers.rollouts import random_rollout

T, N = 9, 4
DISCOUNTS: dict[str, Any] = {"gamma": 0.99, "gae_lambda": 0.9}


def advantages(rollout: Rollout, gamma: float, gae_lambda: float, sign: int = -1) -> np.ndarray:
    """[T, N] as the learner computes them."""
    values = fill_untrained(
        rollout.values,
        rollout.rewards,
        rollout.bootstrap_values,
        rollout.terminated,
        rollout.truncated,
        rollout.is_trained,
        gamma=gamma,
        sign=sign,
    )
    return generalized_advantages(
        rollout.rewards,
        values,
        next_values(values, rollout.bootstrap_values, rollout.truncated),
        rollout.terminated,
        rollout.terminated | rollout.truncated,
        gamma=gamma,
        gae_lambda=gae_lambda,
        sign=sign,
    )


def next_decision(rollout: Rollout, ply: int, game: int) -> tuple[list[float], float, int | None]:
    """From a ply on: rewards up to the learner's next ply, the value then, and that ply.

    The value is 0 after the end of a game; there is no next ply after an end or a cut.
    """
    last = rollout.header.T - 1
    rewards: list[float] = []
    while True:
        rewards.append(float(rollout.rewards[ply, game]))
        if rollout.terminated[ply, game]:
            return rewards, 0.0, None
        if rollout.truncated[ply, game] or ply == last:
            return rewards, float(rollout.bootstrap_values[ply, game]), None
        ply += 1
        if rollout.is_trained[ply, game]:
            return rewards, float(rollout.values[ply, game]), ply


def by_decisions(rollout: Rollout, gamma: float, gae_lambda: float, sign: int = -1) -> np.ndarray:
    """[T, N] float64, nan where an opponent moved."""
    out = np.full(rollout.rewards.shape, np.nan)
    step = sign * gamma
    for ply, game in np.argwhere(rollout.is_trained).tolist():
        total, now = 0.0, ply
        while True:
            rewards, after, following = next_decision(rollout, now, game)
            delta = sum(step**i * r for i, r in enumerate(rewards))
            delta += step ** len(rewards) * after - float(rollout.values[now, game])
            total += (step * gae_lambda) ** (now - ply) * delta
            if following is None:
                break
            now = following
        out[ply, game] = total
    return out


@settings(max_examples=150, deadline=None)
@given(
    plies=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    opponents_share=st.sampled_from([0.2, 0.5, 0.9]),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
    sign=st.sampled_from([-1, 1]),
)
def test_the_learners_advantages_are_those_of_its_own_decisions(
    plies: int, seed: int, opponents_share: float, gamma: float, gae_lambda: float, sign: int
) -> None:
    rollout = random_rollout(plies, N, seed, opponents_share=opponents_share)
    found = advantages(rollout, gamma, gae_lambda, sign)
    assert found.shape == (plies, N)
    assert found.dtype == np.float32
    trained = rollout.is_trained
    expected = by_decisions(rollout, gamma, gae_lambda, sign)
    np.testing.assert_allclose(found[trained], expected[trained], atol=2e-5)


def game(length: int, opponents: list[int]) -> Rollout:
    """One game over a whole rollout, not ended, all values 0."""
    rollout = random_rollout(length, 1)
    for name in ("values", "draw_probs", "rewards", "bootstrap_values", "bootstrap_draw_probs"):
        getattr(rollout, name)[:] = 0
    rollout.terminated[:] = False
    rollout.truncated[:] = False
    rollout.is_trained[opponents] = False
    rollout.behavior_log_probs[opponents] = 0
    return rollout


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_a_loss_on_the_opponents_move_reaches_the_learners_last_ply(gae_lambda: float) -> None:
    """Even at lambda = 0: the opponent's answer is part of the position that the move led to."""
    rollout = game(4, opponents=[1, 3])
    rollout.terminated[3] = True
    rollout.rewards[3] = 1
    rollout.values[:, 0] = [0.25, 0, 0.5, 0]
    rollout.validate()
    found = advantages(rollout, 0.9, gae_lambda)[:, 0]
    last = -0.9 - 0.5
    assert found[2] == pytest.approx(last, abs=1e-6)
    # Two plies on the same side moves again, so no sign changes.
    first = 0.81 * 0.5 - 0.25
    assert found[0] == pytest.approx(first + 0.81 * gae_lambda**2 * last, abs=1e-6)


def test_an_opponents_foul_is_the_learners_win() -> None:
    rollout = game(2, opponents=[1])
    rollout.terminated[1] = True
    rollout.rewards[1] = -1
    assert advantages(rollout, 1.0, 0.0)[:, 0].tolist() == [1, 0]


def test_a_game_cut_on_the_opponents_move_leaves_the_value_of_its_last_position() -> None:
    """After two plies the learner is to move again: its own value, discounted twice."""
    rollout = game(4, opponents=[1, 2])
    rollout.truncated[1] = True
    rollout.bootstrap_values[1] = 0.5
    rollout.values[3] = 0.75
    assert advantages(rollout, 0.9, 0.8)[0, 0] == pytest.approx(0.81 * 0.5)


def test_a_rollout_that_ends_right_after_the_learners_ply_looks_at_the_opponents_position() -> None:
    rollout = game(3, opponents=[1])
    rollout.bootstrap_values[2] = 0.5
    assert advantages(rollout, 0.9, 0.0)[2, 0] == pytest.approx(-0.45)


def test_a_rollout_may_begin_and_end_with_the_opponent() -> None:
    rollout = game(3, opponents=[0, 2])
    rollout.bootstrap_values[2] = 0.5
    assert advantages(rollout, 0.9, 0.0)[:, 0] == pytest.approx([0, 0.81 * 0.5, 0])


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_nothing_leaks_between_games_over_an_opponents_ply(ending: str) -> None:
    """For either side moving before and after the border of a rollout."""
    for opponents in ([3], [4], [3, 4], [2, 3, 4, 5]):
        rollout = game(8, opponents=opponents)
        getattr(rollout, ending)[3] = True
        rollout.values[rollout.is_trained] = 0.3
        before = advantages(rollout, 0.99, 0.9)
        rollout.values[4:][rollout.is_trained[4:]] = -0.6
        rollout.bootstrap_values[7] = 0.9
        after = advantages(rollout, 0.99, 0.9)
        np.testing.assert_array_equal(before[:4], after[:4])
        own = rollout.is_trained[4:]
        assert (before[4:][own] != after[4:][own]).all()
        rollout.values[:4][rollout.is_trained[:4]] = 0.1
        np.testing.assert_array_equal(advantages(rollout, 0.99, 0.9)[4:], after[4:])


def test_games_side_by_side_do_not_touch() -> None:
    rollout = random_rollout(T, N, seed=4, opponents_share=0.5)
    before = advantages(rollout, 0.99, 0.9)
    for name in ("values", "rewards", "bootstrap_values"):
        getattr(rollout, name)[:, 1] = 0.7
    rollout.is_trained[:, 1] ^= True
    after = advantages(rollout, 0.99, 0.9)
    np.testing.assert_array_equal(np.delete(before, 1, 1), np.delete(after, 1, 1))


def test_the_values_of_an_opponents_plies_are_not_read() -> None:
    rollout = random_rollout(T, N, seed=5, opponents_share=0.5)
    before = advantages(rollout, 0.99, 0.9)
    rollout.values[~rollout.is_trained] = np.nan
    np.testing.assert_array_equal(advantages(rollout, 0.99, 0.9), before)


def test_where_everything_is_trained_the_values_are_the_same_array() -> None:
    rollout = random_rollout(T, N)
    values = rollout.values
    filled = fill_untrained(
        values,
        rollout.rewards,
        rollout.bootstrap_values,
        rollout.terminated,
        rollout.truncated,
        rollout.is_trained,
        gamma=0.99,
        sign=-1,
    )
    assert filled is values


# Rows --------------------------------------------------------------------------------------

MIXED = [
    random_rollout(T, N, seed, opponents_share=share) for seed, share in enumerate((0.7, 0, 1))
]


def filled(rollouts: list[Rollout]) -> tuple[UpdateBatch, float]:
    batch = UpdateBatch(len(rollouts) * T * N, torch.device("cpu"))
    return batch, batch.fill(rollouts, **DISCOUNTS)


def test_the_learners_plies_and_no_others_are_rows_in_their_order() -> None:
    batch, explained = filled(MIXED)
    places = [
        (r, t, n)
        for r, rollout in enumerate(MIXED)
        for t in range(T)
        for n in range(N)
        if rollout.is_trained[t, n]
    ]
    assert T * N < len(places) < 2 * T * N
    assert (batch.rows, batch.timesteps) == (len(places), 3 * T * N)
    fields = batch.on_device()
    values = np.zeros(len(places), np.float32)
    for row, (r, t, n) in enumerate(places):
        rollout = MIXED[r]
        for name in COPIED_FIELDS:
            expected = getattr(rollout, name)[t, n]
            np.testing.assert_array_equal(fields[name][row].numpy(), expected)
        expected = by_decisions(rollout, **DISCOUNTS)[t, n]
        assert float(fields["advantages"][row]) == pytest.approx(expected, abs=2e-5)
        target = expected + float(rollout.values[t, n])
        assert float(fields["value_targets"][row]) == pytest.approx(target, abs=2e-5)
        values[row] = rollout.values[t, n]
    targets = fields["value_targets"][: batch.rows].numpy()
    assert explained == explained_variance(values, targets)


def test_normalization_is_over_the_learners_rows_only() -> None:
    batch, _ = filled([random_rollout(T, N, 7)])  # Leaves something behind the rows to come.
    mixed = random_rollout(T, N, 8, opponents_share=0.6)
    batch.fill([mixed], **DISCOUNTS)
    expected = by_decisions(mixed, **DISCOUNTS)[mixed.is_trained]
    batch.normalize_advantages()
    found = batch.on_device()["advantages"][: batch.rows].numpy()
    np.testing.assert_allclose(found, (expected - expected.mean()) / expected.std(), atol=1e-4)


def test_a_smaller_update_before_it_changes_nothing_of_a_full_one() -> None:
    fresh, _ = filled([MIXED[1]])
    used, _ = filled([MIXED[0]])
    used.fill([MIXED[1]], **DISCOUNTS)
    assert used.rows == fresh.rows == T * N
    for name, tensor in used.on_device().items():
        assert torch.equal(tensor, fresh.on_device()[name]), name


def test_an_update_without_a_ply_of_the_learners_is_an_error() -> None:
    with pytest.raises(EmptyUpdateError, match="36 timesteps and no ply of the learner's own"):
        filled([MIXED[2]])

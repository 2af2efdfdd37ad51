"""Win, draw and loss: the head's probabilities, their lambda-returns, and that they are learned.

The oracle follows three probabilities, seen by the side to move, back through one game. At the end
they are one-hot. One ply earlier win and loss change places, and gamma moves what it takes from
both to the draw. With two values of the position after a ply, what the network said of it (p) and
what came of it (G):

    G_t = step(lambda * G_{t+1} + (1 - lambda) * p_{t+1}),
    step(win, draw, loss) = (gamma * loss, 1 - gamma + gamma * draw, gamma * win)
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.sections import ModelConfig
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.update_batch import UpdateBatch
from keisei_ray.network.model import DRAW, LOSS, WIN, build_model, outcome_values
from keisei_ray.players.policies import network_outputs
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.rollout import Rollout
from tests.helpers.rollouts import random_rollout
from tests.helpers.tiny import packed, played, tiny_config

N = 4


def step_back(outcome: np.ndarray, gamma: float) -> np.ndarray:
    """(win, draw, loss) for the side that moves one ply earlier."""
    win, draw, loss = outcome
    return np.array([gamma * loss, 1 - gamma + gamma * draw, gamma * win])


def triple(value: float, draw: float) -> np.ndarray:
    """(win, draw, loss) of a value and a draw probability."""
    return np.array([(1 - draw + value) / 2, draw, (1 - draw - value) / 2])


def lambda_returns(rollout: Rollout, gamma: float, gae_lambda: float) -> np.ndarray:
    """[T, N, 3] float64, one ply of one game at a time.

    The value of an opponent's ply is that of the position it led to, one step back.
    """
    T, games = rollout.rewards.shape
    said, came = np.zeros((2, T, games, 3))
    for game in range(games):
        for t in reversed(range(T)):
            if rollout.terminated[t, game]:
                reward = int(rollout.rewards[t, game])
                led_to = came[t, game] = np.eye(3)[1 - reward]
            elif rollout.truncated[t, game] or t == T - 1:
                value, draw = (
                    rollout.bootstrap_values[t, game],
                    rollout.bootstrap_draw_probs[t, game],
                )
                led_to = came[t, game] = step_back(triple(float(value), float(draw)), gamma)
            else:
                led_to = step_back(said[t + 1, game], gamma)
                later = gae_lambda * came[t + 1, game] + (1 - gae_lambda) * said[t + 1, game]
                came[t, game] = step_back(later, gamma)
            if rollout.is_trained[t, game]:
                value, draw = rollout.values[t, game], rollout.draw_probs[t, game]
                said[t, game] = triple(float(value), float(draw))
            else:
                said[t, game] = led_to
    return came


def targets(rollout: Rollout, gamma: float, gae_lambda: float) -> tuple[np.ndarray, np.ndarray]:
    """Value and draw targets of the learner's rows."""
    batch = UpdateBatch(rollout.header.timesteps, torch.device("cpu"))
    batch.fill([rollout], gamma=gamma, gae_lambda=gae_lambda)
    fields = batch.on_device()
    rows = slice(batch.rows)
    return fields["value_targets"][rows].numpy(), fields["draw_targets"][rows].numpy()


@settings(max_examples=150, deadline=None)
@given(
    plies=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    opponents_share=st.sampled_from([0.0, 0.5]),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
)
def test_targets_are_the_lambda_returns_of_three_probabilities(
    plies: int, seed: int, opponents_share: float, gamma: float, gae_lambda: float
) -> None:
    rollout = random_rollout(plies, N, seed, opponents_share=opponents_share)
    rollout.is_trained[0, 0] = True
    expected = lambda_returns(rollout, gamma, gae_lambda)[rollout.is_trained]
    np.testing.assert_allclose(expected.sum(1), 1)
    assert expected.min() > -1e-3  # float16 draws may pass 1 - |value| a little.
    values, draws = targets(rollout, gamma, gae_lambda)
    assert values.shape == draws.shape == (len(expected),)
    np.testing.assert_allclose(values, expected[:, 0] - expected[:, 2], atol=2e-5)
    np.testing.assert_allclose(draws, expected[:, 1], atol=2e-5)


@pytest.mark.parametrize("result", [1, 0, -1])
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_at_lambda_one_targets_are_the_discounted_result_of_each_mover(
    gamma: float, result: int
) -> None:
    """For any values on the way: gamma^k for the side of the result, the rest is a draw."""
    T = 6
    rollout = random_rollout(T, 1, seed=2)
    rollout.terminated[:] = np.arange(T)[:, None] == T - 1
    rollout.truncated[:] = False
    rollout.rewards[:] = 0
    rollout.rewards[-1] = result
    left = np.arange(T)[::-1]
    values, draws = targets(rollout, gamma, 1.0)
    np.testing.assert_allclose(values, (-1.0) ** left * gamma**left * result, atol=1e-6)
    np.testing.assert_allclose(draws, 1 - gamma**left * abs(result), atol=1e-6)


@pytest.mark.parametrize("prior", [0.05, 0.0])
def test_probabilities_sum_to_one_and_the_value_is_wins_less_losses(prior: float) -> None:
    config = ModelConfig(depth=1, width=16, value_head="wdl", material_prior=prior)
    model = build_model(config, seed=0)
    with torch.no_grad():
        model.value_out.weight.mul_(50)
        rng = np.random.default_rng(0)
        boards = torch.from_numpy(rng.integers(0, 29, (64, 81), dtype=np.uint8))
        hands = torch.from_numpy(rng.integers(0, 3, (64, 14), dtype=np.uint8))
        scalars = torch.zeros(64, 3, dtype=torch.uint8)
        _, outcomes = model(boards, hands, scalars)
    assert outcomes.shape == (64, 3)
    exact = np.exp(outcomes.double().numpy())
    exact /= exact.sum(1, keepdims=True)
    values, draw_probs = network_outputs(model, boards.numpy(), hands.numpy(), scalars.numpy())[1:]
    np.testing.assert_allclose(values, exact[:, WIN] - exact[:, LOSS], atol=1e-6)
    np.testing.assert_allclose(draw_probs, exact[:, DRAW], atol=1e-6)
    assert values.std() > 0.05
    assert draw_probs.std() > 0.005


def test_outcomes_stand_in_the_order_of_their_names() -> None:
    certain = torch.diag(torch.full((3,), 50.0))
    values, draw_probs = outcome_values(certain)
    for outcome, value, draw in ((WIN, 1, 0), (DRAW, 0, 1), (LOSS, -1, 0)):
        assert float(values[outcome]) == pytest.approx(value, abs=1e-6)
        assert float(draw_probs[outcome]) == pytest.approx(draw, abs=1e-6)


def test_a_scalar_head_has_no_draw_probability() -> None:
    values, draw_probs = outcome_values(torch.tensor([[0.5], [-3.0]]))
    np.testing.assert_allclose(values, np.tanh([0.5, -3.0]), atol=1e-6)
    assert draw_probs.tolist() == [0, 0]


def test_where_no_draw_is_possible_both_heads_start_from_the_same_material_value() -> None:
    values = {}
    rng = np.random.default_rng(0)
    boards = rng.integers(0, 29, (8, 81), dtype=np.uint8)
    rest = np.zeros((8, 14), np.uint8), np.zeros((8, 3), np.uint8)
    for head in ("wdl", "scalar"):
        config = ModelConfig(depth=1, width=16, value_head=head, material_prior=0.05)
        model = build_model(config, seed=0)
        with torch.no_grad():
            model.value_out.weight.zero_()
            if head == "wdl":
                model.value_out.bias[DRAW] = -1e4
        values[head] = network_outputs(model, boards, *rest)[1]
    np.testing.assert_allclose(values["wdl"], values["scalar"], atol=1e-6)
    assert np.abs(values["scalar"]).max() > 0.2


def around_learning(result: int) -> tuple[Rollout, Rollout]:
    """Rollouts before and after learning from one-ply games that all end alike."""
    config = tiny_config(
        model={"value_head": "wdl", "material_prior": 0.0},
        learner={"learning_rate": 1e-2, "lr_schedule": "constant", "num_epochs": 4, "vf_coef": 1.0},
    )
    learner = Learner(config)
    before = unpack_rollout(played(config, learner))
    for update in range(8):
        rollout = unpack_rollout(played(config, learner))
        rollout.terminated[:] = True
        rollout.truncated[:] = False
        rollout.bootstrap_values[:] = 0
        rollout.bootstrap_draw_probs[:] = 0
        rollout.rewards[:] = result
        learner.update([packed(rollout)], update)
    return before, unpack_rollout(played(config, learner))


@pytest.mark.slow
@pytest.mark.parametrize(("result", "draws"), [(0, 1), (1, 0), (-1, 0)])
def test_how_games_end_is_learned(result: int, draws: bool) -> None:
    before, after = around_learning(result)
    assert before.draw_probs.max() < 0.15
    assert np.abs(before.values).max() < 0.2
    np.testing.assert_allclose(after.draw_probs.astype(np.float32), draws, atol=0.1)
    np.testing.assert_allclose(after.values, result, atol=0.1)

"""Acting networks: the moves that they sample, and that both kinds answer alike."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.errors import ConfigError
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.players.acting import (
    ActingNetwork,
    Chosen,
    DeviceActingNetwork,
    acting_device,
    acting_network,
    sample_masked,
)
from keisei_ray.players.policies import Ints, network_policy
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.tiny import tiny_config

A = 1496
NONE_FORCED = torch.full((1,), -1)


def model_with_opinions() -> PolicyValueNet:
    model = build_model(tiny_config().model, seed=0).eval()
    with torch.no_grad():
        model.value_out.weight.mul_(20)
        model.policy_head.weight.mul_(60)
    return model


def played_games(num_games: int, plies: int = 30) -> VectorGames:
    games = VectorGames(
        num_games, max_plies=300, rng_for_game=np.random.default_rng, random_opening_plies=9
    )
    rng = np.random.default_rng(0)
    for _ in range(plies):
        games.step(rng.integers(np.diff(games.legal_offsets)))
    return games


@pytest.mark.parametrize("count", [1, 2, 7, 80, 593])
def test_each_legal_label_gets_its_share_of_evenly_spaced_uniforms(count: int) -> None:
    """Its share of 2,000 uniforms is its probability, but for one at each end."""
    rng = np.random.default_rng(count)
    legal = np.sort(rng.choice(A, count, replace=False))
    logits = rng.normal(0, 2, A).astype(np.float32)
    mask = np.zeros(A, np.bool_)
    mask[legal] = True
    num = 2000
    uniforms = (np.arange(num) + 0.5) / num
    labels, log_probs = sample_masked(
        torch.from_numpy(logits).expand(num, A),
        torch.from_numpy(mask).expand(num, A),
        torch.from_numpy(uniforms),
        NONE_FORCED.expand(num),
    )
    exact = np.exp(logits[legal].astype(np.float64))
    exact /= exact.sum()
    found = np.bincount(labels.numpy(), minlength=A)
    assert found.sum() == found[legal].sum() == num
    np.testing.assert_allclose(found[legal], num * exact, atol=1)
    picked = np.searchsorted(legal, labels.numpy())
    np.testing.assert_allclose(log_probs.numpy(), np.log(exact[picked]), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.0, 1.0, 50.0, 1e4, 1e30]),
    count=st.sampled_from([1, 2, 30, 593]),
    uniform=st.sampled_from([0.0, 5e-324, 0.5, float(np.nextafter(1.0, 0.0)), 1.0])
    | st.floats(0, 1),
)
def test_a_sampled_label_is_always_legal(
    seed: int, scale: float, count: int, uniform: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy((rng.normal(0, 1, (4, A)) * scale).astype(np.float32))
    mask = torch.zeros(4, A, dtype=torch.bool)
    for row in mask:
        row[torch.from_numpy(rng.choice(A, count, replace=False))] = True
    labels, log_probs = sample_masked(
        logits, mask, torch.full((4,), uniform, dtype=torch.float64), NONE_FORCED.expand(4)
    )
    assert mask.gather(1, labels[:, None]).all()
    assert torch.isfinite(log_probs).all()
    assert (log_probs <= 1e-6).all()


def test_a_label_is_legal_where_the_cumulative_sum_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum computed in parallel may round differently from entry to entry."""
    real = torch.Tensor.cumsum
    rng = np.random.default_rng(1)
    noise = torch.from_numpy(rng.normal(0, 1e-3, (200, A)))

    def rough(tensor: torch.Tensor, dim: int) -> torch.Tensor:
        return real(tensor, dim) + noise

    monkeypatch.setattr(torch.Tensor, "cumsum", rough)
    mask = torch.from_numpy(rng.random((200, A)) < 0.02)
    labels, _ = sample_masked(
        torch.zeros(200, A), mask, torch.from_numpy(rng.random(200)), NONE_FORCED.expand(200)
    )
    assert mask.gather(1, labels[:, None]).all()


def answers(
    acting: ActingNetwork, games: VectorGames, lanes: Ints, forced: Ints | None = None
) -> Chosen:
    uniforms = np.random.default_rng(5).random(len(lanes))
    acting.begin(games, lanes, uniforms, forced)
    assert acting.wait()
    return acting.finish()


@pytest.mark.parametrize("lanes", [np.arange(8), np.array([1, 2, 6])], ids=["all", "some"])
def test_the_device_path_answers_as_the_cpu_path(lanes: Ints) -> None:
    """On the CPU, where both are the same network. Forced moves, so that choices are comparable."""
    games, model = played_games(8), model_with_opinions()
    device = DeviceActingNetwork(model, 8)
    for _ in range(2):
        forced = np.diff(games.legal_offsets)[lanes] - 1
        expected = answers(ActingNetwork(model), games, lanes, forced)
        found = answers(device, games, lanes, forced)
        np.testing.assert_array_equal(found.choices, forced)
        np.testing.assert_array_equal(expected.choices, forced)
        np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-5)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
        np.testing.assert_allclose(found.draw_probs, expected.draw_probs, atol=1e-6)
        assert expected.log_probs.std() > 0.1
        games.step(np.zeros(8, np.int64))


def test_the_device_path_samples_from_the_same_distribution() -> None:
    """The log-probability of each sampled move is what the CPU path gives the same move."""
    games, model = played_games(64), model_with_opinions()
    lanes = np.arange(64)
    found = answers(DeviceActingNetwork(model, 64), games, lanes)
    counts = np.diff(games.legal_offsets)
    assert ((found.choices >= 0) & (found.choices < counts)).all()
    assert len(set(found.choices.tolist())) > 10
    expected = answers(ActingNetwork(model), games, lanes, found.choices)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-5)


@pytest.mark.parametrize(
    ("num_rows", "num_asked", "computed"),
    [
        *((256, 1, 32), (256, 32, 32), (256, 33, 64), (256, 193, 224), (256, 256, 256)),
        *((100, 1, 16), (100, 17, 32), (100, 96, 96), (100, 97, 100)),
        (8, 3, 8),
    ],
)
def test_few_positions_are_computed_as_a_part_of_the_rows(
    num_rows: int, num_asked: int, computed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA graph is captured for each number of rows, so there are few of them."""
    games, model = played_games(num_rows, plies=0), model_with_opinions()
    acting = DeviceActingNetwork(model, num_rows)
    rows: list[int] = []
    real: Any = acting._answered

    def counted(sent: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        rows.append(len(sent))
        answered: torch.Tensor = real(sent, draws)
        return answered

    monkeypatch.setattr(acting, "_answered", counted)
    assert len(answers(acting, games, np.arange(num_asked)).choices) == num_asked
    assert rows == [computed]


def test_only_some_lanes_may_be_forced() -> None:
    games, model = played_games(8), model_with_opinions()
    lanes = np.arange(8)
    forced = np.where(lanes % 2 == 0, 3, -1)
    for acting in (ActingNetwork(model), DeviceActingNetwork(model, 8)):
        bound, free = answers(acting, games, lanes, forced), answers(acting, games, lanes)
        assert (bound.choices[::2] == 3).all()
        np.testing.assert_array_equal(bound.choices[1::2], free.choices[1::2])
        np.testing.assert_array_equal(bound.log_probs[1::2], free.log_probs[1::2])


def test_answers_stay_the_callers_when_the_next_positions_come() -> None:
    games, model = played_games(8), model_with_opinions()
    acting = DeviceActingNetwork(model, 8)
    first = answers(acting, games, np.arange(8))
    before = [part.copy() for part in first]
    games.step(first.choices)
    answers(acting, games, np.arange(8))
    for part, kept in zip(first, before, strict=True):
        np.testing.assert_array_equal(part, kept)


def test_outputs_that_are_not_finite_are_told() -> None:
    games, model = played_games(4), model_with_opinions()
    lanes = np.arange(4)
    for acting in (ActingNetwork(model), DeviceActingNetwork(model, 4)):
        acting.begin(games, lanes, np.zeros(4))
        assert acting.wait()
    with torch.no_grad():
        model.policy_head.weight[0] = torch.inf
    for acting in (ActingNetwork(model), DeviceActingNetwork(model, 4)):
        acting.begin(games, lanes, np.zeros(4))
        assert not acting.wait()


def test_both_kinds_value_positions_alike() -> None:
    games, model = played_games(6), model_with_opinions()
    positions = (games.boards, games.hands, games.scalars)
    expected = ActingNetwork(model).outcomes(*positions)
    found = DeviceActingNetwork(model, 2).outcomes(*positions)
    np.testing.assert_array_equal(found, expected)


def test_an_acting_network_samples_by_the_networks_policy() -> None:
    games, model = played_games(8), model_with_opinions()
    lanes, uniforms = np.arange(8), np.random.default_rng(5).random(8)
    acting = acting_network(model, 8)
    assert type(acting) is ActingNetwork
    acting.begin(games, lanes, uniforms)
    np.testing.assert_array_equal(
        acting.finish().choices,
        network_policy(model, temperature=1.0)(games, lanes, uniforms),
    )


def test_a_device_that_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert acting_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"self_play\.device = 'cuda'") as told:
        acting_device("cuda")
    assert "\n" not in str(told.value)

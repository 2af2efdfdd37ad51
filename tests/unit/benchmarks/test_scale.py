"""The simulation behind what docs/speed.md says of thousands of actors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import build_model
from tests.helpers.scripts import load_script

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "scripts" / "scale.py"


scale = load_script(SCRIPT)

EVEN: Any = scale.Setting(
    num_actors=16,
    rollouts_per_update=16,
    max_policy_lag=1,
    play_s=2.0,
    update_s=0.01,
    driver_s=0.0015,
    rollout_bytes=69_000,
    weights_bytes=1.26e6,
    bytes_per_s=1e9,
    jitter=0.0,
    num_updates=24,
)
"""Sixteen actors that play in step, and a learner that is always ahead of them."""


@pytest.mark.parametrize(
    "tightest",
    [
        {},
        {"update_s": 1.0},
        {"driver_s": 0.5},
        {"rollout_bytes": 1e9},
        {"num_actors": 64, "rollouts_per_update": 64, "update_s": 0.2},
        {"publish_s": 8.0},
        {"rollout_bytes": 1e9, "learner_nodes": 2},
        {"update_s": 0.1, "publish_s": 3.0},
        {"update_s": 0.1, "max_policy_lag": 0},
    ],
)
def test_without_jitter_the_rate_is_that_of_the_tightest_bottleneck(
    tightest: dict[str, float],
) -> None:
    s = replace(EVEN, **tightest)
    assert scale.simulate(s).timesteps_per_s == pytest.approx(scale.bound(s), rel=0.05)


@pytest.mark.parametrize(
    ("lag", "play_s", "publish_s", "seconds"),
    [
        (0, 6.0, 4.0, 18.0),  # One after the other.
        (1, 3.0, 4.0, 8.0),  # The learner is never idle, and packing costs nothing.
        (1, 6.0, 4.0, 9.0),  # Playing, learning and packing take two updates' time.
        (1, 12.0, 4.0, 12.0),  # The actors are never idle.
        (2, 6.0, 4.0, 8.0),
        (2, 6.0, 20.0, 20.0),  # Packing never ends, and the learner is one update ahead of it.
    ],
)
def test_packing_runs_beside_the_next_update(
    lag: int, play_s: float, publish_s: float, seconds: float
) -> None:
    s = replace(EVEN, max_policy_lag=lag, play_s=play_s, update_s=8 / 16, publish_s=publish_s)
    expected = 16 * s.plies_per_rollout / seconds
    assert scale.simulate(s).timesteps_per_s == pytest.approx(expected, rel=0.03)
    assert scale.bound(s) == pytest.approx(expected, rel=0.03)


def test_weights_reach_the_actors_only_when_they_are_packed() -> None:
    s = replace(EVEN, max_policy_lag=0, publish_s=4.0, num_updates=4)
    out = scale.simulate(s)
    assert out.packing_busy == pytest.approx(4 / (2 + 16 * 0.01 + 4), rel=0.02)
    assert out.actors_busy == pytest.approx(2 / (2 + 16 * 0.01 + 4), rel=0.02)


@pytest.mark.parametrize(
    ("play_s", "rollouts", "update_s", "publish_s", "measured"),
    [(2.0, 8, 0.2, 0.0, 6.36), (2.0, 16, 0.4, 0.0, 7.83), (1.0, 16, 2.5, 2.0, 5.55)],
)
def test_it_foretells_what_the_real_driver_did(
    play_s: float, rollouts: int, update_s: float, publish_s: float, measured: float
) -> None:
    """Sixteen actors, +- 10% a rollout: see benchmarks/results/driver-load-2cpu.json."""
    s = replace(
        EVEN, play_s=play_s, rollouts_per_update=rollouts, update_s=update_s / rollouts,
        publish_s=publish_s, jitter=0.1,
    )  # fmt: skip
    rate = scale.simulate(replace(s, num_updates=60)).timesteps_per_s / scale.PLIES_PER_ROLLOUT
    assert rate == pytest.approx(measured, rel=0.03)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(0, 3),
    st.floats(0.001, 1.0),
    st.floats(0.0, 8.0),
    st.sampled_from([0.0, 5.0, 200.0]),
    st.integers(0, 9),
)
def test_nothing_is_lost_but_what_died_and_the_lag_is_bounded(
    actors: int,
    rollouts: int,
    lag: int,
    update_s: float,
    publish_s: float,
    losses: float,
    seed: int,
) -> None:
    s = replace(
        EVEN, num_actors=actors, rollouts_per_update=rollouts, max_policy_lag=lag, seed=seed,
        update_s=update_s, publish_s=publish_s, losses_per_actor_hour=losses, jitter=0.3,
        restart_s=5.0,
    )  # fmt: skip
    out = scale.simulate(s)
    assert out.produced == out.consumed + out.waiting
    assert out.consumed >= s.num_updates * rollouts  # More where more would be too old.
    assert out.lag_max <= lag
    assert 0 <= out.lag_mean <= lag
    assert (out.lost > 0) <= (losses > 0)
    assert out.timesteps_per_s <= 1.5 * scale.bound(s)  # Few updates, much jitter.
    for share in (out.learner_busy, out.packing_busy, out.driver_busy):
        assert 0 <= share <= 1 + 1e-9


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    s = replace(EVEN, jitter=0.2)
    assert scale.simulate(s) == scale.simulate(s)
    assert scale.simulate(s) != scale.simulate(replace(s, seed=2))


def test_losing_actors_costs_speed() -> None:
    rates = [
        scale.simulate(replace(EVEN, losses_per_actor_hour=losses, num_updates=60)).timesteps_per_s
        for losses in (0.0, 20.0, 200.0)
    ]
    assert rates[0] > rates[1] > rates[2]


@pytest.mark.parametrize("shape", [(4, 64), (10, 128)])
def test_the_number_of_parameters_is_close_to_the_real_one(shape: tuple[int, int]) -> None:
    depth, width = shape
    config = ModelConfig(
        depth=depth, width=width, value_hidden=width, attackers=False, origins=False
    )
    real = sum(p.numel() for p in build_model(config, seed=1, amp="off").parameters())
    assert real <= scale.Network(*shape).num_parameters <= 1.08 * real


@pytest.mark.parametrize("shape", list(scale.GPU_RATES))
def test_one_gpu_acts_and_learns_in_turn(shape: tuple[int, int]) -> None:
    network = scale.Network(*shape)
    s = scale.gpus_setting(1, network, epochs=4)
    in_turn = 1 / (1 / network.gpu.acting + 4 / network.gpu.learning)
    assert s.plies_per_rollout / s.update_s == pytest.approx(in_turn)
    assert 0.7 * in_turn < scale.simulate(s).timesteps_per_s < 1.01 * in_turn


@pytest.mark.parametrize("shape", list(scale.GPU_RATES))
@pytest.mark.parametrize("num_gpus", [2, 8, 64])
def test_several_gpus_are_divided_so_that_none_would_help_more_elsewhere(
    shape: tuple[int, int], num_gpus: int
) -> None:
    network = scale.Network(*shape)
    s = scale.gpus_setting(num_gpus, network, epochs=4)
    rates = [scale._divided_rate(num_gpus, network, 4, learners) for learners in range(1, num_gpus)]
    assert s.num_learners == 1 + rates.index(max(rates))
    assert s.num_actors <= scale.MAX_ACTORS_PER_GPU * (num_gpus - s.num_learners)
    assert s.rollouts_per_update >= s.num_learners


@pytest.mark.parametrize("shape", [(10, 128), (20, 256)])
def test_packing_holds_up_eight_gpus_at_a_lag_of_one_and_not_of_two(
    shape: tuple[int, int],
) -> None:
    s = scale.gpus_setting(8, scale.Network(*shape), epochs=4)
    for lag, is_held_up in ((1, True), (2, False)):
        run = replace(s, max_policy_lag=lag)
        rate = scale.simulate(run).timesteps_per_s
        without = scale.simulate(replace(run, publish_s=0.0)).timesteps_per_s
        assert (rate < 0.85 * without) == is_held_up
        assert (rate > 0.95 * without) != is_held_up


def test_learners_on_two_nodes_receive_twice_as_fast() -> None:
    assert EVEN.arrival_s == pytest.approx(69_000 / 1e9)
    assert replace(EVEN, learner_nodes=2).arrival_s == pytest.approx(69_000 / 2e9)


def test_learners_lose_what_the_sum_of_gradients_takes() -> None:
    network = scale.Network(10, 128)
    rates = [scale.learner_rate(network, learners) / learners for learners in (1, 2, 8, 64)]
    assert rates[0] == network.gpu.learning
    assert rates == sorted(rates, reverse=True)
    # Seven eighths of twice the float32 gradient, 200 GB/s, beside a step of 2,048 rows.
    ring_s = 2 * 7 / 8 * 4 * network.num_parameters / 200e9
    assert rates[2] == pytest.approx(2048 / (2048 / network.gpu.learning + ring_s))

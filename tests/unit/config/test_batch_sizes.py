"""Sizes of batches: the knee of a measured curve, and the settings that follow from it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.batch_sizes import (
    KNEE,
    MIN_PLIES,
    BatchRates,
    knee,
    minibatch_rows,
    sizes_to_try,
    tuned,
)
from keisei_ray.config.schema import Config
from keisei_ray.distributed.node_rates import measured_rates
from tests.helpers.tiny import tiny_config

RISING = {8: 1000.0, 16: 1800.0, 32: 2700.0, 64: 2950.0, 128: 3000.0, 256: 2400.0}
"""Plies/s that rise to a knee at 64 and fall where the activations leave the cache."""


def resolved(**sections: Any) -> Config:
    return resolve_auto(Config.model_validate(sections), 2, 1)


def test_the_knee_of_a_known_curve_is_found() -> None:
    assert knee(RISING) == 64


@given(st.dictionaries(st.integers(1, 4096), st.floats(1, 1e6), min_size=1))
def test_no_smaller_size_is_about_as_fast(rates: dict[int, float]) -> None:
    chosen, best = knee(rates), max(rates.values())
    assert rates[chosen] >= KNEE * best
    assert all(rate < KNEE * best for size, rate in rates.items() if size < chosen)


def test_sizes_are_bounded_and_keep_the_plies_of_a_rollout() -> None:
    config = resolved(
        self_play={"num_actors": 2, "device": "cpu"},
        learner={"device": "cpu", "num_threads": 2},
    )
    games, rows = sizes_to_try(config)
    assert games == [8, 16, 32, 64, 128]
    assert max(rows) * 2 == minibatch_rows(config)
    for n in games:
        chosen, _ = tuned(config, BatchRates({n: 1.0}, {rows[0]: 1.0}))
        assert chosen.self_play.games_per_actor == n
        assert chosen.timesteps_per_update == config.timesteps_per_update
        assert chosen.learner.micro_batch == rows[0]


def test_a_rollout_keeps_some_plies() -> None:
    config = resolved(
        self_play={"num_actors": 2, "device": "cpu", "rollout_length": 12, "games_per_actor": 32}
    )
    games, _ = sizes_to_try(config)
    assert games == [8, 16, 32]  # 64 games of 6 plies are too short.
    assert MIN_PLIES == 8


def test_on_gpus_nothing_is_measured() -> None:
    config = resolved(self_play={"device": "cuda", "num_actors": 1}, learner={"device": "cuda"})
    assert sizes_to_try(config) == ([], [])
    same, told = tuned(config, BatchRates({}, {}))
    assert same == config
    assert told == "schedule.tune_batch has chosen nothing, sizes on GPUs are set by hand"


def test_the_choice_is_told_with_the_curve() -> None:
    config = resolved(self_play={"num_actors": 2, "device": "cpu"}, learner={"device": "cpu"})
    _, told = tuned(config, BatchRates({8: 900.0, 64: 2950.4}, {}))
    assert told == (
        "schedule.tune_batch has chosen self_play.games_per_actor=64 rollout_length=16 "
        "(8: 900, 64: 2,950 plies/s of an actor)"
    )


def test_pretraining_plays_nothing_and_tunes_its_learner() -> None:
    config = resolved(pretrain={"records": ["games"]}, learner={"device": "cpu"})
    games, rows = sizes_to_try(config)
    assert not games
    assert rows


@pytest.mark.slow
def test_every_size_is_measured_by_what_plays_and_learns() -> None:
    rates = measured_rates(tiny_config(), [2, 4], [4, 8])
    assert list(rates.playing) == [2, 4]
    assert list(rates.learning) == [4, 8]
    assert all(rate > 0 for rate in (*rates.playing.values(), *rates.learning.values()))

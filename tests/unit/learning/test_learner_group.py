"""Several learners make the same update as one, up to float error, and stay equal to each other.

The learners are processes that add up over gloo. A run is 12 updates of five rollouts of real
self-play: half of them a version old, one with no row of the learner's own, one damaged.
"""

import gc
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import pytest
import torch

from keisei_ray.config.schema import Config
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.learner_group import LearnerGroup
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.telemetry.reports import UpdateReport
from tests.helpers.learner_groups import (
    Trained,
    Updates,
    processes,
    share,
    train,
    train_together,
    without_times,
)
from tests.helpers.tiny import N, T, packed, tiny_config

pytestmark = pytest.mark.slow

NUM_UPDATES = 12
R = 5
DAMAGED, UNTRAINED = 3, 7
"""Updates with a rollout that is damaged, and with one that has no row to train on."""


def group_config(*, run: dict[str, object] | None = None, **learner: object) -> Config:
    return tiny_config(
        run=run or {},
        self_play={"num_actors": R},
        # Smooth: with ReLU, float error now and then decides which side of its kink a number is on.
        model={"width": 8, "activation": "silu"},
        schedule={"mode": "overlap", "rollouts_per_update": R, "max_policy_lag": 1},
        learner={"num_minibatches": 4} | learner,
    )


CONFIG = group_config(target_kl=0.02, learning_rate=1e-2, adam_eps=1e-3)
"""The KL stop ends some of the updates and not others. With the default epsilon, Adam would make
steps of the learning rate out of gradients that are float error."""
TOO_LARGE = group_config(learning_rate=3e38, lr_schedule="constant")


def untrained(buffer: np.ndarray) -> np.ndarray:
    """The same plies, all of them an opponent's."""
    rollout = unpack_rollout(buffer)
    nothing = ("values", "draw_probs", "behavior_log_probs", "is_trained", "is_forced")
    zeros = {name: np.zeros_like(getattr(rollout, name)) for name in nothing}
    return packed(replace(rollout, **zeros))


@pytest.fixture(scope="module")
def updates() -> Updates:
    """The rollouts of a run, which a single learner has made with them as it goes."""
    learner = Learner(CONFIG)
    actors = [SelfPlay(CONFIG, actor_id, 0) for actor_id in range(R)]
    for actor in actors:
        actor.set_weights(learner.weights())
    made: list[list[np.ndarray]] = []
    for number in range(NUM_UPDATES):
        for actor in actors[number % 2 :: 2]:  # The others play on with the weights before.
            actor.set_weights(learner.weights())
        rollouts = [actor.collect()[1].copy() for actor in actors]
        if number == UNTRAINED:
            rollouts[0] = untrained(rollouts[0])
        learner.update(rollouts, number * R * T * N)
        if number == DAMAGED:
            made.append([*rollouts[:-1], rollouts[-1][:-5]])
        made.append(rollouts)
    del actors, actor
    gc.collect()  # Games must be freed by the thread that made them, not by one of gradients.
    return made


@pytest.fixture(scope="module")
def alone(updates: Updates) -> Trained:
    return train(CONFIG, updates)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with processes(3) as started:
        yield started


def assert_same_report(one: UpdateReport, together: UpdateReport) -> None:
    values = asdict(without_times(together))
    for name, expected in asdict(without_times(one)).items():
        found = values[name]
        if isinstance(expected, float):
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-5, nan_ok=True), name
        else:
            assert found == expected, name


@pytest.mark.parametrize("size", [2, 3])
def test_several_learners_make_the_updates_of_one(
    size: int, updates: Updates, alone: Trained, pool: Pool, tmp_path: Path
) -> None:
    trained = train_together(pool, size, tmp_path / "store", CONFIG, updates)
    undone = [r.steps_undone for r in alone.reports if isinstance(r, UpdateReport)]
    assert len(undone) == NUM_UPDATES
    assert {0, 1} == set(undone)  # Some of the updates meet the KL stop.
    for rank, learner in enumerate(trained):
        for one, together in zip(alone.reports, learner.reports, strict=True):
            if isinstance(one, dict):  # The learner that was given the damaged rollout names it.
                assert one.keys() == {R - 1}
                last = len(share(range(R), LearnerGroup(rank, size))) - 1  # type: ignore[arg-type]
                assert isinstance(together, dict)
                assert together.keys() == ({last} if rank == size - 1 else set())
            else:
                assert isinstance(together, UpdateReport)
                assert_same_report(one, together)
        for name, weights in alone.weights.items():
            np.testing.assert_allclose(learner.weights[name], weights, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(learner.weights[name], trained[0].weights[name])
        assert torch.equal(learner.generator, alone.generator)


def test_the_divergence_from_the_start_is_that_of_all_learners_rows(
    updates: Updates, pool: Pool, tmp_path: Path
) -> None:
    run: dict[str, object] = {"init_from": "x", "total_timesteps": 10**6}
    config = group_config(run=run, adam_eps=1e-3, kl_start_coef=0.1, kl_start_until=1.0)
    some = updates[:3]
    one = train(config, some)
    together = train_together(pool, 2, tmp_path / "store", config, some)
    for learner in together:
        for expected, found in zip(one.reports, learner.reports, strict=True):
            assert isinstance(expected, UpdateReport)
            assert isinstance(found, UpdateReport)
            assert expected.kl_start is not None
            assert found.kl_start == pytest.approx(expected.kl_start, rel=1e-3, abs=1e-5)
    assert max(abs(report.kl_start) for report in one.reports) > 1e-3  # type: ignore[union-attr, arg-type]


def test_an_update_that_is_not_finite_is_undone_by_all(
    updates: Updates, pool: Pool, tmp_path: Path
) -> None:
    before = {name: array.copy() for name, array in train(TOO_LARGE, []).weights.items()}
    for learner in train_together(pool, 2, tmp_path / "store", TOO_LARGE, updates[:1]):
        [report] = learner.reports
        assert isinstance(report, UpdateReport)
        assert report.undone is not None
        assert math.isnan(report.policy_loss)
        for name, weights in before.items():
            np.testing.assert_array_equal(learner.weights[name], weights)

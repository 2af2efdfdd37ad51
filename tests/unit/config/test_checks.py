"""Settings that do not fit each other, or have no effect, are refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from keisei_ray.config import checks
from tests.helpers.setting_values import make_config

LEAVE_OUT = "Leave out one of the two."


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"learner": {"num_minibatches": 7}},
            ["learner.num_minibatches = 7", "1024 timesteps", "32 plies x 32 games", "e.g. 8"],
        ),
        (
            {
                "self_play": {"games_per_actor": 3, "rollout_length": 5},
                "schedule": {"rollouts_per_update": 2},
                "learner": {"num_minibatches": 4},
            },
            ["update's 30 timesteps", "2 rollouts x 5 plies x 3 games", "e.g. 3"],
        ),
        (
            {"schedule": {"mode": "lockstep", "rollouts_per_update": 3}},
            ["schedule.rollouts_per_update = 3", "self_play.num_actors = 2"],
        ),
        (
            {"schedule": {"mode": "lockstep", "max_policy_lag": 2}},
            ["schedule.max_policy_lag = 2 has no effect: schedule.mode = lockstep", LEAVE_OUT],
        ),
        (
            {"schedule": {"mode": "lockstep"}, "self_play": {"num_actors": "auto"}},
            ["self_play.num_actors = auto does not go with schedule.mode = lockstep"],
        ),
        (
            {"self_play": {"num_actors": "auto", "device": "cuda"}},
            ["self_play.num_actors = auto does not go with self_play.device = cuda"],
        ),
        (
            {"pool": {"share": 0.5, "snapshot_interval_timesteps": None}},
            ["pool.share = 0.5", "pool.members", "pool.snapshot_interval_timesteps"],
        ),
        (
            {"self_play": {"max_plies": 24}},
            ["self_play.random_opening_plies = 24", "self_play.max_plies = 24"],
        ),
        (
            {"checkpoint": {"interval_timesteps": 100, "keep_every_timesteps": 99}},
            ["checkpoint.keep_every_timesteps = 99", "checkpoint.interval_timesteps = 100"],
        ),
        (
            {"checkpoint": {"keep_best": 2}},
            ["checkpoint.keep_best = 2", "evaluation.interval_timesteps = 50000, expected a mul"],
        ),
        (
            {
                "checkpoint": {"interval_timesteps": 100, "keep_best": 2},
                "evaluation": {"interval_timesteps": 150},
            },
            ["evaluation.interval_timesteps = 150", "checkpoint.interval_timesteps = 100"],
        ),
        (
            {"cluster": {"address": "10.0.0.1:6379", "num_cpus": 4}},
            [
                "cluster.num_cpus = 4 has no effect: cluster.address = 10.0.0.1:6379 joins",
                LEAVE_OUT,
            ],
        ),
        (
            {
                "schedule": {"rollouts_per_update": 1},
                "learner": {"num_minibatches": 512, "num_threads": 3},
            },
            ["learner.num_threads = 3", "2 rows of a minibatch"],
        ),
        (
            {"schedule": {"rollouts_per_update": 2}, "learner": {"num_learners": 3}},
            ["learner.num_learners = 3 exceeds the 2 rollouts of an update", "fewer learners"],
        ),
        (
            {"schedule": {"mode": "lockstep"}, "learner": {"num_learners": 3}},
            ["learner.num_learners = 3 exceeds the 2 rollouts", "self_play.num_actors in lockstep"],
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(
    sections: dict[str, dict[str, object]], words: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        make_config(**sections)
    for word in words:
        assert word in str(caught.value)


def test_timesteps_that_only_divide_with_all_rollouts_are_accepted_once_their_number_is_known() -> (
    None
):
    play = {"games_per_actor": 3, "rollout_length": 5}
    with pytest.raises(ValidationError):
        make_config(self_play=play, learner={"num_minibatches": 4})
    known = make_config(
        self_play=play, learner={"num_minibatches": 4}, schedule={"rollouts_per_update": 4}
    )
    assert known.timesteps_per_update == 60


def test_limits_that_join_a_cluster_are_allowed_for_one_started_here() -> None:
    assert make_config(cluster={"address": "local", "num_cpus": 4}).cluster.num_cpus == 4


def test_a_rate_that_follows_a_policy_does_not_go_with_records() -> None:
    learner = {"lr_schedule": "adaptive"}
    make_config(learner=learner)
    with pytest.raises(ValidationError, match=r"adaptive does not go with pretrain\.records"):
        make_config(pretrain={"records": ["x"]}, learner=learner)


def test_readers_of_records_are_a_fixed_number() -> None:
    with pytest.raises(ValidationError, match=r"does not go with pretrain\.records"):
        make_config(pretrain={"records": ["x"]}, self_play={"num_actors": "auto"})


@given(number=st.integers(1, 3000), wanted=st.integers(1, 4000))
def test_the_divisor_that_is_suggested_is_the_nearest(number: int, wanted: int) -> None:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    assert checks._nearest_divisor(number, wanted) == min(divisors, key=lambda d: abs(d - wanted))


def test_an_update_of_any_size_is_refused_at_once() -> None:
    """All numbers up to the update's timesteps were once tried."""
    with pytest.raises(ValidationError, match=r"Use a divisor, e\.g\. 16\."):
        make_config(
            schedule={"mode": "overlap", "rollouts_per_update": 2**60},
            learner={"num_minibatches": 10**12 + 16},
        )

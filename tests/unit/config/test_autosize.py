"""Choices left to the hardware."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from tests.helpers.setting_values import make_config


@pytest.mark.parametrize(
    ("sections", "num_cpus", "num_gpus", "expected"),
    [
        # 2 x 2048 rows reach the least of 4096; two actors need one rollout each two updates.
        ({}, 2, 0, (2, "cpu", "off", 2)),
        # One CUDA device: bf16, and one thread whatever the CPUs.
        ({}, 64, 1, (2, "cuda", "bf16", 1)),
        # 32 actors on 2 CPUs: only two play at a time.
        ({"self_play": {"num_actors": 32}}, 2, 0, (2, "cpu", "off", 2)),
        # 32 actors on 64 CPUs, lag 1: half of them per update; threads stop at 16.
        ({"self_play": {"num_actors": 32}}, 64, 0, (32, "cpu", "off", 16)),
        # No lag: a whole round per update.
        (
            {"self_play": {"num_actors": 31}, "schedule": {"max_policy_lag": 0}},
            64,
            0,
            (31, "cpu", "off", 16),
        ),
        # Lockstep: exactly one rollout of each actor, however small.
        (
            {
                "self_play": {"num_actors": 3, "games_per_actor": 2, "rollout_length": 2},
                "schedule": {"mode": "lockstep"},
                "learner": {"num_minibatches": 6},
            },
            16,
            0,
            (3, "cpu", "off", 2),
        ),
        # What was chosen stays.
        (
            {
                "schedule": {"rollouts_per_update": 5},
                "learner": {"device": "cpu", "amp": "bf16", "num_threads": 3},
            },
            8,
            4,
            (5, "cpu", "bf16", 3),
        ),
        ({}, 0, 0, (2, "cpu", "off", 1)),
    ],
)
def test_what_is_left_to_the_hardware(
    sections: dict[str, dict[str, object]],
    num_cpus: int,
    num_gpus: int,
    expected: tuple[int, str, str, int],
) -> None:
    config = resolve_auto(make_config(**sections), num_cpus, num_gpus)
    learner = config.learner
    assert (
        config.effective_rollouts_per_update,
        learner.device,
        learner.amp,
        learner.num_threads,
    ) == expected


def test_a_resolved_lockstep_config_can_be_resumed_with_other_actors() -> None:
    resolved = resolve_auto(make_config(schedule={"mode": "lockstep"}), 4, 0)
    values = resolved.model_dump()
    values["self_play"]["num_actors"] = 5
    assert Config.model_validate(values).effective_rollouts_per_update == 5


@settings(deadline=None)
@given(
    num_actors=st.integers(1, 300),
    games=st.integers(1, 40),
    length=st.integers(1, 40),
    parts=st.integers(1, 40),
    lag=st.integers(0, 4),
    num_cpus=st.integers(0, 300),
    num_gpus=st.integers(0, 2),
)
def test_resolving_twice_changes_nothing_and_leaves_nothing_open(
    num_actors: int,
    games: int,
    length: int,
    parts: int,
    lag: int,
    num_cpus: int,
    num_gpus: int,
) -> None:
    config = make_config(
        self_play={"num_actors": num_actors, "games_per_actor": games, "rollout_length": length},
        schedule={"max_policy_lag": lag},
        learner={"num_minibatches": parts if games * length % parts == 0 else 1},
    )
    once = resolve_auto(config, num_cpus, num_gpus)
    assert resolve_auto(once, num_cpus, num_gpus) == once
    assert resolve_auto(once, 999, num_gpus) == once
    assert once.timesteps_per_update >= 4096
    assert once.timesteps_per_update % once.learner.num_minibatches == 0
    assert "auto" not in (once.learner.device, once.learner.amp)
    assert once.learner.num_threads is not None


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"learner\.device = 'cuda'"):
        resolve_auto(make_config(learner={"device": "cuda"}), 8, 0)

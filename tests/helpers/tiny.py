"""A training configuration small enough for one test, and rollouts of that size."""

from typing import Any

import numpy as np
import torch

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.learning.learner import Learner
from keisei_ray.rollouts.packed_rollout import pack_rollout
from keisei_ray.rollouts.rollout import Rollout
from keisei_ray.selfplay.self_play import SelfPlay

# As in the learner and its actors. On matrices this small, threads mostly wait for each other.
torch.set_num_threads(1)

T, N = 8, 4


def tiny_config(**sections: dict[str, Any]) -> Config:
    """Returns settings of one actor in lockstep, T = 8, N = 4, a 1x16 network on one thread.

    Args:
        sections: settings that differ, by section.
    """
    values: dict[str, dict[str, Any]] = {
        "run": {"seed": 3, "total_timesteps": 10_000},
        "self_play": {
            "num_actors": 1,
            "games_per_actor": N,
            "rollout_length": T,
            "max_plies": 60,
            "random_opening_plies": 4,
        },
        "model": {
            "depth": 1,
            "width": 16,
            "value_hidden": 8,
            "value_head": "wdl",
            "attackers": True,
        },
        "learner": {
            "device": "cpu",
            "amp": "off",
            "compile": "off",  # On CUDA it would take most of a test's time.
            "num_threads": 1,
            "num_epochs": 2,
            "num_minibatches": 2,
            "target_kl": None,
        },
        "schedule": {"mode": "lockstep"},
        "evaluation": {"interval_timesteps": None},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return resolve_auto(Config.model_validate(values), num_cpus=1, num_gpus=0)


def played(config: Config, learner: Learner, *, actor_id: int = 0) -> np.ndarray:
    """Returns a packed rollout that a new actor plays with the learner's weights."""
    self_play = SelfPlay(config, actor_id, 0)
    self_play.set_weights(learner.weights())
    return self_play.collect()[1]


def packed(rollout: Rollout) -> np.ndarray:
    """Returns a rollout as it travels."""
    return pack_rollout(rollout, zstd_level=1)

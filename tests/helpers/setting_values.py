"""Values of settings for tests: one for every setting, and configurations made of a few."""

from collections.abc import Mapping
from typing import Any

from keisei_ray.config.schema import Config

NOT_DEFAULT: dict[str, Any] = {
    "run.run_dir": "runs/2026",
    "run.seed": 7,
    "run.total_timesteps": 1_000_000,
    "run.resume": "latest",
    "self_play.num_actors": 3,
    "self_play.games_per_actor": 16,
    "self_play.rollout_length": 20,
    "self_play.max_plies": 256,
    "self_play.random_opening_plies": 0,
    "self_play.finish_mates": False,
    "self_play.start_positions": ["4k4/9/4P4/9/9/9/9/9/4K4 b G2r2b 1"],
    "self_play.amp": "off",
    "self_play.device": "cpu",
    "self_play.num_gpus": 0.125,
    "pool.share": 0.5,
    "pool.members": ["greedy", "usi:engine --flag"],
    "pool.snapshot_interval_timesteps": 20_000,
    "pool.max_snapshots": 3,
    "pool.networks_per_actor": 1,
    "pool.pfsp": "even",
    "pool.pfsp_power": 1.0,
    "pool.scripted_share": 0.25,
    "model.depth": 3,
    "model.width": 32,
    "model.activation": "silu",
    "model.squeeze_excitation": True,
    "model.value_hidden": 16,
    "model.value_head": "scalar",
    "model.attackers": True,
    "model.material_prior": 0.1,
    "learner.learning_rate": 1e-05,
    "learner.lr_schedule": "cosine",
    "learner.lr_adaptive_kl": 0.05,
    "learner.lr_final_fraction": 0.0,
    "learner.gamma": 1.0,
    "learner.gae_lambda": 0.9,
    "learner.clip_coef": 0.1,
    "learner.max_importance_weight": 1.5,
    "learner.mate_coef": 0.5,
    "learner.ent_coef": 0.0,
    "learner.ent_final_fraction": 0.1,
    "learner.vf_coef": 1.0,
    "learner.max_grad_norm": 0.5,
    "learner.num_epochs": 3,
    "learner.num_minibatches": 2,
    "learner.target_kl": None,
    "learner.normalize_advantages": False,
    "learner.micro_batch": 64,
    "learner.weight_decay": 1e-4,
    "learner.adam_eps": 1e-8,
    "learner.amp": "off",
    "learner.compile": "off",
    "learner.device": "cpu",
    "learner.num_gpus": 0.25,
    "learner.num_learners": 2,
    "learner.num_threads": 2,
    "schedule.mode": "lockstep",
    "schedule.max_actors": 3,
    "schedule.rollouts_per_update": 3,
    "schedule.max_policy_lag": 0,
    "schedule.actor_threads": 2,
    "wire.zstd_level": 3,
    "wire.weights_format": "half",
    "checkpoint.interval_timesteps": 50_000,
    "checkpoint.keep_last": 5,
    "checkpoint.keep_every_timesteps": 100_000,
    "checkpoint.keep_best": 2,
    "checkpoint.upload_timeout_s": 30.0,
    "evaluation.interval_timesteps": 100_000,
    "evaluation.max_cpu_share": 0.5,
    "evaluation.num_games": 64,
    "evaluation.opponents": ["greedy", "checkpoint:runs/x", "usi:engine --fast"],
    "evaluation.finishing": False,
    "evaluation.max_plies": 512,
    "evaluation.temperature": 0.5,
    "evaluation.num_cpus": 1.0,
    "evaluation.finish_timeout_s": 0.0,
    "cluster.address": "local",
    "cluster.num_cpus": 4,
    "cluster.num_gpus": 0,
    "cluster.object_store_bytes": 200_000_000,
    "cluster.dashboard": True,
    "cluster.dashboard_port": 9000,
    "cluster.wait_for_nodes_s": 30.0,
    "cluster.start_timeout_s": 30.5,
    "cluster.call_timeout_s": 60.0,
    "cluster.max_actor_deaths": 0,
    "cluster.death_window_s": 1.0,
    "tracking.view": "none",
    "tracking.log_level": "DEBUG",
    "tracking.tensorboard": True,
    "tracking.ray_metrics": False,
    "tracking.subscribers": ["package.module:callable", {"entropy-log": {"every": 10}}],
    "tracking.save_moves": False,
    "tracking.wandb": "offline",
    "tracking.wandb_project": "shogi",
    "tracking.wandb_entity": "somebody",
    "tracking.wandb_group": "seeds",
    "tracking.wandb_name": "first",
    "tracking.wandb_tags": ["4x64", "lockstep"],
    "tracking.close_timeout_s": 5.0,
    "profile.updates": 2,
    "profile.first_update": 5,
}
"""Every setting with a valid value that is not its default."""


def nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns dotted settings as a tree: section -> name -> value."""
    tree: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    return tree


def make_config(**sections: Mapping[str, object]) -> Config:
    """Returns a valid configuration with these settings, e.g. `learner={"gamma": 1.0}`.

    Raises:
        ValidationError: they are not valid.
    """
    return Config.model_validate(sections)

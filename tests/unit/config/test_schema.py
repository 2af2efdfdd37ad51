"""The configuration tree: what importing it loads, its defaults, the sizes that follow from it."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from tests.helpers.setting_values import make_config


def test_importing_the_configuration_brings_in_neither_torch_nor_ray() -> None:
    code = (
        "import sys; import keisei_ray.config.schema, keisei_ray.config.resolver; "
        "import keisei_ray.telemetry.progress; "
        "assert not {'torch', 'ray', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_defaults_pass_their_own_validation() -> None:
    assert Config.model_validate(Config().model_dump()) == Config()


def test_a_config_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(ValidationError):
        config.learner.gamma = 0.5
    with pytest.raises(ValidationError):
        config.learner = config.learner


def test_derived_sizes() -> None:
    config = make_config(self_play={"num_actors": 3, "games_per_actor": 8, "rollout_length": 12})
    assert config.timesteps_per_rollout == 96
    with pytest.raises(ConfigError, match=r"schedule\.rollouts_per_update"):
        _ = config.timesteps_per_update
    lockstep = config.model_copy(
        update={"schedule": config.schedule.model_copy(update={"mode": "lockstep"})}
    )
    assert lockstep.timesteps_per_update == 288
    assert (config.effective_max_lag, lockstep.effective_max_lag) == (1, 0)

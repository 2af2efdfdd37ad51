"""Results of a sweep as files."""

from pathlib import Path

import pytest

from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.tune.results import config_yaml, of_trials
from keisei_ray.tune.sweep_file import TRIAL_DEFAULTS
from tests.helpers.setting_values import NOT_DEFAULT, nested


@pytest.mark.parametrize("changed", [False, True])
def test_the_best_configuration_is_a_file_that_gives_it_back(changed: bool, tmp_path: Path) -> None:
    """Every setting, in a value that is not its default; and text that YAML could misread."""
    values = {k: v for k, v in NOT_DEFAULT.items() if not k.startswith("run.r")}
    odd = nested(values | {"tracking.wandb_name": "1e5", "tracking.wandb_group": "off"})
    config = Config.model_validate(odd) if changed else Config()
    path = tmp_path / "best.yaml"
    path.write_text("# a title\n" + config_yaml(config), encoding="utf-8")
    assert resolve_config(str(path), {}, [], {}) == config


def test_the_best_configuration_has_no_setting_that_only_a_trial_has(tmp_path: Path) -> None:
    trial = {"run.total_timesteps": 1000, "learner.gamma": 0.5} | TRIAL_DEFAULTS
    config = Config.model_validate(nested(trial))
    path = tmp_path / "best.yaml"
    path.write_text(config_yaml(config, left_out=of_trials(config)), encoding="utf-8")
    best, usual = resolve_config(str(path), {}, [], {}), Config()
    assert best.learner.gamma == 0.5
    assert best.run.total_timesteps == usual.run.total_timesteps
    assert best.evaluation == usual.evaluation
    searched = Config.model_validate(nested(trial | {"evaluation.interval_timesteps": 500}))
    assert of_trials(searched) == {"run.total_timesteps"}

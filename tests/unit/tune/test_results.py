"""Results of a sweep as files."""

from pathlib import Path

import pytest

from keisei_ray.config.resolver import resolve_config
from keisei_ray.config.schema import Config
from keisei_ray.tune.results import config_yaml
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

"""Settings read back from a run directory of another version."""

import json
from typing import Any

from keisei_ray.config.schema import Config
from keisei_ray.status.records import config_from


def test_a_setting_that_this_version_refuses_gets_its_default() -> None:
    values: dict[str, Any] = json.loads(Config().model_dump_json())
    values["run"]["total_timesteps"] = 77
    values["learner"]["gone"] = 1
    values["learner"]["gamma"] = "high"
    values["former_section"] = {"x": 1}
    found = config_from(values)
    assert found is not None
    assert (found.run.total_timesteps, found.learner.gamma) == (77, Config().learner.gamma)
    values["self_play"]["random_opening_plies"] = 10_000
    assert config_from(values) is None

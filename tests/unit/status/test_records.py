"""Settings read back from a run directory of another version."""

import json
from typing import Any

from keisei_ray.config.schema import Config
from keisei_ray.status.records import config_from, metrics_from
from keisei_ray.storage.json_lines import Record
from tests.helpers.run_events import fake_metrics, record


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


def test_a_metric_that_an_older_program_did_not_write_is_undefined() -> None:
    older: Record = record(3)
    del older["entropy"], older["wait_time_s"]
    assert metrics_from(older) is None  # wait_time_s may not be undefined.
    older["wait_time_s"] = 1.0
    assert metrics_from(older) == fake_metrics(3, entropy=None)


def test_a_record_without_the_counts_is_no_metrics() -> None:
    assert metrics_from({}) is None
    assert metrics_from({"timestep": 1, "entropy": 2.0}) is None

"""Settings read back from a run directory of another version."""

import json
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.status.records import config_from, event_from, metrics_from
from keisei_ray.storage.json_lines import Record
from tests.helpers.run_events import fake_metrics, record
from tests.helpers.status_runs import ended_at, event_at


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


@pytest.mark.parametrize(
    "record",
    [
        event_at(1, "update_finished", metrics={}, sample_board="not a board"),
        event_at(1, "ratings_fitted", ratings=[], timestep=1),
        event_at(1, "evaluation_finished", result={}),
        ended_at(1, "done") | {"timestep": -1},
        ended_at(1, "done") | {"wall_time_s": float("inf")},
        event_at(1, "checkpoint_saved", path="x", timestep=-5),
    ],
    ids=lambda record: str(record["kind"]),
)
def test_a_record_that_no_run_writes_is_no_event(record: dict[str, object]) -> None:
    assert event_from(record) is None

"""A run that leaves its schedule open: what it chooses is what happens, and it says why."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.training.session import train

pytestmark = pytest.mark.ray

ROLLOUT = 2048


def records(run_dir: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / name).read_text().splitlines()]


def test_many_actors_on_two_cores_become_two_in_lockstep(cluster: Cluster, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    config = Config.model_validate(
        {
            "run": {"run_dir": str(run_dir), "total_timesteps": 2 * ROLLOUT},
            "self_play": {"num_actors": 32, "games_per_actor": 128, "rollout_length": 16},
            "model": {"depth": 1, "width": 16, "value_hidden": 8},
            "learner": {"num_epochs": 1},
            "tracking": {"view": "none"},
        }
    )
    train(config, Console(quiet=True), cluster=cluster)
    effective = Config.model_validate_json((run_dir / "config.json").read_text())
    assert (effective.schedule.mode, effective.schedule.max_actors) == ("lockstep", 2)
    events = records(run_dir, "events.jsonl")
    notices = [event["message"] for event in events if event["kind"] == "notice"]
    assert (
        "schedule: lockstep, because self-play and learning share the cores, 2 of them" in notices
    )
    assert "2 of 32 actors are started (schedule.max_actors 2)" in notices
    # Each actor that is started is in the data, and there is no other.
    ready = [event["actor_id"] for event in events if event["kind"] == "actor_ready"]
    assert sorted(ready) == [0, 1]
    (update,) = records(run_dir, "metrics.jsonl")
    assert (update["timestep"], update["actors_alive"], update["policy_lag_max"]) == (
        2 * ROLLOUT, 2, 0,
    )  # fmt: skip
    assert update["batch_timesteps"] == 2 * ROLLOUT

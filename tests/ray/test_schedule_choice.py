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


@pytest.mark.long
def test_a_fresh_run_measures_its_batch_sizes_and_a_resumed_one_keeps_them(
    cluster: Cluster, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    settings: dict[str, Any] = {
        "run": {"run_dir": str(run_dir), "total_timesteps": ROLLOUT // 2},
        "self_play": {"num_actors": 1, "games_per_actor": 32, "rollout_length": 16},
        "model": {"depth": 1, "width": 16, "value_hidden": 8},
        "learner": {"num_epochs": 1, "num_minibatches": 2},
        "schedule": {"mode": "lockstep", "tune_batch": True},
        "tracking": {"view": "none"},
    }
    train(Config.model_validate(settings), Console(quiet=True), cluster=cluster)
    effective = Config.model_validate_json((run_dir / "config.json").read_text())
    play = effective.self_play
    assert effective.timesteps_per_rollout == 32 * 16
    (told,) = notices_of_tuning(run_dir)
    assert f"games_per_actor={play.games_per_actor} rollout_length={play.rollout_length} " in told
    assert f"learner.micro_batch={effective.learner.micro_batch} " in told
    updates = records(run_dir, "metrics.jsonl")
    assert [update["batch_timesteps"] for update in updates] == [512, 512]

    resumed = effective.model_dump()
    resumed["run"].update(resume="latest", total_timesteps=ROLLOUT)
    train(Config.model_validate(resumed), Console(quiet=True), cluster=cluster)
    assert Config.model_validate_json((run_dir / "config.json").read_text()).self_play == play
    assert notices_of_tuning(run_dir) == [told]
    assert records(run_dir, "metrics.jsonl")[-1]["timestep"] == ROLLOUT


def notices_of_tuning(run_dir: Path) -> list[str]:
    events = records(run_dir, "events.jsonl")
    messages = [event["message"] for event in events if event["kind"] == "notice"]
    return [message for message in messages if message.startswith("schedule.tune_batch")]

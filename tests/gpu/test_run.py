"""A real run whose self-play and learner share a GPU."""

import json
import os
from pathlib import Path

import pytest

from tests.helpers.program import DEBUG_CONFIG, json_records, run_program

pytestmark = pytest.mark.ray

DEVICE = os.environ.get("GPU_TESTS_DEVICE", "cuda")


def test_a_run_plays_and_learns_on_the_device(tmp_path: Path) -> None:
    settings = {
        "self_play.device": DEVICE,
        "learner.device": DEVICE,
        "run.total_timesteps": 768,
        "evaluation.interval_timesteps": "null",
        "schedule.mode": "overlap",
        "tracking.view": "lines",
    }
    done = run_program(
        *("--config", DEBUG_CONFIG, "--run-dir", str(tmp_path / "run")),
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["self_play"]["device"] == config["learner"]["device"] == DEVICE
    records = json_records(tmp_path / "run" / "metrics.jsonl")
    assert [record["update"] for record in records] == [1, 2, 3]
    assert all(record["entropy"] > 0 and record["actor_restarts"] == 0 for record in records)
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1

"""A run whose updates are not finite keeps sound weights, ends in one line, and can be resumed."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import LEARNER_FILE, MODEL_FILE
from tests.helpers.program import DEBUG_CONFIG, json_records, one_line, run_program

pytestmark = pytest.mark.ray

UPDATE = 256
SETTINGS = ("--run-dir", "run", "--set", "cluster.num_cpus=2",
            "--set", "evaluation.interval_timesteps=null")  # fmt: skip


def saved(run_dir: Path) -> list[checkpoint.Checkpoint]:
    return [checkpoint.load(p) for p in checkpoint.list_complete(run_dir / "checkpoints")]


def assert_finite(found: checkpoint.Checkpoint) -> None:
    arrays = safetensors.numpy.load(found.files[MODEL_FILE])
    assert all(np.isfinite(array).all() for array in arrays.values())


def broken_moments(content: bytes) -> bytes:
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    state["optimizer"]["state"][0]["exp_avg"].fill_(torch.nan)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_a_learning_rate_that_is_far_too_high_costs_no_weights_and_the_run_goes_on_with_another(
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    sound = run_program("--config", DEBUG_CONFIG, *SETTINGS,
                        "--total-timesteps", str(UPDATE), cwd=tmp_path)  # fmt: skip
    assert sound.returncode == 0, sound.stderr
    (first,) = saved(run_dir)
    assert first.info["health"] == "healthy"
    # The learner refuses the newest, the one before has weights that are not finite.
    arrays = safetensors.numpy.load(first.files[MODEL_FILE])
    nan = safetensors.numpy.save({name: array * np.nan for name, array in arrays.items()})
    for timestep, files in (
        (UPDATE + 1, {MODEL_FILE: nan}),
        (UPDATE + 2, {LEARNER_FILE: broken_moments(first.files[LEARNER_FILE])}),
    ):
        checkpoint.save(run_dir / "checkpoints", timestep, first.files | files, first.info)

    ended = run_program(*SETTINGS, "--resume", "latest", "--total-timesteps", "100_000",
                        "--set", "learner.learning_rate=3e38",
                        "--set", f"checkpoint.interval_timesteps={UPDATE}", cwd=tmp_path)  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    message = one_line(ended.stderr)
    assert "3 updates in a row were undone, although learner.learning_rate = 3e+38" in message
    log = (run_dir / "run.log").read_text()
    assert f"step-{UPDATE + 2:012} skipped: " in log
    assert f"step-{UPDATE + 1:012} skipped: " in log
    events = json_records(run_dir / "events.jsonl")
    undone = [event for event in events if event["kind"] == "update_undone"]
    assert [event["is_rate_halved"] for event in undone] == [False, False, True, False, False]
    assert {event["cause"].split(" (")[0] for event in undone} == {
        "the loss is nan in optimizer step 2"
    }
    metrics = json_records(run_dir / "metrics.jsonl")
    assert [record["updates_undone"] for record in metrics] == [0, 1, 2, 3, 4, 5]
    assert [record["timestep"] for record in metrics] == [UPDATE * n for n in range(1, 7)]
    for found in saved(run_dir):
        assert_finite(found)
        assert found.info["weights_digest"] == first.info["weights_digest"]
        assert found.info["health"] == "healthy"
    assert found.timestep == 6 * UPDATE
    assert events[-1]["kind"] == "run_ended"
    assert events[-1]["checkpoint"] == str(Path("run") / "checkpoints" / found.path.name)

    resumed = run_program(*SETTINGS, "--resume", "latest", "--total-timesteps", str(8 * UPDATE),
                          "--set", "learner.learning_rate=5e-4", cwd=tmp_path)  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    last = json_records(run_dir / "metrics.jsonl")[-1]
    assert (last["timestep"], last["updates_undone"]) == (8 * UPDATE, 5)
    assert 0 < last["learning_rate"] <= 5e-4

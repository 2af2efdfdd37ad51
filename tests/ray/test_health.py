"""A run whose updates are not finite, or that diverges, keeps sound weights to go back to."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.resolver import resolve_config
from keisei_ray.learning.learner import Learner
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import LEARNER_FILE, MODEL_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.saved_run import state_of, write_state
from tests.helpers.program import (
    DEBUG_CONFIG,
    json_records,
    one_line,
    run_program,
    status_of,
)

pytestmark = [pytest.mark.ray, pytest.mark.long]

UPDATE = 256


def saved(run_dir: Path) -> list[Checkpoint]:
    return [checkpoint.load(p) for p in checkpoint.list_complete(run_dir / "checkpoints")]


def save_untrained(run_dir: Path) -> Checkpoint:
    """Saves a run at its beginning."""
    given = resolve_config(DEBUG_CONFIG, {}, ["learner.device=cpu", "learner.num_threads=1"], {})
    config = resolve_auto(given, num_cpus=2, num_gpus=0)
    learner = Learner(config)
    files, digest = learner.state_files(), learner.weights_digest()
    state = state_of(config, Progress(), files, digest, {}, None)
    return checkpoint.load(write_state(run_dir, state, config.checkpoint))


def test_a_learning_rate_that_is_far_too_high_costs_no_weights_and_the_run_goes_on_with_another(
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    first = save_untrained(run_dir)
    arrays = safetensors.numpy.load(first.files[MODEL_FILE])
    nan = safetensors.numpy.save({n: np.full_like(a, np.nan) for n, a in arrays.items()})
    # The learner refuses the newest; the one before has weights that are not finite.
    for timestep, files in ((1, {MODEL_FILE: nan}), (2, {LEARNER_FILE: b"something else"})):
        checkpoint.save(run_dir / "checkpoints", timestep, first.files | files, first.info)
    resume = ("--run-dir", "run", "--resume", "latest", "--set", "cluster.num_cpus=2",
              "--set", "evaluation.interval_timesteps=null",
              "--set", f"checkpoint.interval_timesteps={UPDATE}")  # fmt: skip

    ended = run_program(
        *resume, "--total-timesteps", "100000", "--set", "learner.learning_rate=3e38", cwd=tmp_path
    )
    assert ended.returncode == 2, ended.stderr
    message = one_line(ended.stderr)
    assert "3 updates in a row were undone, although learner.learning_rate = 3e+38" in message
    log = (run_dir / "run.log").read_text()
    for timestep in (1, 2):
        assert f"step-{timestep:012} skipped: " in log
    events = json_records(run_dir / "events.jsonl")
    undone = [event for event in events if event["kind"] == "update_undone"]
    assert [event["is_rate_halved"] for event in undone] == [False, False, True, False, False]
    assert all("the loss is nan in optimizer step 2" in event["cause"] for event in undone)
    metrics = json_records(run_dir / "metrics.jsonl")
    assert [record["updates_undone"] for record in metrics] == [1, 2, 3, 4, 5]
    assert [record["timestep"] for record in metrics] == [UPDATE * n for n in range(1, 6)]
    assert {record["policy_loss"] for record in metrics} == {None}
    for found in saved(run_dir):
        assert found.info["weights_digest"] == first.info["weights_digest"]
        assert found.info["health"] == "healthy"
    assert found.timestep == 5 * UPDATE
    assert events[-1]["kind"] == "run_ended"
    assert events[-1]["checkpoint"] == str(Path("run") / "checkpoints" / found.path.name)

    resumed = run_program(
        *resume, "--total-timesteps", f"{7 * UPDATE}", "--set", "learner.learning_rate=5e-4",
        cwd=tmp_path,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    last = json_records(run_dir / "metrics.jsonl")[-1]
    assert (last["timestep"], last["updates_undone"]) == (7 * UPDATE, 5)
    assert 0 < last["learning_rate"] <= 5e-4


def test_a_run_that_diverges_warns_of_it_and_keeps_its_last_healthy_checkpoint(
    tmp_path: Path,
) -> None:
    run_dir, updates = tmp_path / "run", 8
    save_untrained(run_dir)
    done = run_program(
        "--run-dir", "run", "--resume", "latest", "--total-timesteps", str(updates * UPDATE),
        "--set", "learner.learning_rate=1000", "--set", "learner.target_kl=null",
        "--set", "cluster.num_cpus=2", "--set", "evaluation.interval_timesteps=null",
        "--set", f"checkpoint.interval_timesteps={UPDATE}", "--set", "checkpoint.keep_last=2",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json_records(run_dir / "metrics.jsonl")
    assert len(metrics) == updates
    assert max(record["value_loss"] or 0 for record in metrics) > 1e6
    warnings = [
        event["message"]
        for event in json_records(run_dir / "events.jsonl")
        if event["kind"] == "notice" and event["level"] == "WARNING"
    ]
    (told,) = [message for message in warnings if message.startswith("training diverges")]
    assert any(told in warning["message"] for warning in status_of(run_dir)[1]["warnings"])
    healthy, *others = saved(run_dir)
    assert healthy.timestep <= UPDATE, "an update that was undone leaves the weights as they were"
    assert healthy.info["health"] == "healthy"
    assert told.endswith(f"--resume {Path('run') / 'checkpoints' / healthy.path.name}")
    assert [found.timestep for found in others] == [(updates - 1) * UPDATE, updates * UPDATE]
    assert all(str(found.info["health"]).startswith("diverging: ") for found in others)

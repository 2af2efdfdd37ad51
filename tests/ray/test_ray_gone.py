"""Ray's own processes are killed under a run: what has been learned is saved, in order."""

import os
import signal
from pathlib import Path

import pytest

from keisei_ray.distributed.cluster import Cluster
from tests.helpers.program import (
    DEBUG_CONFIG,
    PATIENCE_S,
    ROOT,
    json_records,
    one_line,
    run_program,
    session_members,
    start_program,
)
from tests.helpers.subscribers import BRAKE
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.ray

RUN = ("--config", DEBUG_CONFIG, "--run-dir", "run", "--num-actors", "1",
       "--set", "cluster.num_cpus=2", "--set", "evaluation.interval_timesteps=null",
       "--set", "checkpoint.interval_timesteps=100000000")  # fmt: skip


@pytest.mark.parametrize(
    ("program", "named"), [("raylet", "its raylet"), ("gcs_server", "its control service")]
)
def test_a_run_that_loses_ray_is_saved_and_goes_on_after_a_resume(
    program: str, named: str, cluster: Cluster, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = start_program(
        *RUN, "--total-timesteps", "100000000", "--set", f"tracking.subscribers=[{BRAKE}]",
        cwd=tmp_path, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    wait_until(
        lambda: len(json_records(run_dir / "metrics.jsonl")) >= 2 or process.poll() is not None,
        PATIENCE_S,
    )
    (victim,) = [
        pid for pid, command in session_members(process.pid).items() if f"/{program} " in command
    ]
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    told = one_line(errors)
    assert told.startswith(f"ClusterError: Ray is gone: {named}")
    assert "--resume latest" in told
    last = json_records(run_dir / "metrics.jsonl")[-1]["timestep"]
    assert (run_dir / "checkpoints" / f"step-{last:012}" / "manifest.json").exists()
    ended = json_records(run_dir / "events.jsonl")[-1]
    assert (ended["kind"], ended["reason"], ended["cause"]) == ("run_ended", "failed", told)
    wait_until(lambda: not session_members(process.pid), 30)
    if program == "raylet":
        return  # One resume is enough.
    done = run_program(
        "--run-dir", "run", "--resume", "latest", "--total-timesteps", str(last + 512),
        "--set", "cluster.num_cpus=null",
        cwd=tmp_path, cluster=cluster,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json_records(run_dir / "metrics.jsonl")[-1]["timestep"] == last + 512

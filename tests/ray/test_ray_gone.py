"""Ray's own processes are killed under a run: what has been learned is saved, in order."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.cluster_watch import LOOK_S
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
from tests.helpers.watched_training import WatchedTraining, head

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
    assert process.poll() is None, process.communicate()[1]
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


@pytest.mark.long
def test_a_run_is_saved_if_the_control_service_ends_in_the_middle_of_the_drivers_call(
    tmp_path: Path,
) -> None:
    """The call does not return, and after 60 s Ray would end the process with all that it holds."""
    run_dir = tmp_path / "run"
    process = start_program(
        *RUN, "--total-timesteps", "100000000", "--set", f"tracking.subscribers=[{BRAKE}]",
        cwd=tmp_path, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    wait_until(lambda: len(json_records(run_dir / "metrics.jsonl")) >= 2, PATIENCE_S)
    (service,) = [
        pid for pid, command in session_members(process.pid).items() if "/gcs_server " in command
    ]
    os.kill(service, signal.SIGSTOP)
    wait_until_still(run_dir / "metrics.jsonl", 3 * LOOK_S)  # The driver asks for the nodes.
    os.kill(service, signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    told = one_line(errors)
    assert told.startswith("ClusterError: Ray is gone: its control service")
    last = json_records(run_dir / "metrics.jsonl")[-1]["timestep"]
    assert (run_dir / "checkpoints" / f"step-{last:012}" / "manifest.json").exists()
    ended = json_records(run_dir / "events.jsonl")[-1]
    assert (ended["kind"], ended["reason"], ended["cause"]) == ("run_ended", "failed", told)
    wait_until(lambda: not session_members(process.pid), 30)


def wait_until_still(records: Path, seconds: float) -> None:
    """Waits until no record has been added for that time."""
    sizes = [records.stat().st_size]

    def has_grown() -> bool:
        time.sleep(seconds)
        sizes.append(records.stat().st_size)
        return sizes[-1] > sizes[-2]

    wait_until(lambda: not has_grown(), PATIENCE_S)


@pytest.mark.long
@pytest.mark.parametrize(
    ("program", "named"), [("raylet", "its raylet"), ("gcs_server", "its control service at")]
)
def test_a_run_is_saved_when_the_cluster_that_it_joined_ends_and_goes_on_in_another(
    program: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control service that was joined may be away for half a minute."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    run_dir = tmp_path / "run"
    with head(num_cpus=2) as cluster:
        run = WatchedTraining(
            cluster.address, run_dir, "--num-actors", "1",
            "--set", f"tracking.subscribers=[{BRAKE}]",
            "--set", "checkpoint.interval_timesteps=100000000",
        )  # fmt: skip
        run.wait_until(lambda record: record["update"] >= 2)
        node: Any = cluster.head_node
        (killed,) = node.all_processes[program]
        killed.process.kill()
        _, errors = run.process.communicate(timeout=PATIENCE_S)
    assert run.process.returncode == 2
    told = one_line(errors)
    assert told.startswith(f"ClusterError: Ray is gone: {named}")
    assert told.endswith("Start Ray again, then go on with --resume latest.")
    last = run.records("metrics.jsonl")[-1]["timestep"]
    assert (run_dir / "checkpoints" / f"step-{last:012}" / "manifest.json").exists()
    ended = run.records("events.jsonl")[-1]
    assert (ended["kind"], ended["reason"], ended["cause"]) == ("run_ended", "failed", told)
    if program == "raylet":
        return  # One resume is enough.
    with head(num_cpus=2) as cluster:
        done = run_program(
            "--run-dir", "run", "--resume", "latest", "--address", cluster.address,
            "--total-timesteps", str(last + 512),
            cwd=tmp_path, RAY_AUTH_MODE="disabled",
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert run.records("metrics.jsonl")[-1]["timestep"] == last + 512

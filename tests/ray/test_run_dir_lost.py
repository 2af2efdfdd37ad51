"""The directory of a run is moved, then deleted, while the run goes on."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.storage import checkpoint
from tests.helpers.program import (
    DEBUG_CONFIG,
    PATIENCE_S,
    ROOT,
    json_records,
    one_line,
    start_program,
)
from tests.helpers.subscribers import BRAKE
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.ray

ENDLESS = ("--total-timesteps", "100000000", "--set", f"tracking.subscribers=[{BRAKE}]")


def told_after(
    process: "subprocess.Popen[str]", run_dir: Path, num_updates: int, act: Callable[[], object]
) -> str:
    """Returns the only line of errors of a run, after an act at some update."""
    wait_until(
        lambda: (
            len(json_records(run_dir / "metrics.jsonl")) >= num_updates
            or process.poll() is not None
        ),
        PATIENCE_S,
    )
    act()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    return one_line(errors)


def delete(directory: Path) -> None:
    """Deletes a directory once, with what a run writes there meanwhile."""
    while True:
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)
            return


def test_a_run_whose_directory_is_moved_or_deleted_ends_saved_and_says_how_to_go_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    run_dir, moved = tmp_path / "run", tmp_path / "moved"
    first = start_program(
        "--config", DEBUG_CONFIG, "--run-dir", "run", *ENDLESS, "--num-actors", "1",
        "--set", "evaluation.interval_timesteps=null",
        "--set", "checkpoint.interval_timesteps=100000000",
        cwd=tmp_path, cluster=cluster, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    told = told_after(first, run_dir, 2, lambda: run_dir.rename(moved))
    assert f"moved to {moved}" in told
    assert f"--run-dir {moved} --resume latest" in told
    assert not run_dir.exists()
    last = json_records(moved / "metrics.jsonl")[-1]
    assert (
        checkpoint.newest(moved / "checkpoints")
        == moved / "checkpoints" / f"step-{last['timestep']:012}"
    )
    ended = json_records(moved / "events.jsonl")[-1]
    assert (ended["kind"], ended["reason"]) == ("run_ended", "failed")
    assert ended["run_dir"] == str(moved)

    second = start_program(
        "--run-dir", "moved", "--resume", "latest", *ENDLESS, "--set", "tracking.close_timeout_s=1",
        cwd=tmp_path, cluster=cluster, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    told = told_after(second, moved, last["update"] + 2, lambda: delete(moved))
    assert "moved has been deleted" in told
    assert "--run-dir moved --resume latest" in told
    saved = checkpoint.find_latest(
        moved / "checkpoints", on_skip=lambda path, cause: pytest.fail(cause)
    )
    assert saved is not None
    assert saved.timestep > last["timestep"] + 256

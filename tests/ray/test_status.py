"""`status` and `watch` beside a real run and after it, each a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ray.test_command_line import (
    DEBUG,
    PATIENCE_S,
    ROOT,
    assert_nothing_runs,
    environment,
    start,
    wait_for_update,
)

pytestmark = pytest.mark.ray


def status_of(run_dir: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and object of `run.py status --json -`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "status", str(run_dir), "--json", "-"],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_a_run_is_seen_from_beside_it_until_it_ends_and_afterwards(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run = start(
        "--config", DEBUG, "--run-dir", "run", "--total-timesteps", "1000000",
        "--num-actors", "1", "--set", "cluster.num_cpus=2",
        "--set", "checkpoint.interval_timesteps=256",
        "--set", "evaluation.interval_timesteps=null",
        cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while not (run_dir / "run.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    code, starting = status_of(run_dir)
    assert (code, starting["state"], starting["pid"]) == (0, "starting", run.pid)

    watcher = start("watch", "--run-dir", "run", cwd=tmp_path)
    wait_for_update(watcher, 2)
    wait_for_update(run, 2)
    code, running = status_of(run_dir)
    assert (code, running["state"], running["pid"]) == (0, "running", run.pid)
    assert running["timestep"] == 256 * running["update"] >= 2 * 256
    assert running["checkpoint"]["timestep"] >= 256
    assert running["actors_alive"] >= 1
    assert running["sps"] > 0
    assert running["remaining_s"] > 0

    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert (run.returncode, errors) == (130, "")
    shown, errors = watcher.communicate(timeout=PATIENCE_S)
    assert (watcher.returncode, errors) == (0, "")
    assert "Keisei Ray interrupted" in shown
    code, ended = status_of(run_dir)
    assert (code, ended["state"], ended["pid"]) == (1, "interrupted", None)
    records = [json.loads(x) for x in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for name in ("timestep", "update", "games_total", "draws", "sps", "sps_total"):
        assert ended[name] == records[-1][name], name
    assert ended["checkpoint"]["timestep"] == ended["timestep"]
    assert ended["damaged"] == 0
    assert_nothing_runs(run)
    assert_nothing_runs(watcher)

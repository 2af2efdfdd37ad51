"""A run is killed and its settings are lost: who may go on with it, from when, and with what."""

import signal
import socket
import time
from pathlib import Path

import pytest

from keisei_ray.cli import main
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.storage import checkpoint
from tests.helpers.program import (
    DEBUG_CONFIG,
    PATIENCE_S,
    ROOT,
    json_records,
    one_line,
    run_program,
    start_program,
)
from tests.helpers.subscribers import BRAKE

pytestmark = pytest.mark.ray

RESUME = ("--run-dir", "run", "--resume", "latest")


def test_a_run_has_one_writer_and_goes_on_after_a_kill_with_the_settings_of_its_checkpoint(
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "run"
    first = start_program(
        "--config", DEBUG_CONFIG, "--run-dir", "run", "--total-timesteps", "1000000",
        "--num-actors", "1", "--set", "checkpoint.interval_timesteps=256",
        "--set", "evaluation.interval_timesteps=null", "--set", "learner.gamma=0.9",
        "--set", f"tracking.subscribers=[{BRAKE}]",
        cwd=tmp_path, cluster=cluster, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_S
        while checkpoint.newest(run_dir / "checkpoints") is None:
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for arguments in (RESUME, (*RESUME, "--force"), ("--run-dir", "run")):
            assert main(arguments) == 2
            told = one_line(capsys.readouterr().err)
            assert f"process {first.pid} on {socket.gethostname()}" in told
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    started = [e for e in json_records(run_dir / "events.jsonl") if e["kind"] == "run_started"]
    assert len(started) == 1

    (run_dir / "config.json").write_text("{")
    assert main([*RESUME, "--total-timesteps", "1"]) == 2
    assert "run.total_timesteps = 1" in one_line(capsys.readouterr().err)
    assert (run_dir / "config.json").read_text() == "{"

    newest = checkpoint.newest(run_dir / "checkpoints")
    assert newest is not None
    total = int(newest.name.removeprefix("step-")) + 512
    done = run_program(*RESUME, "--total-timesteps", str(total), cwd=tmp_path, cluster=cluster)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"gamma": 0.9,' in (run_dir / "config.json").read_text()
    events = json_records(run_dir / "events.jsonl")
    told_of = [event["message"] for event in events if event["kind"] == "notice"]
    for begin in (
        "config.json is missing or damaged",
        f"run.total_timesteps = {total}, in the checkpoint 1000000",
        "the learning rate goes on at",
    ):
        assert any(message.startswith(begin) for message in told_of), begin
    assert not (run_dir / ".lock").exists()

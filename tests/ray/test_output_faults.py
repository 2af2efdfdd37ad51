"""Whatever happens to those who watch and to the disk, training goes on or ends in order."""

import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.distributed.cluster import Cluster
from tests.helpers.program import (
    DEBUG_CONFIG,
    PATIENCE_S,
    ROOT,
    environment,
    joining,
    json_records,
    one_line,
    session_members,
    start_program,
    status_of,
)
from tests.helpers.subscribers import BRAKE, SLEEPER
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.ray

ENDLESS = ("--config", DEBUG_CONFIG, "--run-dir", "run", "--num-actors", "1",
           "--set", "evaluation.interval_timesteps=null")  # fmt: skip
OWN_RAY = ("--set", "cluster.num_cpus=2")


def updates(run_dir: Path) -> int:
    return len(json_records(run_dir / "metrics.jsonl"))


def assert_complete(run_dir: Path, num_updates: int | None = None) -> None:
    """Every update and every game is on record."""
    metrics = json_records(run_dir / "metrics.jsonl")
    assert [record["update"] for record in metrics] == list(range(1, len(metrics) + 1))
    assert num_updates in (None, len(metrics))
    games = [game["game_id"] for game in json_records(run_dir / "games.jsonl")]
    assert len(games) == len(set(games)) == metrics[-1]["games_total"]


def test_neither_an_unread_pipe_nor_a_subscriber_that_sleeps_stops_training(
    cluster: Cluster, tmp_path: Path
) -> None:
    join, token = joining(cluster)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *ENDLESS, *join, "--total-timesteps", str(40 * 256),
         "--set", f"tracking.subscribers=[{SLEEPER},{BRAKE}]",
         "--set", "tracking.close_timeout_s=1"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT), **token), stdout=writer,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    _, errors = process.communicate(timeout=PATIENCE_S)
    os.close(reader)
    assert (process.returncode, errors) == (0, "")
    assert_complete(tmp_path / "run", 40)
    log = (tmp_path / "run" / "run.log").read_text()
    assert "standard output is not read" in log
    assert f"subscriber {SLEEPER} missed" in log
    assert json_records(tmp_path / "run" / "events.jsonl")[-1]["kind"] == "run_ended"


def test_a_reader_that_leaves_and_a_hangup_under_nohup_do_not_end_a_run(tmp_path: Path) -> None:
    process = start_program(
        *ENDLESS, *OWN_RAY, "--total-timesteps", str(16 * 256),
        "--set", f"tracking.subscribers=[{BRAKE}]",
        cwd=tmp_path, before=("nohup",), PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert process.stdout is not None
    wait_until(lambda: updates(tmp_path / "run") or process.poll() is not None, PATIENCE_S)
    process.stdout.close()
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr is not None
    assert process.stderr.read().replace("nohup: ignoring input\n", "") == ""
    process.stderr.close()
    assert_complete(tmp_path / "run", 16)
    assert "standard output: Broken pipe" in (tmp_path / "run" / "run.log").read_text()


@pytest.mark.long
def test_a_reader_that_leaves_after_deaths_of_actors_does_not_change_the_exit_code(
    tmp_path: Path,
) -> None:
    """Ray would print the second of two equal messages at the end, into a pipe without a reader."""
    process = start_program(
        *ENDLESS, *OWN_RAY, "--num-actors", "2", "--total-timesteps", "100000000",
        "--set", f"tracking.subscribers=[{BRAKE}]",
        cwd=tmp_path, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert process.stdout is not None
    events = tmp_path / "run" / "events.jsonl"

    def of(kind: str) -> list[dict[str, Any]]:
        return [event for event in json_records(events) if event["kind"] == kind]

    wait_until(lambda: updates(tmp_path / "run") >= 2, PATIENCE_S)
    wait_until(lambda: len(of("actor_ready")) >= 2, PATIENCE_S)
    for ready in of("actor_ready"):
        os.kill(ready["pid"], signal.SIGKILL)
    wait_until(lambda: len(of("actor_lost")) >= 2, PATIENCE_S)
    process.stdout.close()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 130
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def own_terminal() -> None:
    """Makes standard input the terminal of a new process, whose hangup ends it.

    Also where the tests themselves run under nohup.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_terminal_that_closes_stops_a_run_which_is_saved(tmp_path: Path) -> None:
    terminal, device = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *ENDLESS, *OWN_RAY,
         "--total-timesteps", "100000000"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT), TERM="xterm"), stdin=device,
        stdout=device, stderr=device, start_new_session=True,
        preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(device)

    def shown_until(condition: Callable[[], object]) -> None:
        os.set_blocking(terminal, False)
        while not condition():
            with contextlib.suppress(BlockingIOError):
                os.read(terminal, 1 << 16)
            time.sleep(0.05)

    shown_until(lambda: updates(tmp_path / "run") >= 3 or process.poll() is not None)
    os.close(terminal)  # The kernel sends SIGHUP to the session's processes, Ray's too.
    assert process.wait(PATIENCE_S) == 129
    assert_complete(tmp_path / "run")
    last = json_records(tmp_path / "run" / "metrics.jsonl")[-1]["timestep"]
    assert (tmp_path / "run" / "checkpoints" / f"step-{last:012}" / "manifest.json").exists()
    ended = json_records(tmp_path / "run" / "events.jsonl")[-1]
    assert (ended["kind"], ended["reason"]) == ("run_ended", "interrupted")
    wait_until(lambda: not session_members(process.pid), PATIENCE_S)


@contextlib.contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Lets no file of a process grow inside the block."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_records_wait_for_a_full_disk_and_a_run_whose_disk_stays_full_ends_in_one_line(
    cluster: Cluster, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = start_program(
        *ENDLESS, "--total-timesteps", "100000000", "--set", f"tracking.subscribers=[{BRAKE}]",
        "--set", "checkpoint.interval_timesteps=100000000",
        "--set", "tracking.close_timeout_s=1",
        cwd=tmp_path, cluster=cluster, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert process.stdout is not None
    lines = iter(process.stdout)

    def read_on(num_updates: int) -> None:
        for _ in range(num_updates):
            next(line for line in lines if line.startswith("update="))

    read_on(2)
    with full_disk(process.pid):
        on_disk = updates(run_dir)
        read_on(5)
        assert updates(run_dir) <= on_disk + 1
    wait_until(lambda: updates(run_dir) >= on_disk + 5, PATIENCE_S)
    wait_until(lambda: "can be written again" in (run_dir / "events.jsonl").read_text(), PATIENCE_S)
    assert any("wait in memory" in w["message"] for w in status_of(run_dir)[1]["warnings"])
    with full_disk(process.pid):
        read_on(3)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, output
    assert "lines of the run's files could not be written and are lost" in output
    # The limit holds for the log files of Ray in the driver's process too, and Ray says so itself.
    own = "".join(x for x in errors.splitlines(keepends=True) if "[ray_log_sink]" not in x)
    assert one_line(own).startswith("RunDirError: cannot save the checkpoint")
    assert_complete(run_dir)

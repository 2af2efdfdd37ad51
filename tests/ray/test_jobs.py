"""`ray job submit` for real: a head with a token and a dashboard, runs as jobs, nothing left."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.program import ROOT, json_records, session_members, status_of
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.ray

PYTHON = sys.executable
PATIENCE_S = 200
DEBUG = [PYTHON, "run.py", "--config", "configs/debug.yaml"]
TRAIN = [*DEBUG, "--num-actors", "1", "--set", "evaluation.interval_timesteps=null"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Head:
    """A `ray start --head` with ports, a temporary directory and a token of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        # Sockets lie below it, and their paths are limited to 107 characters.
        self.temp_dir = Path(tempfile.mkdtemp(prefix="kj", dir="/tmp"))
        token = place / "token"
        token.write_text("5" * 64)
        token.chmod(0o600)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "KEISEI_"))}
        kept.pop("PYTHONPATH", None)  # The program comes with the job.
        self.environ = kept | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_JOB_STOP_WAIT_TIME_S": "120",
            "HOME": str(place),
        }
        self.gcs, self.dashboard = free_port(), free_port()
        self.process = subprocess.Popen(
            [
                PYTHON, "-m", "ray.scripts.scripts", "start", "--head", "--block",
                "--temp-dir", str(self.temp_dir), "--port", str(self.gcs),
                "--dashboard-port", str(self.dashboard), "--node-ip-address", "127.0.0.1",
                "--ray-client-server-port", str(free_port()),
                "--dashboard-agent-listen-port", str(free_port()),
                "--min-worker-port", "0", "--max-worker-port", "0", "--num-cpus", "2",
                "--num-gpus", "0", "--object-store-memory", str(2**28), "--disable-usage-stats",
            ],
            cwd=place, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: self._is_listening() or self.process.poll() is not None, PATIENCE_S)
        wait_until(lambda: self.job("list").returncode == 0, PATIENCE_S)

    def _is_listening(self) -> bool:
        """Whether the dashboard accepts connections; asking it for jobs costs a process."""
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.dashboard)) == 0

    def job(self, command: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """`ray job COMMAND`, in the checkout, with the token."""
        return subprocess.run(
            [PYTHON, "-m", "ray.scripts.scripts", "job", command,
             "--address", f"http://127.0.0.1:{self.dashboard}", *words],
            cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip

    def log(self, submission_id: str) -> str:
        """Returns what a job's program has printed; `ray job logs` adds colours of its own."""
        file = self.temp_dir / "session_latest" / "logs" / f"job-driver-{submission_id}.log"
        return file.read_text()

    def end(self) -> dict[int, str]:
        """Ends what the head has started; returns the processes that did not end in time."""
        self.process.terminate()  # It ends what it started.
        deadline = time.monotonic() + 30
        while (left := session_members(self.process.pid)) and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.temp_dir)
        return left


def one_error(output: str, kind: str) -> str:
    """The line of an error; Ray prints the log of a failed job twice."""
    (line,) = {line for line in output.splitlines() if line.startswith(f"{kind}: ")}
    assert "Traceback" not in output
    return line


class Session:
    """A run that is submitted, watched from outside, stopped, and continued by a second job.

    The first job's program also tries two runs that are refused, and says their exit codes.
    """

    def __init__(self, head: Head) -> None:
        self.run_dir = head.place / "run"
        train = [*TRAIN, "--run-dir", str(self.run_dir), "--total-timesteps", "10000000"]
        program = (
            f"{shlex.join([*DEBUG, '--run-dir', 'runs/x'])}; echo refused: $?;"
            f"{shlex.join([*DEBUG, '--set', 'cluster.address=local'])}; echo refused: $?;"
            f"exec {shlex.join(train)}"
        )
        self.submitted = head.job(
            "submit", "--no-wait", "--submission-id", "first", "--working-dir", ".",
            "--", "sh", "-c", program,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not json_records(self.run_dir / "metrics.jsonl"):
            assert time.monotonic() < deadline, head.log("first")
            time.sleep(0.1)
        _, self.status = status_of(self.run_dir)
        started = time.monotonic()
        self.stopped = head.job("stop", "first")
        self.stop_s = time.monotonic() - started
        self.log = head.log("first")
        self.events = json_records(self.run_dir / "events.jsonl")
        self.timestep = json_records(self.run_dir / "metrics.jsonl")[-1]["timestep"]
        self.checkpoint = self.run_dir / "checkpoints" / f"step-{self.timestep:012d}"
        self.total = self.timestep + 128
        self.second = head.job(
            "submit", "--submission-id", "second", "--working-dir", ".", "--", "exec", *TRAIN,
            "--run-dir", str(self.run_dir), "--resume", "latest",
            "--total-timesteps", str(self.total),
        )  # fmt: skip


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    head = Head(tmp_path_factory.mktemp("head"))
    try:
        yield head
    finally:
        left = head.end()
    assert left == {}


@pytest.fixture(scope="module")
def session(head: Head) -> Session:
    return Session(head)


def test_a_run_is_a_job_that_is_seen_from_another_terminal(session: Session) -> None:
    assert session.submitted.returncode == 0, session.submitted.stderr
    assert session.status["state"] == "running"
    assert session.status["pid"] is not None
    assert session.events[0]["cluster"]["num_cpus"] == 2
    assert "\x1b" not in session.log
    assert "\nupdate=1 " in session.log


def test_job_stop_saves_the_run_and_does_not_wait_for_its_time_limit(
    session: Session, head: Head
) -> None:
    assert session.stopped.returncode == 0
    assert "was stopped" in session.stopped.stdout + session.stopped.stderr
    assert session.stop_s < 60
    assert (session.events[-1]["kind"], session.events[-1]["reason"]) == (
        "run_ended",
        "interrupted",
    )
    assert (session.checkpoint / "manifest.json").is_file()
    assert f"checkpoint  {session.checkpoint}" in session.log


def test_a_second_job_goes_on_with_the_run_to_its_end(session: Session) -> None:
    output = session.second.stdout + session.second.stderr
    assert session.second.returncode == 0, output
    assert "succeeded" in output
    events = json_records(session.run_dir / "events.jsonl")
    (resumed,) = (e for e in events if e["kind"] == "run_started" and e["resumed_from"])
    assert Path(resumed["resumed_from"]).name == session.checkpoint.name
    assert json_records(session.run_dir / "metrics.jsonl")[-1]["timestep"] >= session.total
    assert events[-1]["reason"] == "done"


def test_a_job_starts_no_second_cluster_and_leaves_no_run_where_ray_deletes_it(
    session: Session, head: Head
) -> None:
    assert session.log.count("refused: 2\n") == 2
    line = one_error(session.log, "RunDirError")
    assert "run.run_dir = runs/x" in line
    assert "absolute path" in line
    assert "second Ray cluster" in one_error(session.log, "ClusterError")
    # Not given, it is in the home; that one was made, and removed when the run was refused.
    assert list((head.place / "runs").iterdir()) == []


def test_a_missing_token_is_refused(head: Head, tmp_path: Path) -> None:
    done = subprocess.run(
        [PYTHON, str(ROOT / "run.py"), "--address", f"127.0.0.1:{head.gcs}", "--run-dir", "run"],
        cwd=tmp_path, env=head.environ | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "nowhere")},
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == one_error(line, "ClusterError")
    assert str(tmp_path / "nowhere") in line
    assert "RAY_AUTH_TOKEN_PATH to the cluster's token" in line
    assert list(tmp_path.iterdir()) == []

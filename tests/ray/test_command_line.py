"""The program as a person meets it: real processes, exit codes, what is left behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keisei_ray.cli import main
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
from tests.helpers.subscribers import BRAKE

pytestmark = pytest.mark.ray


def assert_nothing_runs(process: "subprocess.Popen[str]") -> None:
    """Every process of the session ends, Ray's included; it may take them a moment."""
    deadline = time.monotonic() + 30
    while members := session_members(process.pid):
        assert time.monotonic() < deadline, members
        time.sleep(0.05)


def wait_for_update(process: "subprocess.Popen[str]", number: int) -> None:
    """Reads the line view until an update has finished."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"update={number} "):
            return
    raise AssertionError(f"ended before update {number}: {process.communicate()[1]}")


class Session:
    """One run on disk, made once: trained until Ctrl-C, then resumed to its end.

    It is watched, and asked for its status, from other processes.
    """

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.run_dir = cwd / "run"
        first = start_program(
            "--config", DEBUG_CONFIG, "--run-dir", "run", "--total-timesteps", "1000000",
            "--set", "checkpoint.interval_timesteps=512", "--set", "cluster.num_cpus=2",
            "--set", "evaluation.interval_timesteps=null",
            "--set", f"tracking.subscribers=[{BRAKE}]",
            cwd=cwd,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not (self.run_dir / "run.log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.starting = status_of(self.run_dir)
        watcher = start_program("watch", "--run-dir", "run", cwd=cwd)
        wait_for_update(watcher, 1)
        wait_for_update(first, 3)
        self.running = status_of(self.run_dir)
        self.members_before = session_members(first.pid)
        os.killpg(first.pid, signal.SIGINT)
        self.first_output, self.first_errors = first.communicate(timeout=PATIENCE_S)
        self.first = first
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        # Not by `communicate`, which would leave out what has been read ahead.
        self.watched = "\n" + watcher.stdout.read()
        self.watch_errors = watcher.stderr.read()
        watcher.wait(PATIENCE_S)
        self.watcher = watcher
        self.interrupted = status_of(self.run_dir)
        self.checkpoints = sorted((self.run_dir / "checkpoints").iterdir())
        self.intact = cwd / "intact"
        shutil.copytree(self.run_dir, self.intact)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(tmp_path_factory.mktemp("session"))


def test_the_first_interrupt_saves_and_exits_130(session: Session) -> None:
    assert session.first.returncode == 130
    assert session.first_errors == ""
    timestep = int(session.checkpoints[-1].name.removeprefix("step-"))
    last = json_records(session.run_dir / "metrics.jsonl")[-1]
    assert timestep == last["timestep"] >= 3 * 256
    ended = json_records(session.run_dir / "events.jsonl")[-1]
    assert (ended["kind"], ended["reason"]) == ("run_ended", "interrupted")


def test_an_interrupted_run_leaves_no_process_of_ray_behind(session: Session) -> None:
    assert any("raylet" in command for command in session.members_before.values())
    assert any("ray::" in command for command in session.members_before.values())
    assert_nothing_runs(session.first)


def test_status_says_from_beside_a_run_what_it_does_and_afterwards_how_it_ended(
    session: Session,
) -> None:
    code, starting = session.starting
    assert (code, starting["state"], starting["pid"]) == (0, "starting", session.first.pid)
    code, running = session.running
    assert (code, running["state"], running["pid"]) == (0, "running", session.first.pid)
    assert running["timestep"] == 256 * running["update"] >= 3 * 256
    assert running["checkpoint"]["timestep"] >= 512
    assert running["actors_alive"] >= 1
    assert running["sps"] > 0
    assert running["remaining_s"] > 0
    code, ended = session.interrupted
    assert (code, ended["state"], ended["pid"]) == (0, "interrupted", None)
    records = json_records(session.intact / "metrics.jsonl")
    for name in ("timestep", "update", "games_total", "draws", "sps", "sps_total"):
        assert ended[name] == records[-1][name], name
    assert ended["checkpoint"]["timestep"] == ended["timestep"]
    assert (ended["total_timesteps"], ended["damaged"]) == (1_000_000, 0)


def test_a_run_is_watched_from_beside_it_until_it_ends(session: Session) -> None:
    assert (session.watcher.returncode, session.watch_errors) == (0, "")
    assert "Keisei Ray interrupted" in session.watched
    last = session.interrupted[1]["update"]
    assert f"\nupdate={last} " in session.watched
    assert_nothing_runs(session.watcher)


def test_latest_goes_on_to_the_end_past_a_damaged_checkpoint(
    session: Session, cluster: Cluster
) -> None:
    """The driver of that run, too, has never imported torch."""
    join, token = joining(cluster)
    damaged = session.checkpoints[-1]
    model = damaged / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    before = session.checkpoints[-2]
    total = int(before.name.removeprefix("step-")) + 2 * 256
    program = (
        "import sys; from keisei_ray.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--run-dir", "run", "--resume", "latest",
         "--total-timesteps", str(total), "--set", "cluster.num_cpus=null", *join],
        cwd=session.cwd, env=environment(PYTHONPATH=str(ROOT), **token), capture_output=True,
        text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    events = json_records(session.run_dir / "events.jsonl")
    second = events[[e["kind"] for e in events].index("run_started", 1) :]
    assert second[0]["resumed_from"] == str(Path("run", "checkpoints", before.name))
    assert any(str(damaged.name) in e.get("message", "") for e in second)
    records = json_records(session.run_dir / "metrics.jsonl")
    assert [r["timestep"] for r in records] == [256 * (i + 1) for i in range(len(records))]
    assert records[-1]["timestep"] == total
    games = (session.run_dir / "games.jsonl").read_text().splitlines()
    assert records[-1]["games_total"] == len(games)


BAD_INPUT: list[tuple[str, list[str], str]] = [
    ("unknown setting", ["--set", "self_play.num_game=3"], "self_play.num_game"),
    ("mistyped setting", ["--set", "learner.gamma=high"], "learner.gamma"),
    ("unknown option", ["--num-actor", "3"], "--num-actors"),
    ("unknown command", ["tarin"], "tarin"),
    ("missing file", ["--config", "nowhere.yaml"], "nowhere.yaml"),
    ("empty file", ["--config", "empty.yaml"], "empty.yaml"),
    ("not YAML", ["--config", "broken.yaml"], "broken.yaml"),
    ("no actors", ["--num-actors", "0"], "num_actors"),
    ("impossible sizes", ["--set", "learner.num_minibatches=7"], "num_minibatches"),
    ("nothing to resume", ["--resume", "latest", "--run-dir", "fresh"], "fresh"),
    ("missing checkpoint", ["--resume", "nowhere"], "nowhere"),
    ("corrupt checkpoint", ["--resume", "corrupt/checkpoints/LAST"], "corrupt"),
    ("another architecture",
     ["--resume", "intact/checkpoints/LAST", "--set", "model.width=32"], "model.width"),
    ("taken directory", ["--run-dir", "intact"], "intact"),
    ("unwritable directory", ["--run-dir", "empty.yaml/run"], "empty.yaml/run"),
]  # fmt: skip


@pytest.fixture
def workplace(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with one intact and one corrupt run, in which nothing may change."""
    for name in ("intact", "corrupt"):
        shutil.copytree(session.intact, tmp_path / name)
    model = tmp_path / "corrupt" / "checkpoints" / session.checkpoints[-1].name
    content = bytearray((model / "model.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "model.safetensors").write_bytes(content)
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "broken.yaml").write_text("run: [1, 2\nx: }")
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("KEISEI_")]:
        monkeypatch.delenv(name)
    before = contents(tmp_path)
    yield tmp_path
    assert contents(tmp_path) == before


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize(
    ("arguments", "named"), [c[1:] for c in BAD_INPUT], ids=[c[0] for c in BAD_INPUT]
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str],
    named: str,
    session: Session,
    workplace: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    last = session.checkpoints[-1].name
    assert main([argument.replace("LAST", last) for argument in arguments]) == 2
    output, errors = capfd.readouterr()
    assert output == ""
    assert named in one_line(errors)
    assert "Error: " in errors


def refused(*arguments: str, cwd: Path, **env: str) -> str:
    """The one line of a run that was refused; nothing of it is left, neither process nor file."""
    process = start_program(
        "--config", DEBUG_CONFIG, "--run-dir", "run", *arguments, cwd=cwd, cluster=None, **env
    )
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, errors
    assert_nothing_runs(process)
    assert list(cwd.iterdir()) == []
    return one_line(errors)


def test_an_address_where_no_cluster_is_is_refused(tmp_path: Path) -> None:
    line = refused("--set", "cluster.address=nowhere.invalid:6379", cwd=tmp_path)
    assert line.startswith("ClusterError: ")
    assert "nowhere.invalid:6379" in line


def test_a_taken_dashboard_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ("--set", "cluster.dashboard=true", "--set", f"cluster.dashboard_port={port}")
        line = refused(*settings, cwd=tmp_path)
    assert line.startswith("ClusterError: ")
    assert str(port) in line
    assert "cluster.dashboard_port" in line


@pytest.mark.parametrize(
    "token", [{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}]
)
def test_a_process_with_another_token_or_none_is_refused(
    token: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    """Ray before 2.59 asks for a token only where it is told to: others ran code in the cluster."""
    line = refused(
        "--set",
        f"cluster.address={cluster.address}",
        cwd=tmp_path,
        RAY_NUM_REDIS_GET_RETRIES="1",  # Of 20 attempts, one a second, each has the same answer.
        **token,
    )
    assert line.startswith("ClusterError: ")
    assert "RAY_AUTH_TOKEN" in line

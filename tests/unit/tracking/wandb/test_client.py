"""The start of a run with Weights & Biases, the files of an offline run, and sweeps."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from keisei_ray.cli import EXIT_USAGE, main
from keisei_ray.config.sections import TrackingConfig
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import WANDB_RUN_ID_FILE
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.events import EventBus
from keisei_ray.tracking.curves import curve_points
from keisei_ray.tracking.subscribers import build_subscribers, check_trackers
from keisei_ray.tracking.wandb.client import RealClient, load_wandb, run_id
from keisei_ray.tracking.wandb.session_file import last_timestep, read_records
from keisei_ray.tracking.wandb.tracker import WandbTracker
from tests.helpers.run_events import evaluated, game, record, run_started, updated
from tests.helpers.waiting import wait_until

NO_KEY = "WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"
PATIENCE_S = 20.0
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")

# Before the run


def test_the_run_id_is_kept_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    first = run_id(tmp_path)
    assert run_id(tmp_path) == first
    (tmp_path / "other").mkdir()
    assert run_id(tmp_path / "other") != first
    (tmp_path / WANDB_RUN_ID_FILE).write_text("no id\n\0")
    monkeypatch.setenv("WANDB_RUN_ID", "chosen1")  # By a sweep's agent.
    assert run_id(tmp_path) == "chosen1"


@pytest.mark.slow
def test_without_wandb_the_package_works_and_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['wandb'] = None;"
        "from keisei_ray.cli import main;"
        "assert main(['config']) == 0;"
        "sys.exit(main(['--set', 'tracking.wandb=offline']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith("TrackerError: tracking.wandb = 'offline'")
    assert done.stderr.count("\n") == 1
    assert "pip install -e '.[wandb]'" in done.stderr


def online(tmp_path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs `run.py train` online for a user who has never logged in."""
    home = tmp_path / "home"
    home.mkdir()
    return subprocess.run(
        [sys.executable, "-m", "keisei_ray", "--set", "tracking.wandb=online"],
        env={"HOME": str(home), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[4])}
        | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@needs_wandb
def test_not_being_logged_in_is_one_line_before_anything_is_started(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    done = online(tmp_path)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith("TrackerError: tracking.wandb = 'online', but wandb has no API")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@needs_wandb
def test_a_malformed_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    done = online(tmp_path, WANDB_API_KEY="hunter2")
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith("TrackerError: tracking.wandb = 'online', but wandb refuses")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr
    assert not (tmp_path / "runs").exists()


@needs_wandb
def test_offline_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in NO_KEY:
        monkeypatch.delenv(name, raising=False)
    assert load_wandb(TrackingConfig(wandb="offline")).__name__ == "wandb"
    check_trackers(TrackingConfig())


# A real offline run


def values(items: Any) -> dict[str, Any]:
    """Returns the items of a wandb record by name."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def play_offline(run_dir: Path, first: int, last: int) -> None:
    """Publishes updates `first` to `last` of a run, and every event that the tracker reads."""
    started = run_started(timestep=1000 * (first - 1))
    tracking = TrackingConfig(
        wandb="offline", view="none", wandb_group="seeds", wandb_tags=("a", "b"), wandb_name="one"
    )
    config = started.config.model_copy(update={"tracking": tracking})
    resumed = 1000 * (first - 1) if first > 1 else None
    bus = EventBus()
    for subscriber in build_subscribers(
        config, run_dir, bus, resumed_timestep=resumed, console=Console(quiet=True)
    ):
        bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
    bus.publish(ev.RunStarted(config, str(run_dir), None, {}, started.timestep))
    for update in range(first, last + 1):
        bus.publish(ev.GameFinished(game(update), 1000 * update))
        bus.publish(updated(update))
    bus.publish(evaluated(last, "random", wins=24))
    bus.publish(ev.Notice(f"update {last} is odd", "WARNING"))
    path = checkpoint.save(run_dir / "checkpoints", 1000 * last, {"weights": b"w"}, {})
    bus.publish(ev.CheckpointSaved(str(path), 1000 * last))
    bus.publish(ev.RunEnded("done", 1000 * last, str(path), 1.0))
    assert bus.close(60) == ()
    assert bus.failures == {}


def whole_session(path: Path) -> list[Any]:
    """The records of a session; wandb's service may still be writing the last of them."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        records = list(read_records(path))
        if records and records[-1].HasField("exit"):
            return records
        assert time.monotonic() < deadline, f"{path} was never finished"
        time.sleep(0.01)


@pytest.mark.slow
@needs_wandb
def test_an_offline_run_and_its_resume_read_back_from_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    key = "0123456789abcdef" * 3
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    play_offline(run_dir, 1, 3)
    second = int(time.time())
    while int(time.time()) == second:  # wandb names a session's directory after the second.
        time.sleep(0.01)
    play_offline(run_dir, 4, 5)

    files = sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    sessions = [whole_session(path) for path in files]
    runs = [next(r.run for r in session if r.HasField("run")) for session in sessions]
    assert {run.run_id for run in runs} == {run_id(run_dir)}
    assert (runs[0].project, runs[0].run_group, runs[0].display_name) == (
        "keisei-ray",
        "seeds",
        "one",
    )
    assert list(runs[0].tags) == ["a", "b"]
    assert values(runs[0].config.update)["learner.device"] == "cpu"

    axes = [r.metric for r in sessions[0] if r.HasField("metric")]
    assert ("*", "timestep") in {(m.glob_name, m.step_metric) for m in axes}

    rows = [
        values(r.history.item) for session in sessions for r in session if r.HasField("history")
    ]
    losses = [(r["timestep"], r["policy_loss"]) for r in rows if "policy_loss" in r]
    assert losses == [(1000 * n, record(n)["policy_loss"]) for n in range(1, 6)]
    scores = [
        (r["timestep"], r["evaluation/bare/random"]) for r in rows if "evaluation/bare/random" in r
    ]
    assert scores == [(3000, 0.75), (5000, 0.75)]
    elo = [r["elo/bare"] for r in rows if "elo/bare" in r]
    assert len(elo) == 3  # After each match, and once more when the run is resumed.
    assert elo[0] > 0
    tables = [r["games.nrows"] for r in rows if "games.nrows" in r]
    assert tables == [3, 2]

    alerts = [r.alert for session in sessions for r in session if r.HasField("alert")]
    assert [(a.title, a.text, a.level) for a in alerts] == [
        (text, text, "WARN") for text in ("update 3 is odd", "update 5 is odd")
    ]

    artifacts = [r.artifact for session in sessions for r in session if r.HasField("artifact")]
    assert [sorted(a.aliases) for a in artifacts if a.type == "checkpoint"] == [
        ["latest", "step-3000"],
        ["latest", "step-5000"],
    ]
    first = next(a for a in artifacts if a.type == "checkpoint")
    assert {entry.path for entry in first.manifest.contents} == {"manifest.json", "weights"}

    everything = [path for path in run_dir.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in everything if key.encode() in path.read_bytes()] == []


STOPPED_SERVICE = """
import os, signal, sys, time, psutil
from pathlib import Path
from keisei_ray.config.sections import TrackingConfig
from keisei_ray.tracking.wandb.client import RealClient, load_wandb
from keisei_ray.tracking.wandb.tracker import WandbTracker
from tests.helpers.run_events import run_started, updated

tracking, told = TrackingConfig(wandb="offline"), []
client = RealClient(load_wandb(tracking), tracking, Path(sys.argv[1]), 1.0)
tracker = WandbTracker(client, told.append, close_timeout_s=1.0)
tracker.handle(run_started())
while not told:
    time.sleep(0.01)
for child in psutil.Process().children():
    child.suspend()
tracker.handle(updated(1))
began = time.monotonic()
tracker.close()
Path(sys.argv[1], "seconds").write_text(str(time.monotonic() - began))
"""


@pytest.mark.slow
@needs_wandb
def test_a_stopped_wandb_service_holds_up_neither_the_run_nor_the_process(tmp_path: Path) -> None:
    """wandb's exit hook waits for its service without a limit."""
    pytest.importorskip("wandb")
    psutil = pytest.importorskip("psutil")
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED_SERVICE, str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children():
                child.kill()
            process.kill()
            process.wait()
    assert float((tmp_path / "seconds").read_text()) < 3


KILLED_SESSION = """
import os, sys, time
from pathlib import Path
from keisei_ray.config.sections import TrackingConfig
from keisei_ray.tracking.wandb.client import RealClient, load_wandb
from tests.helpers.run_events import run_started, updated
from keisei_ray.tracking.wandb.tracker import WandbTracker

tracking = TrackingConfig(wandb="offline")
client = RealClient(load_wandb(tracking), tracking, Path(sys.argv[1]), 1.0)
tracker = WandbTracker(client, print, close_timeout_s=1.0)
tracker.handle(run_started())
for update in (1, 2, 3):
    tracker.handle(updated(update))
time.sleep(600)
"""


@pytest.mark.slow
@needs_wandb
def test_a_killed_session_loses_little_and_its_resume_says_what(tmp_path: Path) -> None:
    """wandb's service is killed too, before it ends anything."""
    pytest.importorskip("wandb")
    psutil = pytest.importorskip("psutil")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_SESSION, str(tmp_path)],
        # Without the service of this process, which the tests before have started.
        env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # Not by `latest-run`, a link that wandb replaces while this looks.
        runs = "wandb/offline-run-*/*.wandb"
        wait_until(lambda: list(tmp_path.glob(runs)), 3 * PATIENCE_S)
        wait_until(lambda: last_timestep(tmp_path) == 3000, 12.0)  # wandb's own interval is 15 s.
    finally:
        for service in psutil.Process(process.pid).children():
            service.kill()
        process.kill()
        process.wait()
    told: list[Any] = []
    tracking = TrackingConfig(wandb="offline")
    client = RealClient(load_wandb(tracking), tracking, tmp_path, 1.0)
    tracker = WandbTracker(client, told.append, close_timeout_s=60)
    tracker.handle(run_started(timestep=5000))
    tracker.close()
    assert [notice.level for notice in told] == ["WARNING", "INFO"]
    assert "W&B lacks what lies between timesteps 3,000 and 5,000" in told[0].message


# Sweeps


@pytest.mark.slow
def test_an_agents_choice_goes_through_the_resolver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is made by wandb's own agent code, from a command as its server sends it."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    args = {"learner.learning_rate": 0.002, "self_play": {"num_actors": 3}, "run.seed": 9}
    command = {"args": {name: {"value": value} for name, value in args.items()}}
    file = tmp_path / "config-abc.json"
    file.write_text(utils.create_sweep_command_args(command)["args_json"][0])
    assert main(["config", "--sweep", str(file), "--set", "run.seed=4"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config["learner"]["learning_rate"] == 0.002
    assert config["self_play"]["num_actors"] == 3
    assert config["run"]["seed"] == 4


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"learner.learning_rat": 1}', "Did you mean 'learner.learning_rate'"),
        ('{"learner.gamma": 2}', "learner.gamma = 2"),
        ("[1]", "expected a mapping"),
        ("{", "not valid JSON"),
    ],
)
def test_an_invalid_choice_is_one_line(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "choice.json"
    file.write_text(text)
    assert main(["config", "--sweep", str(file)]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_the_example_sweep_is_one_that_run_py_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[4]
    monkeypatch.chdir(root)
    sweep = yaml.safe_load((root / "configs/tune/wandb-sweep.yaml").read_text())
    choice = {
        name: values["values"][0] if "values" in values else values["min"]
        for name, values in sweep["parameters"].items()
    }
    file = tmp_path / "choice.json"
    file.write_text(json.dumps(choice))
    words = [str(file) if word == "${args_json_file}" else word for word in sweep["command"]]
    assert words[:4] == ["${env}", "${interpreter}", "${program}", "train"]
    assert main(["config", *words[4:]]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config["learner"]["ent_coef"] == choice["learner.ent_coef"]
    assert config["tracking"]["wandb"] == "online"
    # The goal is a value that a run really sends.
    goal = curve_points(evaluated(1, "greedy", wins=1))
    assert goal is not None
    assert sweep["metric"]["name"] in goal.values
    assert "greedy" in config["evaluation"]["opponents"]

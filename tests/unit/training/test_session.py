"""How a run begins, what is warned of then, and how its end is announced. No Ray is started."""

import contextlib
import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import (
    ConfigError,
    KeiseiError,
    RefusedStateError,
    RunDirError,
    TakenOverError,
)
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import checkpoint_name
from keisei_ray.telemetry.events import Event, EventBus, Notice, RunEnded, Subscriber
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training import session
from keisei_ray.training.session import _announced_end, _begin, _warn_of_slow_precision
from keisei_ray.training.stop_request import StopRequest
from tests.helpers.setting_values import make_config


@pytest.mark.parametrize(
    ("error", "reasons"),
    [(KeiseiError("x"), ["failed"]), (KeyboardInterrupt(), ["interrupted"]),
     (TakenOverError("x"), [])],
)  # fmt: skip
def test_a_run_that_another_process_has_taken_over_does_not_end_in_its_records(
    error: BaseException, reasons: list[str]
) -> None:
    published: list[Event] = []
    driver: Any = SimpleNamespace(
        saver=SimpleNamespace(last_checkpoint=None, run_dir=Path("run")),
        progress=SimpleNamespace(timestep=3, wall_time_s=1.0),
        bus=SimpleNamespace(publish=published.append),
        config=Config(),
    )
    asked: list[str] = []
    files: Any = SimpleNamespace(
        finish=lambda timeout_s: asked.append("finish"), give_up=lambda: asked.append("give up")
    )
    with pytest.raises(type(error)), _announced_end(driver, StopRequest(), files, Path("run")):
        raise error
    assert [event.reason for event in published if isinstance(event, RunEnded)] == reasons
    assert asked == (["finish"] if reasons else ["give up"])


@pytest.mark.parametrize(
    ("playing", "learning", "device", "has_bf16", "is_started_here", "named"),
    [
        ("bf16", "bf16", "cpu", False, True, "self_play.amp=off --set learner.amp=off"),
        ("off", "bf16", "cpu", False, True, "--set learner.amp=off"),
        ("bf16", "bf16", "cuda", False, True, "--set self_play.amp=off"),
        ("bf16", "bf16", "cpu", True, True, None),
        ("off", "off", "cpu", False, True, None),
        # What the nodes of a cluster have is not known from here.
        ("bf16", "bf16", "cpu", False, False, None),
    ],
)
def test_a_precision_that_the_processor_lacks_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    playing: str,
    learning: str,
    device: str,
    has_bf16: bool,
    is_started_here: bool,
    named: str | None,
) -> None:
    monkeypatch.setattr(session, "has_bf16", lambda: has_bf16)
    config = make_config(self_play={"amp": playing}, learner={"amp": learning, "device": device})
    published: list[Event] = []
    bus = EventBus()
    bus.add(Subscriber("seen", published.append))
    _warn_of_slow_precision(
        config, Cluster("a", 1, 2, 0, 0, "", is_started_here=is_started_here), bus
    )
    notices = [event for event in published if isinstance(event, Notice)]
    assert [notice.level for notice in notices] == (["WARNING"] if named else [])
    assert named is None or notices[0].message.endswith(named)


@pytest.mark.parametrize(
    ("is_started_here", "is_there", "expected"),
    [
        (True, False, ["INFO"]),
        (True, True, []),
        # What the processes of a cluster inherit is not known from here.
        (False, False, []),
    ],
)
def test_missing_mps_is_told_of_where_self_play_and_learner_share_this_machines_gpu(
    is_started_here: bool,
    is_there: bool,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if is_there:
        (tmp_path / "control").touch()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    config = make_config(self_play={"device": "cuda"}, learner={"device": "cuda", "num_gpus": 0.5})
    published: list[Event] = []
    bus = EventBus()
    bus.add(Subscriber("seen", published.append))
    driver: Any = SimpleNamespace(config=config, bus=bus, progress=SimpleNamespace(timestep=0))
    start: Any = SimpleNamespace(config=config, run_dir=tmp_path, resume=None, notices=())
    _begin(driver, start, Cluster("a", 1, 2, 1, 0, "", is_started_here=is_started_here), ())
    told = [event for event in published if isinstance(event, Notice) and "MPS" in event.message]
    assert [notice.level for notice in told] == expected


@pytest.mark.parametrize(
    ("resume", "refusals", "tried"),
    [
        ("latest", [30, 20], [{}, {30: "30: bad"}, {30: "30: bad", 20: "20: bad"}]),
        ("latest", [30, 30], [{}, {30: "30: bad"}]),
        ("runs/x/checkpoints/step-30", [30], [{}]),
    ],
)
def test_the_latest_checkpoint_is_the_newest_that_the_learner_accepts(
    resume: str, refusals: list[int], tried: list[dict[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[int, str]] = []
    left = list(refusals)

    expected = session.Outcome("done", 40, Path("x"), None)

    def attempt(*arguments: Any) -> session.Outcome:
        calls.append(dict(arguments[-1]))
        if left:
            timestep = left.pop(0)
            raise RefusedStateError(f"{timestep}: bad", timestep)
        return expected

    monkeypatch.setattr(session, "_train", attempt)
    config = Config.model_validate({"run": {"resume": resume}})
    if len(tried) > len(refusals):
        assert session.train(config, Console()) == expected
    else:
        with pytest.raises(RefusedStateError, match="30: bad"):
            session.train(config, Console())
    assert calls == tried


# ---- a resume from an older checkpoint ----

CLUSTER = Cluster("a", 1, 2, 0, 0, "", is_started_here=True)


class NoDriver:
    """In place of a driver: a run that ends at once."""

    def __init__(self, config: Config, _: Cluster, bus: EventBus, run_dir: Path, **__: Any) -> None:
        self.config, self.bus = config, bus
        self.progress = Progress()
        self.saver = SimpleNamespace(last_checkpoint=None, run_dir=run_dir)


def settings(run_dir: Path, resume: object = None, **tracking: object) -> Config:
    return Config.model_validate(
        {
            "run": {"run_dir": str(run_dir), "total_timesteps": 2_000,
                    "resume": resume and str(resume)},
            "tracking": {"view": "none", "ray_metrics": False} | tracking,
        }
    )  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a checkpoint and records at each of the timesteps 10, 20 and 30."""
    monkeypatch.setattr(session, "Driver", NoDriver)
    monkeypatch.setattr(session, "run_driver", lambda *_: None)
    monkeypatch.setattr(session, "telling_of_spilling", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(
        session,
        "fit_to_cluster",
        lambda config, cluster, **_: (resolve_auto(config, num_cpus=2, num_gpus=0), cluster),
    )
    run_dir = tmp_path / "run"
    config = settings(run_dir).model_dump_json().encode()
    files = {"progress.json": Progress().to_json().encode(), "config.json": config}
    info = {"model": Config().model.model_dump_json()}
    for timestep in (10, 20, 30):
        checkpoint.save(run_dir / "checkpoints", timestep, files, info)
        for name in ("metrics.jsonl", "games.jsonl"):
            with (run_dir / name).open("a") as file:
                file.write(json.dumps({"timestep": timestep}) + "\n")
    return run_dir


def resume_from(resume: object, run_dir: Path, **tracking: object) -> list[dict[str, Any]]:
    """Resumes the run and returns the events of that session."""
    session.train(settings(run_dir, resume, **tracking), Console(quiet=True), cluster=CLUSTER)
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    begin = max(i for i, event in enumerate(events) if event["kind"] == "run_started")
    return events[begin:]


def recorded(run_dir: Path, name: str) -> list[int]:
    return [json.loads(line)["timestep"] for line in (run_dir / name).read_text().splitlines()]


def checkpoints(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def told_of(events: list[dict[str, Any]]) -> list[str]:
    messages = [event["message"] for event in events if event["kind"] == "notice"]
    return [message for message in messages if " is now " in message]


OLDER, MIDDLE, NEWEST = (checkpoint_name(timestep) for timestep in (10, 20, 30))
SET_ASIDE = [OLDER, f"superseded-0-{MIDDLE}", f"superseded-0-{NEWEST}"]


def test_newer_checkpoints_and_records_are_set_aside_and_that_is_said(run_dir: Path) -> None:
    events = resume_from(run_dir / "checkpoints" / OLDER, run_dir)
    assert checkpoints(run_dir) == SET_ASIDE
    assert recorded(run_dir, "metrics.jsonl") == recorded(run_dir, "games.jsonl") == [10]
    assert told_of(events) == [
        f"checkpoint {name} is now superseded-0-{name}: the run goes on before it"
        for name in (MIDDLE, NEWEST)
    ]


def test_records_that_cannot_be_cut_leave_no_newest_checkpoint_without_its_records(
    run_dir: Path,
) -> None:
    obstacle = run_dir / "games.jsonl.superseded"
    obstacle.mkdir()  # Stands for a full disk.
    with pytest.raises(RunDirError, match=r"games\.jsonl cannot be written"):
        resume_from(run_dir / "checkpoints" / OLDER, run_dir)
    assert recorded(run_dir, "metrics.jsonl") == [10]
    assert checkpoints(run_dir) == SET_ASIDE
    assert f"checkpoint {NEWEST} is now superseded-0-{NEWEST}" in (run_dir / "run.log").read_text()
    obstacle.rmdir()
    events = resume_from("latest", run_dir)
    assert events[0]["resumed_from"] == str(run_dir / "checkpoints" / OLDER)
    assert recorded(run_dir, "metrics.jsonl") == recorded(run_dir, "games.jsonl") == [10]


def test_a_newest_checkpoint_that_cannot_be_set_aside_keeps_its_records(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == NEWEST:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(RunDirError, match=f"{NEWEST} cannot be renamed: Input/output error"):
            resume_from(run_dir / "checkpoints" / OLDER, run_dir)
    assert checkpoints(run_dir) == [OLDER, NEWEST, f"superseded-0-{MIDDLE}"]
    for name in ("metrics.jsonl", "games.jsonl"):
        assert recorded(run_dir, name) == [10, 20, 30]
    events = resume_from(run_dir / "checkpoints" / OLDER, run_dir)
    assert checkpoints(run_dir) == SET_ASIDE
    assert recorded(run_dir, "metrics.jsonl") == recorded(run_dir, "games.jsonl") == [10]
    assert [NEWEST in message for message in told_of(events)] == [True]


def test_a_resume_that_is_refused_sets_nothing_aside(run_dir: Path) -> None:
    before = checkpoints(run_dir)
    with pytest.raises(ConfigError):
        resume_from(run_dir / "checkpoints" / OLDER, run_dir, subscribers=["no.such:thing"])
    assert checkpoints(run_dir) == before
    assert recorded(run_dir, "metrics.jsonl") == [10, 20, 30]

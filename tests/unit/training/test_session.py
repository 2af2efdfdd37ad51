"""How the end of a run is announced, and what is warned of at its start. No Ray is started."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import KeiseiError, RefusedStateError, TakenOverError
from keisei_ray.telemetry.events import Event, EventBus, Notice, RunEnded, Subscriber
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

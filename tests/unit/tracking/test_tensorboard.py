"""Event files are read back with TensorBoard's own reader."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError, RunDirError
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.metrics import METRICS
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.subscribers import build_subscribers
from keisei_ray.tracking.tensorboard import TensorBoardWriter
from tests.helpers.run_events import diagnosed, evaluated, fake_metrics, run_started, updated

START = 1_700_000_000.0


class Clock:
    """A clock that is a second later at each call."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def write(run_dir: Path, events: Sequence[ev.Event], resumed_timestep: int | None = None) -> None:
    """Writes the events of one session of a run."""
    files = TensorBoardWriter(run_dir, resumed_timestep, Clock())
    for event in events:
        files.handle(event)
    files.close()


def reader(run_dir: Path, *, is_purging: bool) -> EventAccumulator:
    """Returns TensorBoard's own reader, set to keep all points."""
    return EventAccumulator(
        str(run_dir / "tensorboard"), {"scalars": 0}, purge_orphaned_data=is_purging
    )


def read(
    run_dir: Path, found: EventAccumulator | None = None
) -> dict[str, list[tuple[int, float]]]:
    """Returns timesteps and values by tag, by a given reader or one that sees all files."""
    found = found or reader(run_dir, is_purging=False)
    found.Reload()
    return {
        tag: [(point.step, point.value) for point in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def stored(value: float) -> float:
    """Returns a value as event files hold it, in 32 bits."""
    return float(np.float32(value))


def test_what_is_read_back_is_every_number_that_was_published(tmp_path: Path) -> None:
    updates = [fake_metrics(1, amp_scale=None), fake_metrics(2, amp_scale=1024.0, sps=512.5)]
    lengths = {"game_length_mean": 98.5}
    diagnoses = [diagnosed(1, **lengths), diagnosed(2, pool_score=0.75, **lengths)]
    ratings = (Rating("v2", 312.5, 250.0, None, 32), Rating("greedy", 80.0, 1.0, 2.0, 32))
    bare = evaluated(2, "greedy", wins=14)
    finishing = evaluated(2, "v1+mate1", wins=20, finishing=True)
    write(
        tmp_path,
        [
            run_started(),
            *(ev.UpdateFinished(metrics) for metrics in updates),
            *diagnoses,
            bare,
            finishing,
            ev.RatingsFitted(ratings, 2000),
            ev.RunEnded("done", 2000, None, 2.0),
        ],
    )
    expected: dict[str, list[tuple[int, float]]] = {}

    def expect(tag: str, timestep: object, value: object) -> None:
        if isinstance(value, int | float):
            assert isinstance(timestep, int)
            expected.setdefault(tag, []).append((timestep, stored(value)))

    for metrics in updates:
        for metric in METRICS:
            expect(f"metrics/{metric.name}", metrics.timestep, metrics[metric.name])
    for diagnosis in diagnoses:
        for name, value in asdict(diagnosis.diagnostics).items():
            if name not in ("timestep", "update"):
                expect(f"diagnostics/{name}", diagnosis.diagnostics.timestep, value)
    for name, event in (("bare/greedy", bare), ("finishing/earlier", finishing)):
        match = event.result.match
        expect(f"evaluation/{name}", 2000, match.score)
        expect(f"evaluation/{name}_low", 2000, match.score_low)
        expect(f"evaluation/{name}_high", 2000, match.score_high)
    expect("elo/bare", 2000, 312.5)
    expect("elo/bare_low", 2000, 250.0)
    assert read(tmp_path) == expected
    # Text, the two that are no curves, and what is null in both: it was not measured.
    nulls = set.intersection(
        *({k for k, v in asdict(d.diagnostics).items() if v is None} for d in diagnoses)
    )
    assert len(expected) == len(METRICS) - 1 + (len(fields(Diagnostics)) - 2 - len(nulls)) + 8


def test_every_point_has_the_time_at_which_it_was_published(tmp_path: Path) -> None:
    write(tmp_path, [updated(1), updated(2)])
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    times = [point.wall_time for point in found.Scalars("metrics/sps")]
    assert times == [START + 1, START + 2]


@pytest.mark.parametrize("is_watched", [False, True])
def test_a_resumed_run_shows_no_point_beyond_where_it_resumed(
    is_watched: bool, tmp_path: Path
) -> None:
    played_again = [evaluated(4, "random", wins=1), evaluated(3, "greedy", wins=1)]
    write(tmp_path, [*(updated(update) for update in range(1, 6)), *played_again])
    watching = reader(tmp_path, is_purging=True) if is_watched else None
    assert len(read(tmp_path, watching)["metrics/policy_loss"]) == 5
    write(tmp_path, [updated(4, policy_loss=0.5)], resumed_timestep=3000)
    found = read(tmp_path, watching)
    old = stored(-0.0123)
    assert found["metrics/policy_loss"] == [(1000, old), (2000, old), (3000, old), (4000, 0.5)]
    assert found["evaluation/bare/greedy"] == [(3000, 1 / 32)]
    assert found.get("evaluation/bare/random", []) == []


def test_a_record_cut_short_by_a_crash_hides_nothing_of_the_resumed_run(tmp_path: Path) -> None:
    write(tmp_path, [updated(1), updated(2)])
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    write(tmp_path, [updated(2), updated(3)], resumed_timestep=1000)
    assert [timestep for timestep, _ in read(tmp_path)["metrics/sps"]] == [1000, 2000, 3000]


def test_points_are_on_disk_when_the_handler_returns(tmp_path: Path) -> None:
    files = TensorBoardWriter(tmp_path, None, Clock())
    for update in (1, 2):
        files.handle(updated(update))
        assert len(read(tmp_path)["metrics/sps"]) == update
    files.close()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(RunDirError, match="tensorboard cannot be written"):
        TensorBoardWriter(tmp_path, None, Clock())


@pytest.mark.parametrize("wanted", [True, False])
def test_the_setting_decides_whether_there_are_event_files(wanted: bool, tmp_path: Path) -> None:
    config = Config.model_validate({"tracking": {"view": "none", "tensorboard": wanted}})
    built = build_subscribers(
        config, tmp_path, ev.EventBus(), resumed_timestep=None, console=Console(quiet=True)
    )
    for subscriber in built:
        if subscriber.close is not None:
            subscriber.close()
    assert ("tensorboard" in [subscriber.name for subscriber in built]) == wanted
    assert len(list(tmp_path.glob("tensorboard/events.out.tfevents.*"))) == wanted


def test_a_missing_package_is_one_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "tensorboard" or name == "keisei_ray.tracking.tensorboard":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # Python's way to say: there is none.
    config = Config.model_validate({"tracking": {"tensorboard": True}})
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[tensorboard\]'") as error:
        build_subscribers(
            config, tmp_path, ev.EventBus(), resumed_timestep=None, console=Console(quiet=True)
        )
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []  # A resumed run's files must not be touched.

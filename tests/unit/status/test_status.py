"""A run seen from outside: its state out of its files, and the live view rebuilt from them."""

import io
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from keisei_ray.cli import main
from keisei_ray.config.schema import Config
from keisei_ray.status.command import find_run, watch
from keisei_ray.status.follow import RunFollower
from keisei_ray.status.liveness import DRIVER_FILES, writing_processes
from keisei_ray.status.records import config_from
from keisei_ray.status.run_status import Status, status_of
from keisei_ray.status.screen import status_lines
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import MetricValue
from keisei_ray.tracking.recorders import events_recorder, metrics_recorder
from keisei_ray.tracking.terminal.text import UNICODE
from keisei_ray.tracking.terminal.view_state import ViewState, fold
from tests.helpers.report_runs import evaluation, rating, write_lines, write_run
from tests.helpers.run_events import fake_metrics, record, updated

BEGAN_S = 1_767_225_600.0
"""When the runs made here begin: 2026-01-01 00:00 UTC."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of 20 updates, one a second, last written to when the last was done."""
    return written_at(write_run(tmp_path / "run", updates=20), BEGAN_S + 20)


def written_at(run_dir: Path, time_s: float) -> Path:
    for name in DRIVER_FILES:
        if (run_dir / name).exists():
            os.utime(run_dir / name, (time_s, time_s))
    return run_dir


def append(path: Path, *records: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)


def told(after_s: float, kind: str, **fields: object) -> dict[str, object]:
    """A record of `events.jsonl`."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BEGAN_S + after_s))
    return {"time": f"{stamp}.000+00:00", "kind": kind} | fields


def ended(after_s: float, reason: str, **fields: object) -> dict[str, object]:
    end = {"reason": reason, "timestep": 20_000, "checkpoint": None, "wall_time_s": after_s}
    return told(after_s, "run_ended", **end, **fields)


def at(run_dir: Path, after_s: float) -> Status:
    return status_of(run_dir, BEGAN_S + after_s)


def screen(status: Status) -> str:
    return "\n".join(line.plain for line in status_lines(status))


# How the run is


def test_a_run_that_writes_is_running(run_dir: Path) -> None:
    status = at(run_dir, 22)
    assert (status.state, status.timestep, status.update) == ("running", 20_000, 20)
    assert (status.total_timesteps, status.share) == (10_000_000, 0.002)
    assert (status.sps, status.sps_total, status.silent_s) == (1000.0, 1000.0, 2.0)
    assert status.remaining_s == 9_980_000 / 1000 - 2
    assert (status.games_total, status.black_wins, status.white_wins) == (200, 100, 60)
    assert (status.draws, status.truncated) == (20, 20)
    assert (status.actors_alive, status.num_actors, status.actor_restarts) == (2, 2, 0)


@pytest.mark.parametrize(
    ("reason", "state"),
    [("done", "finished"), ("interrupted", "interrupted"), ("failed", "failed")],
)
def test_how_a_run_ended_is_what_it_said(reason: str, state: str, run_dir: Path) -> None:
    append(run_dir / "events.jsonl", ended(21, reason, cause="ValueError: x\nmore"))
    status = at(run_dir, 1e6)
    assert (status.state, status.cause) == (state, "ValueError: x")
    assert (status.silent_s, status.remaining_s, status.actors_alive) == (None, None, None)
    assert status.wall_time_s == 21.0
    assert ("ValueError: x" in screen(status)) == (state == "failed")


def test_a_run_without_an_end_that_stopped_writing_is_silent_and_says_since_when(
    run_dir: Path,
) -> None:
    """Updates came every second, so two minutes and five seconds are the limit."""
    assert at(run_dir, 20 + 125).state == "running"
    status = at(run_dir, 20 + 126)
    assert (status.state, status.silent_s) == ("silent", 126.0)
    assert (status.remaining_s, status.actors_alive) == (None, None)
    assert "last written to 0:02:06 ago, expected within 0:02:05" in screen(status)


def test_slow_updates_make_silence_less_remarkable(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=0)
    write_lines(run_dir / "metrics.jsonl", (record(i, wall_time_s=i * 300.0) for i in (1, 2)))
    written_at(run_dir, BEGAN_S + 600)
    assert at(run_dir, 600 + 1600).state == "running"
    assert at(run_dir, 600 + 1700).state == "silent"


def test_a_silent_run_whose_files_a_process_writes_is_not_given_up(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("ab"):
        status = at(run_dir, 1e5)
    assert (status.state, status.pid) == ("running", os.getpid())
    assert "longer than expected" in screen(status)


def test_only_who_writes_the_runs_files_counts_as_its_process(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("rb"), (run_dir / "notes.txt").open("wb"):
        assert list(writing_processes(run_dir)) == []
        with (run_dir / "run.log").open("ab"):
            assert list(writing_processes(run_dir)) == [os.getpid()]


def test_before_the_first_update_a_run_is_starting(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=0)
    ready = told(3, "actor_ready", actor_id=0, incarnation=0, pid=1, node="n")
    append(run_dir / "events.jsonl", ready)
    status = at(written_at(run_dir, BEGAN_S + 3), 4)
    assert (status.state, status.timestep, status.actors_alive) == ("starting", 0, 1)
    assert status.remaining_s is None


def test_a_run_whose_cluster_is_not_up_yet_is_starting(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("")
    status = status_of(tmp_path, time.time())
    assert (status.state, status.total_timesteps, status.timestep) == ("starting", None, 0)
    assert "unknown" in screen(status)


def test_a_resumed_run_is_told_of_with_the_counts_of_its_former_sessions(run_dir: Path) -> None:
    append(run_dir / "events.jsonl", ended(21, "interrupted"))
    begin = told(100, "run_started", run_dir="x", resumed_from="c", cluster={}, timestep=20_000)
    append(run_dir / "events.jsonl", begin)
    status = at(written_at(run_dir, BEGAN_S + 100), 101)
    assert (status.state, status.timestep, status.games_total) == ("starting", 20_000, 200)
    append(run_dir / "metrics.jsonl", record(21))
    assert at(run_dir, 131).state == "running"


def test_the_newest_whole_checkpoint_and_its_age_are_told(run_dir: Path) -> None:
    saved = run_dir / "checkpoints"
    for timestep in (5_000, 10_000, 15_000):
        path = checkpoint.save(saved, timestep, {"a": b"123"}, {})
    (path / "a").write_bytes(b"1")
    newest = saved / "step-000000010000"
    os.utime(newest / "manifest.json", (BEGAN_S + 12, BEGAN_S + 12))
    found = at(run_dir, 22).checkpoint
    assert found is not None
    assert (found.path, found.timestep, found.age_s) == (str(newest), 10_000, 10.0)


def test_the_newest_evaluation_and_its_elo_are_told(run_dir: Path) -> None:
    matches = [evaluation(10_000, "random", 0.5), evaluation(20_000, "random", 0.9)]
    matches.append(evaluation(20_000, "greedy", 0.4, finishing=True))
    write_lines(run_dir / "evaluations.jsonl", matches)
    players = [rating("v20", 300.0, 20_000), rating("random", 0.0, None), rating("v10", 9.0, 1)]
    (run_dir / "ratings.json").write_text(json.dumps({"players": players}))
    status = at(run_dir, 22)
    assert [(m.player, m.opponent) for m in status.evaluations] == [
        ("v20", "random"), ("v20+mate1", "greedy")
    ]  # fmt: skip
    assert [(r.name, r.elo) for r in status.ratings] == [("v20", 300.0)]
    assert "v20 Elo +300 +-60, v20+mate1 Elo -, at timestep 20,000" in screen(status)
    assert "v20 - random 90.0%, v20+mate1 - greedy 40.0%" in screen(status)


def test_the_last_warnings_are_told_with_their_age_and_the_number_of_all(run_dir: Path) -> None:
    lost = [
        told(i, "actor_lost", actor_id=i, incarnation=0, cause="died", restarts_left=2)
        for i in range(1, 6)
    ]
    append(run_dir / "events.jsonl", *lost, told(9, "notice", message="fine", level="INFO"))
    status = at(run_dir, 22)
    assert status.faults == 5
    assert [(w.age_s, w.message) for w in status.warnings] == [
        (22.0 - i, f"actor {i} lost, 2 restarts left: died") for i in (3, 4, 5)
    ]
    assert "5 in this session" in screen(status)


# What files may be like


@pytest.mark.parametrize("name", ["events.jsonl", "evaluations.jsonl", "games.jsonl"])
def test_a_run_of_a_version_that_did_not_write_some_file_is_told_of(
    name: str, run_dir: Path
) -> None:
    (run_dir / name).unlink(missing_ok=True)
    os.utime(run_dir / "config.json", (BEGAN_S, BEGAN_S))
    status = at(run_dir, 22)
    assert (status.state, status.timestep, status.total_timesteps) == (
        "running", 20_000, 10_000_000
    )  # fmt: skip


def test_without_settings_the_total_is_unknown_and_the_rest_is_told(run_dir: Path) -> None:
    (run_dir / "config.json").unlink()
    status = at(run_dir, 22)
    assert (status.state, status.timestep, status.total_timesteps) == ("running", 20_000, None)
    assert (status.share, status.remaining_s) == (None, None)


def test_settings_that_this_version_refuses_do_not_hide_the_others() -> None:
    values: dict[str, Any] = json.loads(Config().model_dump_json())
    values["run"]["total_timesteps"] = 77
    values["learner"]["gone"] = 1
    values["learner"]["gamma"] = "high"
    values["former_section"] = {"x": 1}
    found = config_from(values)
    assert found is not None
    assert (found.run.total_timesteps, found.learner.gamma) == (77, Config().learner.gamma)
    values["self_play"]["random_opening_plies"] = 10_000
    assert config_from(values) is None


def test_what_cannot_be_read_is_left_out_and_counted(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"timestep": 1\n[]\n{"timestep": null}\n')
        file.write(json.dumps(record(21))[:-9])
    append(run_dir / "events.jsonl", {"kind": ["x"]}, {"kind": "from_the_future"})
    append(run_dir / "events.jsonl", {"kind": "actor_lost", "actor_id": "three"})
    append(
        run_dir / "evaluations.jsonl", {"score": 1}, evaluation(5000, "x", 0.5) | {"score": "much"}
    )
    (run_dir / "ratings.json").write_text("[]")
    status = at(run_dir, 22)
    assert (status.state, status.timestep, status.faults) == ("running", 20_000, 0)
    assert (status.damaged, status.evaluations, status.ratings) == (2, (), ())
    assert "2 lines of its files cannot be read" in screen(status)


# Events out of files


figures = st.none() | st.floats(-1e6, 1e6) | st.integers(0, 9)
changes = st.fixed_dictionaries({"sps": figures, "entropy": figures, "grad_norm": figures})


@settings(max_examples=25, deadline=None)
@given(st.lists(changes, min_size=1, max_size=7), st.integers(0, 300), st.integers(1, 40))
def test_the_state_from_files_is_the_live_views(
    tmp_path_factory: pytest.TempPathFactory,
    some: list[dict[str, MetricValue]],
    updates: int,
    every: int,
) -> None:
    """Whatever the number of updates between two looks, after each of them."""
    run_dir = tmp_path_factory.mktemp("run")
    config = Config()
    (run_dir / "config.json").write_text(config.model_dump_json())
    metrics = metrics_recorder(run_dir, None)
    events = events_recorder(run_dir, None, lambda: BEGAN_S)
    follower = RunFollower(run_dir)
    live, rebuilt = ViewState(), ViewState()
    published: list[ev.Event] = [ev.RunStarted(config, str(run_dir), None, {"num_cpus": 2})]
    published += [updated(i + 1, **some[i % len(some)]) for i in range(updates)]
    for count, event in enumerate(published):
        metrics.handle(event)
        events.handle(event)
        live = fold(live, event, 1.0 * count)
        if count % every and count + 1 < len(published):
            continue
        for h in follower.poll(BEGAN_S + count):
            rebuilt = fold(rebuilt, h.event, h.time_s - BEGAN_S)
        for name in ("metrics", "trends", "pace", "timestep", "total_timesteps", "net", "cluster"):
            assert getattr(rebuilt, name) == getattr(live, name), name
    metrics.close()
    events.close()


def followed(follower: RunFollower, after_s: float, view_state: ViewState) -> ViewState:
    for h in follower.poll(BEGAN_S + after_s):
        assert follower.began_s is not None
        view_state = fold(view_state, h.event, h.time_s - follower.began_s)
    return view_state


def test_nothing_is_told_twice_and_a_half_written_line_when_it_is_whole(run_dir: Path) -> None:
    follower = RunFollower(run_dir)
    assert len(follower.poll(BEGAN_S + 30)) == 21
    assert follower.poll(BEGAN_S + 31) == []
    line = json.dumps(record(21)) + "\n"
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(line[:50])
        file.flush()
        assert follower.poll(BEGAN_S + 32) == []
        file.write(line[50:])
    (happened,) = follower.poll(BEGAN_S + 33)
    assert happened.event == ev.UpdateFinished(fake_metrics(21))
    assert follower.damaged == 0


def test_a_run_resumed_while_it_is_followed_starts_anew_from_its_checkpoint(run_dir: Path) -> None:
    """As the resumed run's own view: what was set aside is not shown, nor any former session."""
    follower = RunFollower(run_dir)
    assert followed(follower, 30, ViewState()).timestep == 20_000
    metrics = metrics_recorder(run_dir, 12_000)  # Sets eight updates aside.
    between = followed(follower, 40, ViewState())
    assert between.timestep == 12_000
    begin = told(50, "run_started", run_dir="x", resumed_from="c", cluster={}, timestep=12_000)
    append(run_dir / "events.jsonl", begin)
    started = followed(follower, 51, between)
    assert (started.timestep, started.resumed_from, started.metrics) == (12_000, "c", {})
    assert follower.before is not None
    assert follower.before.timestep == 12_000
    for update in range(13, 30):
        metrics.handle(updated(update, wall_time_s=float(update)))
    metrics.close()
    resumed = followed(follower, 80, started)
    assert (resumed.timestep, len(resumed.pace)) == (29_000, 17)


def test_a_resume_between_two_looks_that_has_grown_past_the_old_end_is_noticed(
    run_dir: Path,
) -> None:
    follower = RunFollower(run_dir)
    before = followed(follower, 30, ViewState())
    begin = told(50, "run_started", run_dir="x", resumed_from="c", cluster={}, timestep=12_000)
    append(run_dir / "events.jsonl", begin)
    metrics = metrics_recorder(run_dir, 12_000)
    for update in range(13, 30):
        metrics.handle(updated(update, wall_time_s=float(update)))
    metrics.close()
    assert len(followed(follower, 80, before).pace) == 17


def test_matches_and_their_table_are_told_once_each(run_dir: Path) -> None:
    follower = RunFollower(run_dir)
    view_state = followed(follower, 30, ViewState())
    append(run_dir / "evaluations.jsonl", evaluation(20_000, "random", 0.9))
    (run_dir / "ratings.json").write_text(json.dumps({"players": [rating("v20", 300.0, 20_000)]}))
    kinds = [h.event.kind for h in follower.poll(BEGAN_S + 40)]
    assert kinds == ["evaluation_finished", "ratings_fitted"]
    assert follower.poll(BEGAN_S + 41) == []
    assert view_state.matches == ()


# As a person calls it


def console(width: int = 100, *, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, height=40, force_terminal=is_terminal)


def output(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def waits(*steps: Callable[[], object]) -> Callable[[float], object]:
    """What happens while `watch` waits, one after the other; then Ctrl-C."""
    left = list(steps)

    def wait(_: float) -> object:
        if not left:
            raise KeyboardInterrupt
        return left.pop(0)()

    return wait


def test_watch_shows_a_run_until_it_ends(run_dir: Path) -> None:
    shown = console()
    events = run_dir / "events.jsonl"
    watch(
        run_dir,
        shown,
        waits(
            lambda: append(run_dir / "metrics.jsonl", record(21)),
            lambda: append(events, ended(30, "done")),
            lambda: pytest.fail("it waits for a run that has ended"),
        ),
    )
    text = output(shown)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("update=")] == [
        f"update={i}" for i in range(1, 22)
    ]
    (end,) = [line for line in text.splitlines() if "run done at timestep 20000" in line]
    assert "elapsed=0:00:30" in end
    assert "Keisei Ray done" in text


def test_watch_ends_at_ctrl_c_and_has_written_nothing(run_dir: Path) -> None:
    before = {path: path.read_bytes() for path in run_dir.iterdir()}
    shown = console(is_terminal=True)
    watch(run_dir, shown, waits())
    assert "20,000 / 10,000,000" in output(shown)
    assert re.search(r"training\S*  \d+d ", output(shown)), "the run's own time goes on"
    assert {path: path.read_bytes() for path in run_dir.iterdir()} == before


def test_watch_says_once_when_a_run_falls_silent(run_dir: Path) -> None:
    shown = console()
    watch(run_dir, shown, waits(lambda: None, lambda: None))
    assert output(shown).count("it may be dead") == 1


def test_a_run_that_is_about_to_begin_can_be_watched(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("")
    shown = console()

    def begin() -> None:
        (tmp_path / "config.json").write_text(Config().model_dump_json())
        started = told(0, "run_started", run_dir="x", resumed_from=None, cluster={}, timestep=0)
        append(tmp_path / "events.jsonl", started, ended(30, "interrupted"))

    watch(tmp_path, shown, waits(begin))
    assert "about to begin" in output(shown)
    assert "Keisei Ray interrupted" in output(shown)


def test_status_as_json_is_one_object_whatever_the_run_does(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(run_dir), "--json", "-"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["timestep"]) == ("silent", 20_000)
    append(run_dir / "events.jsonl", ended(30, "done"))
    file = run_dir.parent / "status.json"
    assert main(["status", "--run-dir", str(run_dir), "--json", str(file)]) == 0
    assert "finished" in capsys.readouterr().out
    assert json.loads(file.read_text())["state"] == "finished"


def test_status_fits_one_screen_and_has_a_bar_only_for_a_terminal(run_dir: Path) -> None:
    status = at(run_dir, 22)
    assert len(status_lines(status)) <= 22
    drawn = [line.plain for line in status_lines(status, UNICODE)]
    assert any(UNICODE.rest in line for line in drawn)
    assert "\n".join(line.plain for line in status_lines(status)).isascii()


def test_without_a_name_the_run_begun_last_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose cluster is still coming up has nothing but its log."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(Path("runs", name), updates=1)
    os.utime("runs/b/config.json", (1, 1))
    assert find_run(None) == Path("runs/a")
    Path("runs/c").mkdir()
    Path("runs/c/run.log").write_text("")
    os.utime("runs/c/run.log", (2e9, 2e9))
    assert find_run(None) == Path("runs/c")


@pytest.mark.parametrize("command", ["status", "watch"])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no run under runs/"),
        (["nowhere"], "nowhere is not a directory"),
        (["empty"], "empty has neither"),
        (["file"], "file is not a directory"),
        (["empty", "--run-dir", "empty"], "--run-dir"),
        (["broken"], "config.json is not JSON"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(
    command: str,
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    write_run(Path("broken"), updates=1)
    Path("broken/config.json").write_text("{")
    assert main([command, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line

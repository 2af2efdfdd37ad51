"""State of a run as read from its files, whatever they contain."""

import json
import os
import time
from pathlib import Path

import pytest

from keisei_ray.status.run_status import Status, StatusFollower, status_of
from keisei_ray.status.screen import status_lines
from keisei_ray.storage import checkpoint
from keisei_ray.tracking.terminal.text import UNICODE
from tests.helpers.report_runs import evaluation, rating, write_lines, write_run
from tests.helpers.run_events import record
from tests.helpers.status_runs import BEGAN_S, append, ended_at, event_at, written_at


def status_after(run_dir: Path, after_s: float) -> Status:
    return status_of(run_dir, BEGAN_S + after_s)


def screen(status: Status) -> str:
    return "\n".join(line.plain for line in status_lines(status))


def test_a_run_that_writes_is_running(run_dir: Path) -> None:
    status = status_after(run_dir, 22)
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
def test_the_end_of_a_run_is_that_of_its_last_event(reason: str, state: str, run_dir: Path) -> None:
    append(run_dir / "events.jsonl", ended_at(21, reason, cause="ValueError: x\nmore"))
    status = status_after(run_dir, 1e6)
    assert (status.state, status.cause) == (state, "ValueError: x")
    assert (status.silent_s, status.remaining_s, status.actors_alive) == (None, None, None)
    assert status.wall_time_s == 21.0
    assert ("ValueError: x" in screen(status)) == (state == "failed")


def test_a_run_that_stopped_writing_without_an_end_is_silent(
    run_dir: Path,
) -> None:
    """Updates came every second, so two minutes and five seconds are the limit."""
    assert status_after(run_dir, 20 + 125).state == "running"
    status = status_after(run_dir, 20 + 126)
    assert (status.state, status.silent_s) == ("silent", 126.0)
    assert (status.remaining_s, status.actors_alive) == (None, None)
    assert "last written to 0:02:06 ago, expected within 0:02:05" in screen(status)


def test_slow_updates_make_a_longer_silence_expected(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=0)
    write_lines(run_dir / "metrics.jsonl", (record(i, wall_time_s=i * 300.0) for i in (1, 2)))
    written_at(run_dir, BEGAN_S + 600)
    assert status_after(run_dir, 600 + 1600).state == "running"
    assert status_after(run_dir, 600 + 1700).state == "silent"


def test_a_silent_run_whose_files_a_process_has_open_is_running(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("ab"):
        status = status_after(run_dir, 1e5)
    assert (status.state, status.pid) == ("running", os.getpid())
    assert "longer than expected" in screen(status)


def test_a_run_that_writes_but_makes_no_update_is_seen_to_stand_still(run_dir: Path) -> None:
    """Its actors or its learner do not answer, and evaluations go on."""
    log = run_dir / "run.log"
    log.touch()
    for after_s, idle_s in ((125, None), (126, 126.0)):
        os.utime(log, (BEGAN_S + 20 + after_s, BEGAN_S + 20 + after_s))
        status = status_after(run_dir, 20 + after_s)
        assert (status.state, status.silent_s, status.idle_s) == ("running", 0.0, idle_s)
    assert "running, no update for 0:02:06, last written to" in screen(status)


def test_before_the_first_update_a_run_is_starting(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=0)
    ready = event_at(3, "actor_ready", actor_id=0, incarnation=0, pid=1, node="n")
    append(run_dir / "events.jsonl", ready)
    status = status_after(written_at(run_dir, BEGAN_S + 3), 4)
    assert (status.state, status.timestep, status.actors_alive) == ("starting", 0, 1)
    assert status.remaining_s is None


def test_a_run_whose_cluster_is_not_up_yet_is_starting(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("")
    status = status_of(tmp_path, time.time())
    assert (status.state, status.total_timesteps, status.timestep) == ("starting", None, 0)
    assert "unknown" in screen(status)


def test_a_resumed_run_has_the_counts_of_its_former_sessions(run_dir: Path) -> None:
    append(run_dir / "events.jsonl", ended_at(21, "interrupted"))
    begin = event_at(100, "run_started", run_dir="x", resumed_from="c", cluster={}, timestep=20_000)
    append(run_dir / "events.jsonl", begin)
    status = status_after(written_at(run_dir, BEGAN_S + 100), 101)
    assert (status.state, status.timestep, status.games_total) == ("starting", 20_000, 200)
    append(run_dir / "metrics.jsonl", record(21))
    assert status_after(run_dir, 131).state == "running"


def test_the_newest_whole_checkpoint_and_its_age_are_in_the_status(run_dir: Path) -> None:
    saved = run_dir / "checkpoints"
    for timestep in (5_000, 10_000, 15_000):
        path = checkpoint.save(saved, timestep, {"a": b"123"}, {})
    (path / "a").write_bytes(b"1")
    newest = saved / "step-000000010000"
    os.utime(newest / "manifest.json", (BEGAN_S + 12, BEGAN_S + 12))
    found = status_after(run_dir, 22).checkpoint
    assert found is not None
    assert (found.path, found.timestep, found.age_s) == (str(newest), 10_000, 10.0)


def test_the_newest_evaluation_and_its_elo_are_in_the_status(run_dir: Path) -> None:
    matches = [evaluation(10_000, "random", 0.5), evaluation(20_000, "random", 0.9)]
    matches.append(evaluation(20_000, "greedy", 0.4, finishing=True))
    write_lines(run_dir / "evaluations.jsonl", matches)
    players = [rating("v20", 300.0, 20_000), rating("greedy", 1690.0, None)]
    players += [rating("random", 0.0, None), rating("v10", 9.0, 1)]
    (run_dir / "ratings.json").write_text(json.dumps({"players": players}))
    status = status_after(run_dir, 22)
    assert [(m.player, m.opponent) for m in status.evaluations] == [
        ("v20", "random"), ("v20+mate1", "greedy")
    ]  # fmt: skip
    assert [(r.name, r.elo) for r in status.ratings] == [("v20", 300.0), ("greedy", 1690.0),
                                                         ("random", 0.0)]  # fmt: skip
    assert "v20 Elo +300 +-60, v20+mate1 Elo -, at timestep 20,000" in screen(status)
    assert "(to compare: greedy +1690, random+mate1 +360)" in screen(status)
    assert "v20 - random 90.0%, v20+mate1 - greedy 40.0%" in screen(status)


def test_the_last_warnings_and_the_number_of_all_are_in_the_status(run_dir: Path) -> None:
    lost = [
        event_at(i, "actor_lost", actor_id=i, incarnation=0, cause="died", restarts_left=2)
        for i in range(1, 6)
    ]
    later = [event_at(9, "notice", message=f"fine {i}", level="INFO") for i in range(50)]
    append(run_dir / "events.jsonl", *lost, *later)
    status = status_after(run_dir, 22)
    assert status.faults == 5
    assert [(w.age_s, w.message) for w in status.warnings] == [
        (22.0 - i, f"actor {i} lost, 2 restarts left: died") for i in (3, 4, 5)
    ]
    assert "5 in this session" in screen(status)


@pytest.mark.parametrize("name", ["events.jsonl", "evaluations.jsonl", "games.jsonl"])
def test_a_run_that_lacks_a_file_of_this_version_has_a_status(name: str, run_dir: Path) -> None:
    (run_dir / name).unlink(missing_ok=True)
    os.utime(run_dir / "config.json", (BEGAN_S, BEGAN_S))
    status = status_after(run_dir, 22)
    assert (status.state, status.timestep, status.total_timesteps) == (
        "running", 20_000, 10_000_000
    )  # fmt: skip


def test_without_settings_only_the_total_is_unknown(run_dir: Path) -> None:
    (run_dir / "config.json").unlink()
    status = status_after(run_dir, 22)
    assert (status.state, status.timestep, status.total_timesteps) == ("running", 20_000, None)
    assert (status.share, status.remaining_s) == (None, None)


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
    status = status_after(run_dir, 22)
    assert (status.state, status.timestep, status.faults) == ("running", 20_000, 0)
    assert (status.damaged, status.evaluations, status.ratings) == (2, (), ())
    assert "2 lines of its files cannot be read" in screen(status)


def test_status_fits_one_screen_and_has_a_bar_only_for_a_terminal(run_dir: Path) -> None:
    status = status_after(run_dir, 22)
    assert len(status_lines(status)) <= 22
    drawn = [line.plain for line in status_lines(status, UNICODE)]
    assert any(UNICODE.rest in line for line in drawn)
    assert "\n".join(line.plain for line in status_lines(status)).isascii()


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_breaks_no_word_of_a_status_but_a_path(run_dir: Path, width: int) -> None:
    lines = "\n".join(line.plain for line in status_lines(status_after(run_dir, 22), None, width))
    long = [line for line in lines.splitlines() if len(line) > width]
    assert all(str(run_dir) in line for line in long), long
    assert lines.split() == screen(status_after(run_dir, 22)).split()


def test_a_status_that_is_asked_for_again_is_that_of_all_files(run_dir: Path) -> None:
    follower = StatusFollower(run_dir)
    assert follower.status(BEGAN_S + 22) == status_after(run_dir, 22)
    append(run_dir / "metrics.jsonl", *(record(i) for i in range(21, 80)))
    append(run_dir / "events.jsonl", event_at(30, "notice", message="odd", level="WARNING"))
    written_at(run_dir, BEGAN_S + 80)
    later = follower.status(BEGAN_S + 81)
    assert (later.update, later.faults) == (79, 1)
    assert later == status_after(run_dir, 81)
    append(run_dir / "events.jsonl", event_at(90, "run_started", timestep=70_000, cluster={}))
    written_at(run_dir, BEGAN_S + 90)
    resumed = follower.status(BEGAN_S + 91)
    assert (resumed.update, resumed.faults) == (79, 0)
    assert resumed == status_after(run_dir, 91)

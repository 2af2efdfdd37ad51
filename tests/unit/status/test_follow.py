"""Events read back from files: a view that folds them shows what the run's own view shows."""

import json
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keisei_ray.config.schema import Config
from keisei_ray.status.follow import RunFollower
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import MetricValue
from keisei_ray.tracking.recorders import events_recorder, metrics_recorder
from keisei_ray.tracking.terminal.view_state import ViewState, fold
from tests.helpers.report_runs import evaluation, rating, write_run
from tests.helpers.run_events import fake_metrics, record, updated
from tests.helpers.status_runs import BEGAN_S, append, event_at

figures = st.none() | st.floats(-1e6, 1e6) | st.integers(0, 9)


changes = st.fixed_dictionaries({"sps": figures, "entropy": figures, "grad_norm": figures})


@settings(max_examples=25, deadline=None)
@given(st.lists(changes, min_size=1, max_size=7), st.integers(0, 300), st.integers(1, 40))
def test_the_view_state_from_files_is_that_of_the_live_view(
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


def test_each_event_comes_once_and_a_line_only_when_it_is_complete(run_dir: Path) -> None:
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


def test_a_run_resumed_while_it_is_followed_begins_again_from_its_checkpoint(run_dir: Path) -> None:
    """As the resumed run's own view: what was set aside is not shown, nor any former session."""
    follower = RunFollower(run_dir)
    assert followed(follower, 30, ViewState()).timestep == 20_000
    metrics = metrics_recorder(run_dir, 12_000)  # Sets eight updates aside.
    between = followed(follower, 40, ViewState())
    assert between.timestep == 12_000
    begin = event_at(50, "run_started", run_dir="x", resumed_from="c", cluster={}, timestep=12_000)
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


def test_a_resume_is_noticed_even_if_its_files_have_outgrown_the_former_ones(
    run_dir: Path,
) -> None:
    follower = RunFollower(run_dir)
    before = followed(follower, 30, ViewState())
    begin = event_at(50, "run_started", run_dir="x", resumed_from="c", cluster={}, timestep=12_000)
    append(run_dir / "events.jsonl", begin)
    metrics = metrics_recorder(run_dir, 12_000)
    for update in range(13, 30):
        metrics.handle(updated(update, wall_time_s=float(update)))
    metrics.close()
    assert len(followed(follower, 80, before).pace) == 17


def test_matches_and_their_rating_table_come_once_each(run_dir: Path) -> None:
    follower = RunFollower(run_dir)
    view_state = followed(follower, 30, ViewState())
    append(run_dir / "evaluations.jsonl", evaluation(20_000, "random", 0.9))
    (run_dir / "ratings.json").write_text(json.dumps({"players": [rating("v20", 300.0, 20_000)]}))
    kinds = [h.event.kind for h in follower.poll(BEGAN_S + 40)]
    assert kinds == ["evaluation_finished", "ratings_fitted"]
    assert follower.poll(BEGAN_S + 41) == []
    assert view_state.matches == ()


def test_of_very_many_events_the_newest_are_read(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keisei_ray.status.follow.MAX_EVENTS", 10)
    notices = [event_at(1 + i, "notice", message=f"n{i}", level="INFO") for i in range(30)]
    append(run_dir / "events.jsonl", *notices)
    kinds = [h.event for h in RunFollower(run_dir).poll(BEGAN_S + 90)]
    assert isinstance(kinds[0], ev.RunStarted)
    messages = [event.message for event in kinds if isinstance(event, ev.Notice)]
    assert messages == [f"n{i}" for i in range(20, 30)]


def test_of_the_updates_of_one_poll_only_the_newest_may_be_asked_for(run_dir: Path) -> None:
    follower = RunFollower(run_dir, most_updates=3)
    updates = [h.event for h in follower.poll(BEGAN_S + 30)]
    assert [e.metrics.update for e in updates if isinstance(e, ev.UpdateFinished)] == [18, 19, 20]
    begin = event_at(50, "run_started", run_dir="x", resumed_from="c", cluster={}, timestep=12_000)
    append(run_dir / "events.jsonl", begin)
    resumed = follower.poll(BEGAN_S + 60)
    assert [e.event.metrics.update for e in resumed[1:]] == [18, 19, 20]  # type: ignore[attr-defined]
    assert follower.before is not None
    assert follower.before.update == 12


def test_the_board_shows_the_last_finished_game_on_file(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=3, games=2)
    (game,) = deque(read_lines(run_dir / "games.jsonl"), maxlen=1)
    state = ViewState()
    for h in RunFollower(run_dir).poll(BEGAN_S + 10):
        state = fold(state, h.event, 1.0)
    assert state.is_sample_over
    assert state.sample_last_move == game["moves"].split()[-1]
    (run_dir / "games.jsonl").write_text('{"moves": "9a9z"}\n')
    for h in RunFollower(run_dir).poll(BEGAN_S + 10):
        assert getattr(h.event, "sample_board", None) is None


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]

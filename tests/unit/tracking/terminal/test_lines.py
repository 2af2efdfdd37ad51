"""The view without a terminal."""

import re

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.terminal.lines import LinesView
from tests.helpers.consoles import Clock, plain_console, written
from tests.helpers.run_events import evaluated, game, run_started, updated


def lines_of(*events: ev.Event) -> list[str]:
    console, clock = plain_console(width=40), Clock()
    view = LinesView(console, clock)
    for event in events:
        view.handle(event)
        clock.now += 1.0
    view.close()
    return written(console).splitlines()


def test_an_update_is_one_line_of_key_value_with_the_contracts_names() -> None:
    lines = lines_of(run_started(), updated(7, grad_norm=None))
    assert len(lines) == 2
    pairs = dict(pair.split("=") for pair in lines[1].split())
    assert set(pairs) - {"done", "left"} <= set(METRIC_NAMES)
    for name, value in {
        "update": "7",
        "timestep": "7000",
        "done": "7.0%",
        "left": "0:01:33",
        "sps": "1000",
        "games_total": "70",
        "black_wins": "35",
        "draws": "7",
        "policy_loss": "-0.0123",
        "learning_rate": "2.97e-04",
        "grad_norm": "-",
        "policy_lag_max": "1",
        "actors_alive": "2",
    }.items():
        assert pairs[name] == value, name


def test_the_columns_of_all_updates_stand_under_one_another() -> None:
    first, last = lines_of(run_started(), updated(1), updated(100))[1:]
    assert first.startswith("update=1 ")
    assert [m.start() for m in re.finditer("=", first)] == [
        m.start() for m in re.finditer("=", last)
    ]


def test_a_match_is_one_line_with_its_newest_rating() -> None:
    fitted = ev.RatingsFitted((Rating("v7", 312.4, 280.0, None, 32),), 7000)
    lines = lines_of(run_started(), evaluated(7, "greedy", wins=14), fitted)
    assert len(lines) == 2
    assert dict(pair.split("=") for pair in lines[1].split()) == {
        "evaluation": "v7",
        "timestep": "7000",
        "opponent": "greedy",
        "games": "32",
        "score": "0.438",
        "score_low": "0.338",
        "score_high": "0.537",
        "elo": "+312",
        "elo_low": "+280",
        "elo_high": "-",
    }


def test_a_table_without_a_match_of_this_session_has_no_line() -> None:
    fitted = ev.RatingsFitted((Rating("v7", 312.4, 280.0, None, 32),), 7000)
    assert len(lines_of(run_started(), fitted)) == 1


def test_faults_and_milestones_are_notice_lines() -> None:
    lines = lines_of(
        run_started(num_actors=1),
        ev.ActorReady(0, 0, 1, "n"),
        ev.RolloutArrived(0, 0, 0, 2048),
        ev.GameFinished(game(0), 3),
        ev.ActorLost(0, 0, "boom", 2),
        ev.CheckpointSaved("runs/x/checkpoints/step-1", 1),
    )
    assert all(line.startswith("notice elapsed=") for line in lines)
    kinds = [re.search(r"kind=(\w+)", line)[1] for line in lines]  # type: ignore[index]
    assert kinds == ["run_started", "actor_ready", "actor_lost", "checkpoint_saved"]
    assert "level=WARNING" in lines[2]
    assert lines[2].endswith("actor 0 lost, 2 restarts left: boom")

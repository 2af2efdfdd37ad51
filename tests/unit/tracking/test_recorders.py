"""The records that a run leaves on disk."""

import json
from pathlib import Path

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.tracking import recorders
from tests.helpers.consoles import Clock
from tests.helpers.run_events import game, record, run_started, updated


def test_metrics_are_one_object_an_update_in_the_tables_order(tmp_path: Path) -> None:
    file = recorders.metrics_recorder(tmp_path, None)
    file.handle(updated(1, policy_loss=float("nan")))
    file.handle(ev.Notice("not a metric"))
    file.handle(updated(2))
    first, second = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert list(json.loads(first)) == list(METRIC_NAMES)
    assert json.loads(first) == record(1, policy_loss=None)
    assert json.loads(second) == record(2)
    file.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_games_are_one_object_each_with_the_timestep_they_counted_at(tmp_path: Path) -> None:
    file = recorders.games_recorder(tmp_path, None)
    for index in range(3):
        file.handle(ev.GameFinished(game(index), 1000 + index))
    file.handle(updated(1))
    file.close()
    games = [json.loads(line) for line in (tmp_path / "games.jsonl").read_text().splitlines()]
    assert [g["game_id"] for g in games] == ["0-0-0", "0-0-1", "0-0-2"]
    assert [g["timestep"] for g in games] == [1000, 1001, 1002]
    assert (
        games[0].items()
        >= {
            "game_id": "0-0-0",
            "actor_id": 0,
            "incarnation": 0,
            "index": 0,
            "weights_version": 0,
            "result": "draw",
            "reason": "repetition",
            "plies": 12,
            "opening_plies": 2,
            "moves": "7g7f 3c3d",
        }.items()
    )


def test_events_hold_lifecycle_and_faults_with_time_and_kind_and_no_config(tmp_path: Path) -> None:
    clock = Clock()
    file = recorders.events_recorder(tmp_path, None, clock)
    told = [
        run_started(),
        ev.ActorReady(0, 0, 77, "node-a"),
        ev.ActorLost(0, 0, "Traceback\n\u5c06", 2),
        ev.RolloutRejected(1, "damaged"),
        ev.CheckpointSaved("c", 5),
        ev.Notice("hm", "WARNING"),
        ev.RunEnded("done", 5, "c", 1.0),
    ]
    for event in (*told, updated(1), ev.GameFinished(game(0), 1), ev.RolloutArrived(0, 0, 0, 1)):
        file.handle(event)
        clock.now += 1.5
    file.close()
    text = (tmp_path / "events.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [r["kind"] for r in records] == [event.kind for event in told]
    assert [r["time"] for r in records[:2]] == [
        "2023-11-14T22:13:20.000+00:00",
        "2023-11-14T22:13:21.500+00:00",
    ]
    assert records[0]["cluster"] == {"num_nodes": 1, "num_cpus": 2}
    assert all("config" not in r for r in records)
    assert records[2] == {
        "time": records[2]["time"],
        "kind": "actor_lost",
        "actor_id": 0,
        "incarnation": 0,
        "cause": "Traceback\n\u5c06",
        "restarts_left": 2,
    }
    assert text.isascii()


def test_each_record_is_on_disk_when_the_handler_returns(tmp_path: Path) -> None:
    file = recorders.games_recorder(tmp_path, None)
    for count in (1, 2, 3):
        file.handle(ev.GameFinished(game(count), count))
        assert len((tmp_path / "games.jsonl").read_text().splitlines()) == count
    file.close()


def test_a_fresh_run_refuses_the_records_of_another_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(RunDirError, match="--resume latest"):
        recorders.metrics_recorder(tmp_path, None)
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "games.jsonl").mkdir()
    with pytest.raises(RunDirError, match=r"games\.jsonl"):
        recorders.games_recorder(tmp_path, None)
    with pytest.raises(RunDirError, match=r"metrics\.jsonl"):
        recorders.metrics_recorder(tmp_path / "nowhere", None)


def test_a_resume_sets_aside_what_will_be_played_again(tmp_path: Path) -> None:
    metrics = recorders.metrics_recorder(tmp_path, None)
    for update in range(1, 6):
        metrics.handle(updated(update))
    metrics.close()
    metrics = recorders.metrics_recorder(tmp_path, 3000)
    for update in (4, 5):
        metrics.handle(updated(update, policy_loss=1.0))
    metrics.close()
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["timestep"], r["policy_loss"]) for r in records] == [
        (1000, -0.0123),
        (2000, -0.0123),
        (3000, -0.0123),
        (4000, 1.0),
        (5000, 1.0),
    ]
    aside = (tmp_path / "metrics.jsonl.superseded").read_text().splitlines()
    assert [json.loads(x)["timestep"] for x in aside] == [4000, 5000]


def test_a_resume_keeps_every_lifecycle_event(tmp_path: Path) -> None:
    for resumed_timestep in (None, 0, 0):
        file = recorders.events_recorder(tmp_path, resumed_timestep, Clock())
        file.handle(ev.CheckpointSaved("c", 9000))
        file.close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "events.jsonl.superseded").exists()

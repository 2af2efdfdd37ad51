"""The invariants of `tests/chaos` see what they are for: each is broken once in a sound run."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as packed

from keisei_ray.rollouts.actor_state import pack_states
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.progress import Progress
from tests.chaos.campaign import Injected, drawn_lives
from tests.chaos.invariants import not_finite, violations
from tests.chaos.table import table
from tests.helpers.report_runs import write_lines
from tests.helpers.run_events import record

BATCH = 100
Change = Callable[[list[Any]], object]


def saved(run_dir: Path, timestep: int, /, weight: float = 1.0, **counts: int) -> Path:
    """Saves a checkpoint of a run with one drawn game in each update."""
    updates = timestep // BATCH
    known: dict[str, Any] = {"timestep": timestep, "updates": updates}
    known["timesteps_collected"] = timestep + 32
    games = {"weights_version": updates, "games_total": updates, "draws": updates}
    progress = Progress(**(known | games | counts))
    files = {
        "progress.json": progress.to_json().encode(),
        "model.safetensors": packed({"w": np.full(3, weight, np.float32)}),
        "actors.msgpack": pack_states([]),
    }
    return checkpoint.save(run_dir / "checkpoints", timestep, files, {})


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A sound run of four updates, saved after the second and the last."""
    metrics = [
        dict(record(number))
        | {"timestep": number * BATCH, "batch_timesteps": BATCH, "games_total": number}
        | {"black_wins": 0, "white_wins": 0, "draws": number, "truncated": 0}
        | {"policy_lag_max": 1, "weights_version": number, "wall_time_s": float(number)}
        for number in range(1, 5)
    ]
    plies = {"plies": BATCH + 4, "opening_plies": 4}
    games = [{"game_id": f"0-0-{n}", "timestep": n * BATCH} | plies for n in range(1, 5)]
    write_lines(tmp_path / "metrics.jsonl", metrics)
    write_lines(tmp_path / "games.jsonl", games)
    write_lines(tmp_path / "events.jsonl", [{"kind": "run_started"}])
    for timestep in (2 * BATCH, 4 * BATCH):
        saved(tmp_path, timestep)
    return tmp_path


def test_a_sound_run_violates_nothing(run_dir: Path) -> None:
    assert violations(run_dir, must_be_saved=True) == []
    assert not_finite(run_dir) == []


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("metrics.jsonl", lambda lines: lines.pop(1), "line 2 of metrics.jsonl is update 3"),
        ("metrics.jsonl", lambda lines: lines.append(lines[-1]), "line 5 of metrics.jsonl is"),
        (
            "metrics.jsonl",
            lambda lines: lines[2].update(batch_timesteps=BATCH + 1),
            "update 3: timestep 300, the batches sum to 301",
        ),
        ("metrics.jsonl", lambda lines: lines[3].update(weights_version=3), "version 3 comes"),
        ("metrics.jsonl", lambda lines: lines[3].update(wall_time_s=0.5), "wall_time_s fell"),
        ("metrics.jsonl", lambda lines: lines[3].update(policy_lag_max=2), "policy lag 2"),
        ("metrics.jsonl", lambda lines: lines[3].update(draws=2, truncated=1), "the results"),
        ("games.jsonl", lambda lines: lines.pop(2), "update 3 counts 3 games, on record are 2"),
        ("games.jsonl", lambda lines: lines.append(lines[-1]), "1 games are on record twice"),
        (
            "games.jsonl",
            lambda lines: lines[1].update(opening_plies=3),
            "step-000000000400 counts 1 plies fewer than its games have",
        ),
        ("games.jsonl", lambda lines: lines.reverse(), "the timesteps of games.jsonl fall"),
        (
            "events.jsonl",
            lambda lines: lines.append({"kind": "notice", "level": "ERROR", "message": "oh"}),
            "a notice of level ERROR: oh",
        ),
    ],
)
def test_records_that_contradict_each_other_are_told(
    run_dir: Path, file: str, change: Change, told: str
) -> None:
    lines = [json.loads(line) for line in (run_dir / file).read_text().splitlines()]
    change(lines)
    write_lines(run_dir / file, lines)
    assert any(told in violation for violation in violations(run_dir, must_be_saved=True))


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"games_total": 5, "draws": 5}, "counts 5 games, on record are 4"),
        ({"draws": 3, "truncated": 1}, "draws 3, metrics.jsonl has 4"),
        ({"updates": 5}, "of another update"),
        ({"timesteps_collected": 300}, "300 plies delivered - 400 consumed - 0 lost = -100"),
        ({"timesteps_collected": 700, "timesteps_lost": 99}, "- 99 lost = 201, expected 0 to 200"),
        ({"timestep": 401}, "holds the progress of timestep 401"),
    ],
)
def test_a_checkpoint_that_contradicts_the_records_is_told(
    run_dir: Path, counts: dict[str, int], told: str
) -> None:
    saved(run_dir, 4 * BATCH, **counts)
    assert any(told in violation for violation in violations(run_dir, must_be_saved=True))


def test_an_error_of_an_earlier_session_is_not_told_again(run_dir: Path) -> None:
    error = {"kind": "notice", "level": "ERROR", "message": "oh"}
    write_lines(run_dir / "events.jsonl", [{"kind": "run_started"}, error, {"kind": "run_started"}])
    assert violations(run_dir, must_be_saved=True) == []


def test_a_checkpoint_beyond_the_records_is_told(run_dir: Path) -> None:
    saved(run_dir, 5 * BATCH)
    assert any("no update of metrics" in v for v in violations(run_dir, must_be_saved=True))


def test_weights_that_are_not_finite_are_told_and_an_older_checkpoint_is_used(
    run_dir: Path,
) -> None:
    saved(run_dir, 4 * BATCH, weight=float("nan"))
    assert violations(run_dir, must_be_saved=True) == []
    assert not_finite(run_dir) == ["step-000000000400 has weights that are not finite"]
    for path in (run_dir / "checkpoints").glob("*200/*"):
        path.write_bytes(b"")
    assert violations(run_dir, must_be_saved=True) == ["no checkpoint can be used"]


def test_plans_are_drawn_from_the_seed() -> None:
    plans = [drawn_lives(random.Random(seed)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    (*hurt, last) = plans[0]
    assert last.ending is None
    assert not last.live
    assert all(life.ending and life.live for life in hurt)


def test_the_table_counts_faults_outcomes_and_violated_ones() -> None:
    done = [
        Injected("kill", "went on"),
        Injected("kill", "went on", ["x", "y"]),
        Injected("stop", "ended, 1", []),
    ]
    assert table(done).splitlines()[2:] == [
        "| kill | 2 | went on: 2 | 1 |",
        "| stop | 1 | ended, 1: 1 | 0 |",
        "| all | 3 | | 1 |",
    ]

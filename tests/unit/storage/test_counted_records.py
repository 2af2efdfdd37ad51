"""Records that a checkpoint counts: on the disk before it, and missed when they are gone."""

import json
import os
from pathlib import Path

import pytest

from keisei_ray.storage.counted_records import missing_records, sync_records
from keisei_ray.storage.run_layout import EVENTS_FILE, GAMES_FILE, METRICS_FILE


def write(run_dir: Path, *, updates: int, games: int) -> None:
    """Writes the records of updates of 100 timesteps and of games."""
    lines = [json.dumps({"timestep": 100 * n}) + "\n" for n in range(1, updates + 1)]
    (run_dir / METRICS_FILE).write_text("".join(lines))
    (run_dir / GAMES_FILE).write_text('{"timestep": 100}\n' * games)


def test_complete_records_miss_nothing(tmp_path: Path) -> None:
    write(tmp_path, updates=3, games=5)
    assert list(missing_records(tmp_path, 300, 5)) == []
    assert list(missing_records(tmp_path / "fresh", 0, 0)) == []


def test_updates_and_games_that_are_gone_are_said(tmp_path: Path) -> None:
    write(tmp_path, updates=3, games=5)
    path = tmp_path / METRICS_FILE
    path.write_bytes(path.read_bytes()[:-4])  # Its last line is no record any more.
    updates, games = missing_records(tmp_path, 300, 1_006)
    assert updates.startswith("metrics.jsonl ends at timestep 200, before the checkpoint at 300: ")
    assert games.startswith("games.jsonl has 5 of the 1,006 games that the checkpoint counts")


def test_files_that_are_gone_are_said(tmp_path: Path) -> None:
    updates, games = missing_records(tmp_path, 300, 5)
    assert "ends at timestep 0" in updates
    assert "has 0 of the 5 games" in games


def test_records_are_on_the_disk_before_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, updates=1, games=1)
    (tmp_path / EVENTS_FILE).write_text("{}\n")
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda file: synced.add(os.fstat(file).st_ino))
    sync_records(tmp_path)
    names = (METRICS_FILE, GAMES_FILE, EVENTS_FILE)
    assert synced == {(tmp_path / name).stat().st_ino for name in names}

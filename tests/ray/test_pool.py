"""The opponent pool through a whole run: reproducible, bounded, counted once, resumed, repaired."""

import hashlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from keisei_ray.distributed.pool_handle import PoolHandle
from keisei_ray.storage import checkpoint
from keisei_ray.storage.pool_table import PoolMember, read_table
from keisei_ray.storage.run_layout import POOL_DIR, POOL_FILE
from keisei_ray.telemetry.events import Event, EventBus, Notice
from tests.helpers.pool_runs import KEPT, NUM_UPDATES, UPDATE, PoolRuns, latest, lockstep_config
from tests.helpers.training_run import Run

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("pool_runs")]


def table(pool: PoolHandle) -> list[PoolMember]:
    return read_table(pool.files()[POOL_FILE].decode())


def members(run: Run) -> dict[str, PoolMember]:
    return {member.name: member for member in table(run.driver.pool)}


def test_the_run_played_against_everybody(pool_runs: PoolRuns) -> None:
    games = pool_runs.resumed.lines("games.jsonl")
    opponents = Counter(game["opponent"] for game in games)
    assert opponents[""] > 5
    assert opponents["greedy"] > 1
    assert len([name for name in opponents if name.startswith("v")]) > 1
    assert {game["learner_color"] for game in games} == {None, "black", "white"}
    assert all((game["opponent"] == "") == (game["learner_color"] is None) for game in games)


def test_members_table_and_timestep_go_on_after_a_resume(pool_runs: PoolRuns) -> None:
    first = {m.name: m for m in read_table(pool_runs.saved.files[POOL_FILE].decode())}
    second = members(pool_runs.resumed)
    assert set(first) == {"greedy", "v2", "v4", "v6"}
    assert len(second) == 4
    assert "v12" in second
    assert set(second) - {"greedy", "v8", "v10", "v12"} <= set(first)
    # The snapshots of the first part played on, from their files.
    later = [g for g in pool_runs.resumed.lines("games.jsonl") if g["timestep"] > KEPT * UPDATE]
    assert {game["opponent"] for game in later} & {"v2", "v4", "v6"}
    assert (
        latest(pool_runs.resumed.run_dir).files[POOL_FILE]
        == pool_runs.resumed.driver.pool.files()[POOL_FILE]
    )


def test_a_result_counts_once_across_the_resume(pool_runs: PoolRuns) -> None:
    games = pool_runs.resumed.lines("games.jsonl")
    opponents = Counter(game["opponent"] for game in games)
    for name, member in members(pool_runs.resumed).items():
        assert member.games_total == opponents[name]
    last = pool_runs.resumed.lines("metrics.jsonl")[-1]
    assert last["games_total"] == len(games)


def test_diagnostics_go_on_and_agree_with_the_games(pool_runs: PoolRuns) -> None:
    lines = pool_runs.resumed.lines("diagnostics.jsonl")
    assert [line["timestep"] for line in lines] == [UPDATE * (i + 1) for i in range(NUM_UPDATES)]
    games = pool_runs.resumed.lines("games.jsonl")
    for line in lines:
        ended = [game for game in games if game["timestep"] == line["timestep"]]
        assert line["games"] == len(ended)
        assert line["pool_games"] == sum(game["opponent"] != "" for game in ended)
        reasons = ("mate", "repetition", "perpetual_check", "declaration", "max_plies")
        assert [line[r] for r in reasons] == [sum(g["reason"] == r for g in ended) for r in reasons]
        assert 0 < line["trained_timesteps"] <= UPDATE
        assert 0 < line["distinct_positions"] <= 1
    assert sum(line["trained_timesteps"] for line in lines) < NUM_UPDATES * UPDATE


def test_files_of_the_pool_are_those_that_it_or_a_checkpoint_names(pool_runs: PoolRuns) -> None:
    run_dir = pool_runs.resumed.run_dir
    tables = [pool_runs.resumed.driver.pool.files()[POOL_FILE]]
    tables += [path.read_bytes() for path in (run_dir / "checkpoints").glob(f"*/{POOL_FILE}")]
    assert len(tables) == 3
    named = {m.weights_name for t in tables for m in read_table(t, with_former=True) if m.digest}
    assert {path.name for path in (run_dir / POOL_DIR).iterdir()} == named
    assert {
        member.weights_name for member in members(pool_runs.resumed).values() if member.digest
    } < (named)


def test_a_damaged_and_a_missing_snapshot_are_left_out_with_a_notice(
    pool_runs: PoolRuns, tmp_path: Path
) -> None:
    """A run that goes on in another directory copies the intact snapshots."""
    source = pool_runs.resumed.run_dir
    saved = latest(source)
    damaged, whole, missing = (m for m in table(pool_runs.resumed.driver.pool) if m.is_snapshot)
    copy = tmp_path / "copy"
    path = checkpoint.save(copy / "checkpoints", saved.timestep, saved.files, saved.info)
    shutil.copytree(source / POOL_DIR, copy / POOL_DIR)
    (file,) = (copy / POOL_DIR).glob(f"{damaged.name}-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    next((copy / POOL_DIR).glob(f"{missing.name}-*")).unlink()

    events: list[Event] = []
    bus = EventBus()
    bus.subscribe("recorder", events.append)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pool = PoolHandle(lockstep_config(), bus, elsewhere, checkpoint.load(path))
    pool.restore()
    says = [event.message for event in events if isinstance(event, Notice)]
    assert [message.split(" is no longer")[0] for message in says] == [damaged.name, missing.name]
    assert {event.level for event in events if isinstance(event, Notice)} == {"WARNING"}
    assert [m.name for m in table(pool)] == ["greedy", whole.name]
    copied = {p.name.split("-")[0] for p in (elsewhere / POOL_DIR).iterdir()}
    assert copied & {damaged.name, whole.name, missing.name} == {whole.name}
    mix, refs = pool.next_mix(0, 0)
    assert mix.snapshots == (whole.name,)
    assert hashlib.sha256(ray.get(refs[0]).tobytes()).hexdigest() == whole.digest


def test_a_checkpoint_from_before_the_pool_starts_an_empty_one(
    pool_runs: PoolRuns, tmp_path: Path
) -> None:
    saved = pool_runs.saved
    files = {name: content for name, content in saved.files.items() if name != POOL_FILE}
    pool = PoolHandle(lockstep_config(), EventBus(), tmp_path, replace(saved, files=files))
    pool.restore()
    assert [(m.name, m.games_total) for m in table(pool)] == [("greedy", 0)]


def test_no_snapshot_is_removed_while_a_table_cannot_be_read(
    pool_runs: PoolRuns, tmp_path: Path
) -> None:
    saved = pool_runs.saved
    shutil.copytree(pool_runs.resumed.run_dir / POOL_DIR, tmp_path / POOL_DIR)
    (tmp_path / POOL_DIR / ".tmp-1-v8-killed.bin").write_bytes(b"half")
    before = set((tmp_path / POOL_DIR).iterdir())
    pool = PoolHandle(lockstep_config(), EventBus(), tmp_path, None)
    path = checkpoint.save(tmp_path / "checkpoints", saved.timestep, saved.files, saved.info)
    (path / POOL_FILE).write_bytes(b"\xff")
    pool.prune(tmp_path / "checkpoints")
    assert set((tmp_path / POOL_DIR).iterdir()) == before
    (path / POOL_FILE).write_bytes(saved.files[POOL_FILE])
    pool.prune(tmp_path / "checkpoints")
    left = {file.name.split("-")[0] for file in (tmp_path / POOL_DIR).iterdir()}
    assert left < {file.name.split("-")[0] for file in before}
    assert left <= {"v2", "v4", "v6"}

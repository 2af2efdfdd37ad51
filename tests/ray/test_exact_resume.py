"""A run that is killed and resumed is, in lockstep bit for bit, the run that was not.

In overlap, where timing decides what is played, no ply counts twice and none is left out.
"""

from pathlib import Path
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.rollouts.actor_state import read_states
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import (
    ACTORS_FILE,
    CHECKPOINTS_DIR,
    GAMES_FILE,
    LEARNER_FILE,
    MODEL_FILE,
    POOL_FILE,
    PROGRESS_FILE,
    checkpoint_name,
)
from keisei_ray.storage.run_lock import run_lock
from keisei_ray.telemetry.events import ActorReady, Notice
from keisei_ray.telemetry.progress import Progress
from tests.chaos.invariants import newest_usable, plies_missing, violations
from tests.helpers.kill_moments import MOMENTS, Moment, killed_at
from tests.helpers.pool_runs import (
    KEPT,
    NUM_UPDATES,
    UPDATE,
    PoolRuns,
    kill_itself,
    latest,
    lockstep_config,
)
from tests.helpers.program import json_records
from tests.helpers.training_run import overlap_config, train

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("pool_runs")]

TIMES = ("wall_time_s", "sps", "sps_total") + tuple(
    f"{name}_time_s" for name in ("collect", "update", "publish", "wait")
)


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


EQUAL_FILES = (MODEL_FILE, LEARNER_FILE, POOL_FILE, ACTORS_FILE)


def different_files(one: Checkpoint, other: Checkpoint) -> list[str]:
    """Returns which files of two checkpoints differ, of those that must not."""
    return [name for name in EQUAL_FILES if one.files[name] != other.files[name]]


def test_the_run_was_killed_beyond_its_checkpoint(pool_runs: PoolRuns) -> None:
    assert pool_runs.saved.timestep == KEPT * UPDATE
    assert KEPT < len(pool_runs.killed_at) < NUM_UPDATES


def test_weights_and_learner_are_the_same_bit_for_bit(pool_runs: PoolRuns) -> None:
    one, other = latest(pool_runs.straight.run_dir), latest(pool_runs.resumed.run_dir)
    assert one.timestep == other.timestep == NUM_UPDATES * UPDATE
    assert one.info == other.info
    assert different_files(one, other) == []


def test_metrics_are_the_same_but_for_times(pool_runs: PoolRuns) -> None:
    one, other = (run.lines("metrics.jsonl") for run in (pool_runs.straight, pool_runs.resumed))
    assert len(one) == NUM_UPDATES
    assert without_times(one) == without_times(other)


def test_every_game_is_the_same(pool_runs: PoolRuns) -> None:
    one, other = (run.lines("games.jsonl") for run in (pool_runs.straight, pool_runs.resumed))
    assert one == other
    later = [game for game in one if game["timestep"] > KEPT * UPDATE]
    assert {g["opponent"][:1] for g in later} == {"", "g", "v"}


def test_games_in_play_went_on(pool_runs: PoolRuns) -> None:
    states = read_states(pool_runs.saved.files[ACTORS_FILE])
    assert set(states) == {0, 1}
    assert all(any(game.moves for game in state.games.games) for state in states.values())
    assert {event.incarnation for event in pool_runs.resumed.of(ActorReady)} == {0}
    assert not [n for n in pool_runs.resumed.of(Notice) if "not kept" in n.message]


def test_a_run_with_fewer_actors_goes_on_and_says_whose_games_it_could_not_keep(
    pool_runs: PoolRuns, cluster: Cluster, tmp_path: Path
) -> None:
    config = lockstep_config()
    changes = {
        "run": config.run.model_copy(update={"total_timesteps": (KEPT + 1) * UPDATE}),
        "self_play": config.self_play.model_copy(update={"num_actors": 1}),
        "schedule": config.schedule.model_copy(update={"rollouts_per_update": 1}),
    }
    fewer = train(
        config.model_copy(update=changes), cluster, tmp_path / "run", resume=pool_runs.saved
    )
    assert [n.message for n in fewer.of(Notice) if "not kept" in n.message] == [
        "games in play of 1 of 2 actors are not kept: this run has 1 self-play actors"
    ]
    assert [(event.actor_id, event.incarnation) for event in fewer.of(ActorReady)] == [(0, 0)]
    assert latest(fewer.run_dir).timestep >= (KEPT + 1) * UPDATE


def often_killed_config(mode: str, num_updates: int, keep_last: int) -> Config:
    """A checkpoint and a snapshot every two updates, a match every four."""
    config = lockstep_config()
    evaluation = {
        "interval_timesteps": 4 * UPDATE,
        "num_games": 2,
        "max_plies": 20,
        "opponents": ("random",),
        "max_cpu_share": 1.0,
        "finish_timeout_s": 60.0,  # A match that is awaited ends.
    }
    schedule = {"mode": mode, "rollouts_per_update": None if mode == "lockstep" else 2}
    changes = {
        "run": {"total_timesteps": num_updates * UPDATE},
        "self_play": {"max_plies": 20},
        "learner": config.learner.model_dump(),
        "pool": config.pool.model_dump(),
        "schedule": schedule,
        "checkpoint": {
            "interval_timesteps": 2 * UPDATE,
            "keep_last": keep_last,
            # Exact resumes are from the checkpoints of the straight run.
            "standby": mode == "overlap",
        },
        "evaluation": evaluation,
    }
    return overlap_config(**changes)


def kill(moment: Moment, config: Config, cluster: Cluster, run_dir: Path) -> None:
    """Begins a run, or goes on with it, until it kills itself."""
    file = run_dir.with_suffix(".json")
    file.write_text(config.model_dump_json())
    source = ["--resume", "latest"] if run_dir.exists() else ["--config", str(file)]
    killed_at(moment, ["--run-dir", str(run_dir), *source], cluster, run_dir.parent)


def wrong_since(before: Checkpoint | None, run_dir: Path) -> list[str]:
    """Returns what is wrong with a run that went on from the checkpoint `before`."""
    saved = newest_usable(run_dir)
    assert saved is not None
    found = violations(run_dir, must_be_saved=True)
    if missing := plies_missing(saved, json_records(run_dir / GAMES_FILE)):
        found.append(f"{missing} plies of {saved.path.name} are in no game")
    if before is not None and saved.timestep > before.timestep:
        found += wrong_losses(
            *(Progress.from_json(s.files[PROGRESS_FILE]) for s in (before, saved))
        )
    return found


def wrong_losses(before: Progress, now: Progress) -> list[str]:
    """Returns whether what had been delivered and not consumed before is not counted as lost."""
    lost = before.timesteps_collected - before.timestep
    if (now.timesteps_lost, now.rollouts_rejected) == (lost, 0):
        return []
    return [f"{now.timesteps_lost} plies lost, expected {lost}; {now.rollouts_rejected} rejected"]


@pytest.mark.long
def test_what_the_standby_process_saves_is_the_straight_run_bit_for_bit(
    cluster: Cluster, tmp_path: Path
) -> None:
    never = lockstep_config(checkpoint={"interval_timesteps": 2 * NUM_UPDATES * UPDATE})
    killed = kill_itself(never, cluster, tmp_path)
    with run_lock(killed):  # The standby process is done.
        saved = latest(killed)
    assert KEPT * UPDATE < saved.timestep < NUM_UPDATES * UPDATE
    often = lockstep_config(checkpoint={"interval_timesteps": UPDATE, "keep_last": NUM_UPDATES})
    straight = train(often, cluster, tmp_path / "straight")
    same = checkpoint.load(straight.run_dir / CHECKPOINTS_DIR / saved.path.name)
    assert different_files(same, saved) == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("work", MOMENTS)
def test_a_run_in_overlap_that_is_killed_at_any_moment_counts_every_ply_once(
    work: str, cluster: Cluster, tmp_path: Path
) -> None:
    config = often_killed_config("overlap", 1000, keep_last=3)
    run_dir, before = tmp_path / "run", None
    for moment in MOMENTS[work]:
        kill(moment, config, cluster, run_dir)
        assert (moment.name, wrong_since(before, run_dir)) == (moment.name, [])
        before = latest(run_dir)
    assert before is not None
    end = {"total_timesteps": before.timestep + 4 * UPDATE}
    config = config.model_copy(update={"run": config.run.model_copy(update=end)})
    train(config, cluster, run_dir, resume=before)
    assert wrong_since(before, run_dir) == []
    assert latest(run_dir).timestep > before.timestep > len(MOMENTS[work]) * UPDATE


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("work", MOMENTS)
def test_a_run_in_lockstep_that_is_killed_at_any_moment_is_the_same_bit_for_bit(
    work: str, cluster: Cluster, tmp_path: Path
) -> None:
    config = often_killed_config("lockstep", 6 * len(MOMENTS[work]), keep_last=1000)
    straight = train(config, cluster, tmp_path / "straight")
    run_dir = tmp_path / "run"
    for moment in MOMENTS[work]:
        kill(moment, config, cluster, run_dir)
        saved = latest(run_dir)
        same = checkpoint.load(straight.run_dir / CHECKPOINTS_DIR / checkpoint_name(saved.timestep))
        differing = different_files(same, saved)
        assert (moment.name, differing) == (moment.name, [])
    resumed = train(config, cluster, run_dir, resume=latest(run_dir))
    assert different_files(latest(straight.run_dir), latest(run_dir)) == []
    for name in ("metrics.jsonl", "games.jsonl"):
        assert without_times(straight.lines(name)) == without_times(resumed.lines(name))

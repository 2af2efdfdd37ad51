"""A run in lockstep that is killed and resumed is, bit for bit, the run that was not."""

from pathlib import Path
from typing import Any

import pytest

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.rollouts.actor_state import read_states
from keisei_ray.storage.run_layout import ACTORS_FILE, POOL_FILE
from keisei_ray.telemetry.events import ActorReady, Notice
from tests.helpers.pool_runs import KEPT, NUM_UPDATES, UPDATE, PoolRuns, latest, lockstep_config
from tests.helpers.training_run import train

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("pool_runs")]

TIMES = ("wall_time_s", "sps", "sps_total") + tuple(
    f"{name}_time_s" for name in ("collect", "update", "publish", "wait")
)


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def test_the_run_was_killed_beyond_its_checkpoint(pool_runs: PoolRuns) -> None:
    assert pool_runs.saved.timestep == KEPT * UPDATE
    assert KEPT < len(pool_runs.killed_at) < NUM_UPDATES


def test_weights_and_learner_are_the_same_bit_for_bit(pool_runs: PoolRuns) -> None:
    one, other = latest(pool_runs.straight.run_dir), latest(pool_runs.resumed.run_dir)
    assert one.timestep == other.timestep == NUM_UPDATES * UPDATE
    assert one.info == other.info
    assert one.files["model.safetensors"] == other.files["model.safetensors"]
    assert one.files["learner.pt"] == other.files["learner.pt"]
    assert one.files[POOL_FILE] == other.files[POOL_FILE]
    assert one.files[ACTORS_FILE] == other.files[ACTORS_FILE]


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

"""A run in lockstep that is killed and resumed is, bit for bit, the run that was not."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.rollouts.actor_state import read_states
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import ACTORS_FILE, POOL_FILE
from keisei_ray.telemetry.events import ActorReady, Notice
from tests.helpers.program import PATIENCE_S, ROOT, start_program
from tests.helpers.training_run import Run, overlap_config, train

pytestmark = pytest.mark.ray

UPDATE, KEPT, NUM_UPDATES = 64, 6, 12
TIMES = ("wall_time_s", "sps", "sps_total") + tuple(
    f"{name}_time_s" for name in ("collect", "update", "publish", "wait")
)


def lockstep_config() -> Config:
    """Half the games against greedy and snapshots, which come and go; adaptive learning rate."""
    return overlap_config(
        run={"total_timesteps": NUM_UPDATES * UPDATE},
        self_play={"max_plies": 40},
        schedule={"mode": "lockstep", "rollouts_per_update": None},
        learner={"lr_schedule": "adaptive", "target_kl": 0.02},
        checkpoint={"interval_timesteps": KEPT * UPDATE, "keep_last": 2},
        pool={
            "share": 0.6,
            "members": ("greedy",),
            "snapshot_interval_timesteps": UPDATE,
            "max_snapshots": 2,
            "scripted_share": 0.25,
        },
        cluster={"address": "local", "num_cpus": 2, "num_gpus": 0, "object_store_bytes": 2**28},
    )


@dataclass
class Resumed:
    """A run that was not stopped, and one that was killed and resumed."""

    straight: Run
    killed_at: list[dict[str, Any]]
    """Records of the updates before the kill."""
    saved: Checkpoint
    resumed: Run


def latest(run_dir: Path) -> Checkpoint:
    found = checkpoint.find_latest(run_dir / "checkpoints", on_skip=lambda *_: None)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def runs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    config, folder = lockstep_config(), tmp_path_factory.mktemp("runs")
    killed = kill_itself(config, folder)
    lines = (killed / "metrics.jsonl").read_text().splitlines()
    saved = latest(killed)
    resumed = train(config, cluster, killed, resume=saved)
    return Resumed(
        train(config, cluster, folder / "straight"), list(map(json.loads, lines)), saved, resumed
    )


def kill_itself(config: Config, folder: Path) -> Path:
    """Runs a program that dies by SIGKILL some updates after its checkpoint."""
    file, run_dir = folder / "config.json", folder / "killed"
    file.write_text(config.model_dump_json())
    process = start_program(
        *("--config", str(file), "--run-dir", str(run_dir)),
        *("--set", "tracking.subscribers=[tests.helpers.subscribers:KillItself]"),
        cwd=folder,
        PYTHONPATH=str(ROOT),
        KILLED_AFTER_UPDATE=str(KEPT + 2),
    )
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, errors
    return run_dir


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def test_the_run_was_killed_beyond_its_checkpoint(runs: Resumed) -> None:
    assert runs.saved.timestep == KEPT * UPDATE
    assert KEPT < len(runs.killed_at) < NUM_UPDATES


def test_weights_and_learner_are_the_same_bit_for_bit(runs: Resumed) -> None:
    one, other = latest(runs.straight.run_dir), latest(runs.resumed.run_dir)
    assert one.timestep == other.timestep == NUM_UPDATES * UPDATE
    assert one.info == other.info
    assert one.files["model.safetensors"] == other.files["model.safetensors"]
    assert one.files["learner.pt"] == other.files["learner.pt"]
    assert one.files[POOL_FILE] == other.files[POOL_FILE]
    assert one.files[ACTORS_FILE] == other.files[ACTORS_FILE]


def test_metrics_are_the_same_but_for_times(runs: Resumed) -> None:
    one, other = (run.lines("metrics.jsonl") for run in (runs.straight, runs.resumed))
    assert len(one) == NUM_UPDATES
    assert without_times(one) == without_times(other)


def test_every_game_is_the_same(runs: Resumed) -> None:
    one, other = (run.lines("games.jsonl") for run in (runs.straight, runs.resumed))
    assert one == other
    later = [game for game in one if game["timestep"] > KEPT * UPDATE]
    assert {g["opponent"][:1] for g in later} == {"", "g", "v"}


def test_games_in_play_went_on(runs: Resumed) -> None:
    states = read_states(runs.saved.files[ACTORS_FILE])
    assert set(states) == {0, 1}
    assert all(any(game.moves for game in state.games.games) for state in states.values())
    assert {event.incarnation for event in runs.resumed.of(ActorReady)} == {0}
    assert not [n for n in runs.resumed.of(Notice) if "not kept" in n.message]


def test_a_run_with_fewer_actors_goes_on_and_says_whose_games_it_could_not_keep(
    runs: Resumed, cluster: Cluster, tmp_path: Path
) -> None:
    config = lockstep_config()
    changes = {
        "run": config.run.model_copy(update={"total_timesteps": (KEPT + 1) * UPDATE}),
        "self_play": config.self_play.model_copy(update={"num_actors": 1}),
        "schedule": config.schedule.model_copy(update={"rollouts_per_update": 1}),
    }
    fewer = train(config.model_copy(update=changes), cluster, tmp_path / "run", resume=runs.saved)
    assert [n.message for n in fewer.of(Notice) if "not kept" in n.message] == [
        "games in play of 1 of 2 actors are not kept: this run has 1 self-play actors"
    ]
    assert [(event.actor_id, event.incarnation) for event in fewer.of(ActorReady)] == [(0, 0)]
    assert latest(fewer.run_dir).timestep >= (KEPT + 1) * UPDATE

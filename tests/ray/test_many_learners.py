"""Two learners in real processes: one of them is killed in an update, and nothing is lost."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from keisei_ray.distributed.actors import LearnerShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.telemetry.events import ActorLost, UpdateFinished
from tests.helpers.training_run import learner_actors, overlap_config, train

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

UPDATE = 64


class DiesInItsThirdUpdate(LearnerShell):
    """Learner 1 is killed in its third update, after the first optimizer step."""

    def follow(self, timestep: int, *rollouts: PackedBuffer) -> None:
        marker = Path(self._config.run.run_dir or "") / "learner-died"
        if self._learner.weights_version == 2 and not marker.exists():
            marker.touch()
            steps: Any = self._learner._steps
            step = steps.step

            def step_and_die() -> None:
                step()
                os.kill(os.getpid(), signal.SIGKILL)

            steps.step = step_and_die
        super().follow(timestep, *rollouts)


def test_two_learners_train_and_all_restart_where_one_is_killed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.learner_handle.new_learner_actor",
        learner_actors(DiesInItsThirdUpdate),
    )
    config = overlap_config(
        run={"total_timesteps": 5 * UPDATE, "run_dir": str(tmp_path / "run")},
        self_play={"num_actors": 1},
        learner={"num_learners": 2},
    )
    run = train(config, cluster, tmp_path / "run")
    assert (tmp_path / "run" / "learner-died").exists()
    [lost] = run.of(ActorLost)
    assert (lost.actor_id, lost.incarnation, lost.restarts_left) == (None, 0, 2)
    assert lost.cause.startswith("learner 1: ")
    before = [e for e in run.events[: run.events.index(lost)] if isinstance(e, UpdateFinished)]
    assert len(before) == 2
    progress, records = run.driver.progress, run.lines("metrics.jsonl")
    assert [record["weights_version"] for record in records] == [1, 2, 3, 4, 5]
    assert [record["batch_timesteps"] for record in records] == [UPDATE] * 5
    assert (progress.timestep, progress.rollouts_rejected) == (5 * UPDATE, 0)
    games = run.lines("games.jsonl")
    assert len({game["game_id"] for game in games}) == len(games) == progress.games_total

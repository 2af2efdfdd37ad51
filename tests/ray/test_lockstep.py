"""Lockstep: the same seed gives the same weights bit for bit, whatever the timing."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from keisei_ray.distributed.actors import SelfPlayShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.learning.learner import Learner
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo
from tests.helpers.pool_runs import NUM_UPDATES, PoolRuns, latest, lockstep_config
from tests.helpers.training_run import self_play_actors, train

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("pool_runs")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Delayed(SelfPlayShell):
    """Starts and delivers after a random time, which differs in every process."""

    def start(self, *arguments: Any) -> ProcessInfo:
        self._delays = np.random.default_rng()
        time.sleep(self._delays.uniform(0, 0.5))
        return super().start(*arguments)

    def collect(self, *arguments: Any) -> tuple[CollectReport, PackedBuffer]:
        time.sleep(self._delays.uniform(0, 0.1))
        return super().collect(*arguments)


def test_delays_do_not_change_a_bit_of_the_weights(
    pool_runs: PoolRuns, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.fleet.new_self_play_actor", self_play_actors(Delayed)
    )
    run = train(lockstep_config(), cluster, tmp_path / "run")
    assert [r["policy_lag_max"] for r in run.lines("metrics.jsonl")] == [0] * NUM_UPDATES
    # One rollout of every actor in each update.
    assert run.driver.progress.last_sequence == dict.fromkeys((0, 1), (0, NUM_UPDATES - 1))
    delayed, undelayed = latest(run.run_dir), latest(pool_runs.straight.run_dir)
    assert delayed.info["weights_version"] == NUM_UPDATES
    assert delayed.info["weights_digest"] == undelayed.info["weights_digest"]


def test_the_run_and_its_seed_change_the_weights(pool_runs: PoolRuns) -> None:
    """A seed's other games are shown in tests/unit/selfplay."""
    config = lockstep_config()
    other = config.model_copy(update={"run": config.run.model_copy(update={"seed": 4})})
    untrained = [Learner(config).weights_digest(), Learner(other).weights_digest()]
    assert len({latest(pool_runs.straight.run_dir).info["weights_digest"], *untrained}) == 3

"""Lockstep: the same seed gives the same weights bit for bit, whatever the timing."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import SelfPlayShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.learning.learner import Learner
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo
from tests.helpers.training_run import overlap_config, self_play_actors, train

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

NUM_UPDATES, NUM_ACTORS = 2, 3


class Delayed(SelfPlayShell):
    """Starts and delivers after a random time, which differs in every process."""

    def start(self, *arguments: Any) -> ProcessInfo:
        self._delays = np.random.default_rng()
        time.sleep(self._delays.uniform(0, 0.5))
        return super().start(*arguments)

    def collect(self, *arguments: Any) -> tuple[CollectReport, PackedBuffer]:
        time.sleep(self._delays.uniform(0, 0.2))
        return super().collect(*arguments)


def lockstep_config(seed: int = 3) -> Config:
    return overlap_config(
        run={"total_timesteps": NUM_UPDATES * NUM_ACTORS * 32, "seed": seed},
        self_play={"num_actors": NUM_ACTORS, "max_plies": 20},
        schedule={"mode": "lockstep", "rollouts_per_update": None},
        learner={"num_threads": 2},
    )


def digest_of_run(cluster: Cluster, run_dir: Path) -> object:
    """Returns the digest of the weights after `NUM_UPDATES` updates."""
    run = train(lockstep_config(), cluster, run_dir)
    records = run.lines("metrics.jsonl")
    assert [record["policy_lag_max"] for record in records] == [0] * NUM_UPDATES
    # One rollout of every actor in each update.
    last = (0, NUM_UPDATES - 1)
    assert run.driver.progress.last_sequence == dict.fromkeys(range(NUM_ACTORS), last)
    found = checkpoint.find_latest(run_dir / "checkpoints", on_skip=lambda *_: None)
    assert found is not None
    assert found.info["weights_version"] == NUM_UPDATES
    return found.info["weights_digest"]


@pytest.fixture(scope="module")
def undelayed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Digest of an undisturbed run."""
    return digest_of_run(cluster, tmp_path_factory.mktemp("run"))


def test_delays_do_not_change_a_bit_of_the_weights(
    undelayed: object, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.fleet.new_self_play_actor", self_play_actors(Delayed)
    )
    assert digest_of_run(cluster, tmp_path / "run") == undelayed


def test_the_run_and_its_seed_change_the_weights(undelayed: object) -> None:
    """A seed's other games are shown in tests/unit/selfplay."""
    untrained = [Learner(lockstep_config(seed)).weights_digest() for seed in (3, 4)]
    assert len({undelayed, *untrained}) == 3

"""Saves a checkpoint of a tiny run after one update, as the program of the day does.

    python -m tests.golden.checkpoints.make RUN_DIR

Each kept checkpoint is loaded by `tests/unit/training/test_golden_checkpoints.py` for ever. When
the form of a checkpoint changes, make another one with this script, put it here under a new name
and keep those that are here.
"""

import sys
from pathlib import Path

from keisei_ray.learning.learner import Learner
from keisei_ray.rollouts.actor_state import pack_states
from keisei_ray.rollouts.weights_header import peek_weights
from keisei_ray.selfplay.pool import Pool
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.storage.run_layout import ACTORS_FILE, POOL_FILE
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.saved_run import state_of, write_state
from tests.helpers.tiny import tiny_config


def make(run_dir: Path) -> Path:
    """Trains for one update and saves."""
    config = tiny_config(
        model={"depth": 1, "width": 2, "value_hidden": 2, "squeeze_excitation": True},
        pool={"share": 0.25, "members": ["greedy"], "snapshot_interval_timesteps": 1000},
    )
    learner = Learner(config)
    actor = SelfPlay(config, 0, 0)
    actor.set_weights(learner.weights())
    report, packed = actor.collect()
    updated = learner.update([packed], 0)
    progress = Progress()
    progress.collect(report.header)
    progress.consume([report.header], report.games)
    progress.finish_update(updated.weights_version)
    pool = Pool(config.pool)
    pool.add_snapshot(1, peek_weights(learner.weights()).digest)
    state = state_of(
        config,
        progress,
        learner.state_files(),
        learner.weights_digest(),
        {POOL_FILE: pool.to_json().encode(), ACTORS_FILE: pack_states([report.state])},
        None,
    )
    return write_state(run_dir, state, config.checkpoint)


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))

"""Two runs in lockstep with an opponent pool: one is killed and resumed, the other is not."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from tests.helpers.program import PATIENCE_S, ROOT, start_program
from tests.helpers.training_run import Run, overlap_config, train

UPDATE, KEPT, NUM_UPDATES = 64, 6, 12
"""Timesteps of an update; updates before the checkpoint that is resumed; updates of a run."""


def lockstep_config(**sections: Any) -> Config:
    """Half the games against greedy and snapshots, which come and go; adaptive learning rate.

    Args:
        sections: of the settings, in place of those here.
    """
    given: dict[str, Any] = {
        "run": {"total_timesteps": NUM_UPDATES * UPDATE},
        "self_play": {"max_plies": 20},
        "schedule": {"mode": "lockstep", "rollouts_per_update": None},
        "learner": {"lr_schedule": "adaptive", "target_kl": 0.02},
        # Not saved once more after the kill.
        "checkpoint": {"interval_timesteps": KEPT * UPDATE, "keep_last": 2, "standby": False},
        "pool": {
            "share": 0.6,
            "members": ("greedy",),
            "snapshot_interval_timesteps": 2 * UPDATE,
            "max_snapshots": 3,
            "scripted_share": 0.25,
        },
    }
    return overlap_config(**given | sections)


@dataclass
class PoolRuns:
    """A run that was not stopped, and one that was killed and resumed."""

    straight: Run
    killed_at: list[dict[str, Any]]
    """Records of the updates before the kill."""
    saved: Checkpoint
    """Newest checkpoint at the kill."""
    resumed: Run


def latest(run_dir: Path) -> Checkpoint:
    """Returns the newest checkpoint of a run."""
    found = checkpoint.find_latest(run_dir / "checkpoints", on_skip=lambda *_: None)
    assert found is not None
    return found


def make_pool_runs(cluster: Cluster, folder: Path) -> PoolRuns:
    """Makes both runs in directories below `folder`."""
    config = lockstep_config()
    killed = kill_itself(config, cluster, folder)
    lines = (killed / "metrics.jsonl").read_text().splitlines()
    saved = latest(killed)
    resumed = train(config, cluster, killed, resume=saved)
    straight = train(config, cluster, folder / "straight")
    return PoolRuns(straight, list(map(json.loads, lines)), saved, resumed)


def kill_itself(config: Config, cluster: Cluster, folder: Path) -> Path:
    """Runs a program that dies by SIGKILL some updates after its checkpoint."""
    file, run_dir = folder / "config.json", folder / "killed"
    file.write_text(config.model_dump_json())
    process = start_program(
        *("--config", str(file), "--run-dir", str(run_dir)),
        *("--set", "tracking.subscribers=[tests.helpers.subscribers:KillItself]"),
        cwd=folder,
        cluster=cluster,
        PYTHONPATH=str(ROOT),
        KILLED_AFTER_UPDATE=str(KEPT + 2),
    )
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, errors
    return run_dir

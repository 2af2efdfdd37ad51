"""A pretraining that is killed and resumed is, bit for bit, the one that was not."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.storage.run_layout import READERS_FILE
from keisei_ray.telemetry.events import ActorReady
from tests.helpers.pool_runs import latest
from tests.helpers.program import PATIENCE_S, ROOT, start_program
from tests.helpers.record_corpus import csa_by_cshogi, hcpe_by_cshogi
from tests.helpers.tiny import N, T, tiny_config
from tests.helpers.training_run import train

pytestmark = [pytest.mark.ray, pytest.mark.long]

NUM_UPDATES, KEPT = 10, 4
LEARNED = ("update", "timestep", "policy_loss", "value_loss", "entropy", "grad_norm")


@pytest.mark.parametrize(("mode", "readers"), [("overlap", 1), ("lockstep", 2)])
def test_a_killed_pretraining_goes_on_as_it_would_have(
    cluster: Cluster, tmp_path: Path, mode: str, readers: int
) -> None:
    update = readers * T * N
    csa_by_cshogi(tmp_path / "a.csa", games=9)
    hcpe_by_cshogi(tmp_path / "b.hcpe")
    config = tiny_config(
        run={"total_timesteps": NUM_UPDATES * update},
        self_play={"num_actors": readers},
        pretrain={
            "records": (str(tmp_path / "a.csa"), str(tmp_path / "b.hcpe")),
            "held_out": 0.3,
            "shuffle_positions": 30,
        },
        schedule={"mode": mode, "rollouts_per_update": readers},
        checkpoint={"interval_timesteps": KEPT * update, "standby": False},
        tracking={"view": "none", "ray_metrics": False},
    )
    file, run_dir = tmp_path / "config.json", tmp_path / "killed"
    file.write_text(config.model_dump_json())
    process = start_program(
        *("--config", str(file), "--run-dir", str(run_dir)),
        *("--set", "tracking.subscribers=[tests.helpers.subscribers:KillItself]"),
        cwd=tmp_path,
        cluster=cluster,
        PYTHONPATH=str(ROOT),
        KILLED_AFTER_UPDATE=str(KEPT + 2),
    )
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, errors
    saved = latest(run_dir)
    assert saved.timestep == KEPT * update
    killed = (run_dir / "metrics.jsonl").read_text().splitlines()
    assert KEPT < len(killed) < NUM_UPDATES

    resumed = train(config, cluster, run_dir, resume=saved)
    straight = train(config, cluster, tmp_path / "straight")
    assert {event.incarnation for event in resumed.of(ActorReady)} == {0}
    one, other = latest(straight.run_dir), latest(run_dir)
    assert one.timestep == other.timestep == NUM_UPDATES * update
    for name in ("model.safetensors", "learner.pt", READERS_FILE):
        assert one.files[name] == other.files[name], name
    assert learned(straight.lines("metrics.jsonl")) == learned(resumed.lines("metrics.jsonl"))
    assert learned(straight.lines("metrics.jsonl"))[: len(killed)] == learned(
        [json.loads(line) for line in killed]
    )


def learned(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(record[key] for key in LEARNED) for record in records]

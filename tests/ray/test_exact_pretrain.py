"""A pretraining that is killed and resumed is, bit for bit, the one that was not.

So is one of whose readers one is killed.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import SelfPlayShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.storage.run_layout import READERS_FILE
from keisei_ray.telemetry.events import ActorLost, ActorReady
from keisei_ray.telemetry.reports import CollectReport
from tests.helpers.pool_runs import latest
from tests.helpers.program import PATIENCE_S, ROOT, start_program
from tests.helpers.record_corpus import csa_by_cshogi, hcpe_by_cshogi
from tests.helpers.tiny import N, T, tiny_config
from tests.helpers.training_run import self_play_actors, train

pytestmark = [pytest.mark.ray, pytest.mark.long]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

NUM_UPDATES, KEPT = 10, 4
LEARNED = ("update", "timestep", "policy_loss", "value_loss", "entropy", "grad_norm")


@pytest.mark.parametrize(("mode", "readers"), [("overlap", 1), ("lockstep", 2)])
def test_a_killed_pretraining_goes_on_as_it_would_have(
    cluster: Cluster, tmp_path: Path, mode: str, readers: int
) -> None:
    update = readers * T * N
    config = config_of(tmp_path, mode, readers)
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


class DiesInItsThirdRollout(SelfPlayShell):
    """Reader 1 is killed once, in its third rollout."""

    calls = 0

    def collect(self, *arguments: Any) -> tuple[CollectReport, PackedBuffer]:
        config, reader, _ = self._arguments
        marker = Path(config.pretrain.records[0]).parent / "reader-died"
        self.calls += 1
        if (reader, self.calls) == (1, 3) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().collect(*arguments)


def test_the_reader_in_the_place_of_a_killed_one_reads_on_as_that_would_have(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, "lockstep", 2)
    straight = train(config, cluster, tmp_path / "straight")
    monkeypatch.setattr(
        "keisei_ray.distributed.fleet.new_self_play_actor", self_play_actors(DiesInItsThirdRollout)
    )
    hurt = train(config, cluster, tmp_path / "hurt")
    assert [event.actor_id for event in hurt.of(ActorLost)] == [1]
    assert [(e.actor_id, e.incarnation) for e in hurt.of(ActorReady)].count((1, 0)) == 2
    one, other = latest(straight.run_dir), latest(hurt.run_dir)
    for name in ("model.safetensors", "learner.pt", READERS_FILE):
        assert one.files[name] == other.files[name], name


def config_of(folder: Path, mode: str, readers: int) -> Config:
    """Settings of a pretraining on records that are written to a directory."""
    update = readers * T * N
    csa_by_cshogi(folder / "a.csa", games=9)
    hcpe_by_cshogi(folder / "b.hcpe")
    return tiny_config(
        run={"total_timesteps": NUM_UPDATES * update},
        self_play={"num_actors": readers},
        pretrain={
            "records": (str(folder / "a.csa"), str(folder / "b.hcpe")),
            "held_out": 0.3,
            "shuffle_positions": 30,
        },
        schedule={"mode": mode, "rollouts_per_update": readers},
        checkpoint={"interval_timesteps": KEPT * update, "standby": False},
        tracking={"view": "none", "ray_metrics": False},
    )


def learned(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(record[key] for key in LEARNED) for record in records]

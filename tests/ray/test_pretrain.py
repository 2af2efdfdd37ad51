"""Pretraining through Ray: a damaged corpus, the files of a run, and a resume."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.training.pretrain import pretrain
from keisei_ray.training.session import train
from tests.helpers.record_corpus import csa_by_cshogi, psv_by_cshogi
from tests.helpers.tiny import tiny_config

pytestmark = pytest.mark.ray

GAMES, UPDATE = 9, 32


def config_of(records: Path, run_dir: Path, **run: Any) -> Config:
    return tiny_config(
        run={"run_dir": str(run_dir), **run},
        pretrain={
            "records": (f"file://{records}",),
            "held_out": 0.3,
            "held_out_interval_timesteps": 64,
        },
        schedule={"mode": "overlap", "rollouts_per_update": 1},
        tracking={"view": "lines", "ray_metrics": False},
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_damaged_corpus_trains_counts_each_damage_and_goes_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    records, run_dir = tmp_path / "records", tmp_path / "run"
    records.mkdir()
    games = csa_by_cshogi(records / "a.csa", games=GAMES)
    games.write_text(games.read_text() + "/\nV2.2\nPI\n+\n+7776FU\n-9999FU\n%TORYO\n")
    cut = psv_by_cshogi(records / "b.psv")
    cut.write_bytes(cut.read_bytes()[:-1])
    (records / "empty.kif").touch()

    said = io.StringIO()
    config = config_of(records, run_dir, total_timesteps=4 * UPDATE)
    done = pretrain(config, Console(file=said, width=200), cluster=cluster)
    assert (done.reason, done.timestep) == ("done", 4 * UPDATE)
    summary = said.getvalue().splitlines()[-2:]
    for damage in ("1 games: illegal move", "1 positions: damaged or cut off", "1 files: empty"):
        assert damage in summary[0], summary
    assert "held-out games, " in summary[1]
    measured = [line["held_out_top1"] for line in lines(run_dir / "diagnostics.jsonl")]
    assert [value is not None for value in measured] == [True, False, True, False]
    assert (run_dir / "games.jsonl").read_text() == ""
    assert all(line["policy_loss"] > 0 for line in lines(run_dir / "metrics.jsonl"))

    more = config_of(records, run_dir, total_timesteps=6 * UPDATE, resume="latest")
    assert pretrain(more, Console(file=said), cluster=cluster).timestep == 6 * UPDATE
    assert [line["update"] for line in lines(run_dir / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]

    grown = tiny_config(
        run={"run_dir": str(tmp_path / "grown"), "init_from": str(run_dir), "total_timesteps": 32},
        model={"depth": 2, "width": 24},
        tracking={"view": "none", "ray_metrics": False},
    )
    assert train(grown, Console(quiet=True), cluster=cluster).reason == "done"
    events = lines(tmp_path / "grown" / "events.jsonl")
    (notice,) = [e for e in events if "begins with the network of" in str(e.get("message"))]
    assert "step-000000000192" in notice["message"]
